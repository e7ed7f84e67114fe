"""`etl db`: the schema, by hand."""

from typing import Annotated

import typer

from app.cli.process import run_async
from app.db import migrate
from app.resources import open_database
from app.settings import Settings, load_settings

cli = typer.Typer(help="The database schema: upgrade, downgrade, current.", no_args_is_help=True)

Revision = Annotated[str, typer.Argument(help="A revision, head, base, or a step such as -1.")]


@cli.command()
def upgrade(revision: Revision = "head") -> int:
    """Bring the schema up to a revision."""
    settings = load_settings()
    return run_async(_upgrade(settings, revision), settings)


@cli.command(context_settings={"ignore_unknown_options": True})
def downgrade(revision: Revision) -> int:
    """Take the schema down to a revision; `base` removes every table and its rows."""
    settings = load_settings()
    return run_async(_downgrade(settings, revision), settings)


@cli.command()
def current() -> int:
    """Print the revision of the database, and the newest there is."""
    settings = load_settings()
    return run_async(_current(settings), settings)


async def _upgrade(settings: Settings, revision: str) -> int:
    async with open_database(settings) as database:
        await migrate.upgrade(database, revision)
    return 0


async def _downgrade(settings: Settings, revision: str) -> int:
    async with open_database(settings) as database:
        await migrate.downgrade(database, revision)
    return 0


async def _current(settings: Settings) -> int:
    async with open_database(settings) as database:
        revision = await migrate.current_revision(database)
    print(f"{revision or 'empty'} (head is {migrate.head_revision()})")
    return 0
