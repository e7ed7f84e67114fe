"""`etl rejects`: records that could not be normalized, by what is wrong with them."""

from typing import Annotated, Any

import typer

from app.cli.output import check_fingerprint, to_json
from app.cli.process import run_async
from app.db.rejects import read_groups, read_members
from app.operations.seen import demand_seen
from app.resources import open_ready
from app.settings import Settings, load_settings


def show(
    source: Annotated[str | None, typer.Argument(help="Name of a resource; all by default.")] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option("--fingerprint", callback=check_fingerprint, help="Show the records of this kind, as received."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Records to show.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Show the records that were rejected, and that nothing has made good since."""
    settings = load_settings()
    found = run_async(_read(settings, source, fingerprint, limit), settings, quiet=True)
    if as_json:
        print(to_json(found))
        return 0
    for row in found:
        if fingerprint:
            print(f"{row['source']} page {row['page']}, position {row['position']}: {row['reject_detail']}")
            print(f"  {row['payload']}")
        else:
            field = f" {row['field']}" if row["field"] else ""
            print(f"{row['fingerprint']}  {row['count']:>8,}  {row['source']}: {row['code']}{field}")
            print(f"              since {row['first_seen_at']:%Y-%m-%d %H:%M}, for example: {row['example']}")
    if not found:
        print("nothing is rejected")
    return 0


async def _read(settings: Settings, source: str | None, fingerprint: str | None, limit: int) -> list[dict[str, Any]]:
    async with open_ready(settings) as resources, resources.database.read() as session:
        if source is not None:
            await demand_seen(session, resources.catalog, source)
        if fingerprint:
            return await read_members(session, fingerprint, source=source, at_most=limit)
        return await read_groups(session, source=source)
