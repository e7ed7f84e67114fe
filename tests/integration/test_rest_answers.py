"""REST source files: what an answer means, where its records are, when to ask again, when a walk has enough."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.resources import Resources
from tests.source_files import IMPATIENT, SourceFiles, resource
from tests.source_server import Fault, Reply, Seen, SourceServer

RECORDS = [{"id": n, "title": f"t{n}"} for n in range(1, 8)]
LATER = 'type = "cursor", cursor_path = "next", cursor_param = "after"'


@pytest.fixture
def sources(resources: Resources, tmp_path: Path, source_server: SourceServer) -> SourceFiles:
    return SourceFiles(resources, tmp_path / "sources", source_server.url)


async def state_of(sql: asyncpg.Connection) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(await sql.fetchval("SELECT state FROM etl_checkpoint WHERE source = 's'"))
    return state


def everything(_: Seen) -> Reply:
    return Reply(RECORDS)


def by_cursor(seen: Seen) -> Reply:
    begin = int(seen.query.get("after", 0))
    return Reply({"items": RECORDS[begin : begin + 3], "next": str(begin + 3) if begin < 6 else None})


async def test_records_are_found_and_stay_where_they_were_found(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_json("/things", lambda _: {"meta": {"tags": ["x"]}, "people": RECORDS})
    sources.rest(resource())
    await sources.run()
    pinned = (await state_of(sql))["data_selector"]
    source_server.put_json("/things", lambda _: {"data": [{"id": "other"}], "people": RECORDS})

    report = await sources.run()

    assert pinned == "people"
    assert (report.counts.extracted, report.counts.unchanged) == (7, 7)


async def test_a_given_selector_wins_and_is_not_pinned(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_json("/things", lambda _: {"data": [{"id": "other"}], "people": {"all": RECORDS}})
    sources.rest(resource('data_selector = "people.all"'))

    assert (await sources.run()).counts.extracted == 7
    assert "data_selector" not in await state_of(sql)


@pytest.mark.parametrize("error_class", ["config_error", "transient_error", "data_error"])
async def test_an_error_in_a_200_fails_as_the_file_says(
    sources: SourceFiles, source_server: SourceServer, error_class: str
) -> None:
    source_server.put_json("/things", lambda _: {"error": "no licence"})
    rule = f'status_code = 200, content = "no licence", action = "fail", error_class = "{error_class}"'
    sources.rest(resource(f"response_actions = [{{ {rule} }}]"))

    report = await sources.run()

    assert (report.status, report.error_class, len(source_server.seen)) == ("failed", error_class, 1)


@pytest.mark.parametrize(
    ("rule", "fault", "status", "requests"),
    [
        ('status_code = 404, action = "ignore"', Fault(status=404), "succeeded", 1),
        ('status_code = "4xx", action = "ignore"', Fault(status=410), "succeeded", 1),
        ('status_code = 404, content = "none here", action = "ignore"', Fault(status=404, body=b"x"), "failed", 1),
        ('status_code = 404, content = "none", action = "ignore"', Fault(status=404, body=b"none"), "succeeded", 1),
        ('status_code = 418, action = "retry"', Fault(status=418), "succeeded", 2),
        (
            'status_code = 404, content = "none", action = "ignore"',
            Fault(status=404, headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"none")),
            "succeeded",
            1,
        ),
        ('content = "busy", action = "retry"', Fault(status=200, body=b'{"data": "busy"}'), "succeeded", 2),
        ('content = "empty", action = "ignore"', Fault(status=200, body=b"empty"), "succeeded", 1),
        ('status_code = "5xx", action = "fail"', Fault(status=503), "failed", 1),
        ('status_code = 401, action = "refresh_auth"', Fault(status=401), "failed", 1),
    ],
)
async def test_what_an_answer_means_can_be_said(
    sources: SourceFiles, source_server: SourceServer, rule: str, fault: Fault, status: str, requests: int
) -> None:
    source_server.put_script("/things", everything)
    source_server.fault("/things", fault)
    sources.rest(resource(f"response_actions = [{{ {rule} }}]"))

    report = await sources.run()

    assert (report.status, len(source_server.seen)) == (status, requests)


async def test_only_the_named_statuses_are_tried_again(sources: SourceFiles, source_server: SourceServer) -> None:
    source_server.put_script("/things", everything)
    sources.rest(resource(), top="[retry]\nstatus_codes = [418]\nbackoff_factor = 0.01\n")
    source_server.fault("/things", Fault(status=418))

    assert (await sources.run()).traffic.retries == 1

    source_server.fault("/things", Fault(status=500))
    report = await sources.run()
    assert (report.status, report.traffic.requests) == ("failed", 1)


@pytest.mark.parametrize(("respect", "waits"), [("true", True), ("false", False)])
async def test_retry_after_is_waited_for_unless_the_file_says_otherwise(
    sources: SourceFiles, source_server: SourceServer, respect: str, *, waits: bool
) -> None:
    source_server.put_script("/things", everything)
    source_server.fault("/things", Fault(status=429, headers={"Retry-After": "1"}))
    sources.rest(resource(), top=f"[retry]\nbackoff_factor = 0.01\nrespect_retry_after = {respect}\n")

    report = await sources.run()

    first, second = source_server.seen
    assert report.status == "succeeded"
    assert (second.at - first.at >= 1) is waits


async def test_a_wait_longer_than_max_retry_after_ends_the_turn_and_keeps_the_place(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_script("/things", by_cursor)
    sources.rest(resource(f"paginator = {{ {LATER} }}"), top='[retry]\nmax_retry_after = "PT2S"\n')
    source_server.fault("/things", Fault(), Fault(status=503, headers={"Retry-After": "90"}))

    report = await sources.run()

    assert (report.status, report.retry_after_seconds, len(source_server.seen)) == ("partial", 90, 2)
    assert (await sources.run()).status == "succeeded"
    assert [seen.query.get("after") for seen in source_server.seen] == [None, "3", "3", "6"]
    assert await sql.fetchval("SELECT count(*) FROM normalized_data") == 7


@pytest.mark.parametrize(
    ("bounds", "status", "extracted"),
    [
        ("max_pages = 2", "partial", 6),
        ('max_pages = 2, on_max_pages = "stop"', "succeeded", 6),
        ("max_pages = 3", "succeeded", 7),
        ("max_records = 4", "succeeded", 6),
        ("max_records = 3", "succeeded", 3),
    ],
)
async def test_a_walk_has_bounds(
    sources: SourceFiles,
    source_server: SourceServer,
    bounds: str,
    status: str,
    extracted: int,
) -> None:
    source_server.put_script("/things", by_cursor)
    sources.rest(resource(f"paginator = {{ {LATER}, {bounds} }}"))

    report = await sources.run()

    assert (report.status, report.counts.extracted) == (status, extracted)
    assert ("max_pages" in str(report.error_message)) == (status == "partial")


async def test_a_walk_that_reached_max_pages_is_gone_on_with_by_the_next_run(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_script("/things", by_cursor)
    sources.rest(resource(f"paginator = {{ {LATER}, max_pages = 1 }}"))

    reports = [await sources.run() for _ in range(3)]

    assert [(report.status, report.counts.extracted) for report in reports] == [
        ("partial", 3),
        ("partial", 3),
        ("succeeded", 1),
    ]
    assert [seen.query.get("after") for seen in source_server.seen] == [None, "3", "6"]
    assert await sql.fetchval("SELECT count(*) FROM normalized_data") == 7


async def test_a_walk_that_reaches_max_pages_asks_for_no_page_ahead(
    sources: SourceFiles, source_server: SourceServer
) -> None:
    source_server.put_pages("/things", RECORDS, links=False)
    pages = 'type = "page_number", page_param = "_page", limit_param = "_limit", limit = 3, max_pages = 2'
    sources.rest(resource(f"paginator = {{ {pages} }}"), top=IMPATIENT + "[rate_limit]\nrequests = 99\nconcurrency = 4")

    report = await sources.run()

    assert (report.status, report.counts.extracted) == ("partial", 6)
    assert "max_pages" in str(report.error_message)


async def test_a_page_after_the_last_one_is_found_although_the_last_one_is_unchanged(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    """Express and others make their ETag of the body alone: a Link header that appears does not change it."""

    def serve(count: int) -> None:
        def answer(seen: Seen) -> Reply:
            begin = int(seen.query.get("from", 0))
            records = RECORDS[:count][begin : begin + 3]
            link = f'</things?from={begin + 3}>; rel="next"' if begin + 3 < count else ""
            etag = f'"{hashlib.sha1(json.dumps(records).encode()).hexdigest()}"'
            return Reply(records, headers={"ETag": etag, "Link": link})

        source_server.put_script("/things", answer)

    sources.rest(resource('paginator = { type = "header_link" }'))
    serve(6)
    await sources.run()
    serve(7)

    report = await sources.run()

    assert (report.status, report.counts.inserted) == ("succeeded", 1)
    assert await sql.fetchval("SELECT count(*) FROM normalized_data") == 7


@pytest.mark.parametrize("paginator", ['type = "page_number", limit = 3', 'type = "offset", limit = 3', LATER])
async def test_an_unchanged_walk_of_many_pages_is_not_read_again(
    sources: SourceFiles, source_server: SourceServer, paginator: str
) -> None:
    def answer(seen: Seen) -> Reply:
        begin = int(seen.query.get("after", seen.query.get("offset", (int(seen.query.get("page", 1)) - 1) * 3)))
        body = {"items": RECORDS[begin : begin + 3], "next": str(begin + 3) if begin < 6 else None}
        return Reply(body, headers={"ETag": f'"{begin}"'})

    source_server.put_script("/things", answer)
    sources.rest(resource(f"paginator = {{ {paginator} }}"))
    first = await sources.run()

    second = await sources.run()

    assert (first.counts.extracted, second.counts.extracted, second.outcome) == (7, 0, "not_modified")


async def test_a_page_after_an_unchanged_last_one_is_found_on_a_json_server(
    sources: SourceFiles, source_server: SourceServer
) -> None:
    paginator = 'type = "page_number", page_param = "_page", limit_param = "_limit", limit = 3, follow_links = true'
    sources.rest(resource(f"paginator = {{ {paginator} }}"))
    source_server.put_pages("/things", RECORDS[:6], etags=True)
    await sources.run()
    source_server.put_pages("/things", RECORDS, etags=True)

    assert (await sources.run()).counts.inserted == 1
