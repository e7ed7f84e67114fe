"""The story of `docs/mending-a-mapping.md`, told by the commands that it shows."""

import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.processes import run
from tests.source_server import SourceServer

WRONG = 'value = "total"'
RIGHT = 'value = { path = "total", type = "decimal", decimal = ",", thousands = "." }'


def euros(n: int) -> float:
    return n * 37 % 50_000 + (0.5 if n % 3 == 0 else 0)


def orders(rows: int) -> bytes:
    """Money as it is written in German: `1.110,50`; two in three are whole euros."""
    lines = ["id;customer;total"]
    for n in range(rows):
        whole = f"{n * 37 % 50_000:,}".replace(",", ".")
        lines.append(f"{n};Customer {n % 977};{whole}" + (",50" if n % 3 == 0 else ""))
    return "\n".join(lines).encode() + b"\n"


@pytest.mark.parametrize("rows", [1_000, pytest.param(100_000, marks=pytest.mark.long)])
async def test_a_wrong_mapping_is_found_mended_previewed_and_replayed_without_asking_the_source(
    rows: int, dsn: str, source_server: SourceServer, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    (tmp_path / "sources").mkdir()
    url = source_server.put("/orders.csv", orders(rows))
    environment = {"DATABASE_URL": dsn, "SOURCES_DIR": str(tmp_path / "sources"), "BUILT_IN_SOURCES": "none"}

    def describe(value: str) -> None:
        (tmp_path / "sources" / "shop.toml").write_text(
            'name = "shop"\ntype = "csv"\nclient = { allow_private_networks = true }\n'
            f'[[resources]]\nname = "orders"\nfile = {{ url = "{url}" }}\n'
            f'schema_contract = {{ data_type = "reject_row" }}\nmapping = {{ name = "customer", {value} }}\n'
        )

    async def etl(*arguments: str) -> Any:
        code, output = await run(*arguments, LOG_LEVEL="error", **environment)
        assert code == 0, output
        return json.loads(output)

    describe(WRONG)
    (landed,) = (await etl("run", "shop", "--json"))["runs"]
    rejected = await etl("rejects", "shop", "--json")
    asked = len(source_server.seen)
    describe(RIGHT)
    previewed = (await etl("replay", "shop", "--dry-run", "--json"))["shop"]
    untouched = await sql.fetchval("SELECT count(*) FROM normalized_data")
    replayed = (await etl("replay", "shop", "--json"))["shop"]
    lineage = await etl("lineage", "shop", "30")

    halves = len(range(0, rows, 3))
    counts = replayed["run"]["counts"]
    assert landed["counts"]["rejected"] == sum(kind["count"] for kind in rejected) == halves
    assert {(kind["code"], kind["field"]) for kind in rejected} == {("not_a_number", "value")}
    assert (previewed["healed"], previewed["rejected"], untouched) == (halves, 0, rows - halves)
    # 1.036 is a number in English, too: nobody rejected it, and only the preview tells
    assert previewed["changed"] == sum(n % 3 > 0 and euros(n) >= 1000 for n in range(rows))
    assert (counts["extracted"], counts["rejected"]) == (rows, 0)
    values = {int(row["source_id"]): row["value"] for row in await sql.fetch("SELECT * FROM normalized_data")}
    assert values == {n: euros(n) for n in range(rows)}
    assert await etl("rejects", "shop", "--json") == []
    assert lineage["received"]["payload"] == "30;Customer 30;1.110,50"
    assert (lineage["row"]["value"], lineage["normalized_by"]["trigger"]) == (1110.5, "replay")
    assert lineage["run"]["mapping_version"] != lineage["normalized_by"]["mapping_version"]
    assert len(source_server.seen) == asked
