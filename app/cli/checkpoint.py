"""`etl checkpoint`: where sources stand; setting that, and going back."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from app.cli.output import to_json
from app.cli.process import LOCKED, run_async
from app.operations import checkpoint as operations
from app.operations.checkpoint import Moved, Standing
from app.resources import open_ready
from app.settings import Settings, load_settings
from app.sources.values import duration_seconds

cli = typer.Typer(help="Checkpoints: show, set and rewind them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of a source or a resource.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; nothing is written.")]


@cli.command("show")
def show(name: Name, print_json: AsJson = False) -> int:
    """Print where a source stands, and who is running it."""
    settings = load_settings()
    found = run_async(_stand(settings, name), settings, quiet=True)
    print(to_json(found) if print_json else "\n".join(_as_text(item) for item in found))
    return 0


@cli.command("set")
def set_value(
    name: Name,
    value: Annotated[str, typer.Argument(help="Of the cursor: where the next run begins; times in ISO 8601.")],
    dry_run: DryRun = False,
    print_json: AsJson = False,
) -> int:
    """Make the next run begin at a value, before or behind where it stands; 75 when the source is running."""
    return _move(name, value, None, dry_run=dry_run, print_json=print_json, only_back=False)


@cli.command("rewind")
def rewind(
    name: Name,
    to: Annotated[str | None, typer.Option("--to", metavar="VALUE", help="Of the cursor; times in ISO 8601.")] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="DURATION", help='In ISO 8601, such as "P7D".')] = None,
    dry_run: DryRun = False,
    print_json: AsJson = False,
) -> int:
    """Go back to a value, by a duration, or to the beginning when neither is given; rows stay as they are."""
    if to is not None and by is not None:
        raise typer.BadParameter("--to and --by are two ways to say where; give one of them")
    try:
        seconds = None if by is None else duration_seconds(by)
    except ValueError as error:
        raise typer.BadParameter(f"--by: {error}") from None
    return _move(name, to, seconds, dry_run=dry_run, print_json=print_json, only_back=True)


def _move(
    name: str, value: str | None, seconds: float | None, *, dry_run: bool, print_json: bool, only_back: bool
) -> int:
    settings = load_settings()
    work = _moved(settings, name, value, seconds, dry_run=dry_run, only_back=only_back)
    found = run_async(work, settings, quiet=True)
    locked = [one.source for one in found if one.report is None and not dry_run]
    if print_json:
        print(to_json([_tree(one) for one in found]))
    else:
        print("\n".join(_told(one, dry_run=dry_run) for one in found))
    return LOCKED if locked else 0


async def _stand(settings: Settings, name: str) -> list[Standing]:
    async with open_ready(settings) as resources:
        return await operations.stand(resources, resources.catalog.look_up([name]))


async def _moved(
    settings: Settings, name: str, value: str | None, seconds: float | None, *, dry_run: bool, only_back: bool
) -> list[Moved]:
    async with open_ready(settings) as resources:
        return [
            await operations.move(resources, spec, value, by_seconds=seconds, only_back=only_back, dry_run=dry_run)
            for spec in resources.catalog.select([name])
        ]


def _tree(one: Moved) -> dict[str, Any]:
    run_id = one.report.run_id if one.report else None
    return {"source": one.source, "before": one.before, "after": one.after, "run_id": run_id}


def _told(one: Moved, *, dry_run: bool) -> str:
    if one.report is None and not dry_run:
        return f"{one.source}: locked, another process is running it; nothing was moved"
    changes = [
        f"  {name}: {one.before[name]} → {one.after[name]}" for name in one.after if one.before[name] != one.after[name]
    ]
    where = "would be moved" if one.report is None else f"moved, recorded as run {one.report.run_id}"
    return "\n".join([f"{one.source}: {where}", *(changes or ["  it stands there already"])])


def _as_text(item: Standing) -> str:
    tree = asdict(item)
    if item.place is None:
        lines = [f"{item.source}: not read yet"]
    else:
        told = {**item.place, **{name: tree[name] for name in tree if name not in {"source", "place", "backfills"}}}
        lines = [item.source, *(f"  {name}: {value}" for name, value in told.items() if value not in (None, {}, ""))]
    lines += [f"  unfinished backfill: {one['from']} to {one['to']}, page {one['page']}" for one in item.backfills]
    return "\n".join(lines)
