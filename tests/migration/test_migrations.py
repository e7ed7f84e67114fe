"""Migrations are proved, not trusted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from app.db import migrate
from app.db.engine import Database
from app.db.models import Model
from app.errors import ConfigError, StoreError
from tests.processes import ROOT, run, start

SHAPE = """
SELECT table_name, column_name, data_type, is_nullable, column_default
FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2
"""
LEFT = """
SELECT count(*) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S') AND relname <> 'alembic_version'
"""
INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"


@pytest.fixture
async def empty(empty_dsn: str) -> Database:
    return Database(empty_dsn)


def test_there_is_one_head() -> None:
    script = ScriptDirectory.from_config(migrate.alembic_config())

    assert script.get_heads() == [migrate.head_revision()]


async def test_the_models_say_what_the_migrations_made(database: Database) -> None:
    def difference(connection: Connection) -> object:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        return compare_metadata(context, Model.metadata)

    async with database.connection() as connection:
        found = await connection.run_sync(difference)

    assert found == []


async def test_the_keys_have_their_columns_in_the_declared_order(database: Database) -> None:
    def keys(connection: Connection) -> dict[str, list[str]]:
        inspector = inspect(connection)
        return {name: list(inspector.get_pk_constraint(name)["constrained_columns"]) for name in Model.metadata.tables}

    async with database.connection() as connection:
        found = await connection.run_sync(keys)

    declared = {name: [c.name for c in table.primary_key.columns] for name, table in Model.metadata.tables.items()}
    assert found == declared
    assert found["normalized_data"] == ["source", "id"]


async def test_up_down_and_up_again_gives_the_same_schema(empty: Database, empty_dsn: str) -> None:
    sql = await asyncpg.connect(empty_dsn)
    await migrate.upgrade(empty)
    before = await sql.fetch(SHAPE), await sql.fetch(INDEXES)
    await sql.execute("INSERT INTO etl_checkpoint (source, resource) VALUES ('api', 'posts')")
    await sql.execute(
        "INSERT INTO normalized_data (id, raw_id, run_id, source, source_id, content_hash) "
        "VALUES (1, 1, 1, 'a', '1', '')"
    )

    await migrate.downgrade(empty, "base")
    left = await sql.fetchval(LEFT)
    await migrate.upgrade(empty)

    assert left == 0
    assert (await sql.fetch(SHAPE), await sql.fetch(INDEXES)) == before
    assert await migrate.current_revision(empty) == migrate.head_revision()
    await sql.close()
    await empty.close()


async def test_upgrading_what_is_at_head_keeps_the_rows(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute("INSERT INTO etl_checkpoint (source, resource) VALUES ('api', 'posts')")

    await migrate.upgrade(database)

    assert await sql.fetchval("SELECT count(*) FROM etl_checkpoint") == 1


async def test_replicas_that_start_together_do_not_race(empty_dsn: str) -> None:
    commands = [[sys.executable, "-m", "app", "db", "upgrade"]] * 3

    replicas = [await start(*command, DATABASE_URL=empty_dsn) for command in commands]
    codes = [await replica.wait() for replica in replicas]

    assert codes == [0, 0, 0]
    database = Database(empty_dsn)
    assert await migrate.current_revision(database) == migrate.head_revision()
    await database.close()


async def test_a_migration_by_hand_tells_from_where_to_where(dsn: str) -> None:
    code, told = await run("db", "downgrade", "-1", "--json", DATABASE_URL=dsn)

    moved, head = json.loads(told.splitlines()[-1]), migrate.head_revision()
    assert code == 0
    assert moved == {"verb": "downgrade", "before": head, "after": f"{int(head) - 1:0{len(head)}}"}


async def test_a_revision_that_there_is_not_is_a_clear_error(database: Database) -> None:
    with pytest.raises(ConfigError, match="bogus"):
        await migrate.upgrade(database, "bogus")


async def test_alembic_by_hand_migrates_the_same_database(empty_dsn: str) -> None:
    command = [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", "head"]

    process = await start(*command, DATABASE_URL=empty_dsn)

    assert await process.wait() == 0
    database = Database(empty_dsn)
    assert await migrate.current_revision(database) == migrate.head_revision()
    await database.close()


async def test_a_migration_gives_up_on_a_lock_instead_of_blocking_everybody(
    database: Database, sql: asyncpg.Connection
) -> None:
    async with sql.transaction():
        await sql.execute("LOCK TABLE etl_runs")
        with pytest.raises(StoreError, match="lock timeout"):
            await migrate.downgrade(database, "base")

    async with database.read() as session:
        assert (await session.execute(text("SELECT count(*) FROM etl_runs"))).scalar_one() == 0


def test_a_run_with_nothing_to_migrate_does_not_wait_for_alembic_nor_for_fastapi(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_bytes(b"id,name\n1,a\n")
    script = (
        "import sys; from app.__main__ import build_app, run_cli; "
        "code = run_cli(['run', 'csv', '--json'], build_app=build_app); "
        "print(code, [name for name in ('alembic', 'mako', 'fastapi', 'uvicorn') if name in sys.modules])"
    )
    environment = {**os.environ, "DATABASE_URL": dsn, "CSV_URL": str(tmp_path / "items.csv"), "PYTHONPATH": str(ROOT)}

    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "0 []"
