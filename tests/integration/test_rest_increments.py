"""REST source files over several runs: what the second one asks, goes on with, and leaves alone."""

import json
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from app.extract import scoped_increments
from app.resources import Resources
from tests.source_files import IMPATIENT, SourceFiles, resource
from tests.source_server import Fault, Reply, Seen, SourceServer

RECORDS = [{"id": n, "title": f"t{n}", "at": f"2025-01-{n:02d}T00:00:00Z"} for n in range(1, 13)]
BROKEN = Fault(status=500), Fault(status=500)
"""A fault that outlives the two tries of a test."""
SINCE = 'params = { since = "{incremental.start_value}", until = "{incremental.end_value}" }\n'
TRIES_ONE_BY_ONE = "rate_limit = { requests = 1000, concurrency = 1 }\n" + IMPATIENT
WINDOWS = ", initial_value = 2025-01-01T00:00:00Z, end_value = 2025-01-13T00:00:00Z, step = 'P4D'"
PAGES = 'paginator = { type = "page_number", limit = 3 }\n'


@pytest.fixture
def sources(resources: Resources, tmp_path: Path, source_server: SourceServer) -> SourceFiles:
    return SourceFiles(resources, tmp_path / "sources", source_server.url)


@pytest.fixture
def server(source_server: SourceServer) -> SourceServer:
    """One that honours `since`, `until` and `page`, as APIs do."""
    source_server.put_script("/things", changed)
    return source_server


def changed(seen: Seen, *, records: list[dict[str, Any]] = RECORDS) -> Reply:
    since, until = seen.query.get("since", ""), seen.query.get("until", "9")
    found = [one for one in records if since <= one["at"] < until]
    page = int(seen.query.get("page", 1))
    return Reply(found[(page - 1) * 3 : page * 3] if "page" in seen.query else found)


def incremental(more: str = "") -> str:
    return SINCE + f'incremental = {{ cursor_path = "at"{more} }}\n'


def asked(server: SourceServer, name: str = "since", path: str = "/things") -> list[str | None]:
    return [seen.query.get(name) for seen in server.requests(path)]


async def state_of(sql: asyncpg.Connection, source: str = "s") -> dict[str, Any]:
    state: dict[str, Any] = json.loads(await sql.fetchval("SELECT state FROM etl_checkpoint WHERE source = $1", source))
    return state


async def keys_of(sql: asyncpg.Connection, source: str = "s") -> list[int]:
    rows = await sql.fetch("SELECT source_id FROM normalized_data WHERE source = $1", source)
    return sorted(int(row[0]) for row in rows)


# Increments


@pytest.mark.parametrize(
    ("more", "first", "second"),
    [
        ("", None, "2025-01-12T00:00:00Z"),
        (", initial_value = 2025-01-05T00:00:00Z", "2025-01-05T00:00:00Z", "2025-01-12T00:00:00Z"),
        (', lookback_window = "P1DT1H"', None, "2025-01-10T23:00:00Z"),
        (
            ', initial_value = "2025-01-11T00:00:00+00:00", lookback_window = "P9D"',
            "2025-01-11T00:00:00Z",
            "2025-01-11T00:00:00Z",
        ),
        (', row_order = "asc"', None, "2025-01-12T00:00:00Z"),
        (', cursor_format = "date"', None, "2025-01-12"),
    ],
)
async def test_the_second_run_asks_only_for_what_changed(
    sources: SourceFiles, server: SourceServer, more: str, first: str | None, second: str
) -> None:
    sources.rest(resource(incremental(more)))
    await sources.run()

    report = await sources.run()

    assert asked(server) == [first, second]
    assert (report.status, report.counts.written, report.outcome) == ("succeeded", 0, "no_new_data")


@pytest.mark.parametrize(
    ("kind", "values", "start", "second"),
    [
        ("integer", [9, 10, 8], "initial_value = 7", "10"),
        ("integer", ["9", "10", 8], "initial_value = 7", "10"),
        ("string", ["b", "aa", "c"], 'initial_value = "a"', "c"),
    ],
)
async def test_a_cursor_may_be_a_number_or_a_text(
    sources: SourceFiles, source_server: SourceServer, kind: str, values: list[Any], start: str, second: str
) -> None:
    source_server.put_json("/things", lambda _: [{"id": n, "title": "t", "at": at} for n, at in enumerate(values)])
    sources.rest(resource(incremental(f', cursor_type = "{kind}", {start}')))
    await sources.run()

    await sources.run()

    assert asked(source_server)[1] == second


async def test_a_unix_cursor_is_sent_as_it_is_read(sources: SourceFiles, source_server: SourceServer) -> None:
    source_server.put_json("/things", lambda _: [{"id": 1, "title": "t", "at": 1735689600}])
    sources.rest(resource(incremental(', cursor_format = "unix", lookback_window = "PT1M"')))
    await sources.run()

    await sources.run()

    assert asked(source_server)[1] == "1735689540"


@pytest.mark.parametrize(("order", "kept"), [(', row_order = "asc"', "2025-01-06T00:00:00+00:00"), ("", None)])
async def test_a_walk_that_broke_goes_on_at_its_page_and_misses_no_row(
    sources: SourceFiles, server: SourceServer, sql: asyncpg.Connection, order: str, kept: str | None
) -> None:
    sources.rest(resource(incremental(order) + PAGES), top=TRIES_ONE_BY_ONE)
    server.fault("/things", Fault(), Fault(), *BROKEN)
    broken = await sources.run()
    held = await state_of(sql)
    server.seen.clear()

    report = await sources.run()

    assert (broken.status, broken.counts.extracted, held.get("cursor_value")) == ("partial", 6, kept)
    assert report.status == "succeeded"
    assert asked(server, "page")[0] == "3"
    assert await keys_of(sql) == list(range(1, 13))
    assert (await state_of(sql))["cursor_value"] == "2025-01-12T00:00:00+00:00"


async def test_rows_out_of_order_do_not_move_the_checkpoint_before_the_end(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_script("/things", lambda seen: changed(seen, records=RECORDS[::-1]))
    sources.rest(resource(incremental(', row_order = "asc"') + PAGES), top=TRIES_ONE_BY_ONE)
    source_server.fault("/things", Fault(), *BROKEN)
    await sources.run()
    held = await state_of(sql)

    await sources.run()

    assert held.get("cursor_value") is None
    assert held["pending_cursor_value"] == "2025-01-12T00:00:00+00:00"
    assert await keys_of(sql) == list(range(1, 13))
    assert (await state_of(sql))["cursor_value"] == "2025-01-12T00:00:00+00:00"


async def test_each_window_is_asked_for_and_a_fault_keeps_those_before_it(
    sources: SourceFiles, server: SourceServer, sql: asyncpg.Connection
) -> None:
    sources.rest(resource(incremental(WINDOWS)), top=TRIES_ONE_BY_ONE)
    server.fault("/things", Fault(), Fault(), *BROKEN)
    broken = await sources.run()
    held = await state_of(sql)

    report = await sources.run()

    days = ["2025-01-01", "2025-01-05", "2025-01-09", "2025-01-13"]
    windows = [(f"{a}T00:00:00Z", f"{b}T00:00:00Z") for a, b in pairwise(days)]
    assert list(zip(asked(server), asked(server, "until"), strict=True)) == [*windows, windows[2], windows[2]]
    assert (broken.status, broken.counts.inserted, held["cursor_value"]) == ("partial", 8, "2025-01-09T00:00:00+00:00")
    assert (report.status, report.counts.inserted) == ("succeeded", 4)
    assert (await state_of(sql))["cursor_value"] == "2025-01-13T00:00:00+00:00"


async def test_a_fault_on_a_later_page_of_a_window_keeps_the_windows_before_it(
    sources: SourceFiles, server: SourceServer, sql: asyncpg.Connection
) -> None:
    sources.rest(resource(incremental(WINDOWS) + PAGES), top=TRIES_ONE_BY_ONE)
    # The second page of the third window
    server.fault("/things", Fault(), Fault(), Fault(), Fault(), Fault(), *BROKEN)
    broken = await sources.run()
    held = await state_of(sql)
    server.seen.clear()

    report = await sources.run()

    assert broken.status == "partial"
    assert held["cursor_value"] == "2025-01-09T00:00:00+00:00"
    assert report.status == "succeeded"
    assert set(asked(server)) == {"2025-01-09T00:00:00Z"}
    assert await keys_of(sql) == list(range(1, 13))
    assert (await state_of(sql))["cursor_value"] == "2025-01-13T00:00:00+00:00"


@pytest.mark.parametrize(
    ("policy", "status", "inserted", "filtered"),
    [("include", "succeeded", 3, 0), ("exclude", "succeeded", 2, 1), ("raise", "failed", 0, 0)],
)
async def test_a_record_without_a_cursor(
    sources: SourceFiles, source_server: SourceServer, policy: str, status: str, inserted: int, filtered: int
) -> None:
    source_server.put_json("/things", lambda _: [*RECORDS[:2], {"id": 99, "title": "undated", "at": None}])
    sources.rest(resource(incremental(f', on_cursor_value_missing = "{policy}"')))

    report = await sources.run()

    assert (report.status, report.counts.inserted, report.counts.filtered) == (status, inserted, filtered)


async def test_a_checkpoint_in_the_future_asks_for_nothing_and_is_told_about(
    sources: SourceFiles, server: SourceServer, sql: asyncpg.Connection
) -> None:
    sources.rest(resource(incremental()))
    await sources.run()
    future = "jsonb_set(state::jsonb, '{cursor_value}', '\"2999-01-01T00:00:00+00:00\"')"
    await sql.execute(f"UPDATE etl_checkpoint SET state = {future} WHERE source = 's'")
    server.seen.clear()

    report = await sources.run()

    assert (report.status, server.seen) == ("succeeded", [])
    assert "cursor_in_future" in await sql.fetchval("SELECT findings::text FROM etl_runs WHERE id = $1", report.run_id)
    assert (await state_of(sql))["cursor_value"] == "2999-01-01T00:00:00+00:00"


async def test_a_record_from_the_future_does_not_carry_the_checkpoint_there(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_json("/things", lambda _: [{"id": 1, "title": "t", "at": "2999-01-01T00:00:00Z"}])
    sources.rest(resource(incremental()))

    await sources.run()

    assert datetime.fromisoformat((await state_of(sql))["cursor_value"]) < datetime.now(UTC)


# Conditional requests


async def test_an_unchanged_body_is_not_read_again_even_if_the_mapping_changed(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_script("/things", lambda _: Reply(RECORDS, headers={"ETag": '"v1"'}))
    sources.rest(resource())
    await sources.run()

    unchanged = await sources.run()
    sources.rest(resource(mapping='name = "at"'))
    remapped = await sources.run()

    assert [(run.outcome, run.counts.extracted) for run in (unchanged, remapped)] == [("not_modified", 0)] * 2
    assert source_server.seen[-1].headers["If-None-Match"] == '"v1"'
    assert await sql.fetchval("SELECT name FROM normalized_data WHERE source_id = '1'") == "2025-01-01T00:00:00Z"


async def test_a_changed_mapping_leaves_an_increment_where_it_is(sources: SourceFiles, server: SourceServer) -> None:
    sources.rest(resource(incremental()))
    await sources.run()
    sources.rest(resource(incremental(), mapping='name = "at"'))

    report = await sources.run()

    assert (asked(server), report.counts.unchanged) == ([None, "2025-01-12T00:00:00Z"], 1)


async def test_conditional_requests_can_be_switched_off(sources: SourceFiles, source_server: SourceServer) -> None:
    source_server.put_script("/things", lambda _: Reply(RECORDS, headers={"ETag": '"v1"'}))
    sources.rest(resource(), client="conditional_requests = false")
    await sources.run()

    report = await sources.run()

    assert (report.outcome, report.counts.unchanged) == ("no_new_data", 12)
    assert all("If-None-Match" not in seen.headers for seen in source_server.seen)


# Tombstones, parents, partitions


async def test_a_tombstone_hides_its_row_until_the_record_returns(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection, client: httpx2.AsyncClient
) -> None:
    row = "SELECT xmin::text, deleted_at IS NOT NULL, name FROM normalized_data WHERE source_id = '1'"
    sources.rest(resource(mapping='name = "title"\ndeleted = "gone"'))

    async def after(*, gone: bool) -> tuple[Any, ...]:
        source_server.put_json("/things", lambda _: [{"id": 1, "title": "t", "gone": gone}, RECORDS[1]])
        assert (await sources.run()).status == "succeeded"
        served = (await client.get("/data", params={"source": "s"})).json()["total"]
        return (served, *(await sql.fetchrow(row) or ()))

    there = await after(gone=False)
    hidden = await after(gone=True)
    again = await after(gone=True)
    back = await after(gone=False)

    assert [(one[0], one[2]) for one in (there, hidden, back)] == [(2, False), (1, True), (2, False)]
    assert again == hidden


async def test_children_follow_their_parents_and_go_on_at_the_one_that_failed(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    slugs = {1: "a/b", 2: "ü ?", 3: "c"}
    source_server.put_json("/posts", lambda _: [{"id": n, "title": "p", "slug": s} for n, s in slugs.items()])
    for n, slug in slugs.items():
        comments = [{"id": n * 10, "title": "c"}, {"id": n * 10 + 1, "title": "c"}]
        source_server.put(f"/posts/{slug}/comments", json.dumps(comments).encode(), content_type="application/json")
    source_server.fault("/posts/ü ?/comments", *BROKEN)
    child = resource(name="comments", path="posts/{resources.posts.slug}/comments")
    sources.rest(resource(name="posts"), child, top=TRIES_ONE_BY_ONE)
    reports = await sources.run_all()
    source_server.seen.clear()

    report = (await sources.run_all("s.comments"))["s.comments"]

    assert set(reports) == {"s.posts", "s.comments"}
    assert (reports["s.posts"].status, reports["s.comments"].status) == ("succeeded", "partial")
    assert report.status == "succeeded"
    assert [seen.path for seen in source_server.seen] == ["/posts/ü ?/comments", "/posts/c/comments"]
    assert await keys_of(sql, "s.comments") == [10, 11, 20, 21, 30, 31]


async def test_partitions_are_walked_in_turn_and_go_on_where_they_broke(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_json("/things", lambda q: [{"id": int(q["region"]), "title": q["kind"]}])
    sources.rest(
        resource('params = { kind = "k" }\npartitions = [{ region = 1 }, { region = 2 }, { region = 3 }]'),
        top=TRIES_ONE_BY_ONE,
    )
    source_server.fault("/things", Fault(), *BROKEN)

    broken = await sources.run()
    report = await sources.run()

    assert (broken.status, report.status) == ("partial", "succeeded")
    assert asked(source_server, "region") == ["1", "2", "2", "2", "3"]
    assert await keys_of(sql) == [1, 2, 3]


REGIONS = 'partitions = [{ region = "a" }, { region = "b" }]\n'


def numbered(records: dict[str, list[int]]) -> Any:
    """A server whose regions count for themselves: `since` is exclusive of nothing, three to a page."""

    def answer(seen: Seen) -> Reply:
        region, since = seen.query["region"], int(seen.query.get("since", 0))
        found = [{"id": f"{region}{n}", "n": n, "title": "t"} for n in records[region] if n >= since]
        page = int(seen.query.get("page", 1))
        return Reply(found[(page - 1) * 3 : page * 3])

    return answer


def by_number(more: str = "") -> str:
    return (
        'params = { since = "{incremental.start_value}" }\n'
        f'incremental = {{ cursor_path = "n", cursor_type = "integer", initial_value = 1{more} }}\n'
    )


async def test_each_partition_goes_on_at_a_value_of_its_own(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    records = {"a": [100, 101], "b": [1, 2]}
    source_server.put_script("/things", numbered(records))
    sources.rest(resource(by_number() + REGIONS))
    await sources.run()
    held = await state_of(sql)
    records["b"].append(3)
    source_server.seen.clear()

    report = await sources.run()

    assert held == {"cursor_values": {"000000": "101", "000001": "2"}, "data_selector": "[]"}
    assert asked(source_server) == ["101", "2"]
    assert (report.counts.inserted, report.outcome) == (1, "changed")
    assert (await state_of(sql))["cursor_values"] == {"000000": "101", "000001": "3"}
    assert (await sources.run()).outcome == "no_new_data"


async def test_where_a_child_stands_with_a_parent_is_not_another_parents_once_keys_were_dealt_out_anew(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    """It asked the one from where the other had been left, and what came before was never read."""
    source_server.put_json("/regions", lambda _: [{"id": "a", "code": "x"}, {"id": "b", "code": "a"}])
    late = {"a": [100], "b": [1]}

    def things(query: dict[str, str]) -> list[dict[str, Any]]:
        return [{"id": f"{query['r']}{n}", "n": n} for n in late[query["r"]] if n >= int(query["since"])]

    source_server.put_json("/things", things)
    child = resource(
        'params = { r = "{resources.regions.id}", since = "{incremental.start_value}" }\n'
        'incremental = { cursor_path = "n", cursor_type = "integer", initial_value = 0 }'
    )
    sources.rest(resource(name="regions"), child)
    await sources.run_all()
    late["b"] += [50]

    sources.rest(resource(name="regions").replace('primary_key = "id"', 'primary_key = "code"'), child)
    await sources.run_all()

    found = await sql.fetch("SELECT source_id FROM normalized_data WHERE source = 's.things' ORDER BY 1")
    assert [row["source_id"] for row in found] == ["a100", "b1", "b50"]


async def test_a_new_parent_begins_at_initial_value(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    parents = [{"id": "a"}]
    source_server.put_json("/regions", lambda _: parents)
    source_server.put_script("/things", numbered({"a": [100], "b": [7], "0": [8]}))
    child = resource(by_number().replace("{ since", '{ region = "{resources.regions.id}", since'))
    sources.rest(resource(name="regions", mapping='name = "id"'), child)
    await sources.run_all()
    parents += [{"id": "b"}, {"id": "0"}]
    source_server.seen.clear()

    reports = await sources.run_all()

    assert sorted(zip(asked(source_server, "region"), asked(source_server), strict=True)) == [
        ("0", "1"),
        ("a", "100"),
        ("b", "1"),
    ]
    assert reports["s.things"].counts.inserted == 2
    assert (await state_of(sql, "s.things"))["cursor_values"] == {"0": "8", "a": "100", "b": "7"}


@pytest.mark.parametrize(("order", "kept"), [("", None), (', row_order = "asc"', "6")])
async def test_a_broken_pass_keeps_the_values_of_complete_partitions(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection, order: str, kept: str | None
) -> None:
    source_server.put_script("/things", numbered({"a": [1, 2], "b": [4, 5, 6, 7]}))
    sources.rest(resource(by_number(order) + REGIONS + PAGES), top=TRIES_ONE_BY_ONE)
    source_server.fault("/things", Fault(), Fault(), *BROKEN)

    broken = await sources.run()
    held = await state_of(sql)
    report = await sources.run()

    assert (broken.status, broken.counts.inserted, report.status, report.counts.inserted) == (
        "partial",
        5,
        "succeeded",
        1,
    )
    assert held["cursor_values"].get("000000") == "2"
    assert held["cursor_values"].get("000001") == kept
    assert held.get("pending_cursor_value") == (None if kept else "6")
    assert (await state_of(sql)) == {"cursor_values": {"000000": "2", "000001": "7"}, "data_selector": "[]"}
    pages = list(zip(asked(source_server, "region"), asked(source_server, "page"), asked(source_server), strict=True))
    assert pages[-1] == ("b", "2", "1"), "the page that was asked for, with the value that it was asked with"


async def test_a_value_that_all_partitions_shared_is_where_each_begins(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_script("/things", numbered({"a": [100, 101], "b": [1, 2]}))
    sources.rest(resource(by_number() + REGIONS))
    await sources.run()
    old = """UPDATE etl_checkpoint SET state = '{"cursor_value": "50", "data_selector": "[]"}' WHERE source = 's'"""
    await sql.execute(old)
    source_server.seen.clear()

    await sources.run()

    assert asked(source_server) == ["50", "50"]
    assert (await state_of(sql))["cursor_values"] == {"000000": "101", "000001": "50"}


@pytest.mark.parametrize("kind", ["datetime", "integer"])
async def test_beyond_the_bound_times_are_shared_and_numbers_are_asked_for_anew(
    sources: SourceFiles,
    source_server: SourceServer,
    sql: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setattr(scoped_increments, "MAX_SCOPES", 1)
    source_server.put_script(
        "/things", lambda seen: changed(seen) if kind == "datetime" else numbered({"a": [1], "b": [2]})(seen)
    )
    sources.rest(resource((incremental() if kind == "datetime" else by_number()) + REGIONS))
    await sources.run()
    source_server.seen.clear()

    await sources.run()

    state = await state_of(sql)
    assert list(state["cursor_values"]) == ["000000"]
    assert asked(source_server) == (["2025-01-12T00:00:00Z"] * 2 if kind == "datetime" else ["1", "1"])
    assert state.get("cursor_value") == ("2025-01-12T00:00:00+00:00" if kind == "datetime" else None)


async def test_a_partition_that_is_gone_is_forgotten(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_script("/things", numbered({"a": [1], "b": [2]}))
    sources.rest(resource(by_number() + REGIONS))
    await sources.run()
    await sql.execute("UPDATE etl_checkpoint SET state = jsonb_set(state::jsonb, '{cursor_values,zz}', '\"9\"')")

    await sources.run()

    assert list((await state_of(sql))["cursor_values"]) == ["000000", "000001"]


# Rows


BAD = [{"id": 1, "title": "a", "n": 1}, {"id": 2, "title": "b", "n": "x"}, {"title": "no key", "n": 3}]
VALUE = 'name = "title"\nvalue = "n"'


@pytest.mark.parametrize(
    ("keys", "records", "status", "counted"),
    [
        ('filter = [{ path = "n", op = "ge", value = 2 }]', BAD[::2], "succeeded", {"filtered": 1, "rejected": 1}),
        ('schema_contract = { data_type = "reject_row" }', BAD, "succeeded", {"inserted": 1, "rejected": 2}),
        ('schema_contract = "discard_value"', BAD, "succeeded", {"inserted": 2, "rejected": 1}),
        ('schema_contract = { data_type = "freeze" }', BAD, "failed", {"inserted": 0}),
        ("expect = { min_rows = 3 }", BAD, "succeeded", {"extracted": 3}),
        ("expect = { min_rows = 4 }", BAD, "suspect", {"extracted": 3}),
        ("expect = { max_rejects = 1 }", BAD, "succeeded", {"rejected": 1}),
        ("expect = { max_rejects = 0 }", BAD, "failed", {"rejected": 1}),
        ("expect = { max_reject_ratio = 0.34 }", BAD, "succeeded", {"rejected": 1}),
        ("expect = { max_reject_ratio = 0.33 }", BAD, "failed", {"rejected": 1}),
        ('expect = { on_zero = "ok" }', [], "succeeded", {"extracted": 0}),
        ('expect = { on_zero = "suspect" }', [], "suspect", {"extracted": 0}),
        ('expect = { on_zero = "fail" }', [], "failed", {"extracted": 0}),
    ],
)
async def test_what_a_resource_promises_is_held(
    sources: SourceFiles,
    source_server: SourceServer,
    keys: str,
    records: list[dict[str, Any]],
    status: str,
    counted: dict[str, int],
) -> None:
    source_server.put_json("/things", lambda _: records)
    sources.rest(resource(keys=keys, mapping=VALUE))

    report = await sources.run()

    assert report.status == status
    assert {name: getattr(report.counts, name) for name in counted} == counted
