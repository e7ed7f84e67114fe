"""A walk that ends too early says so: what the pages tell of how much there is, is believed."""

import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.operations.sources import check
from app.resources import Resources
from tests.source_files import SourceFiles
from tests.source_server import Reply, Seen, SourceServer

RECORDS = [{"id": n} for n in range(50)]


@pytest.fixture
def files(resources: Resources, source_server: SourceServer, tmp_path: Path) -> SourceFiles:
    return SourceFiles(resources, tmp_path / "sources", source_server.url)


def describe(files: SourceFiles, paginator: str = "", *, more: str = "") -> None:
    walk = f"paginator = {{ {paginator} }}\n" if paginator else ""
    files.rest(
        f'[[resources]]\nname = "things"\nprimary_key = "id"\n[resources.endpoint]\npath = "things"\n{walk}{more}'
    )


def ten(_: dict[str, str]) -> dict[str, Any]:
    """Stripe's style; whoever asks in another one gets the first ten."""
    return {"object": "list", "has_more": True, "data": RECORDS[:10]}


@pytest.mark.parametrize(
    ("paginator", "why"),
    [
        ("", "has_more is true; say how it is paged with endpoint.paginator"),
        ('type = "page_number"', "page 2 is page 1 again, and has_more is true"),
        ('type = "offset", limit = 10', "page 2 is page 1 again, and has_more is true"),
        ('type = "cursor", cursor_path = "next_cursor", cursor_param = "c"', "does its paginator fit, cursor?"),
        ('type = "json_link", next_url_path = "next"', "does its paginator fit, json_link?"),
        ('type = "header_link"', "does its paginator fit, header_link?"),
        ('type = "keyset", has_more_path = "hasMore"', "does its paginator fit, keyset?"),
    ],
)
async def test_a_walk_that_ends_although_more_is_said_to_follow_is_suspect(
    files: SourceFiles, source_server: SourceServer, paginator: str, why: str
) -> None:
    describe(files, paginator)
    source_server.put_json("/things", ten, etag='"v"')

    first, again = await files.run(), await files.run()

    assert (first.status, first.counts.inserted) == ("suspect", 10)
    assert why in str(first.error_message)
    assert again.status == "suspect"  # nothing was proved, so a 304 must not hide it


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"items": RECORDS[:10], "total_pages": 3, "page": 1}, "total_pages is 3, and 1 was read"),
        ({"hits": {"total": {"value": 501}, "hits": RECORDS[:10]}}, "hits.total.value is 501, and 10 were read"),
        ({"meta": {"total_count": 50}, "items": RECORDS[:10]}, "meta.total_count is 50, and 10 were read"),
    ],
)
async def test_totals_are_believed(files: SourceFiles, source_server: SourceServer, body: Any, why: str) -> None:
    describe(files)
    source_server.put_json("/things", lambda _: body)

    report = await files.run()

    assert (report.status, why in str(report.error_message)) == ("suspect", True)


@pytest.mark.parametrize(
    ("paginator", "body"),
    [
        ('type = "single_page"', {"has_more": True, "data": RECORDS[:10]}),
        ("", {"has_more": False, "total": 10, "data": RECORDS[:10]}),
        ('type = "page_number"', RECORDS[:10]),
        ('type = "page_number", max_records = 5', {"has_more": True, "data": RECORDS[:10]}),
    ],
)
async def test_who_says_that_one_page_is_all_is_believed_too(
    files: SourceFiles, source_server: SourceServer, paginator: str, body: Any
) -> None:
    describe(files, paginator)
    source_server.put_json("/things", lambda _: body)

    assert (await files.run()).status == "succeeded"


async def test_a_page_that_comes_again_is_taken_for_all_and_found_worth_telling(
    files: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    describe(files, 'type = "page_number", page_param = "seite", limit = 10')
    source_server.put_json("/things", lambda _: RECORDS[:10])

    report = await files.run()

    assert report.status == "succeeded"
    (finding,) = json.loads(await sql.fetchval("SELECT findings FROM etl_runs"))
    assert (finding["code"], "page 2 is page 1 again, so 10 records" in finding["detail"]) == ("page_repeated", True)


async def test_a_page_that_comes_again_is_no_end_while_its_link_names_a_next_one(
    files: SourceFiles, source_server: SourceServer
) -> None:
    """As from a cache that is wrong: its rows would be missing, and the run would have succeeded."""
    stale = [True]

    def paged(seen: Seen) -> Reply:
        number = int(seen.query["page"])
        if number == 2 and stale:
            stale.pop()
            number = 1
        following = {"Link": f'<{source_server.url}/things?page={number + 1}>; rel="next"'} if number < 5 else {}
        return Reply(RECORDS[(number - 1) * 10 : number * 10], headers=following)

    source_server.put_script("/things", paged)
    describe(files, 'type = "page_number", follow_links = true')

    first, again = await files.run(), await files.run()

    assert (first.status, first.error_class) == ("partial", "data_error")
    assert "page 2 is page 1 again" in str(first.error_message)
    assert (again.status, first.counts.inserted + again.counts.inserted) == ("succeeded", 50)


async def test_nothing_is_deleted_after_a_walk_that_ended_too_early(
    files: SourceFiles, source_server: SourceServer
) -> None:
    deletes = '[resources.deletes]\ndetect = "snapshot"\nguard_ratio = 1.0\n'
    describe(files, more=deletes)
    source_server.put_json("/things", lambda _: {"has_more": False, "data": RECORDS})
    await files.run()
    source_server.put_json("/things", ten)

    reports = [await files.run() for _ in range(3)]

    assert [(report.status, report.counts.vanished) for report in reports] == [("suspect", 0)] * 3


def elastic(seen: Seen) -> Reply:
    """Pages and cursors stand in the body of a POST; the query string is not looked at."""
    asked = json.loads(seen.body)
    size, after = asked.get("size", 10), asked.get("search_after")
    begin = asked.get("from", 0) if after is None else after[1] + 1
    hits = [{"id": one["id"], "sort": ["2026", one["id"]]} for one in RECORDS[begin : begin + size]]
    return Reply({"hits": {"total": {"value": len(RECORDS)}, "hits": hits}})


@pytest.mark.parametrize(
    "paginator",
    [
        (
            'type = "offset", limit = 20, offset_body_path = "from", limit_body_path = "size", '
            'total_path = "hits.total.value"'
        ),
        'type = "offset", limit = 20, offset_body_path = "from", limit_body_path = "size"',
        'type = "cursor", cursor_path = "hits.hits[-1].sort", cursor_body_path = "search_after"',
    ],
)
async def test_pages_are_asked_for_in_the_body(files: SourceFiles, source_server: SourceServer, paginator: str) -> None:
    describe(
        files, paginator, more='method = "POST"\njson = { query = { match_all = {} } }\ndata_selector = "hits.hits"\n'
    )
    source_server.put_script("/things", elastic)

    report = await files.run()

    assert (report.status, report.error_message, report.counts.inserted) == ("succeeded", None, 50)
    assert not any(seen.query for seen in source_server.requests("/things"))


async def test_a_last_record_without_a_key_does_not_end_a_keyset_walk(
    files: SourceFiles, source_server: SourceServer
) -> None:
    describe(files, 'type = "keyset", cursor_path = "id", cursor_param = "after"')

    def page(query: dict[str, str]) -> list[dict[str, Any]]:
        begin = int(query.get("after", -1)) + 1
        found: list[dict[str, Any]] = [*RECORDS[begin : begin + 10]]
        return [*found, {"id": None}] if begin == 20 else found

    source_server.put_json("/things", page)

    report = await files.run()

    assert (report.status, report.counts.inserted, report.counts.rejected) == ("succeeded", 50, 1)


async def test_an_increment_without_any_value_is_suspect(files: SourceFiles, source_server: SourceServer) -> None:
    describe(files, more='incremental = { cursor_path = "updated", cursor_type = "integer", initial_value = 0 }\n')
    source_server.put_json("/things", lambda _: RECORDS)

    report = await files.run()

    assert (report.status, report.counts.inserted) == ("suspect", 50)
    assert report.error_message == "none of 50 records has a value of type integer at incremental.cursor_path updated"


@pytest.mark.parametrize(("kind", "filtered", "inserted"), [("closed", 0, 50), ("open", 1, 49)])
async def test_a_range_may_begin_behind_its_start(
    files: SourceFiles, source_server: SourceServer, kind: str, filtered: int, inserted: int
) -> None:
    describe(
        files,
        more='incremental = { cursor_path = "id", cursor_type = "integer", initial_value = 0,'
        f' range_start = "{kind}" }}\n',
    )
    source_server.put_json("/things", lambda _: RECORDS)

    report = await files.run()

    assert (report.status, report.counts.filtered, report.counts.inserted) == ("succeeded", filtered, inserted)


@pytest.mark.parametrize(
    ("paginator", "ok", "said"),
    [
        ('type = "page_number"', False, "page 2 is page 1 again, and has_more is true"),
        ("", False, "has_more is true; say how it is paged"),
        ('type = "cursor", cursor_path = "data[-1].id", cursor_param = "c"', False, "page 2 is page 1 again"),
        ('type = "single_page"', True, None),
    ],
)
async def test_a_check_looks_at_the_second_page_too(
    files: SourceFiles, resources: Resources, source_server: SourceServer, paginator: str, ok: bool, said: str | None
) -> None:
    describe(files, paginator)
    source_server.put_json("/things", ten)
    (spec,) = files.catalog().select(["s"])

    report = await check(spec, resources.fetcher)

    assert (report.ok, (said or "") in (report.error or "")) == (ok, True)
