"""`etl runs`: the ledger; and asking a run to stop."""

from typing import Annotated, Any, get_args

import typer

from app.cli.output import MAX_ID, to_json
from app.cli.process import run_async
from app.db.run_reads import RunQuery, read_run, read_runs
from app.operations import runs as operations
from app.operations.seen import demand_seen
from app.records import RunStatus
from app.resources import open_ready
from app.settings import Settings, load_settings

cli = typer.Typer(help="Runs: list, show and cancel them.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RunId = Annotated[int, typer.Argument(min=1, max=MAX_ID, help="As `etl runs list` shows it.")]


@cli.command("list")
def list_runs(
    source: Annotated[str | None, typer.Option("--source", help="Of this resource only.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="With this status only.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> int:
    """Print the newest runs."""
    if status is not None and status not in get_args(RunStatus):
        raise typer.BadParameter(f"--status is one of {', '.join(get_args(RunStatus))}")
    settings = load_settings()
    found = run_async(_list(settings, RunQuery(source=source, status=status, limit=limit)), settings, quiet=True)
    if as_json:
        print(to_json(found))
        return 0
    for run in found:
        outcome = run["outcome"] or run["error_class"] or ""
        print(
            f"{run['id']:>6}  {run['created_at']:%Y-%m-%d %H:%M:%S}  {run['source']:<24}  {run['status']:<11}  "
            f"{outcome:<16}  {run['extracted']:>9,} extracted  {run['rejected']:>6,} rejected"
        )
    return 0


@cli.command("show")
def show(run_id: RunId, as_json: AsJson = False) -> int:
    """Print one run and what it asked for; with --json all it knows."""
    settings = load_settings()
    run = run_async(_show(settings, run_id), settings, quiet=True)
    if run is None:
        raise typer.BadParameter(f"there is no run {run_id}; `etl runs list` prints them")
    if as_json:
        print(to_json(run, indent=2))
        return 0
    ledger = run.pop("request_ledger") or {"requests": [], "left_out": 0}
    for name, value in run.items():
        if value not in (None, "", 0, [], {}):
            print(f"{name:<18}  {to_json(value) if isinstance(value, dict | list) else value}")
    _print_requests(ledger)
    return 0


def _print_requests(ledger: dict[str, Any]) -> None:
    before = 0
    for asked in ledger["requests"]:
        if asked["number"] > before + 1:
            print(f"       … {ledger['left_out']:,} more")
        before = asked["number"]
        page = "" if asked["page"] is None else f"page {asked['page']}"
        page += f"-{asked['last_page']}" if asked["last_page"] != asked["page"] else ""
        again = f"  try {asked['attempt']}" if asked["attempt"] > 1 else ""
        answer = asked["status"] or asked["error"] or "-"
        print(
            f"{before:>6}  {asked['method']:<5} {answer:<5} {asked['bytes']:>11,} bytes  "
            f"{asked['seconds']:>8.3f} s  {page:<12}  {asked['url']}{again}"
        )


@cli.command("cancel")
def cancel(run_id: RunId, as_json: AsJson = False) -> int:
    """Ask a run to stop, whatever process runs it; what it committed stays. 1 when it is not running."""
    settings = load_settings()
    asked = run_async(_cancel(settings, run_id), settings, quiet=True)
    if as_json:
        print(to_json({"run_id": run_id, "cancelling": asked}))
    else:
        print(f"run {run_id}: asked to stop" if asked else f"run {run_id} is not running")
    return 0 if asked else 1


async def _list(settings: Settings, query: RunQuery) -> list[dict[str, Any]]:
    async with open_ready(settings) as resources, resources.database.read() as session:
        if query.source is not None:
            await demand_seen(session, resources.catalog, query.source)
        return list(await read_runs(session, query))[: query.limit]


async def _show(settings: Settings, run_id: int) -> dict[str, Any] | None:
    async with open_ready(settings) as resources, resources.database.read() as session:
        return await read_run(session, run_id)


async def _cancel(settings: Settings, run_id: int) -> bool:
    async with open_ready(settings) as resources:
        return await operations.cancel(resources, run_id)
