"""`etl lineage`: what a served row was made of."""

import sys
from typing import Annotated

import typer

from app.cli.output import to_json
from app.cli.process import run_async
from app.operations.lineage import Lineage, trace
from app.resources import open_ready
from app.settings import Settings, load_settings


def show(
    source: Annotated[str, typer.Argument(help="Name of the resource, as in /data.")],
    source_id: Annotated[str, typer.Argument(help="The record's key.")],
    as_json: Annotated[bool, typer.Option("--json", help="It is JSON in any case; null when there is none.")] = False,
) -> int:
    """Print the record as received, what brought it, and earlier versions, as JSON. 1 when there is none."""
    settings = load_settings()
    found = run_async(_trace(settings, source, source_id), settings, quiet=True)
    if found is None:
        print(f"{source} has no row {source_id}", file=sys.stderr)
        if as_json:
            print(to_json(None))
        return 1
    print(to_json(found, indent=2, readable=True))
    return 0


async def _trace(settings: Settings, source: str, source_id: str) -> Lineage | None:
    async with open_ready(settings) as resources, resources.database.read() as session:
        return await trace(session, resources.catalog, source=source, source_id=source_id)
