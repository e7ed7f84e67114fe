"""A mended mapping is applied to what was landed; the source is not asked for it again."""

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.db import replays
from app.operations import replay as operations
from app.pipeline import batches
from app.pipeline import replay as pipeline
from app.pipeline.replay import ReplayDone
from app.records import Replayed, ReplayRange, RunReport
from app.resources import Resources
from tests.source_files import SourceFiles, resource
from tests.source_server import Reply, Seen, SourceServer

ALL = ReplayRange()
REJECT = 'schema_contract = "reject_row"'
AS_TEXT = 'name = "title"'
AS_NUMBER = 'name = "title"\nvalue = { path = "price", type = "decimal" }'

LIVE = "SELECT source_id, name, value FROM normalized_data WHERE deleted_at IS NULL ORDER BY source_id"
SERVED = "SELECT source_id, xmin::text FROM normalized_data ORDER BY source_id"
RAW = "SELECT id, payload::text, content_hash, payload_encoding FROM {table} ORDER BY id"
BROKEN = """
SELECT 'not balanced', id::text FROM etl_runs WHERE extracted <> inserted + updated + unchanged + filtered + duplicate
    + rejected + deleted + outdated
UNION ALL
SELECT 'row count', source FROM etl_checkpoint AS held WHERE kind = 'cursor' AND row_count <>
    (SELECT count(*) FROM normalized_data AS n WHERE n.source = held.source AND deleted_at IS NULL)
UNION ALL
SELECT 'lost', source_id FROM raw AS one WHERE source_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM normalized_data AS n WHERE n.source_id = one.source_id)
    AND NOT EXISTS (
        SELECT FROM raw WHERE source_id = one.source_id AND disposition IN ('rejected', 'filtered', 'deleted')
    )
UNION ALL
SELECT 'another raw row', n.source_id FROM normalized_data AS n LEFT JOIN raw ON raw.id = n.raw_id
WHERE deleted_at IS NULL
    AND (raw.source_id IS DISTINCT FROM n.source_id OR raw.disposition NOT IN ('loaded', 'rejected'))
UNION ALL
SELECT 'still open', kind FROM etl_checkpoint WHERE kind = 'replay'
"""


class Source:
    """One source, described anew as a test goes on, and served by a body with an ETag."""

    def __init__(self, resources: Resources, files: SourceFiles, server: SourceServer, sql: asyncpg.Connection) -> None:
        self.resources, self.files, self.server, self.sql = resources, files, server, sql

    def has(self, *records: dict[str, Any]) -> None:
        def answer(seen: Seen) -> Reply:
            body = list(records)
            etag = f'"{hash(json.dumps(body))}"'
            if seen.headers.get("If-None-Match") == etag:
                return Reply(None, 304)
            return Reply(body, headers={"ETag": etag})

        self.server.put_script("/things", answer)

    def means(self, mapping: str = AS_TEXT, *, keys: str = "", primary_key: str = "id", endpoint: str = "") -> None:
        text = resource(endpoint, mapping=mapping, keys=keys)
        self.files.rest(text.replace('primary_key = "id"', f'primary_key = "{primary_key}"'))

    async def run(self) -> RunReport:
        return await self.files.run()

    async def replay(self, chosen: ReplayRange = ALL) -> ReplayDone:
        self.resources.catalog = self.files.catalog()
        done = (await operations.replay(self.resources, self.resources.catalog.select(["s"]), chosen))["s"]
        assert done is not None
        assert done.report.counts.balanced
        return done

    async def preview(self, chosen: ReplayRange = ALL) -> Replayed:
        self.resources.catalog = self.files.catalog()
        return (await operations.preview(self.resources, self.resources.catalog.select(["s"]), chosen))["s"]

    async def live(self, table: str = "raw_api_data") -> list[tuple[Any, ...]]:
        """What is served, once it is certain that the invariants hold."""
        broken = await self.sql.fetch(f"WITH raw AS (SELECT * FROM {table}) {BROKEN}")
        assert [tuple(row) for row in broken] == []
        return [tuple(row) for row in await self.sql.fetch(LIVE)]

    async def triggers(self) -> list[str]:
        return [row["trigger"] for row in await self.sql.fetch("SELECT trigger FROM etl_runs ORDER BY id")]

    async def dispositions(self, table: str = "raw_api_data") -> list[str]:
        rows = await self.sql.fetch(
            f"SELECT coalesce(source_id, '-') || ' ' || disposition AS said FROM {table} ORDER BY id"
        )
        return [row["said"] for row in rows]


@pytest.fixture
def source(resources: Resources, source_server: SourceServer, sql: asyncpg.Connection, tmp_path: Path) -> Source:
    return Source(resources, SourceFiles(resources, tmp_path / "sources", source_server.url), source_server, sql)


def thing(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "title": f"t{number}", "price": f"{number}.5", **more}


async def tables(sql: asyncpg.Connection) -> list[Any]:
    """Every row of ours, with the transaction that wrote it."""
    names = ("raw_api_data", "raw_csv_data", "normalized_data", "etl_checkpoint", "etl_runs")
    return [await sql.fetch(f"SELECT xmin::text, ctid::text, t.*::text FROM {name} AS t") for name in names]


# A changed mapping


async def test_a_changed_mapping_is_replayed_and_the_source_is_only_asked_whether_it_changed(source: Source) -> None:
    source.means()
    source.has(*map(thing, range(1, 8)))
    await source.run()
    raw = await source.sql.fetch(RAW.format(table="raw_api_data"))

    source.means(AS_NUMBER)
    after = await source.run()

    assert (after.outcome, after.counts.extracted) == ("not_modified", 0)
    assert [len(source.server.requests("/things")), "If-None-Match" in source.server.seen[-1].headers] == [2, True]
    assert await source.triggers() == ["command", "replay", "command"]
    assert await source.live() == [(str(n), f"t{n}", n + 0.5) for n in range(1, 8)]
    assert await source.sql.fetch(RAW.format(table="raw_api_data")) == raw
    assert await source.sql.fetchval("SELECT requests FROM etl_runs WHERE trigger = 'replay'") == 0


async def test_a_replay_leaves_the_live_cursor_where_it_was(source: Source) -> None:
    increment = 'incremental = { cursor_path = "at" }\nparams = { since = "{incremental.start_value}" }'
    records = [thing(n, at=f"2026-01-0{n}T00:00:00Z") for n in range(1, 8)]
    source.server.put_json("/things", lambda query: [one for one in records if one["at"] >= query.get("since", "")])
    source.means(endpoint=increment)
    await source.run()

    source.means(AS_NUMBER, endpoint=increment)
    after = await source.run()

    assert after.counts.extracted == 1
    assert source.server.seen[-1].query == {"since": "2026-01-07T00:00:00Z"}
    assert [value for _, _, value in await source.live()] == [n + 0.5 for n in range(1, 8)]


async def test_rows_that_stay_as_they_are_are_not_rewritten(source: Source) -> None:
    source.means()
    source.has(thing(1), thing(2, title=None, other="x"), thing(3))
    await source.run()
    before = {row["source_id"]: row["xmin"] for row in await source.sql.fetch(SERVED)}

    source.means('name = { coalesce = ["title", "other"] }')
    await source.run()

    after = {row["source_id"]: row["xmin"] for row in await source.sql.fetch(SERVED)}
    assert {key for key in after if after[key] != before[key]} == {"2"}
    assert (await source.live())[1] == ("2", "x", None)


async def test_a_mapping_that_is_taken_back_in_the_middle_of_its_replay_is_taken_back_everywhere(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "WINDOW_ROWS", 2)
    source.means()
    source.has(*map(thing, range(1, 8)))
    await source.run()
    before = await source.live()
    source.means(AS_NUMBER)
    await interrupted(source, after_windows=2)
    assert await source.sql.fetchval("SELECT count(value) FROM normalized_data") == 4

    source.means()
    after = await source.run()

    assert after.outcome == "not_modified"
    assert await source.live() == before


# Rejects


async def test_rejected_rows_heal_with_their_mapping(source: Source) -> None:
    source.means(AS_NUMBER, keys=REJECT)
    source.has(thing(1), thing(2, price="2,5"), thing(3, price="3,5"))
    await source.run()

    source.means(
        'name = "title"\nvalue = { path = "price", type = "decimal", decimal = ",", thousands = "." }', keys=REJECT
    )
    done = await source.replay(ReplayRange(rejected=True))

    assert (done.replayed.healed, done.report.counts.inserted, done.report.counts.extracted) == (2, 2, 2)
    assert set(await source.live()) == {("1", "t1", 1.5), ("2", "t2", 2.5), ("3", "t3", 3.5)}
    assert set(await source.dispositions()) == {"1 loaded", "2 loaded", "3 loaded"}
    assert await source.sql.fetchval("SELECT count(*) FROM raw_api_data WHERE reject_code IS NOT NULL") == 0


async def test_rows_without_a_key_heal_when_it_is_found(source: Source) -> None:
    source.means(primary_key="uid")
    source.has(thing(1), thing(2))
    assert (await source.run()).counts.rejected == 2

    source.means(primary_key="id")
    await source.run()

    assert await source.live() == [("1", "t1", None), ("2", "t2", None)]
    assert await source.dispositions() == ["1 loaded", "2 loaded"]
    assert (await source.run()).counts.written == 0


async def test_a_row_that_no_longer_normalizes_is_rejected_and_its_last_good_version_stays(source: Source) -> None:
    source.means(AS_NUMBER)
    source.has(thing(1), thing(2, price="much"))
    await source.run()
    before = await source.live()

    source.means(AS_NUMBER, keys=REJECT)
    done = await source.replay()
    again = await source.replay()

    assert (done.replayed.rejected, again.replayed.rejected, again.replayed.unchanged) == (1, 0, 2)
    assert await source.live() == before
    assert set(await source.dispositions()) == {"1 loaded", "2 rejected"}
    source.means(AS_NUMBER)
    assert (await source.replay()).replayed.healed == 1
    assert await source.live() == before


async def test_a_row_that_is_rejected_under_another_key_leaves_none_under_its_old_one(source: Source) -> None:
    """It would stay for ever: what comes of that record has the new key."""
    source.means(AS_NUMBER)
    source.has(thing(1, code="a"), thing(2, code="b", price="much"))
    await source.run()
    before = await source.live()

    source.means(AS_NUMBER, keys=REJECT, primary_key="code")
    done = await source.replay()
    served = await source.live()
    source.means(AS_NUMBER)
    await source.replay()
    back = await source.live()
    source.means(AS_NUMBER, keys=REJECT, primary_key="code")
    source.has(thing(1, code="a"), thing(2, code="b"))
    await source.run()

    assert (done.report.counts.rejected, done.report.counts.vanished) == (1, 2)
    assert (served, back) == ([("a", "t1", 1.5)], before)
    assert await source.live() == [("a", "t1", 1.5), ("b", "t2", 2.5)]


@pytest.mark.parametrize("window", [1, 100])
async def test_a_rejected_version_that_heals_wins_unless_the_source_dates_it_earlier(
    source: Source, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(pipeline, "WINDOW_ROWS", window)
    mapping = AS_NUMBER + '\nupdated_at = "at"'
    source.means(mapping, keys=REJECT)
    source.has(thing(1, at="2026-01-02T00:00:00Z"), thing(2, at="2026-01-02T00:00:00Z"))
    await source.run()
    source.has(thing(1, price="8,5", at="2026-01-01T00:00:00Z"), thing(2, price="9,5", at="2026-01-03T00:00:00Z"))
    assert (await source.run()).counts.rejected == 2

    source.means(mapping.replace('"decimal"', '"decimal", null_values = ["8,5", "9,5"], default = 7'), keys=REJECT)
    done = await source.replay()

    assert (done.replayed.healed, done.replayed.overtaken, done.report.counts.outdated) == (1, 1, 1)
    assert await source.live() == [("1", "t1", 1.5), ("2", "t2", 7.0)]


# Filters, deletes


@pytest.mark.parametrize("other", [{"price": "dear"}, {"price": "1", "kind": "x"}])
async def test_a_version_that_came_back_after_another_was_set_aside_is_the_last_word(
    source: Source, other: dict[str, Any]
) -> None:
    """A → B, rejected or filtered → A: else a replay that heals B would load it over A."""
    filtered = f'{REJECT}\nfilter = [{{ path = "kind", op = "ne", value = "x" }}]'
    source.means(AS_NUMBER, keys=filtered)
    for record in (thing(1), thing(1, title="bad") | other, thing(1)):
        source.has(record, thing(2))
        await source.run()
    third = await source.sql.fetch(
        "SELECT inserted, updated, unchanged, raw_rows FROM etl_runs ORDER BY id DESC LIMIT 1"
    )
    fourth = await source.run()

    source.means(AS_TEXT)
    await source.run()

    assert [tuple(row) for row in third] == [(0, 1, 1, 1)]
    assert fourth.counts.written == 0
    assert await source.live() == [("1", "t1", None), ("2", "t2", None)]


async def test_a_row_that_is_filtered_now_is_hidden_and_comes_back(source: Source) -> None:
    source.means()
    source.has(thing(1), thing(2))
    await source.run()
    before = await source.live()

    source.means(keys='filter = [{ path = "id", op = "ne", value = 2 }]')
    await source.run()
    assert await source.live() == [("1", "t1", None)]
    assert await source.dispositions() == ["1 loaded", "2 filtered"]
    # What the next pass brings is landed already
    await source.sql.execute("UPDATE etl_checkpoint SET validators = NULL")
    again = await source.run()
    assert (again.counts.filtered, again.counts.raw_rows, again.counts.written) == (1, 0, 0)

    source.means()
    await source.run()
    assert await source.live() == before


async def test_what_a_snapshot_found_gone_does_not_come_back(source: Source) -> None:
    keys = 'deletes = { detect = "snapshot", guard_ratio = 1.0 }'
    source.means(keys=keys)
    source.has(thing(1), thing(2))
    await source.run()
    source.has(thing(1))
    await source.run()

    source.means(AS_NUMBER, keys=keys)
    await source.run()

    assert await source.live() == [("1", "t1", 1.5)]


async def test_a_record_that_says_it_was_deleted_is_hidden_once_the_mapping_hears_it(source: Source) -> None:
    source.means()
    source.has(thing(1, gone=False), thing(2, gone=True))
    await source.run()

    source.means(AS_TEXT + '\ndeleted = "gone"')
    done = await source.replay()

    assert (done.report.counts.deleted, done.replayed.deleted) == (1, 1)
    assert await source.live() == [("1", "t1", None)]
    source.means()
    await source.replay()
    assert [key for key, *_ in await source.live()] == ["1", "2"]


# Another key


@pytest.mark.parametrize("window", [1, 2, 3, 100])
@pytest.mark.parametrize(
    "codes", [[11, 12, 13, 14, 15], [2, 3, 4, 5, 1], [5, 4, 3, 2, 1], [1, 1, 2, 2, 3], [2, 1, 3, 4, 9]]
)
async def test_with_another_key_nothing_is_lost_and_nothing_doubled(
    source: Source, monkeypatch: pytest.MonkeyPatch, window: int, codes: list[int]
) -> None:
    """Old and new keys may be the same ones, dealt out anew."""
    monkeypatch.setattr(pipeline, "WINDOW_ROWS", window)
    source.means()
    source.has(*(thing(n, code=code) for n, code in enumerate(codes, start=1)))
    await source.run()

    source.means(primary_key="code")
    after = await source.run()

    newest = {str(code): f"t{n}" for n, code in enumerate(codes, start=1)}
    assert after.outcome == "not_modified"
    assert [(key, name) for key, name, _ in await source.live()] == sorted(newest.items())
    # Those whose key another record took are told, and not lost
    rejected = await source.sql.fetch(
        "SELECT payload ->> 'title' AS name FROM raw_api_data WHERE reject_code = 'key_taken'"
    )
    assert sorted(row["name"] for row in rejected) == sorted({f"t{n}" for n in range(1, 6)} - set(newest.values()))
    source.means(primary_key="id")
    await source.run()
    assert [name for _, name, _ in await source.live()] == [f"t{n}" for n in range(1, 6)]
    assert await source.sql.fetchval("SELECT count(*) FROM raw_api_data WHERE disposition <> 'loaded'") == 0


@pytest.mark.parametrize("at_once", [5_000, 1])
async def test_records_that_shared_a_key_when_they_were_landed_are_read_again_once_they_have_their_own(
    source: Source, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(batches, "MAX_RECORDS", at_once)
    source.means(primary_key="code", endpoint='paginator = { type = "page_number", limit = 1, base_page = 0 }')
    pages = [[thing(1, code=1)], [thing(2, code=1)], [thing(3, code=2)], []]

    def answer(seen: Seen) -> Reply:
        if seen.headers.get("If-None-Match"):
            return Reply(None, 304)
        return Reply(pages[int(seen.query["page"])], headers={"ETag": '"1"'})

    source.server.put_script("/things", answer)
    await source.run()
    assert [key for key, _, _ in await source.live()] == ["1", "2"]

    source.means(primary_key="id", endpoint='paginator = { type = "page_number", limit = 1, base_page = 0 }')
    await source.run()

    assert [name for _, name, _ in await source.live()] == ["t1", "t2", "t3"]
    assert (await source.run()).outcome == "not_modified"
    for key in ("code", "title", "code", "id"):  # what superseded what has other keys by now
        source.means(primary_key=key, endpoint='paginator = { type = "page_number", limit = 1, base_page = 0 }')
        await source.run()
    assert [name for _, name, _ in await source.live()] == ["t1", "t2", "t3"]


async def test_earlier_versions_of_records_that_move_do_not_ask_the_source_again(source: Source) -> None:
    source.means()
    for title in ("a", "b"):
        source.has(thing(1, title=title, code=7), thing(2, code=8))
        await source.run()

    source.means(primary_key="code")

    assert (await source.run()).outcome == "not_modified"


async def test_a_part_of_the_rows_is_not_moved(source: Source) -> None:
    source.means()
    source.has(thing(1, code=7), thing(2, code=8))
    await source.run()
    before = await source.live()

    source.means(primary_key="code")
    done = await source.replay(ReplayRange(source_ids=("1",)))

    assert (done.report.status, done.report.error_class) == ("failed", "config_error")
    assert "replay all of them" in str(done.report.error_message)
    assert await source.live() == before


# Ranges


async def test_a_range_is_replayed_alone_and_the_rest_when_the_next_run_begins(source: Source) -> None:
    source.means()
    source.has(*map(thing, range(1, 5)))
    await source.run()
    source.has(*map(thing, range(1, 7)))
    await source.run()
    last = await source.sql.fetchval("SELECT max(run_id) FROM raw_api_data")
    landed_at = await source.sql.fetchval("SELECT max(extracted_at) FROM raw_api_data")
    source.means(AS_NUMBER)

    found = [
        (await source.preview(chosen)).changed
        for chosen in (
            ReplayRange(run_id=last),
            ReplayRange(since=landed_at),
            ReplayRange(until=landed_at),
            ReplayRange(source_ids=("1", "5")),
            ReplayRange(run_id=last, source_ids=("1", "5")),
            ReplayRange(rejected=True),
        )
    ]
    done = await source.replay(ReplayRange(run_id=last))

    assert found == [2, 2, 4, 2, 1, 0]
    assert done.report.counts.updated == 2
    assert [value for *_, value in await source.live()] == [None, None, None, None, 5.5, 6.5]
    # Taken back: what the range got is taken back, too
    source.means()
    await source.run()
    assert [value for *_, value in await source.live()] == [None] * 6


# Preview


async def test_a_preview_says_what_the_replay_does_and_writes_nothing(source: Source) -> None:
    source.means(AS_NUMBER, keys=REJECT)
    source.has(*map(thing, range(1, 30)), thing(30, price="30,500"), thing(31, price="none"), thing(32))
    await source.run()
    source.means(
        'name = "title"\nvalue = { path = "price", type = "decimal", thousands = ",", null_values = ["1.5"] }',
        keys=REJECT + '\nfilter = [{ path = "id", op = "ne", value = 32 }]',
    )
    before = await tables(source.sql)

    preview = await source.preview()
    unchanged = await tables(source.sql)
    done = await source.replay()

    assert unchanged == before
    assert preview == done.replayed
    assert (preview.rows, preview.unchanged, preview.changed, preview.filtered) == (32, 29, 1, 1)
    assert (preview.healed, preview.rejected) == (1, 0)
    (changed,) = preview.samples["changed"]
    assert (changed.source_id, changed.before["value"], changed.after["value"]) == ("1", 1.5, None)
    (healed,) = preview.samples["healed"]
    assert healed.before["rejection"]["code"] == "not_a_number"
    assert len(preview.samples["unchanged"]) == 10


# Stopped, fenced


async def interrupted(source: Source, *, after_windows: int, chosen: ReplayRange = ALL) -> None:
    """A replay, cancelled once it has committed that many windows."""
    source.resources.catalog = source.files.catalog()
    specs = source.resources.catalog.select(["s"])
    reached = asyncio.Event()
    walked: list[int] = []

    def count(_name: str, rows: int) -> None:
        walked.append(rows)
        if len(walked) == after_windows:
            reached.set()
            task.cancel()

    task = asyncio.create_task(operations.replay(source.resources, specs, chosen, on_progress=count))
    async with asyncio.timeout(10):
        await reached.wait()
        await asyncio.wait({task})
    assert task.cancelled()


async def test_a_replay_that_was_stopped_goes_on_where_it_stood(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "WINDOW_ROWS", 4)
    source.means()
    source.has(*map(thing, range(1, 20)))
    await source.run()
    source.means(AS_NUMBER)

    await interrupted(source, after_windows=2)
    standing = await source.sql.fetchval("SELECT position FROM etl_checkpoint WHERE kind = 'replay'")
    after = await source.run()

    assert standing == sorted(row["id"] for row in await source.sql.fetch("SELECT id FROM raw_api_data"))[7]
    runs = await source.sql.fetch("SELECT trigger, status, extracted, updated FROM etl_runs ORDER BY id")
    assert [tuple(row) for row in runs][1:] == [
        ("replay", "interrupted", 8, 8),
        ("replay", "succeeded", 11, 11),
        ("command", "succeeded", 0, 0),
    ]
    assert "the same command does the rest" in await source.sql.fetchval(
        "SELECT error_message FROM etl_runs WHERE status = 'interrupted'"
    )
    assert after.outcome == "not_modified"
    assert len(await source.live()) == 19


async def test_a_replay_of_a_part_that_was_stopped_leaves_nothing_behind_the_next_run(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "WINDOW_ROWS", 2)
    source.means(keys=REJECT, mapping='name = "title"\nvalue = { path = "title", type = "decimal" }')
    source.has(*(thing(number) for number in range(9)))
    await source.run()
    await interrupted(source, after_windows=2, chosen=ReplayRange(rejected=True))

    await source.run()

    assert await source.sql.fetchval("SELECT count(*) FROM etl_checkpoint WHERE kind = 'replay'") == 0


async def test_a_replay_goes_on_behind_no_row_that_a_pass_made_with_another_mapping(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood where mapping and range were the same, whatever had been read since."""
    monkeypatch.setattr(pipeline, "WINDOW_ROWS", 2)
    source.means()
    source.has(*(thing(number) for number in range(9)))
    await source.run()
    await interrupted(source, after_windows=2)

    source.means(AS_NUMBER, endpoint="params = { other = 1 }")
    await source.run()
    source.means(endpoint="params = { other = 1 }")
    await source.replay()

    assert [value for _, _, value in await source.live()] == [None] * 9


async def test_a_replay_whose_lease_is_taken_over_writes_no_further_row(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "WINDOW_ROWS", 4)
    source.means()
    source.has(*map(thing, range(1, 20)))
    await source.run()
    source.means(AS_NUMBER)
    read_window = replays.read_window

    async def taken_over(*arguments: Any, after: int, **more: Any) -> Any:
        if after:
            await source.sql.execute("UPDATE etl_checkpoint SET epoch = epoch + 1, holder = 'another'")
        return await read_window(*arguments, after=after, **more)

    monkeypatch.setattr(replays, "read_window", taken_over)
    source.resources.catalog = source.files.catalog()
    done = (await operations.replay(source.resources, source.resources.catalog.select(["s"]), ALL))["s"]

    assert done is not None
    assert "lost its lease" in str(done.report.error_message)
    assert await source.sql.fetchval("SELECT count(value) FROM normalized_data") == 4


# What raw no longer has


async def test_whether_raw_is_whole_is_not_asked_row_by_row(source: Source) -> None:
    """Right after a load nobody has analyzed the tables: joined each with each, 20,000 rows take a minute."""
    source.means()
    source.has(*(thing(n) for n in range(100)))
    await source.run()

    asked = replays.ORPHANED.format(table="raw_api_data").replace(":source", "'s'")
    plan = [row[0] for row in await source.sql.fetch(f"EXPLAIN {asked}")]

    assert not any("Nested Loop" in line for line in plan), plan


async def test_where_raw_was_pruned_the_source_is_read_again(source: Source) -> None:
    source.means()
    source.has(*map(thing, range(1, 5)))
    await source.run()
    await source.sql.execute("DELETE FROM raw_api_data WHERE source_id = '2'")

    source.means(AS_NUMBER)
    after = await source.run()

    assert (after.counts.updated, await source.triggers()) == (4, ["command", "command"])
    assert "If-None-Match" not in source.server.seen[-1].headers
    assert [value for *_, value in [tuple(row) for row in await source.sql.fetch(LIVE)]] == [1.5, 2.5, 3.5, 4.5]


CSV = 'code;Name;Price\n1;"a;\nb";1,5\n2;Zoë;2,5\n3;too;many;cells\n4;x\x00y;4\n;none;5\n'
ODD = """
primary_key = "code"
[resources.format]
{encoding}
[resources.mapping]
name = "Name"
{value}
"""


class File:
    """The same for a CSV file."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def has(self, text: str, *, encoding: str = "utf-8", etag: str = '"1"') -> None:
        body = text.encode(encoding)

        def answer(seen: Seen) -> Reply:
            same = seen.headers.get("If-None-Match") == etag
            return Reply(b"" if same else body, 304 if same else 200, headers={"ETag": etag})

        self.source.server.put_script("/f.csv", answer)

    def means(self, value: str = "", encoding: str = "") -> None:
        url = f"{self.source.server.url}/f.csv"
        self.source.files.write(
            'name = "s"\ntype = "csv"\nclient = { allow_private_networks = true }\n'
            f'[[resources]]\nname = "rows"\nfile = {{ url = "{url}" }}\n{ODD.format(value=value, encoding=encoding)}'
        )


@pytest.fixture
def file(source: Source) -> File:
    return File(source)


NUMBERS = 'value = { path = "Price", type = "decimal", decimal = "," }'


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
async def test_rows_of_a_file_are_read_as_the_file_was(file: File, encoding: str) -> None:
    source = file.source
    file.means(encoding=f'encoding = "{encoding}"')
    file.has(CSV, encoding=encoding)
    first = await source.run()
    raw = await source.sql.fetch(RAW.format(table="raw_csv_data"))
    said = await source.dispositions("raw_csv_data")
    file.means(NUMBERS, encoding=f'encoding = "{encoding}"')

    preview = await source.preview()
    after = await source.run()

    assert (first.counts.inserted, first.counts.rejected) == (2, 3)
    assert (preview.changed, preview.unchanged) == (2, 3)
    assert after.outcome == "not_modified"
    assert await source.live("raw_csv_data") == [("1", "a;\nb", 1.5), ("2", "Zoë", 2.5)]
    assert await source.sql.fetch(RAW.format(table="raw_csv_data")) == raw
    assert await source.dispositions("raw_csv_data") == said


async def test_rows_whose_header_nobody_knows_are_rejected_by_hand_and_read_again_by_themselves(file: File) -> None:
    source = file.source
    file.means()
    file.has("code;Name;Price\n1;a;1,5\n")
    await source.run()
    file.has("code;Name;Price\n1;a;1,5\n2;b;2,5\n", etag='"2"')
    await source.run()
    first = await source.sql.fetchval("SELECT min(id) FROM etl_runs")
    await source.sql.execute("DELETE FROM etl_runs WHERE id = $1", first)
    file.means(NUMBERS)

    preview = await source.preview()
    after = await source.run()

    assert (preview.rejected, preview.changed) == (1, 1)
    assert preview.samples["rejected"][0].after["rejection"]["code"] == "header_unknown"
    assert "If-None-Match" not in source.server.seen[-1].headers
    assert after.counts.extracted == 2
    assert await source.live("raw_csv_data") == [("1", "a", 1.5), ("2", "b", 2.5)]
    assert (await source.run()).outcome == "not_modified"
    done = await source.replay()
    assert (done.report.status, done.replayed.rejected) == ("succeeded", 1)
    assert await source.live("raw_csv_data") == [("1", "a", 1.5), ("2", "b", 2.5)]


async def test_a_mapping_that_fits_no_header_changes_nothing(file: File) -> None:
    source = file.source
    file.means()
    file.has("code;Name;Price\n1;a;1,5\n")
    await source.run()
    before = await source.live("raw_csv_data")
    file.means('value = "Cost"')

    done = await source.replay()

    assert (done.report.status, done.report.error_class) == ("failed", "config_error")
    assert "'Cost' is not a header" in str(done.report.error_message)
    assert await source.live("raw_csv_data") == before


async def test_a_mapping_that_changed_together_with_the_header_is_no_dead_end(file: File) -> None:
    source = file.source
    file.means('value = "Price"')
    file.has("code;Name;Price\n1;a;1.5\n2;b;2.5\n")
    await source.run()
    file.means('value = "Cost"')
    failed = await source.run()
    assert (failed.status, failed.error_class) == ("failed", "config_error")
    file.has("code;Name;Cost\n1;a;1.5\n2;b;7\n", etag='"2"')

    after = await source.run()

    assert (after.status, after.counts.updated, after.counts.unchanged) == ("succeeded", 1, 1)
    assert await source.live("raw_csv_data") == [("1", "a", 1.5), ("2", "b", 7.0)]
    assert (await source.run()).outcome == "not_modified"
