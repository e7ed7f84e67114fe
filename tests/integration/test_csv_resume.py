"""A download that broke goes on where it stands, by Range where the server can be held to it."""

import asyncio
import gzip
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.extract import csv_file
from app.records import RunReport
from app.resources import Resources
from app.scheduler import run_tick
from app.sources.catalog import open_catalog
from tests.source_server import Fault, Reply, Seen, SourceServer

Run = Callable[..., Coroutine[Any, Any, RunReport]]

ROWS = 20_000
HEAD = "id;name\n"


def body_of(rows: int) -> bytes:
    return (HEAD + "".join(f'{number};"näme\n{number}"\n' for number in range(rows))).encode("cp1252")


BODY = body_of(ROWS)
ETAG = '"v1"'


@pytest.fixture
def run(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(csv_file, "PART_BYTES", 40_000)

    async def once(url: str) -> RunReport:
        Path("sources").mkdir(exist_ok=True)
        Path("sources/f.toml").write_text(
            'name = "f"\ntype = "csv"\nclient = { allow_private_networks = true }\n'
            f'[[resources]]\nname = "rows"\nfile = {{ url = "{url}" }}\n[resources.mapping]\nname = "name"\n'
        )
        catalog = open_catalog(resources.settings)
        report = (await run_tick(resources, catalog.select(["f"]), trigger="command")).reports[0]
        assert report.counts.balanced
        return report

    return once


@dataclass
class RangeServer:
    """Answers ranges as it is told; the first answer breaks in the middle."""

    server: SourceServer
    body: bytes = BODY
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": ETAG})
    misanswer: Callable[[Reply], Reply] = lambda reply: reply

    def put(self, *, cut_after: int = len(BODY) * 2 // 3) -> str:
        url = self.server.put("/f.csv", self.body, **{"etag": self.headers.get("ETag", "")} if self.headers else {})
        self.server.fault("/f.csv", Fault(cut_after=cut_after))
        return url

    def answer_ranges(self) -> None:
        self.server.put_script("/f.csv", self._answer)

    def _answer(self, seen: Seen) -> Reply:
        asked = seen.headers.get("Range")
        sent = {"Content-Type": "text/csv", **self.headers}
        if asked is None or seen.headers.get("If-Range") != self.headers.get("ETag"):
            return Reply(self.body, headers=sent)
        first = int(asked.removeprefix("bytes=").removesuffix("-"))
        where = f"bytes {first}-{len(self.body) - 1}/{len(self.body)}"
        return self.misanswer(Reply(self.body[first:], 206, {**sent, "Content-Range": where}))


async def names(sql: asyncpg.Connection) -> list[tuple[str, str]]:
    rows = await sql.fetch("SELECT source_id, name FROM normalized_data ORDER BY source_id::int")
    return [tuple(row) for row in rows]


EXPECTED = [(str(number), f"näme\n{number}") for number in range(ROWS)]


async def test_the_rest_is_asked_for_by_range(run: Run, source_server: SourceServer, sql: asyncpg.Connection) -> None:
    ranges = RangeServer(source_server)
    broken = await run(ranges.put())
    ranges.answer_ranges()

    whole = await run(source_server.url + "/f.csv")

    assert (broken.status, whole.status) == ("partial", "succeeded")
    asked = source_server.requests("/f.csv")[-1].headers
    offset = int(asked["Range"].removeprefix("bytes=").removesuffix("-"))
    assert (asked["If-Range"], asked["Accept-Encoding"]) == (ETAG, "identity")
    assert whole.traffic.requests == 1
    assert 0 < whole.traffic.bytes_received == len(BODY) - offset < len(BODY)
    assert broken.counts.inserted + whole.counts.inserted == ROWS
    assert await names(sql) == EXPECTED
    positions = await sql.fetch("SELECT position FROM raw_csv_data ORDER BY id")
    assert [row[0] for row in positions] == list(range(2, 2 * ROWS + 2, 2))
    assert (await run(source_server.url + "/f.csv")).outcome == "not_modified"
    assert await sql.fetchval("SELECT state FROM etl_checkpoint WHERE source = 'f'") == "{}"


MISANSWERS: dict[str, Callable[[Reply], Reply]] = {
    "another place": lambda reply: Reply(reply.json, 206, {**reply.headers, "Content-Range": "bytes 0-9/10"}),
    "not to the end": lambda reply: Reply(
        reply.json[:-5], 206, {**reply.headers, "Content-Range": reply.headers["Content-Range"].replace("-", "-1", 1)}
    ),
    "no place": lambda reply: Reply(reply.json, 206, {"ETag": ETAG}),
    "several parts": lambda _reply: Reply(b"--x\r\n", 206, {"ETag": ETAG, "Content-Type": "multipart/byteranges"}),
    "another body": lambda reply: Reply(reply.json, 206, {**reply.headers, "ETag": '"v2"'}),
    "compressed": lambda reply: Reply(gzip.compress(reply.json), 206, {**reply.headers, "Content-Encoding": "gzip"}),
    "not satisfiable": lambda _reply: Reply(b"", 416, {"Content-Range": "bytes */7"}),
    "ranges ignored": lambda _reply: Reply(BODY, 200, {"ETag": ETAG}),
}


@pytest.mark.parametrize("how", MISANSWERS)
async def test_a_server_that_answers_otherwise_is_read_from_the_beginning(
    run: Run, source_server: SourceServer, sql: asyncpg.Connection, how: str
) -> None:
    ranges = RangeServer(source_server)
    broken = await run(ranges.put())
    ranges.misanswer = MISANSWERS[how]
    ranges.answer_ranges()

    whole = await run(source_server.url + "/f.csv")

    assert whole.status == "succeeded"
    assert "Range" in source_server.requests("/f.csv")[1].headers
    assert broken.counts.inserted + whole.counts.inserted == ROWS
    assert whole.counts.extracted == whole.counts.inserted
    assert await names(sql) == EXPECTED


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"v1"'}, {"ETag": "v1"}])
async def test_without_a_strong_validator_no_range_is_asked_for(
    run: Run, source_server: SourceServer, sql: asyncpg.Connection, headers: dict[str, str]
) -> None:
    ranges = RangeServer(source_server, headers=headers)
    await run(ranges.put())

    whole = await run(source_server.url + "/f.csv")

    assert whole.status == "succeeded"
    assert not any("Range" in seen.headers for seen in source_server.requests("/f.csv"))
    assert await names(sql) == EXPECTED


async def test_of_a_packed_file_no_range_is_asked_for(
    run: Run, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    packed = gzip.compress(BODY, compresslevel=0)
    await run(RangeServer(source_server, body=packed).put(cut_after=len(packed) * 2 // 3))

    assert (await run(source_server.url + "/f.csv")).status == "succeeded"

    assert not any("Range" in seen.headers for seen in source_server.requests("/f.csv"))
    assert await names(sql) == EXPECTED


async def test_another_body_under_the_url_is_not_glued_to_the_first(
    run: Run, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    ranges = RangeServer(source_server)
    await run(ranges.put())
    ranges.body, ranges.headers = BODY.replace(b"\xe4me", b"\xe4ne"), {"ETag": '"v2"'}
    ranges.answer_ranges()

    whole = await run(source_server.url + "/f.csv")

    assert (whole.status, whole.counts.extracted) == ("succeeded", ROWS)
    assert await names(sql) == [(key, name.replace("äme", "äne")) for key, name in EXPECTED]


async def test_a_local_file_is_gone_on_with_where_it_was_left(
    run: Run, resources: Resources, sql: asyncpg.Connection
) -> None:
    path = Path("sources/f.csv")
    path.parent.mkdir()
    path.write_bytes(BODY)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    stopped = asyncio.create_task(run("f.csv"))
    while not await sql.fetchval("SELECT byte_offset > 0 FROM etl_checkpoint WHERE source = 'f'"):
        await asyncio.sleep(0)
    stopped.cancel()
    await asyncio.gather(stopped, return_exceptions=True)
    offset: Any = await sql.fetchval("SELECT byte_offset FROM etl_checkpoint WHERE source = 'f'")
    assert 0 < offset < len(BODY)

    whole = await run("f.csv")

    assert (whole.status, whole.traffic.bytes_received) == ("succeeded", len(BODY) - offset)
    assert await names(sql) == EXPECTED
