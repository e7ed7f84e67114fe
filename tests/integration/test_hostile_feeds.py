"""
Feeds that mean harm.

Each is read in a process of its own, which says how long it took, how it grew,
and what it reached for.
"""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from app.extract.feed_entries import SECONDS, SECONDS_PER_MIB
from app.extract.overtime import within
from tests.processes import ROOT
from tests.source_server import SourceServer

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

BOMBS: Final = Path(os.environ.get("ETL_CORPORA") or "no corpora") / "feeds" / "bombs" / "xmltestdata"
MAX_SECONDS: Final = 2.0
MAX_GROWTH_BYTES: Final = 64 * 1024 * 1024

READER: Final = """
import json, sys, time
from app.errors import SourceMalformedError
from app.extract.feed_entries import parse_feed, read_entries

def peak():
    # Not getrusage, whose peak is inherited from the process that started this one
    with open("/proc/self/status") as status:
        return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM")))

body = open(sys.argv[1], "rb").read()
parse_feed(b"<rss version='2.0'><channel><item><title>x &eacute;</title></item></channel>", what="warm")
before, reached = peak(), []
watched = ("open", "socket.connect", "socket.getaddrinfo", "urllib.Request", "subprocess.Popen")
sys.addaudithook(lambda event, args: reached.append([event, str(args[0])]) if event in watched else None)
began = time.monotonic()
try:
    feed = parse_feed(body, what="bomb", base_url="http://example.com/")
    said = f"{len(read_entries(feed, ('id', 'link')))} entries"
except SourceMalformedError as error:
    said = str(error)
seconds = time.monotonic() - began
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
    "elements beyond number": NESTED + b"<a>" * 1_000_000,
    "entries within entries": b"<rss version='2.0'><channel>" + b"<item>" * 10_000,
    "open comments": NESTED + b"<!-- " * 100_000,
    "open sections": NESTED + b"<![CDATA[" * 50_000,
    "ampersands": NESTED + b"<title>" + b"&" * 200_000,
    "html in html": rss("&lt;div&gt;" * 20_000),
    "a long date": NESTED + b"<pubDate>" + b"1" * 500_000 + b"</pubDate></item></channel></rss>",
    "punycode": DECLARED.replace(b"?>", b" encoding='punycode'?>") + rss("x" * 500_000),
}
"""What costs nothing."""
COSTLY: Final = {
    "elements in elements": NESTED + b"<a>" * 200_000,
    "open tags": NESTED + b"<a <a " * 100_000,
    "attributes": NESTED + b"<a " + b" ".join(b"x%d='y'" % n for n in range(100_000)) + b">",
    "categories": NESTED + b"".join(b"<category>%d</category>" % n for n in range(30_000)) + b"</item></channel></rss>",
}
"""What the parser takes too long for: it is told to stop."""


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
    """What was opened or connected to; the module of an encoding does not count."""
    return [[event, what] for event, what in found["reached"] if not (event == "open" and "/encodings/" in what)]


@pytest.mark.parametrize("name", HARMLESS)
def test_what_means_harm_costs_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "feed.xml").write_bytes(HARMLESS[name])

    found = read(tmp_path / "feed.xml")

    print(name, found)
    assert reached(found) == []
    assert found["seconds"] <= MAX_SECONDS
    assert found["grown"] <= MAX_GROWTH_BYTES


@pytest.mark.parametrize("name", COSTLY)
def test_what_takes_too_long_is_stopped(name: str, tmp_path: Path) -> None:
    (tmp_path / "feed.xml").write_bytes(COSTLY[name])

    found = read(tmp_path / "feed.xml")

    print(name, found)
    assert found["seconds"] <= 1 + SECONDS + SECONDS_PER_MIB * len(COSTLY[name]) / 1024**2
    assert found["grown"] <= 4 * MAX_GROWTH_BYTES


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
        assert found["reached"] == [], path.name
        assert found["seconds"] <= MAX_SECONDS, path.name
        assert found["grown"] <= MAX_GROWTH_BYTES, path.name
        assert "top secret" not in found["said"]
    assert len(paths) == 10
    assert source_server.seen == []


def test_work_is_stopped_when_its_time_is_up_and_only_then() -> None:
    def endless() -> None:
        while True:
            with suppress(Exception):  # as a parser may, which must not hold it
                sum(range(1000))

    with pytest.raises(TimeoutError):
        within(0.05, endless)
    for _ in range(2000):  # the end of the time beside the end of the work
        try:
            within(0.0005, lambda: sum(range(20_000)))
        except TimeoutError:
            continue
    assert within(60, lambda: 1) == 1
