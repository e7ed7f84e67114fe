"""`etl deletes`: what is absent at a source and still here, and the decision about it."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from app.cli.output import to_json
from app.cli.process import LOCKED, run_async
from app.operations import deletes
from app.records import RunReport
from app.resources import open_ready
from app.settings import Settings, load_settings


def decide(
    name: Annotated[str, typer.Argument(help="Name of a source or a resource.")],
    approve: Annotated[bool, typer.Option("--approve", help="Delete what waits.")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Keep it; the next complete pass asks again.")] = False,
    print_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Show the rows that a complete pass did not bring; --approve deletes them. 75 when the source is running."""
    if approve and discard:
        raise typer.BadParameter("--approve and --discard contradict each other")
    return run_async(_decide(load_settings(), name, approve, discard, print_json), load_settings(), quiet=True)


async def _decide(settings: Settings, name: str, approve: bool, discard: bool, print_json: bool) -> int:
    async with open_ready(settings) as resources:
        if approve:
            reports = await deletes.approve(resources, resources.catalog.select([name]))
            return _tell(name, reports, print_json=print_json)
        found = await deletes.waiting(resources, resources.catalog.look_up([name]))
        if discard:
            await deletes.discard(resources, resources.catalog.select([name]))
    if print_json:
        print(to_json(found))
        return 0
    for item in found:
        if discard:
            print(f"{item.source}: {item.count:,} rows kept, until the next pass asks")
            continue
        print(f"{item.source}: {item.refused or f'{item.count} rows were missed once; a second complete pass decides'}")
        more = item.count - len(item.keys)
        print("  " + ", ".join(item.keys) + (f" and {more:,} more" if more else ""))
    if not found:
        print(f"{name}: nothing waits")
    return 0


def _tell(name: str, reports: Mapping[str, RunReport | None], *, print_json: bool) -> int:
    """What was deleted, also where some of the resources were locked."""
    if print_json:
        print(to_json({source: one and _tree(one) for source, one in reports.items()}))
    elif not reports:
        print(f"{name}: nothing waits")
    else:
        print("\n".join(_told(source, one) for source, one in reports.items()))
    return max((LOCKED if one is None else int(one.status != "succeeded") for one in reports.values()), default=0)


def _tree(report: RunReport) -> dict[str, Any]:
    return {
        "run_id": report.run_id,
        "status": report.status,
        "deleted": report.counts.vanished,
        "error_message": report.error_message,
    }


def _told(source: str, report: RunReport | None) -> str:
    if report is None:
        return f"{source}: locked, another process is running it"
    failed = f"\n  {report.error_class}: {report.error_message}" if report.error_message else ""
    return f"{source}: {report.counts.vanished:,} rows deleted by run {report.run_id}{failed}"
