"""`etl db`: the schema, by hand."""

from typing import Annotated, Literal

import typer

from app.cli.output import to_json
from app.cli.process import run_async
from app.db import migrate
from app.resources import open_database
from app.settings import Settings, load_settings

cli = typer.Typer(help="The database schema: upgrade, downgrade, current.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Revision = Annotated[str, typer.Argument(help="A revision, head, base, or a step such as -1.")]


@cli.command()
def upgrade(revision: Revision = "head", as_json: AsJson = False) -> int:
    """Bring the schema up to a revision."""
    return _move("upgrade", revision, as_json=as_json)


@cli.command(context_settings={"ignore_unknown_options": True})
def downgrade(revision: Revision, as_json: AsJson = False) -> int:
    """Take the schema down to a revision; `base` removes every table and its rows."""
    return _move("downgrade", revision, as_json=as_json)


@cli.command()
def current(as_json: AsJson = False) -> int:
    """Print the revision of the database, and the newest there is."""
    settings = load_settings()
    return run_async(_current(settings, as_json=as_json), settings)


def _move(verb: Literal["upgrade", "downgrade"], revision: str, *, as_json: bool) -> int:
    settings = load_settings()
    before, after = run_async(_moved(settings, verb, revision), settings)
    if as_json:
        print(to_json({"verb": verb, "before": before, "after": after}))
    return 0


async def _moved(
    settings: Settings, verb: Literal["upgrade", "downgrade"], revision: str
) -> tuple[str | None, str | None]:
    """The revisions before and after; None: no schema of ours."""
    async with open_database(settings) as database:
        before = await migrate.current_revision(database)
        await (migrate.upgrade if verb == "upgrade" else migrate.downgrade)(database, revision)
        return before, await migrate.current_revision(database)


async def _current(settings: Settings, *, as_json: bool) -> int:
    async with open_database(settings) as database:
        revision = await migrate.current_revision(database)
    head = migrate.head_revision()
    print(to_json({"revision": revision, "head": head}) if as_json else f"{revision or 'empty'} (head is {head})")
    return 0
