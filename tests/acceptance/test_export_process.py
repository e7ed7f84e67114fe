"""`etl export` as a process: to a file, down a pipe, down a pipe that breaks."""

import asyncio
import json
import shlex
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.processes import run, start


@pytest.fixture
async def environment(dsn: str, sql: asyncpg.Connection) -> dict[str, str]:
    await sql.execute(
        "INSERT INTO normalized_data (id, raw_id, run_id, source, source_id, name, value, content_hash)"
        " SELECT n, 0, 0, CASE n % 2 WHEN 0 THEN 'api' ELSE 'csv' END, n, '=row ' || n, n, ''"
        " FROM generate_series(1, 20000) n"
    )
    return {"DATABASE_URL": dsn, "BUILT_IN_SOURCES": "none"}


async def test_rows_go_to_standard_output(environment: dict[str, str]) -> None:
    code, output = await run("export", "--format", "csv", "--source", "csv", "--search", "ROW 1999", **environment)

    header, *rows = output.splitlines()
    assert code == 0
    assert header == "id,source,source_id,name,value,description,created_at,updated_at"
    assert [row.split(",")[:6] for row in rows] == [
        [str(n), "csv", str(n), f"'=row {n}", str(n), ""] for n in (1999, 19991, 19993, 19995, 19997, 19999)
    ]


async def test_rows_are_chosen_as_in_the_api(environment: dict[str, str], sql: asyncpg.Connection) -> None:
    await sql.execute("UPDATE normalized_data SET deleted_at = '2025-06-01T00:00:00Z' WHERE id = 19994")
    chosen = ["--where", "value__gte=19990", "--where", "source__not=csv", "--sort", "-id", "--fields", "id,name"]

    code, there = await run("export", "--format", "ndjson", *chosen, **environment)
    _, every = await run("export", "--format", "csv", "--include-deleted", *chosen, **environment)

    assert code == 0
    assert [json.loads(line) for line in there.splitlines()] == [
        {"id": n, "name": f"=row {n}"} for n in (20000, 19998, 19996, 19992, 19990)
    ]
    assert every.splitlines()[:1] == ["id,name,deleted_at"]
    assert every.splitlines()[4] == "19994,'=row 19994,2025-06-01T00:00:00Z"


async def test_a_file_is_written_whole(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"

    code, output = await run("export", "--format", "ndjson", "--output", str(file), **environment)

    assert (code, output) == (0, "")
    assert len(file.read_text().splitlines()) == 20_000
    assert list(tmp_path.iterdir()) == [file]


async def test_a_file_that_cannot_be_written_is_said(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "rows.csv"

    code, output = await run("export", "--format", "csv", "--output", str(file), **environment)

    assert code == 2
    assert output == f"etl: --output {file}: No such file or directory\n"


async def test_an_export_that_fails_leaves_the_file_as_it_was(
    environment: dict[str, str], tmp_path: Path, sql: asyncpg.Connection
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("as it was")
    await sql.execute("ALTER TABLE normalized_data DROP COLUMN description")

    code, output = await run("export", "--format", "csv", "--output", str(file), **environment)

    assert code == 1
    assert "description" in output
    assert file.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [file]


async def test_a_broken_pipe_ends_it_quietly(environment: dict[str, str]) -> None:
    command = f"{shlex.quote(sys.executable)} -m app export --format csv --keep-formulas | head -n 2"

    process = await start("bash", "-o", "pipefail", "-c", command, **environment)
    async with asyncio.timeout(60):
        output, _ = await process.communicate()

    assert process.returncode == 0
    assert [line.split(",")[3] for line in output.decode().splitlines()] == ["name", "=row 2"]


async def test_another_format_is_wrong_usage(environment: dict[str, str]) -> None:
    code, output = await run("export", "--format", "xlsx", **environment)

    assert code == 2
    assert "csv, ndjson" in output
