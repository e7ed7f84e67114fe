"""`etl deletes`: what is absent at a source and still here, and the decision about it."""

from typing import Annotated

import typer

from app.cli.process import run_async
from app.operations import deletes
from app.operations.sources import as_json
from app.resources import open_ready
from app.settings import Settings, load_settings

LOCKED = 75


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
        specs = resources.catalog.select([name])
        found = await deletes.waiting(resources, specs)
        if approve:
            reports = await deletes.approve(resources, specs)
            if None in reports:
                print(f"{name}: locked, another process is running it")
                return LOCKED
        elif discard:
            await deletes.discard(resources, specs)
    if print_json:
        print(as_json(found))
        return 0
    for item in found:
        if approve or discard:
            print(f"{item.source}: {item.count:,} rows {'deleted' if approve else 'kept, until the next pass asks'}")
            continue
        print(f"{item.source}: {item.refused or f'{item.count} rows were missed once; a second complete pass decides'}")
        more = item.count - len(item.keys)
        print("  " + ", ".join(item.keys) + (f" and {more:,} more" if more else ""))
    if not found:
        print(f"{name}: nothing waits")
    return 0
