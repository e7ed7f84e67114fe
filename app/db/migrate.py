"""
Alembic, from inside the process: upgrade, downgrade, current.

It is imported where there is something to migrate: that takes longer than all
that a small run does, and mostly there is nothing.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, text

from app.db.engine import Database
from app.errors import ConfigError

if TYPE_CHECKING:
    from alembic.config import Config

log = structlog.get_logger()


def migrations_folder() -> Path:
    """`migrations/` of a checkout, or its copy in the wheel."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "migrations", package / "_migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise ConfigError(f"no migrations beside {package}: the installation is incomplete; install it again")


def alembic_config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


async def upgrade(database: Database, revision: str = "head") -> None:
    """
    Bring the schema to a revision; replicas that start together wait for one another.

    Raises:
        StoreError: the database cannot be reached, or refused.
        ConfigError: there is no such revision.
    """
    if revision == "head" and await current_revision(database) == head_revision():
        return
    await _migrate(database, "upgrade", revision)


async def downgrade(database: Database, revision: str) -> None:
    await _migrate(database, "downgrade", revision)


async def current_revision(database: Database) -> str | None:
    """None when the database has no schema of ours yet."""
    async with database.connection() as connection:
        return await connection.run_sync(_revision)


def head_revision() -> str:
    """Of the files' names, which begin with their revision and are numbered."""
    return max(path.name.partition("_")[0] for path in (migrations_folder() / "versions").glob("[0-9]*_*.py"))


async def _migrate(database: Database, verb: str, revision: str) -> None:
    from alembic import command
    from alembic.util import CommandError

    def run(connection: Connection) -> tuple[str | None, str | None]:
        config = alembic_config()
        config.attributes["connection"] = connection  # env.py takes it from there and locks
        before = _revision(connection)
        try:
            getattr(command, verb)(config, revision)
        except CommandError as error:
            raise ConfigError(f"{revision}: {error}") from error
        return before, _revision(connection)

    async with database.connection() as connection:
        before, after = await connection.run_sync(run)
        await connection.commit()
    log.info("migration", verb=verb, before=before, after=after)


def _revision(connection: Connection) -> str | None:
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision
