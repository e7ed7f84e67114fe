"""Pages too large to be held: cut while they come, in batches, with what stands around them."""

import gzip
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.extract import http_body, large_pages
from app.resources import Resources
from tests.source_files import SourceFiles, resource
from tests.source_server import Fault, Reply, Seen, SourceServer

RECORDS = [{"id": n, "title": f"t{n}", "at": 1.10, "text": "x" * 90} for n in range(1, 401)]
HALF = 200
LATER = 'paginator = { type = "cursor", cursor_path = "meta.next", cursor_param = "after" }'


@pytest.fixture
def sources(
    resources: Resources, tmp_path: Path, source_server: SourceServer, monkeypatch: pytest.MonkeyPatch
) -> SourceFiles:
    """Of a service to which a page of more than 4 KiB is large."""
    monkeypatch.setattr(http_body, "BEGINNING_BYTES", 4096)
    monkeypatch.setattr(large_pages, "FEED_BYTES", 1024)
    return SourceFiles(resources, tmp_path / "sources", source_server.url)


def by_cursor(seen: Seen) -> Reply:
    begin = int(seen.query.get("after", 0))
    following = begin + HALF if begin + HALF < len(RECORDS) else None
    return Reply({"kind": "list", "data": RECORDS[begin : begin + HALF], "meta": {"next": following}})


async def keys(sql: asyncpg.Connection) -> list[int]:
    return [row[0] for row in await sql.fetch("SELECT source_id::int FROM normalized_data ORDER BY 1")]


ENDPOINTS = [f'data_selector = "data"\n{LATER}', LATER]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=["selector", "found out"])
async def test_what_follows_the_records_leads_to_the_next_page(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection, endpoint: str
) -> None:
    source_server.put_script("/things", by_cursor)
    sources.rest(resource(endpoint))

    report = await sources.run()

    assert (report.status, report.counts.extracted, report.counts.pages) == ("succeeded", 400, 2)
    assert await keys(sql) == list(range(1, 401))
    payloads = await sql.fetch("SELECT payload::text, page, position FROM raw_api_data ORDER BY id")
    assert [row[0] for row in payloads] == [json.dumps(record) for record in RECORDS]
    assert [(row[1], row[2]) for row in payloads] == [(1 + at // HALF, 1 + at % HALF) for at in range(400)]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(json.dumps(RECORDS).encode(), {}, id="an array"),
        pytest.param(gzip.compress(json.dumps(RECORDS).encode()), {}, id="gzip by its first bytes"),
        pytest.param(
            gzip.compress(json.dumps(RECORDS).encode()), {"Content-Encoding": "gzip"}, id="gzip by Content-Encoding"
        ),
        pytest.param(json.dumps({"data": RECORDS, "has_more": False}).encode(), {}, id="an object"),
        pytest.param(json.dumps({"people": RECORDS}).encode(), {}, id="an unusual name, held whole"),
    ],
)
async def test_a_large_body_is_read_however_it_comes(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection, body: bytes, headers: dict[str, str]
) -> None:
    source_server.put_script("/things", lambda _: Reply(body, headers=headers))
    sources.rest(resource())

    assert (await sources.run()).counts.extracted == 400
    assert (await sources.run()).counts.unchanged == 400


async def test_a_large_page_of_page_numbers_ends_with_a_short_one(
    sources: SourceFiles, source_server: SourceServer
) -> None:
    source_server.put_pages("/things", RECORDS, links=False)
    sources.rest(
        resource('paginator = { type = "page_number", page_param = "_page", limit_param = "_limit", limit = 150 }')
    )

    report = await sources.run()

    assert (report.status, report.counts.extracted, report.counts.pages) == ("succeeded", 400, 3)


async def test_a_large_page_again_is_a_walk_in_a_circle(sources: SourceFiles, source_server: SourceServer) -> None:
    source_server.put_script(
        "/things", lambda _: Reply({"data": RECORDS, "meta": {"next": _.query.get("after", "") + "x"}})
    )
    sources.rest(resource(f'data_selector = "data"\n{LATER}'))

    report = await sources.run()

    assert report.status == "partial"
    assert "page 2 is page 1 again" in str(report.error_message)


async def test_a_page_that_breaks_in_the_middle_is_read_again(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    body = json.dumps({"data": RECORDS[:HALF], "meta": {}}).encode()
    source_server.put("/things", body, content_type="application/json", etag='"1"')
    source_server.fault("/things", Fault(cut_after=15_000))
    sources.rest(resource(LATER))

    cut = await sources.run()
    kept = await keys(sql)
    checkpoint = await sql.fetchrow("SELECT page, page_token, validators FROM etl_checkpoint WHERE source = 's'")
    again = await sources.run()

    assert (cut.status, cut.counts.pages) == ("partial", 0)
    assert kept == list(range(1, len(kept) + 1))
    assert 0 < len(kept) < HALF
    assert checkpoint is not None
    assert (checkpoint["page"], checkpoint["page_token"], checkpoint["validators"]) == (0, None, "{}")
    assert (again.status, again.counts.unchanged, again.counts.inserted) == ("succeeded", len(kept), HALF - len(kept))
    third = await sources.run()
    assert (third.outcome, third.traffic.bytes_saved) == ("not_modified", len(body))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"data":[{"id":1},' + b'{"id":2},' * 2000 + b"!]}", "not valid JSON"),
        (b'{"data":[' + b'{"id":2},' * 2000, "not valid JSON"),
        (b'{"else":[' + b'{"id":2},' * 2000 + b'{"id":3}]}', "nothing at data_selector data"),
        (b'{"data":[{"id":1,"t":"' + b"x" * 200_000 + b'"}]}', "a single value of more than"),
    ],
)
async def test_a_large_body_that_is_not_what_was_promised_is_an_error(
    sources: SourceFiles, source_server: SourceServer, body: bytes, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_body.Remainder, "max_value_bytes", 50_000)
    source_server.put("/things", body, content_type="application/json")
    sources.rest(resource('data_selector = "data"'))

    report = await sources.run()

    assert (report.status in {"failed", "partial"}, report.error_class) == (True, "data_error")
    assert told in str(report.error_message)


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ('data_selector = "data[?id > `0`]"', "8192 bytes; raise client.max_response_bytes"),
        ('data_selector = "data"', "the body is larger than 8192 bytes; raise client.max_response_bytes"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
async def test_a_body_beyond_max_response_bytes_is_refused(
    sources: SourceFiles, source_server: SourceServer, endpoint: str, told: str, *, packed: bool
) -> None:
    body = json.dumps({"data": RECORDS}).encode()
    source_server.put("/things", gzip.compress(body) if packed else body, content_type="application/json")
    sources.rest(resource(endpoint), client="max_response_bytes = 8192")

    report = await sources.run()

    assert report.error_class == "data_error"
    assert told in str(report.error_message)


async def test_a_selector_that_is_no_path_holds_the_body_whole(
    sources: SourceFiles, source_server: SourceServer
) -> None:
    source_server.put_json("/things", lambda _: {"data": RECORDS})
    sources.rest(resource('data_selector = "data[?id > `100`]"'))

    report = await sources.run()

    assert (report.status, report.counts.extracted) == ("succeeded", 300)


async def test_a_cursor_in_the_last_record_of_a_large_page_is_found(
    sources: SourceFiles, source_server: SourceServer
) -> None:
    def after(seen: Seen) -> Reply:
        begin = int(seen.query.get("after", 0))
        return Reply({"data": RECORDS[begin : begin + HALF], "has_more": begin + HALF < len(RECORDS)})

    source_server.put_script("/things", after)
    for path, kind in (("data[-1].id", "cursor"), ("id", "keyset")):
        sources.rest(
            resource(
                f'paginator = {{ type = "{kind}", cursor_path = "{path}", cursor_param = "after", '
                'has_more_path = "has_more" }'
            ),
            name=kind,
        )

        assert (await sources.run(kind)).counts.extracted == 400


async def test_increments_see_every_part(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    shuffled: list[dict[str, Any]] = [*RECORDS[300:], *RECORDS[:300]]
    source_server.put_json("/things", lambda _: {"data": shuffled})
    sources.rest(resource('incremental = { cursor_path = "id", cursor_type = "integer", row_order = "asc" }'))

    report = await sources.run()

    state = json.loads(await sql.fetchval("SELECT state FROM etl_checkpoint WHERE source = 's'"))
    assert (report.counts.extracted, state["cursor_value"]) == (400, "400")
