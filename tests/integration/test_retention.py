"""What is older than it is kept goes; what is current, replayable or counted stays."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from app.clock import utc_now
from app.db import retention as tables
from app.operations.lineage import trace
from app.operations.replay import replay
from app.pipeline import retention
from app.pipeline.retention import Pruned, prune, prune_in_turn
from app.records import ReplayRange
from app.resources import Resources
from app.scheduler import keep_house_soon
from app.settings import load_settings
from tests.processes import run
from tests.source_files import SourceFiles, resource
from tests.source_server import Fault, SourceServer

MAPPING = 'name = "title"\nvalue = "price"'
REJECT = 'schema_contract = "reject_row"'
ORPHANS = """
SELECT n.source_id FROM normalized_data AS n
WHERE NOT EXISTS (SELECT FROM raw_api_data AS r WHERE r.source = n.source AND r.id = n.raw_id)
    AND NOT EXISTS (SELECT FROM raw_csv_data AS r WHERE r.source = n.source AND r.id = n.raw_id)
"""


class Kept:
    """A source, and what is kept of it."""

    def __init__(self, resources: Resources, server: SourceServer, folder: Path, sql: asyncpg.Connection) -> None:
        self.resources, self.server, self.sql = resources, server, sql
        self.files = SourceFiles(resources, folder, server.url)

    async def run(self, *records: dict[str, Any], mapping: str = MAPPING) -> None:
        self.files.rest(resource(mapping=mapping, keys=REJECT))
        self.server.put_json("/things", lambda _: list(records))
        await self.files.run()

    async def prune(self, *, raw: int | None = 7, runs: int | None = None, dry_run: bool = False) -> Pruned:
        """As if ten days had passed."""
        settings = load_settings(RAW_RETENTION_DAYS=raw, RUNS_RETENTION_DAYS=runs).retention
        now = utc_now() + timedelta(days=10)
        return await prune(self.resources.database, settings, dry_run=dry_run, now=now)

    async def raw(self) -> list[str]:
        rows = await self.sql.fetch(
            "SELECT coalesce(source_id, '-') || ' ' || disposition || ' ' || (payload ->> 'title') AS said "
            "FROM raw_api_data ORDER BY id"
        )
        return [row["said"] for row in rows]


@pytest.fixture
def kept(resources: Resources, source_server: SourceServer, sql: asyncpg.Connection, tmp_path: Path) -> Kept:
    return Kept(resources, source_server, tmp_path / "sources", sql)


def thing(number: int | None, title: str, price: Any = 1) -> dict[str, Any]:
    return {"id": number, "title": title, "price": price}


async def three_runs(kept: Kept) -> None:
    """Records of every kind: changed, unchanged, rejected and open, rejected and made good, without a key."""
    await kept.run(thing(1, "a"), thing(2, "b"), thing(3, "c"), thing(4, "d", "bad"), thing(None, "e"))
    await kept.run(thing(1, "a2"), thing(2, "b"), thing(3, "c2", "bad"), thing(4, "d2"), thing(5, "f", "bad"))
    await kept.run(thing(1, "a3"), thing(2, "b"), thing(3, "c3", "worse"), thing(4, "d2"), thing(5, "f2", "bad"))


async def test_superseded_versions_go_and_what_is_current_or_open_stays(kept: Kept) -> None:
    await three_runs(kept)

    pruned = await kept.prune()

    assert set(await kept.raw()) == {
        "1 loaded a3",
        "2 loaded b",
        "3 loaded c",
        "3 rejected c3",
        "4 loaded d2",
        "5 rejected f2",
        "- rejected e",
    }
    assert pruned.raw_rows == 5
    assert await kept.sql.fetch(ORPHANS) == []


async def test_what_is_young_stays_and_a_dry_run_only_counts(kept: Kept) -> None:
    await three_runs(kept)
    before = await kept.raw()

    counted = await kept.prune(raw=7, runs=7, dry_run=True)
    young = await kept.prune(raw=11, runs=11)

    assert (counted.raw_rows, young.raw_rows, young.runs) == (5, 0, 0)
    assert await kept.raw() == before


@pytest.mark.parametrize("stretch", [1, 3])
async def test_stretches_of_any_size_prune_the_same(kept: Kept, monkeypatch: pytest.MonkeyPatch, stretch: int) -> None:
    monkeypatch.setattr(retention, "STRETCH_ROWS", stretch)
    await three_runs(kept)

    assert (await kept.prune()).raw_rows == 5
    assert (await kept.prune()).raw_rows == 0


async def test_after_pruning_a_new_mapping_is_still_replayed_without_the_source(kept: Kept) -> None:
    await three_runs(kept)
    await kept.prune(runs=7)
    asked = len(kept.server.seen)
    kept.files.rest(resource(mapping='name = "title"', keys=REJECT))
    kept.resources.catalog = kept.files.catalog()

    done = (await replay(kept.resources, kept.resources.catalog.select(["s"]), ReplayRange()))["s"]

    assert done is not None
    assert (done.report.status, done.replayed.healed) == ("succeeded", 2)
    assert len(kept.server.seen) == asked
    rows = await kept.sql.fetch("SELECT name FROM normalized_data ORDER BY source_id")
    assert [row["name"] for row in rows] == ["a3", "b", "c3", "d2", "f2"]
    findings = await kept.sql.fetchval("SELECT findings::text FROM etl_runs ORDER BY id DESC LIMIT 1")
    assert findings == "[]"


async def test_after_pruning_lineage_ends_where_the_versions_end(kept: Kept) -> None:
    await three_runs(kept)
    await kept.prune(runs=7)

    async with kept.resources.database.read() as session:
        found = await trace(session, kept.resources.catalog, source="s", source_id="1")

    assert found is not None
    assert found.received is not None
    assert (found.earlier, found.request.reason) == ([], None)
    assert found.request.asked is not None


async def test_the_run_that_knows_the_header_of_a_file_stays_as_long_as_its_rows(
    kept: Kept, source_server: SourceServer
) -> None:
    source_server.put("/items.csv", b"id;name\n1;a\n2;b\n")
    text = f"""
name = "s"
type = "csv"
[client]
allow_private_networks = true
[[resources]]
name = "rows"
primary_key = "id"
file = {{ url = "{source_server.url}/items.csv" }}
mapping = {{ name = "name" }}
"""
    kept.files.write(text)
    await kept.files.run()
    for header in (b"name;id\nx;3\n", b"id;name;more\n4;y;z\n"):
        source_server.put("/items.csv", header)
        await kept.files.run()
    for _ in range(11):
        await kept.files.run()

    pruned = await kept.prune(runs=7)
    kept.files.write(text.replace('name = "name" }', 'name = "name", description = "name" }'))
    kept.resources.catalog = kept.files.catalog()
    done = (
        await replay(
            kept.resources,
            kept.resources.catalog.select(["s"]),
            ReplayRange(),
        )
    )["s"]

    assert done is not None
    assert done.report.counts.rejected == 0
    rows = await kept.sql.fetch("SELECT name = description AS same FROM normalized_data")
    assert [row["same"] for row in rows] == [True] * 4
    assert pruned.raw_rows == 0


async def test_the_totals_survive_the_runs(kept: Kept, client: httpx2.AsyncClient) -> None:
    kept.server.fault("/things", *[Fault(status=500)] * 2)
    await kept.run(thing(1, "a"))
    for number in range(15):
        await kept.run(thing(1, f"a{number}"), thing(2, "b"))
    before, health = (await client.get("/stats")).json(), (await client.get("/health")).json()

    first = await kept.prune(runs=7)
    again = await kept.prune(runs=7)

    assert (first.runs, again.runs) == (5, 0)
    assert await kept.sql.fetchval("SELECT count(*) FROM etl_runs") == 11
    assert (await client.get("/stats")).json() == before
    assert before["last_failure_reason"] is not None
    assert (await client.get("/health")).json()["last_etl_run"] == health["last_etl_run"]
    async with kept.resources.database.read() as session:
        assert await tables.read_sources(session) == ["s"]


async def test_pruning_beside_runs_that_commit_loses_nothing(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STRETCH_ROWS", 20)
    stopped = asyncio.Event()

    async def keep_pruning() -> int:
        rows = 0
        while not stopped.is_set():
            rows += (await kept.prune(runs=7)).raw_rows
        return rows

    pruning = asyncio.create_task(keep_pruning())
    for number in range(12):
        await kept.run(*(thing(n, f"{n}-{number if n % 2 else 0}") for n in range(200)))
    stopped.set()
    gone = await pruning + (await kept.prune()).raw_rows

    assert gone == 100 * 11
    assert await kept.sql.fetch(ORPHANS) == []
    assert await kept.sql.fetchval("SELECT count(*) FROM raw_api_data") == 200
    names = {row["name"] for row in await kept.sql.fetch("SELECT name FROM normalized_data")}
    assert names == {f"{n}-{11 if n % 2 else 0}" for n in range(200)}
    unnamed = "SELECT count(*) FROM raw_api_data WHERE run_id NOT IN (SELECT id FROM etl_runs)"
    assert await kept.sql.fetchval(unnamed) == 0


async def test_one_process_takes_the_turn_of_a_day(kept: Kept) -> None:
    settings = load_settings(RAW_RETENTION_DAYS=7).retention
    database = kept.resources.database

    taken = await asyncio.gather(*(prune_in_turn(database, settings) for _ in range(3)))
    await kept.sql.execute("UPDATE etl_checkpoint SET updated_at = now() - interval '25 hours' WHERE kind = 'prune'")

    assert sum(pruned is not None for pruned in taken) == 1
    assert await prune_in_turn(database, settings) is not None
    assert await prune_in_turn(database, load_settings().retention) is None


async def test_a_stretch_is_a_range_of_the_primary_key(kept: Kept) -> None:
    await kept.sql.execute(
        "INSERT INTO raw_api_data (id, run_id, page, position, source, source_id, payload, content_hash) "
        "SELECT n, 1, 1, 1, 's', n::text, '{}', '' FROM generate_series(1, 20000) AS n"
    )
    await kept.sql.execute("ANALYZE raw_api_data")
    statement = tables._STRETCH.format(table="raw_api_data")
    for name, value in {":source": "'s'", ":after": "9000", ":at_most": "500", ":before": "now()"}.items():
        statement = statement.replace(name, value)

    plan = "\n".join(row[0] for row in await kept.sql.fetch(f"EXPLAIN {statement}"))

    assert "Index Scan using raw_api_data_pkey" in plan
    assert "Seq Scan on raw_api_data" not in plan


async def test_the_scheduler_prunes_in_the_background_and_not_after_each_tick(kept: Kept) -> None:
    await three_runs(kept)
    await kept.sql.execute("UPDATE raw_api_data SET extracted_at = extracted_at - interval '10 days'")
    kept.resources.settings = load_settings(RAW_RETENTION_DAYS=7)

    keep_house_soon(kept.resources)
    begun = set(kept.resources.background)
    keep_house_soon(kept.resources)

    assert len(begun) == 1
    assert kept.resources.background == begun
    await asyncio.gather(*begun)
    assert len(await kept.raw()) == 7


async def test_the_command_prunes_and_counts(kept: Kept, dsn: str) -> None:
    await three_runs(kept)
    await kept.sql.execute("UPDATE raw_api_data SET extracted_at = extracted_at - interval '10 days'")
    week = {"DATABASE_URL": dsn, "RAW_RETENTION_DAYS": "7"}

    unset = await run("prune", DATABASE_URL=dsn)
    counted = json.loads((await run("prune", "--dry-run", "--json", **week))[1].splitlines()[-1])
    done = await run("prune", **week)
    shown = await run("runs", "show", "1", DATABASE_URL=dsn)

    assert (unset[0], "RAW_RETENTION_DAYS" in unset[1]) == (2, True)
    assert (counted["raw_rows"], counted["dry_run"]) == (5, True)
    assert (done[0], "5 raw rows and 0 runs removed" in done[1]) == (0, True)
    assert len(await kept.raw()) == 7
    assert f"page 1        {kept.server.url}/things" in shown[1]
