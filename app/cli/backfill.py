"""`etl backfill`, `etl refresh`: read a range, or everything, once more."""

import json
import sys
from typing import Annotated, cast, get_args

import typer

from app.cli.output import to_json
from app.cli.process import run_async
from app.cli.progress import progress_bars
from app.cli.run import print_tick
from app.operations import backfill as operations
from app.operations.backfill import RefreshPreview
from app.pipeline.progress import OnProgress
from app.records import RefreshScope
from app.resources import open_ready
from app.scheduler import Tick, run_tick
from app.settings import Settings, load_settings
from app.sources.values import duration_seconds

Name = Annotated[str, typer.Argument(help="Name of a source or a resource.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def backfill(
    name: Name,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="VALUE", help="Of the cursor, inclusive; times in ISO 8601.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="VALUE", help="Exclusive; for times it is now when omitted.")
    ] = None,
    step: Annotated[
        str | None, typer.Option("--step", metavar="DURATION", help='Ask window by window, such as "P7D".')
    ] = None,
    discard: Annotated[
        bool, typer.Option("--discard", help="Forget what was begun and is not complete; what it loaded stays.")
    ] = False,
    print_json: AsJson = False,
) -> int:
    """
    Read a range of the cursor, beside the live checkpoint; without --from what was begun goes on.

    Exit codes: those of `etl run`.
    """
    try:
        seconds = None if step is None else duration_seconds(step)
    except ValueError as error:
        raise typer.BadParameter(f"--step: {error}") from None
    settings = load_settings()
    if discard:
        if begin or end or step:
            raise typer.BadParameter("--discard is about backfills that were begun; it takes no range")
        forgotten = run_async(_discard(settings, name), settings, quiet=True)
        print(json.dumps({"discarded": forgotten}) if print_json else f"{name}: {forgotten} backfills forgotten")
        return 0
    with progress_bars(shown=_is_on_terminal(print_json=print_json)) as on_progress:
        work = _backfill(settings, name, begin, end, seconds, on_progress)
        tick = run_async(work, settings, quiet=on_progress is not None)
    return print_tick(tick, print_json=print_json)


def refresh(
    name: Name,
    scope: Annotated[
        str,
        typer.Option(
            "--scope",
            help="state: forget what was learned about the source. data: delete what it does not bring any more. "
            "all: both.",
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what it would begin with; nothing is written.")
    ] = False,
    print_json: AsJson = False,
) -> int:
    """
    Read a source from its beginning; what is served stays so until the pass is complete.

    Exit codes: those of `etl run`.
    """
    if scope not in get_args(RefreshScope):
        raise typer.BadParameter(f"--scope is one of {', '.join(get_args(RefreshScope))}")
    chosen, settings = cast("RefreshScope", scope), load_settings()
    if dry_run:
        found = run_async(_preview(settings, name, chosen), settings, quiet=True)
        print(to_json(found) if print_json else "\n".join(map(_as_text, found)))
        return 0
    with progress_bars(shown=_is_on_terminal(print_json=print_json)) as on_progress:
        work = _refresh(settings, name, chosen, on_progress)
        tick = run_async(work, settings, quiet=on_progress is not None)
    return print_tick(tick, print_json=print_json)


def _is_on_terminal(*, print_json: bool) -> bool:
    return sys.stderr.isatty() and not print_json


async def _backfill(
    settings: Settings,
    name: str,
    begin: str | None,
    end: str | None,
    seconds: float | None,
    on_progress: OnProgress | None,
) -> Tick:
    async with open_ready(settings) as resources:
        specs = resources.catalog.select([name])
        ranged = await operations.ranged(resources, specs, begin, end, step_seconds=seconds)
        return await run_tick(resources, ranged, trigger="backfill", on_progress=on_progress)


async def _discard(settings: Settings, name: str) -> int:
    async with open_ready(settings) as resources:
        return await operations.discard(resources, resources.catalog.select([name]))


async def _refresh(settings: Settings, name: str, scope: RefreshScope, on_progress: OnProgress | None) -> Tick:
    async with open_ready(settings) as resources:
        specs = operations.refreshed(resources.catalog.select([name]), scope)
        return await run_tick(resources, specs, trigger="refresh", on_progress=on_progress)


async def _preview(settings: Settings, name: str, scope: RefreshScope) -> list[RefreshPreview]:
    async with open_ready(settings) as resources:
        return await operations.preview_refresh(resources, resources.catalog.select([name]), scope)


def _as_text(item: RefreshPreview) -> str:
    lines = [f"{item.source}: {item.rows:,} rows; they are served until the new pass is complete"]
    lines += [f"  forgets {name}: {value}" for name, value in item.forgets.items() if value]
    if item.deletes:
        lines.append(
            f"  rows that it does not bring are deleted then, unless they are more than {item.guard_ratio:.0%} of all"
        )
    return "\n".join(lines)
