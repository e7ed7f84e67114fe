"""A range, or everything, is read once more; the live checkpoint stays where it stands, or is moved by hand."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from app.errors import ConfigError
from app.operations import backfill as operations
from app.operations import checkpoint as standing
from app.records import RefreshScope, RunReport
from app.resources import Resources
from app.scheduler import run_tick
from tests.source_files import IMPATIENT, SourceFiles, resource
from tests.source_server import Fault, Reply, Seen, SourceServer

DAYS = 28
BROKEN = Fault(status=500), Fault(status=500)
"""A fault that outlives the two tries of a test."""
SINCE = 'params = { since = "{incremental.start_value}", until = "{incremental.end_value}" }\n'
PAGES = 'paginator = { type = "page_number", limit = 3 }\n'
FROM_JUNE = "initial_value = 2025-06-01T00:00:00Z"
ONE_BY_ONE = "rate_limit = { requests = 1000, concurrency = 1 }\n" + IMPATIENT


class Source:
    """A source with a record a day in May and June 2025; live, its runs begin in June."""

    def __init__(self, resources: Resources, files: SourceFiles, server: SourceServer, sql: asyncpg.Connection) -> None:
        self.resources, self.files, self.server, self.sql = resources, files, server, sql
        self.records: list[dict[str, Any]] = [
            {"id": month * 100 + day, "title": f"t{day}", "at": f"2025-{month:02d}-{day:02d}T00:00:00Z"}
            for month in (5, 6)
            for day in range(1, DAYS + 1)
        ]
        self.honours = {"since", "until"}
        server.put_script("/things", self._answer)

    def _answer(self, seen: Seen) -> Reply:
        said = {name: seen.query[name] for name in self.honours & set(seen.query)}
        found = [one for one in self.records if said.get("since", "") <= one["at"] < said.get("until", "9")]
        page = int(seen.query.get("page", 1))
        return Reply(found[(page - 1) * 3 : page * 3] if "page" in seen.query else found)

    def means(self, more: str = FROM_JUNE, *, mapping: str = 'name = "title"', since: str = SINCE) -> None:
        incremental = f'incremental = {{ cursor_path = "at", {more} }}\n' if more else ""
        text = resource(since + PAGES + incremental, mapping=mapping)
        self.files.rest(text, top=ONE_BY_ONE, client="timeout = { read = 30, total = 60 }")
        self.resources.catalog = self.files.catalog()

    async def backfill(self, begin: str | None, end: str | None = None, step: float | None = None) -> RunReport:
        specs = self.resources.catalog.select(["s"])
        ranged = await operations.ranged(self.resources, specs, begin, end, step_seconds=step)
        return self._only(await run_tick(self.resources, ranged, trigger="backfill"))

    async def refresh(self, scope: RefreshScope) -> RunReport:
        specs = operations.refreshed(self.resources.catalog.select(["s"]), scope)
        return self._only(await run_tick(self.resources, specs, trigger="refresh"))

    def _only(self, tick: Any) -> RunReport:
        assert tick.unopened == {}
        (report,) = tick.reports
        assert report.counts.balanced
        checked: RunReport = report
        return checked

    async def keys(self) -> set[int]:
        rows = await self.sql.fetch("SELECT source_id FROM normalized_data WHERE deleted_at IS NULL")
        assert await self.sql.fetchval("SELECT row_count FROM etl_checkpoint WHERE kind = 'cursor'") == len(rows)
        return {int(row[0]) for row in rows}

    async def live(self) -> dict[str, Any]:
        """Where the live checkpoint stands."""
        row = await self.sql.fetchrow(
            """SELECT page, position, page_token, validators, request_hash, mapping_hash, pass_mapping_hash, state,
                      succeeded_at FROM etl_checkpoint WHERE kind = 'cursor'"""
        )
        return dict(row or {})

    def asked(self, name: str) -> list[str | None]:
        return [seen.query.get(name) for seen in self.server.requests("/things")]


@pytest.fixture
def source(resources: Resources, source_server: SourceServer, sql: asyncpg.Connection, tmp_path: Path) -> Source:
    made = Source(resources, SourceFiles(resources, tmp_path / "sources", source_server.url), source_server, sql)
    made.means()
    return made


def days(month: int, first: int = 1, last: int = DAYS) -> set[int]:
    return {month * 100 + day for day in range(first, last + 1)}


# Backfill


async def test_a_backfill_brings_its_half_open_range_and_leaves_the_live_checkpoint(source: Source) -> None:
    await source.files.run()
    live = await source.live()
    assert await source.keys() == days(6)

    report = await source.backfill("2025-05-10", "2025-05-20T00:00:00Z")

    assert (report.status, report.outcome, report.counts.inserted) == ("succeeded", "changed", 10)
    assert await source.keys() == days(6) | days(5, 10, 19)
    assert await source.live() == live
    assert await source.sql.fetchval("SELECT count(*) FROM etl_checkpoint WHERE kind = 'backfill'") == 0
    told = await source.sql.fetchrow("SELECT trigger, partition FROM etl_runs ORDER BY id DESC LIMIT 1")
    assert told is not None
    assert tuple(told) == ("backfill", "2025-05-10T00:00:00+00:00/2025-05-20T00:00:00+00:00")


async def test_the_next_live_run_goes_on_as_if_there_had_been_no_backfill(source: Source) -> None:
    await source.files.run()
    await source.backfill("2025-05-01", "2025-05-20")
    source.server.seen.clear()

    report = await source.files.run()

    assert source.asked("since")[0] == "2025-06-28T00:00:00Z"
    assert (report.counts.extracted, report.counts.unchanged) == (1, 1)


@pytest.mark.parametrize("honours", [{"since"}, {"until"}, set[str]()])
async def test_what_a_source_sends_from_outside_the_range_is_left_out(source: Source, honours: set[str]) -> None:
    source.honours = honours

    report = await source.backfill("2025-05-10", "2025-05-20")

    assert (report.status, report.counts.extracted) == ("succeeded", 10)
    assert await source.keys() == days(5, 10, 19)


@pytest.mark.parametrize(("order", "pages"), [("asc", 7), ("desc", 16), (None, 19)])
async def test_a_walk_ends_where_an_ordered_source_has_left_the_range(
    source: Source, order: str | None, pages: int
) -> None:
    source.honours = set()
    if order == "desc":
        source.records.reverse()
    source.means(f'{FROM_JUNE}, row_order = "{order}"' if order else FROM_JUNE)

    await source.backfill("2025-05-10", "2025-05-20")

    assert await source.keys() == days(5, 10, 19)
    assert len(source.asked("page")) == pages


async def test_a_backfill_that_was_stopped_goes_on_in_its_own_place(source: Source) -> None:
    await source.files.run()
    live = await source.live()
    source.server.seen.clear()
    source.server.fault("/things", Fault(), Fault(), *BROKEN)

    broken = await source.backfill("2025-05-01", "2025-05-29")
    begun = await standing.stand(source.resources, source.resources.catalog.select(["s"]))
    source.server.seen.clear()
    report = await source.backfill(None)

    assert broken.status == "partial"
    assert begun[0].backfills == [
        {"from": "2025-05-01T00:00:00+00:00", "to": "2025-05-29T00:00:00+00:00", "step_seconds": None, "page": 2}
    ]
    assert source.asked("page")[0] == "3"
    assert (report.status, report.counts.inserted) == ("succeeded", DAYS - 6)
    assert await source.keys() == days(5) | days(6)
    assert await source.live() == live


async def test_live_runs_and_a_backfill_in_between_do_not_touch_each_other(source: Source) -> None:
    source.server.fault("/things", Fault(), Fault(), *BROKEN)
    await source.files.run()  # the live pass stops after two pages
    source.server.fault("/things", Fault(), *BROKEN)
    await source.backfill("2025-05-01", "2025-05-29")  # and the backfill after one
    source.server.seen.clear()

    live = await source.files.run()
    beyond = await source.backfill(None)

    assert source.asked("page")[0] == "3"
    assert live.counts.inserted == DAYS - 6
    assert beyond.counts.inserted == DAYS - 3
    assert await source.keys() == days(5) | days(6)


async def test_a_step_asks_window_by_window(source: Source) -> None:
    report = await source.backfill("2025-05-01", "2025-05-29", step=7 * 86_400)

    first = [seen.query["since"] for seen in source.server.requests("/things") if seen.query["page"] == "1"]
    assert first == [f"2025-05-{day:02d}T00:00:00Z" for day in (1, 8, 15, 22)]
    assert report.counts.inserted == DAYS


async def test_a_backfill_on_a_fresh_table_does_not_stand_in_for_the_first_run(source: Source) -> None:
    await source.backfill("2025-05-01", "2025-05-03")

    report = await source.files.run()

    assert (report.counts.inserted, report.outcome) == (DAYS, "changed")
    assert await source.sql.fetchval("SELECT succeeded_at IS NOT NULL FROM etl_checkpoint WHERE kind = 'cursor'")


async def test_rows_of_a_backfill_are_replayed_when_the_mapping_changes(source: Source) -> None:
    await source.backfill("2025-05-01", "2025-05-03")
    source.means(mapping='name = "at"')

    await source.files.run()

    names = await source.sql.fetch("SELECT name FROM normalized_data WHERE source_id LIKE '5%' ORDER BY 1")
    assert [row[0] for row in names] == ["2025-05-01T00:00:00Z", "2025-05-02T00:00:00Z"]


async def test_a_backfill_never_puts_older_rows_over_newer_ones(source: Source) -> None:
    source.means(mapping='name = "title"\nupdated_at = "at"')
    await source.files.run()
    source.records = [{"id": 601, "title": "old", "at": "2025-05-02T00:00:00Z"}]

    report = await source.backfill("2025-05-01", "2025-05-29")

    assert report.counts.outdated == 1
    assert await source.sql.fetchval("SELECT name FROM normalized_data WHERE source_id = '601'") == "t1"


@pytest.mark.parametrize(
    ("begin", "end", "message"),
    [
        ("2025-05-02", "2025-05-02", "is empty"),
        ("2025-05-02", "2025-05-01", "is empty"),
        ("May", None, "'May' is no time"),
        (None, None, "no backfill was begun"),
        (None, "2025-05-01", r"\(from\)"),
    ],
)
async def test_a_wrong_range_is_refused(source: Source, begin: str | None, end: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        await source.backfill(begin, end)


async def test_what_has_no_cursor_cannot_be_backfilled(source: Source) -> None:
    source.means("", since="")

    with pytest.raises(ConfigError, match=r"no cursor.*a refresh reads everything"):
        await source.backfill("2025-05-01")


async def test_a_step_that_the_request_cannot_say_is_refused(source: Source) -> None:
    source.means(since='params = { since = "{incremental.start_value}" }\n')

    with pytest.raises(ConfigError, match=r"incremental\.end_value"):
        await source.backfill("2025-05-01", step=86_400)


# Refresh


async def test_refresh_state_reads_everything_again_and_deletes_nothing(source: Source) -> None:
    await source.files.run()
    source.records = [one for one in source.records if one["id"] != 610]
    source.server.seen.clear()

    report = await source.refresh("state")

    assert source.asked("since")[0] == "2025-06-01T00:00:00Z"
    assert (report.counts.extracted, report.counts.unchanged) == (DAYS - 1, DAYS - 1)
    assert await source.keys() == days(6)
    assert (await source.live())["succeeded_at"] is not None


@pytest.mark.parametrize("scope", ["data", "all"])
async def test_refresh_data_swaps_the_rows_when_its_pass_is_complete(source: Source, scope: RefreshScope) -> None:
    await source.files.run()
    source.records = [one for one in source.records if one["id"] != 610]
    gate = asyncio.Event()
    source.server.fault("/things", Fault(), Fault(), Fault(gate=gate))

    refreshing = asyncio.create_task(source.refresh(scope))
    await asyncio.sleep(0.3)
    meanwhile = await source.keys()
    gate.set()
    report = await refreshing

    assert meanwhile == days(6)
    assert (report.status, report.counts.vanished) == ("succeeded", 1)
    assert await source.keys() == days(6) - {610}
    source.server.seen.clear()
    await source.files.run()
    assert source.asked("since")[0] == "2025-06-28T00:00:00Z"


async def test_a_refresh_that_breaks_changes_nothing(source: Source) -> None:
    await source.files.run()
    live, rows = await source.live(), await source.sql.fetch("SELECT ctid, xmin, * FROM normalized_data")
    source.records = source.records[:40]
    source.server.fault("/things", Fault(), Fault(), *BROKEN)

    report = await source.refresh("all")

    assert report.status == "failed"
    assert await source.live() == live
    assert await source.sql.fetch("SELECT ctid, xmin, * FROM normalized_data") == rows


async def test_a_refresh_that_would_delete_too_much_is_suspect(source: Source) -> None:
    await source.files.run()
    source.records = source.records[:40]

    report = await source.refresh("data")

    assert (report.status, report.counts.vanished) == ("suspect", 0)
    assert "etl deletes s" in (report.error_message or "")
    assert await source.keys() == days(6)


async def test_a_file_is_read_whole_by_a_refresh_though_its_stretches_are_known(
    resources: Resources, source_server: SourceServer, tmp_path: Path, sql: asyncpg.Connection
) -> None:
    files = SourceFiles(resources, tmp_path / "sources", source_server.url)
    body = "id,title\n" + "".join(f"{n},t{n}\n" for n in range(3_000))
    url = source_server.put("/rows.csv", body.encode(), etag='"1"')
    files.write(
        f'name = "s"\ntype = "csv"\n[client]\nallow_private_networks = true\n[[resources]]\nname = "rows"\n'
        f'primary_key = "id"\nfile = {{ url = "{url}" }}\nmapping = {{ name = "title" }}\n'
    )
    await files.run()
    await sql.execute("UPDATE normalized_data SET name = 'spoilt', content_hash = '\\x00' WHERE source_id = '7'")

    (spec,) = operations.refreshed(resources.catalog.select(["s"]), "state")
    tick = await run_tick(resources, [spec], trigger="refresh")

    assert (tick.reports[0].counts.updated, tick.reports[0].counts.unchanged) == (1, 2_999)
    assert await sql.fetchval("SELECT name FROM normalized_data WHERE source_id = '7'") == "t7"


# Moving the checkpoint


async def test_a_rewound_checkpoint_makes_the_next_run_begin_there(source: Source) -> None:
    await source.files.run()
    (spec,) = source.resources.catalog.select(["s"])

    moved = await standing.move(source.resources, spec, "2025-06-20", only_back=True)
    source.server.seen.clear()
    await source.files.run()

    assert moved.before["cursor_value"] == "2025-06-28T00:00:00+00:00"
    assert source.asked("since")[0] == "2025-06-20T00:00:00Z"
    told = await source.sql.fetchrow("SELECT status, findings FROM etl_runs WHERE trigger = 'checkpoint'")
    assert told is not None
    (finding,) = json.loads(told["findings"])
    assert (told["status"], finding["code"]) == ("succeeded", "checkpoint_moved")
    assert (finding["before"], finding["after"]) == (moved.before, moved.after)


async def test_it_goes_back_by_a_duration_and_to_its_beginning(source: Source) -> None:
    await source.files.run()
    (spec,) = source.resources.catalog.select(["s"])

    await standing.move(source.resources, spec, None, by_seconds=86_400.0)
    source.server.seen.clear()
    await source.files.run()
    back = source.asked("since")[0]
    await standing.move(source.resources, spec, None)
    source.server.seen.clear()
    await source.files.run()

    assert (back, source.asked("since")[0]) == ("2025-06-27T00:00:00Z", "2025-06-01T00:00:00Z")


async def test_a_dry_run_moves_nothing(source: Source) -> None:
    await source.files.run()
    (spec,) = source.resources.catalog.select(["s"])
    before = await source.sql.fetch("SELECT xmin, * FROM etl_checkpoint")
    runs = await source.sql.fetchval("SELECT count(*) FROM etl_runs")

    moved = await standing.move(source.resources, spec, "2025-06-20", dry_run=True)

    assert moved.after["cursor_value"] == "2025-06-20T00:00:00+00:00"
    assert await source.sql.fetch("SELECT xmin, * FROM etl_checkpoint") == before
    assert await source.sql.fetchval("SELECT count(*) FROM etl_runs") == runs


@pytest.mark.parametrize(
    ("value", "only_back", "message"),
    [
        ("2999-01-01", False, "future"),
        ("yesterday", False, "no time"),
        ("2025-06-29", True, "not behind it.*checkpoint set"),
    ],
)
async def test_a_wrong_move_is_refused(source: Source, value: str, only_back: bool, message: str) -> None:
    await source.files.run()
    (spec,) = source.resources.catalog.select(["s"])

    with pytest.raises(ConfigError, match=message):
        await standing.move(source.resources, spec, value, only_back=only_back)


async def test_it_is_not_moved_while_a_run_holds_the_lease(source: Source) -> None:
    await source.files.run()
    (spec,) = source.resources.catalog.select(["s"])
    gate = asyncio.Event()
    source.server.fault("/things", Fault(gate=gate))
    running = asyncio.create_task(run_tick(source.resources, [spec], trigger="command", tick_id=uuid4()))
    while not await source.sql.fetchval("SELECT count(*) FROM etl_runs WHERE status = 'running'"):
        await asyncio.sleep(0.02)

    moved = await standing.move(source.resources, spec, "2025-06-20")
    (shown,) = await standing.stand(source.resources, [spec])
    gate.set()
    await running

    assert moved.report is None
    assert shown.held_by is not None
    assert json.loads((await source.live())["state"])["cursor_value"] == "2025-06-28T00:00:00+00:00"


async def test_a_run_that_is_told_to_stop_while_it_is_recorded_is_closed(source: Source) -> None:
    await source.files.run()
    (spec,) = source.resources.catalog.select(["s"])
    async with source.sql.transaction():
        await source.sql.execute("SELECT FROM etl_checkpoint FOR UPDATE")
        running = asyncio.create_task(run_tick(source.resources, [spec], trigger="command"))
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
        while not await source.sql.fetchval(blocked):
            await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.sleep(0.1)
    with pytest.raises(asyncio.CancelledError):
        await running

    statuses = await source.sql.fetch("SELECT status FROM etl_runs ORDER BY id")
    assert [row[0] for row in statuses] == ["succeeded", "interrupted"]
    assert await source.sql.fetchval("SELECT holder FROM etl_checkpoint") is None
