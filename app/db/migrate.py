"""Alembic, from inside the process: upgrade, downgrade, current."""

from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from app.db.engine import Database
from app.errors import ConfigError

log = structlog.get_logger()


def migrations_folder() -> Path:
    """`migrations/` of a checkout, or its copy in the wheel."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "migrations", package / "_migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise ConfigError(f"no migrations beside {package}: the installation is incomplete; install it again")


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


async def upgrade(database: Database, revision: str = "head") -> None:
    """
    Bring the schema to a revision; replicas that start together wait for one another.

    Raises:
        StoreError: the database cannot be reached, or refused.
    """
    await _migrate(database, "upgrade", revision)


async def downgrade(database: Database, revision: str) -> None:
    await _migrate(database, "downgrade", revision)


async def current_revision(database: Database) -> str | None:
    """None when the database has no schema of ours yet."""
    async with database.connection() as connection:
        return await connection.run_sync(_revision)


def head_revision() -> str:
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert head is not None
    return head


async def _migrate(database: Database, verb: str, revision: str) -> None:
    def run(connection: Connection) -> tuple[str | None, str | None]:
        config = alembic_config()
        config.attributes["connection"] = connection  # env.py takes it from there and locks
        before = _revision(connection)
        getattr(command, verb)(config, revision)
        return before, _revision(connection)

    async with database.connection() as connection:
        before, after = await connection.run_sync(run)
        await connection.commit()
    log.info("migration", verb=verb, before=before, after=after)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
