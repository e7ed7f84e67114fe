"""CSV files that change: what is skipped changes nothing about the outcome."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, example, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from app.extract import csv_cutter, csv_file, csv_stretches, csv_text
from app.pipeline.batches import batches
from app.records import RunReport
from app.resources import Resources
from app.scheduler import run_tick
from app.sources.catalog import open_catalog

Run = Callable[..., Awaitable[RunReport]]

HEADER = "id,name,value,day,gone\n"
MAPPING = """
primary_key = "id"
[resources.mapping]
name = "name"
value = { path = "value", type = "decimal" }
updated_at = { path = "day", type = "date" }
deleted = "gone"
[resources.deletes]
mode = "soft"
detect = "flag"
[[resources.filter]]
path = "name"
op = "ne"
value = "hidden"
"""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches, pages and batches of a few lines."""
    monkeypatch.setattr(csv_stretches, "LEAST_BITS", 1)
    monkeypatch.setattr(csv_text, "SAMPLE_BYTES", 4)
    monkeypatch.setattr(csv_cutter, "SAMPLE_CHARACTERS", 64)
    monkeypatch.setattr(csv_file, "PART_BYTES", 90)
    monkeypatch.setitem(batches.__kwdefaults__ or {}, "max_records", 6)


@pytest.fixture
def run(resources: Resources) -> Run:
    async def once(name: str, url: str | Path, more: str = 'primary_key = "id"', *, client: str = "") -> RunReport:
        Path("sources").mkdir(exist_ok=True)
        Path(f"sources/{name}.toml").write_text(
            f'name = "{name}"\ntype = "csv"\n[client]\nallow_private_networks = true\n{client}\n'
            f'[[resources]]\nname = "rows"\nfile = {{ url = "{url}" }}\n{more}\n'
        )
        catalog = open_catalog(resources.settings)
        report = (await run_tick(resources, catalog.select([name]), trigger="command")).reports[0]
        assert report.counts.balanced, report
        return report

    return once


async def forget(sql: asyncpg.Connection, name: str) -> None:
    await sql.execute("UPDATE etl_checkpoint SET fingerprints = NULL WHERE source = $1", name)


async def tables(sql: asyncpg.Connection, name: str) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    rows = await sql.fetch(
        """SELECT source_id, name, value, description, updated_at::date::text, deleted_at IS NULL
        FROM normalized_data WHERE source = $1 ORDER BY source_id""",
        name,
    )
    # How often a version is there that is overtaken in each run depends on what fell into one batch
    raw = await sql.fetch(
        "SELECT DISTINCT source_id, payload FROM raw_csv_data WHERE source = $1 ORDER BY source_id, payload", name
    )
    return [tuple(row) for row in rows], [tuple(row) for row in raw]


ROW = st.tuples(
    st.integers(0, 14),
    st.sampled_from(["a", "b", "c", '"two\nlines"', "hidden"]),
    st.sampled_from(["1", "2", "x"]),
    st.sampled_from(["", "2026-01-01", "2026-01-02"]),
    st.sampled_from(["", "", "", "", "true"]),
).map(lambda row: ",".join(map(str, row)) + "\n") | st.sampled_from([",no key,1,,\n", "too,few\n"])


def edited(before: list[str], edits: list[tuple[str, int, int, str]]) -> list[str]:
    """Insert, replace, delete, move or copy rows."""
    rows = list(before)
    for what, first, second, row in edits:
        at, to = (place % (len(rows) + 1) for place in (first, second))
        if what == "insert":
            rows.insert(at, row)
        elif what == "delete":
            del rows[at : at + 1]
        elif what == "replace":
            rows[at : at + 1] = [row]
        elif what == "move" and at < len(rows):
            rows.insert(to, rows.pop(at))
        elif what == "copy" and at < len(rows):
            rows.insert(to, rows[at])
    return rows


EDIT = st.tuples(
    st.sampled_from(["insert", "delete", "replace", "move", "copy"]), st.integers(0, 50), st.integers(0, 50), ROW
)


@pytest.mark.usefixtures("small")
@given(
    distinct=st.booleans(),
    first=st.lists(ROW, max_size=40),
    versions=st.lists(st.lists(EDIT, max_size=4), min_size=2, max_size=5),
)
# A tombstone and, in the same batch or in another, the record as it was
@example(
    distinct=True,
    first=[],
    versions=[
        [("insert", 37, 0, "too,few\n"), ("copy", 0, 23, ""), ("replace", 9, 0, ",no key,1,,\n"), ("copy", 4, 29, "")],
        [("replace", 44, 0, "14,c,1,2026-01-02,\n"), ("replace", 46, 0, "6,a,1,2026-01-01,true\n")],
        [("delete", 15, 0, "")],
        [("insert", 2, 0, "8,c,x,2026-01-02,true\n"), ("insert", 15, 0, "2,b,1,2026-01-02,\n")],
    ],
)
@with_settings(
    max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
async def test_skipping_makes_no_difference_to_any_table(
    run: Run,
    sql: asyncpg.Connection,
    distinct: bool,
    first: list[str],
    versions: list[list[tuple[str, int, int, str]]],
) -> None:
    await sql.execute("TRUNCATE normalized_data, raw_csv_data, etl_checkpoint, etl_runs")
    rows = [f"{number},a,1,,\n" for number in range(40)] if distinct else first
    path, said = Path("sources/changing.csv"), MAPPING
    path.parent.mkdir(exist_ok=True)
    for edits in [[], *versions, []]:
        rows = edited(rows, edits)
        path.write_text(HEADER + "".join(rows))

        skipping = await run("skipping", path.name, said)
        await forget(sql, "whole")
        whole = await run("whole", path.name, said)

        assert skipping.status == whole.status  # of an empty file: suspect
        assert skipping.counts.extracted == whole.counts.extracted
        assert await tables(sql, "skipping") == await tables(sql, "whole")


async def test_a_row_changed_in_a_long_file_costs_its_stretch(run: Run, sql: asyncpg.Connection) -> None:
    path = Path("sources/long.csv")
    path.parent.mkdir(exist_ok=True)
    lines = [f"{number},row {number}\n" for number in range(30_000)]
    path.write_text("id,name\n" + "".join(lines))
    first = await run("long", path.name)
    lines[20_000] = "20000,changed\n"
    path.write_text("id,name\n" + "".join(lines))

    second = await run("long", path.name)

    assert (first.counts.inserted, second.counts.updated, second.counts.unchanged) == (30_000, 1, 29_999)
    assert await sql.fetchval("SELECT position FROM raw_csv_data ORDER BY id DESC LIMIT 1") == 20_002
    held = await sql.fetchval("SELECT length(fingerprints->0->>'stretches') FROM etl_checkpoint WHERE source = 'long'")
    assert held > 1000 * 20
