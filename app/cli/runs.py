"""`etl runs`: the ledger; and asking a run to stop."""

import json
from typing import Annotated, Any

import typer

from app.cli.process import run_async
from app.db.run_reads import RunQuery, read_run, read_runs
from app.operations import runs as operations
from app.resources import open_ready
from app.settings import Settings, load_settings

cli = typer.Typer(help="Runs: list, show and cancel them.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RunId = Annotated[int, typer.Argument(min=1, help="As `etl runs list` shows it.")]


@cli.command("list")
def list_runs(
    source: Annotated[str | None, typer.Option("--source", help="Of this resource only.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="With this status only.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> int:
    """Print the newest runs."""
    settings = load_settings()
    found = run_async(_list(settings, RunQuery(source=source, status=status, limit=limit)), settings, quiet=True)
    if as_json:
        print(json.dumps(found, default=str))
        return 0
    for run in found:
        outcome = run["outcome"] or run["error_class"] or ""
        print(
            f"{run['id']:>6}  {run['created_at']:%Y-%m-%d %H:%M:%S}  {run['source']:<24}  {run['status']:<11}  "
            f"{outcome:<16}  {run['extracted']:>9,} extracted  {run['rejected']:>6,} rejected"
        )
    return 0


@cli.command("show")
def show(run_id: RunId) -> int:
    """Print one run with all it knows, as JSON."""
    settings = load_settings()
    run = run_async(_show(settings, run_id), settings, quiet=True)
    if run is None:
        raise typer.BadParameter(f"there is no run {run_id}; `etl runs list` prints them")
    print(json.dumps(run, default=str, indent=2))
    return 0


@cli.command("cancel")
def cancel(run_id: RunId) -> int:
    """Ask a run to stop, whatever process runs it; what it committed stays. 1 when it is not running."""
    settings = load_settings()
    asked = run_async(_cancel(settings, run_id), settings, quiet=True)
    print(f"run {run_id}: asked to stop" if asked else f"run {run_id} is not running")
    return 0 if asked else 1


async def _list(settings: Settings, query: RunQuery) -> list[dict[str, Any]]:
    async with open_ready(settings) as resources, resources.database.read() as session:
        return list(await read_runs(session, query))[: query.limit]


async def _show(settings: Settings, run_id: int) -> dict[str, Any] | None:
    async with open_ready(settings) as resources, resources.database.read() as session:
        return await read_run(session, run_id)


async def _cancel(settings: Settings, run_id: int) -> bool:
    async with open_ready(settings) as resources:
        return await operations.cancel(resources, run_id)
