"""
Feeds that mean harm.

Each is read in a process of its own, as a worker reads it; it says how long it
took, how it grew, and what it reached for.
"""

import asyncio
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes import ROOT
from tests.source_server import SourceServer

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

BOMBS: Final = Path(os.environ.get("ETL_CORPORA") or "no corpora") / "feeds" / "bombs" / "xmltestdata"
MAX_SECONDS: Final = 2.0
"""Of processor time: what else runs on the machine does not count."""
MAX_GROWTH_BYTES: Final = 64 * 1024 * 1024

READER: Final = """
import json, sys, time
from functools import partial
from app.errors import SourceMalformedError
from app.extract.apart import within
from app.extract.feed_entries import parse_feed
from app.extract.feed_records import allowance

def peak():
    # Not getrusage, whose peak is inherited from the process that started this one
    with open("/proc/self/status") as status:
        return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM")))

body = open(sys.argv[1], "rb").read()
parse_feed(b"<rss version='2.0'><channel><item><title>x &eacute;</title></item></channel>", ("id",), what="warm")
before, reached = peak(), []
watched = ("open", "socket.connect", "socket.getaddrinfo", "urllib.Request", "subprocess.Popen")
sys.addaudithook(lambda event, args: reached.append([event, str(args[0])]) if event in watched else None)
began = time.process_time()
try:
    parse = partial(parse_feed, body, ("id",), what="bomb", base_url="http://example.com/")
    feed = within(allowance(len(body), None), parse)
    said = f"{len(feed.entries.splitlines())} entries"
except (SourceMalformedError, TimeoutError, MemoryError) as error:
    said = f"{type(error).__name__}: {error}"
seconds = time.process_time() - began
found = {"said": said, "seconds": seconds, "reached": list(reached)}
print(json.dumps({**found, "grown": peak() - before}))
"""


def rss(text: str, *, head: str = "") -> bytes:
    return f'{head}<rss version="2.0"><channel><item><title>{text}</title></item></channel></rss>'.encode()


def doctype(*entities: str) -> str:
    return "<!DOCTYPE rss [\n" + "\n".join(f"<!ENTITY {entity}>" for entity in entities) + "\n]>\n"


QUADRATIC: Final = rss("&a;" * 20_000, head=doctype(f'a "{"A" * 20_000}"'))
LAUGHS: Final = doctype('a "ha"', *(f'{one} "{f"&{before};" * 10}"' for before, one in pairwise("abcdefghi")))
NESTED: Final = b"<rss version='2.0'><channel><item>"
DECLARED: Final = b"<?xml version='1.0'?>"
HARMLESS: Final = {
    "quadratic": QUADRATIC,
    "quadratic in UTF-16": QUADRATIC.decode().encode("utf-16"),
    "quadratic, well hidden": QUADRATIC.replace(b"<!ENTITY a", b"<!ENTITY" + b"\t" * 300 + b"a"),
    "quadratic, badly formed": QUADRATIC.replace(b"</rss>", b""),
    "a billion laughs": rss("&i;", head=LAUGHS),
    "a billion laughs in one line": rss("&i;", head=LAUGHS.replace("\n", " ")),
    "blank lines before the root": DECLARED + b"\n" * 1_000_000 + rss("x"),
    "a long declaration": b"<?xml " + b"encoding='" * 20_000 + b">" + rss("x"),
    "a long first line": DECLARED + rss("encoding='" * 100_000),
    "a long first line in UTF-16": (DECLARED + rss("encoding='" * 50_000)).decode().encode("utf-16-be"),
    "elements beyond number": NESTED + b"<a>" * 1_300_000,
    "entries within entries": b"<rss version='2.0'><channel>" + b"<item>" * 10_000,
    "open comments": NESTED + b"<!-- " * 100_000,
    "open sections": NESTED + b"<![CDATA[" * 50_000,
    "ampersands": NESTED + b"<title>" + b"&" * 200_000,
    "html in html": rss("&lt;div&gt;" * 20_000),
    "a long date": NESTED + b"<pubDate>" + b"1" * 500_000 + b"</pubDate></item></channel></rss>",
    "a guid of blanks": NESTED + b"<guid>" + b" " * 500_000 + (b"<guid>" + b"x" * 1000) * 400,
    "punycode": DECLARED.replace(b"?>", b" encoding='punycode'?>") + rss("x" * 500_000),
}
"""What is parsed, or refused at once."""
COSTLY: Final = {
    "elements in elements": NESTED + b"<a>" * 200_000,
    "open tags": NESTED + b"<a <a " * 100_000,
    "attributes": NESTED + b"<a " + b" ".join(b"x%d='y'" % n for n in range(100_000)) + b">",
    "categories": NESTED + b"".join(b"<category>%d</category>" % n for n in range(30_000)) + b"</item></channel></rss>",
}
"""What the parser takes too long for, or too much memory: it is stopped."""


def read(path: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


def reached(found: dict[str, Any]) -> list[list[str]]:
    """What was opened or connected to; the module of an encoding and what the process says of itself do not count."""
    own = ("/encodings/", "/proc/self/")
    return [[event, what] for event, what in found["reached"] if not (event == "open" and any(o in what for o in own))]


@pytest.mark.parametrize("name", HARMLESS | COSTLY)
def test_what_means_harm_costs_little(name: str, tmp_path: Path) -> None:
    (tmp_path / "feed.xml").write_bytes((HARMLESS | COSTLY)[name])

    found = read(tmp_path / "feed.xml")

    print(name, found)
    assert reached(found) == []
    assert found["seconds"] <= MAX_SECONDS
    assert found["grown"] <= MAX_GROWTH_BYTES
    if name in COSTLY:
        assert found["said"].startswith(("TimeoutError", "MemoryError"))


@pytest.mark.skipif(not BOMBS.is_dir(), reason="ETL_CORPORA names no folder with XML bombs")
async def test_the_bombs_of_others_are_duds(source_server: SourceServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("top secret")
    paths = sorted(BOMBS.glob("*.xml"))
    for path in paths:
        body = path.read_bytes().replace(b"http://www.w3schools.com", source_server.url.encode())
        body = body.replace(b"http://www.w3.org", source_server.url.encode())
        copy = tmp_path / path.name
        copy.write_bytes(body.replace(b"file:///PATH/TO/xmltestdata/simple.xml", secret.as_uri().encode()))

        found = await asyncio.to_thread(read, copy)

        print(path.name, found)
        assert reached(found) == [], path.name
        assert found["seconds"] <= MAX_SECONDS, path.name
        assert found["grown"] <= MAX_GROWTH_BYTES, path.name
        assert "top secret" not in found["said"]
    assert len(paths) == 10
    assert source_server.seen == []
