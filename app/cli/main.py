"""
`etl`: its verbs, its exit codes.

    0   done
    1   failed
    2   configuration or usage: edit something first
    3   partial: some sources failed, others are committed
    75  locked: another process is running these sources (EX_TEMPFAIL of sysexits.h)
    130 interrupted
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from app import __version__
from app.cli import database, deletes, lineage, rejects, replay, run, runs, serve, sources
from app.cli.serve import BuildApp
from app.errors import ConfigError, EtlError

cli = typer.Typer(
    name="etl",
    help="Sources in PostgreSQL, and an honest API over them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cli.command("serve")(serve.serve)
cli.command("demo")(serve.demo)
cli.command("run")(run.run)
cli.command("deletes")(deletes.decide)
cli.command("lineage")(lineage.show)
cli.command("rejects")(rejects.show)
cli.command("replay")(replay.replay)
cli.add_typer(sources.cli, name="sources")
cli.add_typer(runs.cli, name="runs")
cli.add_typer(database.cli, name="db")


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


def run_cli(arguments: Sequence[str], *, build_app: BuildApp) -> int:
    """
    Run one command.

    Args:
        build_app: makes the web application, for the verbs that serve it.

    Returns:
        The exit code.
    """
    try:
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


def _say(error: EtlError, code: int) -> int:
    for line in str(error).splitlines():
        print(f"etl: {line}", file=sys.stderr)
    return code
