"""`etl lineage`: what a served row was made of."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from app.cli.process import run_async
from app.operations.lineage import Lineage, trace
from app.resources import open_ready
from app.settings import Settings, load_settings


def show(
    source: Annotated[str, typer.Argument(help="Name of the resource, as in /data.")],
    source_id: Annotated[str, typer.Argument(help="The record's key.")],
) -> int:
    """Print the record as received, the run that brought it, and earlier versions, as JSON. 1 when there is none."""
    settings = load_settings()
    found = run_async(_trace(settings, source, source_id), settings, quiet=True)
    if found is None:
        print(f"{source} has no row {source_id}")
        return 1
    print(json.dumps(asdict(found), default=str, indent=2, ensure_ascii=False))
    return 0


async def _trace(settings: Settings, source: str, source_id: str) -> Lineage | None:
    async with open_ready(settings) as resources, resources.database.read() as session:
        return await trace(session, source=source, source_id=source_id)
