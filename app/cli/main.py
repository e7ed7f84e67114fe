"""
`etl`: its verbs, its exit codes.

    0   done
    1   failed
    2   configuration or usage: edit something first
    3   partial: some sources failed, others are committed
    75  locked: another process is running these sources (EX_TEMPFAIL of sysexits.h)
    130 interrupted
"""

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_group

from app import __version__
from app.errors import ConfigError, EtlError

if TYPE_CHECKING:
    from app.cli.serve import BuildApp

VERBS: Final = {
    "serve": ("app.cli.serve:serve", "Run the service: a tick every ETL_INTERVAL seconds, and the API."),
    "demo": ("app.cli.serve:demo", "The service on its own sample sources, in a database of its own; works offline."),
    "run": ("app.cli.run:run", "Run sources once and exit: 0 done, 1 failed, 2 configuration, 3 partial, 75 locked."),
    "backfill": (
        "app.cli.backfill:backfill",
        "Read a range of the cursor, beside the live checkpoint; without --from what was begun goes on.",
    ),
    "refresh": (
        "app.cli.backfill:refresh",
        "Read a source from its beginning; what is served stays so until the pass is complete.",
    ),
    "prove": (
        "app.cli.prove:prove_sources",
        "Let faults happen to runs of the sources, and ask by SQL whether anything was lost.",
    ),
    "prune": (
        "app.cli.prune:prune",
        "Remove raw rows and runs as RAW_RETENTION_DAYS and RUNS_RETENTION_DAYS say; what is current stays.",
    ),
    "deletes": (
        "app.cli.deletes:decide",
        "Show the rows that a complete pass did not bring; --approve deletes them. 75 when the source is running.",
    ),
    "export": ("app.cli.export:export", "Write all rows that match, as `GET /data/export` does."),
    "lineage": (
        "app.cli.lineage:show",
        "Print the record as received, what brought it, and earlier versions, as JSON. 1 when there is none.",
    ),
    "rejects": ("app.cli.rejects:show", "Show the records that were rejected, and that nothing has made good since."),
    "replay": (
        "app.cli.replay:replay",
        "Normalize raw rows as the mapping says now; no source is asked. 0 done, 1 failed, 2 configuration, 75 locked.",
    ),
    "sources": ("app.cli.sources:cli", "Sources: list, check and preview them."),
    "runs": ("app.cli.runs:cli", "Runs: list, show and cancel them."),
    "checkpoint": ("app.cli.checkpoint:cli", "Checkpoints: show, set and rewind them."),
    "db": ("app.cli.database:cli", "The database schema: upgrade, downgrade, current."),
}
"""Where each verb is, and its line in `etl --help`: the first words of its own help."""


class _LoadedWhenCalled(TyperGroup):
    """The verbs by name and line; the one that is called is imported then: all take over a second."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_verb(name) if name in VERBS else command, rest


def load_verb(name: str) -> Any:
    """Import a verb, as typer's command or group."""
    module, _, attribute = VERBS[name][0].partition(":")
    # What is imported stays: the collector would look at it again and again, for a fifth of the start
    gc.disable()
    try:
        found = getattr(import_module(module), attribute)
    finally:
        gc.freeze()
        gc.enable()
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name)
    else:
        alone.command(name)(found)
    return get_group(alone).commands[name]


def _not_called() -> None:
    """Stands for a verb until it is loaded."""


cli = typer.Typer(
    name="etl",
    cls=_LoadedWhenCalled,
    help="Sources in PostgreSQL, and an honest API over them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _name, (_, _help) in VERBS.items():
    cli.command(_name, help=_help)(_not_called)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"etl-river {__version__}")
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Sources in PostgreSQL, and an honest API over them."""


def run_cli(arguments: Sequence[str], *, build_app: "BuildApp") -> int:
    """
    Run one command.

    Args:
        build_app: makes the web application, for the verbs that serve it.

    Returns:
        The exit code.
    """
    try:
        _check_are_text(arguments)
        code = cli(args=list(arguments), obj=build_app, standalone_mode=False)
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except ConfigError as error:
        return _say(error, 2)
    except EtlError as error:
        return _say(error, 1)
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        # click's own: wrong usage, with the usage line it prints itself
        error.show()  # type: ignore[attr-defined]
        return int(error.exit_code)
    return code if isinstance(code, int) else 0


def _check_are_text(arguments: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: one of them is not in the terminal's encoding.
    """
    for given in arguments:
        try:
            given.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{os.fsencode(given)!r} is no text in {sys.getfilesystemencoding()}") from None


def _say(error: EtlError, code: int) -> int:
    for line in str(error).splitlines():
        print(f"etl: {line}", file=sys.stderr)
    return code
