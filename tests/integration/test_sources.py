"""Source files, run for real: what the server is asked, and what is then in the tables."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.errors import ConfigError
from app.records import RunReport
from app.resources import Resources
from app.scheduler import run_tick
from app.sources.catalog import open_catalog
from tests.source_server import Fault, SourceServer

Run = Callable[..., Awaitable[RunReport]]
RECORDS = [{"id": n, "title": f"t{n}", "at": f"2026-01-{n:02d}T00:00:00Z"} for n in range(1, 8)]
FIRST = 'name = "s"\ntype = "rest_api"\n'
RETRY = "[retry]\nmax_attempts = 2\nbackoff_factor = 0.01\n"


@pytest.fixture
def run(resources: Resources, source_server: SourceServer) -> Run:
    """Write `sources/s.toml`, run it once, and hold that the run balances."""

    async def once(endpoint: str = "", *, client: str = "", more: str = "", name: str = "s") -> RunReport:
        Path("sources").mkdir(exist_ok=True)
        text = f"""{FIRST}{RETRY}
[client]
base_url = "{source_server.url}"
allow_private_networks = true
{client}
[[resources]]
name = "things"
primary_key = "id"
[resources.endpoint]
path = "things"
{endpoint}
{more or "[resources.mapping]" + chr(10) + 'name = "title"'}
"""
        Path("sources/s.toml").write_text(text)
        resources.catalog = open_catalog(resources.settings)
        tick = await run_tick(resources, resources.catalog.select([name]), trigger="command")
        assert tick.unopened == {}
        report = next(report for report in tick.reports if report.source.startswith(name))
        assert report.counts.balanced
        return report

    return once


def constantly(body: Any, _query: dict[str, str]) -> Any:
    return body


def page_of(query: dict[str, str], *, size: int = 3) -> list[dict[str, Any]]:
    number = int(query.get("page", 1))
    return RECORDS[(number - 1) * size : number * size]


def offset_of(query: dict[str, str]) -> dict[str, Any]:
    begin, size = int(query.get("offset", 0)), int(query.get("limit", 3))
    return {"items": RECORDS[begin : begin + size], "total": len(RECORDS)}


def cursor_of(query: dict[str, str]) -> dict[str, Any]:
    begin = int(query.get("after", 0))
    more = begin + 3 < len(RECORDS)
    return {"data": RECORDS[begin : begin + 3], "meta": {"next": str(begin + 3) if more else None, "more": more}}


def keyset_of(query: dict[str, str]) -> dict[str, Any]:
    begin = int(query.get("starting_after", 0))
    return {"data": RECORDS[begin : begin + 3], "has_more": begin + 3 < len(RECORDS)}


def linked_of(query: dict[str, str]) -> dict[str, Any]:
    begin = int(query.get("from", 0))
    more = begin + 3 < len(RECORDS)
    return {"results": RECORDS[begin : begin + 3], "next": f"/things?from={begin + 3}" if more else None}


@pytest.mark.parametrize(
    ("answer", "paginator"),
    [
        (lambda _: RECORDS, 'type = "single_page"'),
        (page_of, 'type = "page_number"'),
        (page_of, 'type = "page_number", limit = 3'),
        (lambda q: {"rows": page_of(q), "pages": 3}, 'type = "page_number", total_path = "pages"'),
        (offset_of, 'type = "offset", limit = 3'),
        (offset_of, 'type = "offset", limit = 2, total_path = "total"'),
        (cursor_of, 'type = "cursor", cursor_path = "meta.next", cursor_param = "after"'),
        (cursor_of, 'type = "cursor", cursor_path = "meta.next", cursor_param = "after", has_more_path = "meta.more"'),
        (linked_of, 'type = "json_link"'),
        (linked_of, 'type = "auto"'),
        (keyset_of, 'type = "keyset", has_more_path = "has_more"'),
        (keyset_of, 'type = "keyset"'),
        # Servers that never say where they end
        (lambda q: page_of({"page": str(min(int(q["page"]), 3))}), 'type = "page_number"'),
        (lambda _: RECORDS, 'type = "page_number"'),
    ],
)
async def test_a_walk_brings_exactly_the_servers_records(
    run: Run, source_server: SourceServer, sql: asyncpg.Connection, answer: Any, paginator: str
) -> None:
    source_server.put_json("/things", answer)

    report = await run(f"paginator = {{ {paginator} }}")

    assert (report.status, report.counts.inserted, report.counts.extracted) == ("succeeded", 7, 7)
    again = await run(f"paginator = {{ {paginator} }}")
    assert (again.status, again.counts.written, again.counts.raw_rows) == ("succeeded", 0, 0)
    assert await sql.fetchval("SELECT count(*) FROM raw_api_data") == 7


async def test_a_header_link_leads_on_and_404_past_the_end_is_the_end(run: Run, source_server: SourceServer) -> None:
    source_server.put_pages("/things", RECORDS)
    linked = await run('params = { _limit = 3, _page = 1 }\npaginator = { type = "header_link" }')
    assert (linked.counts.inserted, len(source_server.requests("/things"))) == (7, 3)

    source_server.put_json("/things", page_of)
    source_server.fault("/things", Fault(gate=None), Fault(gate=None), Fault(gate=None), *[Fault(status=404)] * 8)
    past = await run('paginator = { type = "page_number" }')
    assert (past.status, past.counts.extracted) == ("succeeded", 7)


async def test_a_walk_in_a_circle_ends_with_an_error(run: Run, source_server: SourceServer) -> None:
    source_server.put_json(
        "/things", lambda q: {"data": [{"id": q.get("c", "0")}], "next": "2" if q.get("c") == "1" else "1"}
    )

    report = await run('paginator = { type = "cursor", cursor_path = "next", cursor_param = "c" }')

    assert (report.status, report.error_class) == ("partial", "data_error")
    assert "already read" in str(report.error_message)
    assert len(source_server.requests("/things")) == 3


async def test_a_walk_has_bounds(run: Run, source_server: SourceServer) -> None:
    source_server.put_json("/things", page_of)
    failed = await run('paginator = { type = "page_number", max_pages = 2 }')
    assert failed.status == "partial"
    assert "more than 2 pages" in str(failed.error_message)

    stopped = await run('paginator = { type = "page_number", max_pages = 2, on_max_pages = "stop" }')
    assert (stopped.status, stopped.counts.extracted) == ("succeeded", 6)
    bounded = await run('paginator = { type = "page_number", max_records = 2 }')
    assert (bounded.status, bounded.counts.extracted) == ("succeeded", 3)


async def test_a_walk_that_broke_goes_on_at_its_page(
    run: Run, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_json("/things", cursor_of)
    source_server.fault("/things", Fault(gate=None), Fault(gate=None), Fault(status=500), Fault(status=500))
    walk = 'paginator = { type = "cursor", cursor_path = "meta.next", cursor_param = "after" }'

    broken = await run(walk)
    resumed = await run(walk)

    assert (broken.status, broken.counts.inserted, broken.traffic.retries) == ("partial", 6, 1)
    assert (resumed.status, resumed.counts.extracted, resumed.traffic.requests) == ("succeeded", 1, 1)
    assert await sql.fetchval("SELECT count(*) FROM normalized_data") == 7


async def test_a_request_is_made_as_the_file_says(
    run: Run, source_server: SourceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_SECRET_KEY", "s3cret")
    source_server.put_json("/things", lambda _: {"data": RECORDS})

    await run(
        'method = "POST"\nparams = { tag = ["a", "b"], deep = true }\njson = { query = "{{ x }}", size = 2 }\n'
        'headers = { X-Own = "1" }\ndata_selector = "data"',
        client='headers = { X-Shared = "{secrets.KEY}" }',
    )
    await run('method = "POST"\ndata = { grant = "a b", n = 1 }')

    asked, form = source_server.requests("/things")
    assert (asked.method, asked.body) == ("POST", b'{"query":"{ x }","size":2}')
    assert (asked.headers["X-Own"], asked.headers["X-Shared"]) == ("1", "s3cret")
    assert asked.query["deep"] == "true"
    assert form.body == b"grant=a+b&n=1"
    assert form.headers["Content-Type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ('type = "bearer", token = "{secrets.KEY}"', "Authorization", "Bearer s3cret"),
        ('type = "api_key", name = "X-Key", api_key = "{secrets.KEY}"', "X-Key", "s3cret"),
        ('type = "api_key", name = "k", api_key = "{secrets.KEY}", location = "cookie"', "Cookie", "k=s3cret"),
        ('type = "http_basic", username = "u", password = "{secrets.KEY}"', "Authorization", "Basic dTpzM2NyZXQ="),
    ],
)
async def test_credentials_are_sent_and_kept_to_themselves(  # noqa: PLR0917 -- fixtures and cases
    run: Run,
    source_server: SourceServer,
    sql: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    auth: str,
    header: str,
    value: str,
) -> None:
    monkeypatch.setenv("ETL_SECRET_KEY", "s3cret")
    source_server.put_json("/things", lambda _: RECORDS)
    await run(client=f"auth = {{ {auth} }}")
    source_server.fault("/things", Fault(status=401, body=b"s3cret is wrong"))
    refused = await run(client=f"auth = {{ {auth} }}")

    assert source_server.requests("/things")[0].headers[header] == value
    assert (refused.status, refused.error_class) == ("failed", "config_error")
    printed = "".join(capsys.readouterr())
    stored = await sql.fetch("SELECT r::text FROM etl_runs r UNION ALL SELECT c::text FROM etl_checkpoint c")
    assert not [text for text in (printed, str(refused), *(row[0] for row in stored)) if "s3cret" in text]


async def test_a_missing_secret_is_named(run: Run, source_server: SourceServer) -> None:
    report = await run(client='auth = { type = "bearer", token = "{secrets.NOT_THERE}" }')

    assert (report.status, report.error_class) == ("failed", "config_error")
    assert "ETL_SECRET_NOT_THERE" in str(report.error_message)


async def test_what_an_answer_means_can_be_said(run: Run, source_server: SourceServer) -> None:
    source_server.put_json("/things", lambda _: {"error": "no licence"})
    says = 'status_code = 200, content = "no licence", action = "fail", error_class = "config_error"'
    assert (await run(f"response_actions = [{{ {says} }}]")).error_class == "config_error"

    source_server.fault("/things", Fault(status=404))
    assert (await run('response_actions = [{ status_code = 404, action = "ignore" }]')).status == "succeeded"

    source_server.put_json("/things", lambda _: RECORDS)
    source_server.fault("/things", Fault(status=418))
    retried = await run('response_actions = [{ status_code = 418, action = "retry" }]')
    assert (retried.status, retried.traffic.retries) == ("succeeded", 1)


async def test_a_wait_that_is_too_long_ends_the_turn(run: Run, source_server: SourceServer) -> None:
    source_server.fault("/things", Fault(status=429, headers={"Retry-After": "4000"}))

    report = await run()

    assert (report.status, report.retry_after_seconds, report.traffic.requests) == ("failed", 4000, 1)


async def test_an_unchanged_walk_is_not_read_again_even_if_the_mapping_changed(
    run: Run, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/things", RECORDS, etags=True)
    paged = 'params = { _limit = 3, _page = 1 }\npaginator = { type = "header_link" }'
    assert (await run(paged)).outcome == "changed"
    assert (await run(paged)).outcome == "not_modified"
    assert (await run(paged, client="conditional_requests = false")).outcome == "no_new_data"

    remapped = await run(paged, more='[resources.mapping]\nname = { template = "<{title}>" }')
    assert (remapped.outcome, remapped.counts.extracted) == ("not_modified", 0)
    assert await sql.fetchval("SELECT count(*) FROM normalized_data WHERE name LIKE '<%>'") == 7


SINCE = 'params = { since = "{incremental.start_value}" }\ndata_selector = "[]"\n'


def since(query: dict[str, str]) -> list[dict[str, Any]]:
    return [record for record in RECORDS if str(record["at"]) >= query.get("since", "")]


@pytest.mark.parametrize(
    ("incremental", "asked"),
    [
        ('cursor_path = "at"', "2026-01-07T00:00:00Z"),
        ('cursor_path = "at", row_order = "asc", lookback_window = "P1D"', "2026-01-06T00:00:00Z"),
        ('cursor_path = "at", cursor_type = "string"', "2026-01-07T00:00:00Z"),
        ('cursor_path = "id", cursor_type = "integer"', "7"),
    ],
)
async def test_the_next_run_asks_only_for_what_changed(
    run: Run, source_server: SourceServer, incremental: str, asked: str
) -> None:
    source_server.put_json("/things", since)
    first = await run(f"{SINCE}incremental = {{ {incremental} }}")
    second = await run(f"{SINCE}incremental = {{ {incremental} }}")

    assert [seen.query.get("since") for seen in source_server.requests("/things")] == [None, asked]
    assert (first.counts.inserted, second.outcome, second.counts.written) == (7, "no_new_data", 0)


async def test_a_checkpoint_in_the_future_asks_for_nothing(run: Run, source_server: SourceServer) -> None:
    source_server.put_json("/things", since)
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()

    report = await run(f'{SINCE}incremental = {{ cursor_path = "at", initial_value = "{later}" }}')

    assert (report.status, report.traffic.requests) == ("succeeded", 0)


async def test_windows_move_the_checkpoint_one_by_one(run: Run, source_server: SourceServer) -> None:
    def window(query: dict[str, str]) -> list[dict[str, Any]]:
        return [record for record in RECORDS if query["from"] <= str(record["at"]) < query["to"]]

    source_server.put_json("/things", window)
    source_server.fault("/things", Fault(gate=None), Fault(gate=None), Fault(status=500), Fault(status=500))
    stepped = (
        'params = { from = "{incremental.start_value}", to = "{incremental.end_value}" }\ndata_selector = "[]"\n'
        'incremental = { cursor_path = "at", step = "P2D", '
        "initial_value = 2026-01-01T00:00:00Z, end_value = 2026-01-08T00:00:00Z }"
    )

    broken = await run(stepped)
    resumed = await run(stepped)

    assert (broken.status, broken.counts.inserted) == ("partial", 4)
    assert (resumed.status, resumed.counts.extracted, resumed.counts.inserted) == ("succeeded", 3, 3)
    asked = [(seen.query["from"][8:10], seen.query["to"][8:10]) for seen in source_server.requests("/things")]
    assert asked == [("01", "03"), ("03", "05"), ("05", "07"), ("05", "07"), ("05", "07"), ("07", "08")]


@pytest.mark.parametrize(
    ("missing", "filtered", "status"),
    [("include", 0, "succeeded"), ("exclude", 1, "succeeded"), ("raise", 0, "failed")],
)
async def test_a_record_without_a_cursor(
    run: Run, source_server: SourceServer, missing: str, filtered: int, status: str
) -> None:
    source_server.put_json("/things", lambda _: [*RECORDS, {"id": 99}])

    report = await run(f'incremental = {{ cursor_path = "at", on_cursor_value_missing = "{missing}" }}')

    assert (report.status, report.counts.filtered) == (status, filtered)


async def test_a_tombstone_hides_its_row_until_the_record_returns(
    run: Run, source_server: SourceServer, sql: asyncpg.Connection, client: Any
) -> None:
    mapped = '[resources.mapping]\nname = "title"\ndeleted = "gone"'
    live: list[dict[str, Any]] = [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}]
    seen = []
    for records in (live, [{"id": 1, "gone": True}], [{"id": 1, "gone": True}], live):
        source_server.put_json("/things", partial(constantly, records))
        report = await run(more=mapped)
        served = (await client.get("/data?source=s")).json()
        seen.append((report.counts.deleted, report.counts.written, served["total"], len(served["data"])))

    assert seen == [(0, 2, 2, 2), (1, 1, 1, 1), (0, 0, 1, 1), (0, 1, 2, 2)]
    assert await sql.fetchval("SELECT count(*) FROM raw_api_data WHERE disposition = 'deleted'") == 1
    ignored = await run(more=mapped + '\n[resources.deletes]\nmode = "none"')
    assert ignored.counts.deleted == 0


async def test_children_follow_their_parents_and_go_on_where_they_broke(
    run: Run, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_json("/things", lambda _: RECORDS[:3])
    for n in (1, 2, 3):
        source_server.put_json(f"/things/{n}/notes", partial(constantly, [{"id": n * 10}, {"id": n * 10 + 1}]))
    source_server.fault("/things/2/notes", Fault(status=500), Fault(status=500))
    family = (
        '[[resources]]\nname = "notes"\nprimary_key = "id"\n'
        'endpoint = { path = "things/{resources.things.id}/notes", paginator = { type = "single_page" } }'
    )

    await run(more=family)
    begun = await sql.fetchval("SELECT count(*) FROM normalized_data WHERE source = 's.notes'")
    await run(more=family)

    assert begun == 2
    assert await sql.fetchval("SELECT count(*) FROM normalized_data WHERE source = 's.notes'") == 6
    assert [len(source_server.requests(f"/things/{n}/notes")) for n in (1, 2, 3)] == [1, 3, 1]
    assert await sql.fetchval("SELECT array_agg(status ORDER BY id) FROM etl_runs WHERE source = 's.notes'") == [
        "partial",
        "succeeded",
    ]


async def test_partitions_are_walked_one_after_the_other(run: Run, source_server: SourceServer) -> None:
    source_server.put_json("/things", lambda q: [{"id": q["state"]}])

    report = await run('partitions = [{ state = "open" }, { state = "closed" }]\npaginator = { type = "single_page" }')

    assert (report.counts.inserted, [seen.query for seen in source_server.requests("/things")]) == (
        2,
        [{"state": "open"}, {"state": "closed"}],
    )


@pytest.mark.parametrize(
    ("more", "status", "counted"),
    [
        ('filter = [{ path = "id", op = "gt", value = 5 }]', "succeeded", {"filtered": 5, "inserted": 2}),
        ('schema_contract = "reject_row"\nmapping = { value = "title" }', "suspect", {"rejected": 7, "inserted": 0}),
        ('schema_contract = "freeze"\nmapping = { value = "title" }', "failed", {"inserted": 0}),
        ("expect = { min_rows = 8 }", "suspect", {"inserted": 7}),
        ("expect = { min_rows = 7 }", "succeeded", {"inserted": 7}),
        (
            'schema_contract = "reject_row"\nmapping = { value = "title" }\nexpect = { max_rejects = 6 }',
            "failed",
            {"rejected": 7},
        ),
        (
            'schema_contract = "reject_row"\nmapping = { value = "title" }\nexpect = { max_reject_ratio = 1.0 }',
            "succeeded",
            {},
        ),
    ],
)
async def test_what_a_resource_promises_is_held(
    resources: Resources, source_server: SourceServer, more: str, status: str, counted: dict[str, int]
) -> None:
    source_server.put_json("/things", lambda _: RECORDS)
    Path("sources").mkdir()
    Path("sources/s.toml").write_text(
        f'{FIRST}client = {{ base_url = "{source_server.url}", allow_private_networks = true }}\n'
        f'[[resources]]\nname = "things"\nprimary_key = "id"\nendpoint = {{ path = "things" }}\n{more}\n'
    )
    catalog = open_catalog(resources.settings)

    report = (await run_tick(resources, catalog.select(["s"]), trigger="command")).reports[0]

    assert report.status == status, report.error_message
    assert {name: getattr(report.counts, name) for name in counted} == counted


async def test_on_zero_decides_what_an_empty_source_is(run: Run, source_server: SourceServer) -> None:
    source_server.put_json("/things", lambda _: [])
    empty = await run()
    failed = await run(more='[resources.expect]\non_zero = "fail"')

    assert (empty.status, empty.outcome, failed.status) == ("succeeded", "empty", "failed")


async def test_a_private_address_is_refused_unless_the_file_allows_it(
    resources: Resources, source_server: SourceServer
) -> None:
    Path("sources").mkdir()
    Path("sources/s.toml").write_text(
        f'{FIRST}client = {{ base_url = "{source_server.url}" }}\n'
        '[[resources]]\nname = "things"\nendpoint = { path = "x" }\n'
    )
    report = (await run_tick(resources, open_catalog(resources.settings).select(["s"]), trigger="command")).reports[0]

    assert (report.status, report.error_class) == ("failed", "config_error")
    assert "allow_private_networks" in str(report.error_message)
    assert source_server.seen == []


async def test_every_fault_of_every_file_is_named(resources: Resources) -> None:
    Path("sources").mkdir()
    Path("sources/a.toml").write_text('name = "a"\ntype = "rest_api"\nurl_base = "x"\nresources = []')
    Path("sources/b.toml").write_text(
        'name = "api"\ntype = "csv"\n[[resources]]\nname = "r"\nfile = { url = "/etc/passwd" }'
    )

    with pytest.raises(ConfigError) as raised:
        open_catalog(resources.settings).demand_right()

    lines = str(raised.value).splitlines()
    assert any("a.toml: url_base: unknown key: Airbyte's name; here client.base_url" in line for line in lines)
    assert any("b.toml: name: api is taken by the built-in source api" in line for line in lines)
    assert any("FILE_ROOTS" in line for line in lines)


async def test_a_host_that_fails_again_and_again_is_left_alone_and_says_so(
    run: Run, source_server: SourceServer, client: Any
) -> None:
    source_server.fault("/things", *[Fault(status=503)] * 6)
    for _ in range(2):
        await run()  # two tries each

    fifth = await run()
    asked = len(source_server.seen)
    refused = await run()

    assert fifth.status == "failed"
    assert (asked, len(source_server.seen)) == (5, 5)
    assert "not asked" in str(refused.error_message)
    assert refused.retry_after_seconds == pytest.approx(30, abs=2)
    listed = {item["name"]: item["breaker"] for item in (await client.get("/sources")).json()}
    assert "5 failures in a row" in listed["s"]
    assert listed["csv"] == listed["s"]
