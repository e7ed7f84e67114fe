"""`etl run`: one tick, now."""

import json
import sys
from dataclasses import asdict
from typing import Annotated, Final

import typer

from app.cli.process import CONFIGURATION, run_async
from app.cli.progress import progress_bars
from app.operations.run import run_once
from app.scheduler import Tick
from app.settings import load_settings

EXIT_CODES: Final = {"success": 0, "failed": 1, "partial": 3, "locked": 75}


def run(
    sources: Annotated[list[str] | None, typer.Argument(help="Names of sources; all when none is given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> int:
    """Run sources once and exit: 0 done, 1 failed, 2 configuration, 3 partial, 75 locked."""
    settings = load_settings()
    on_terminal = sys.stderr.isatty() and not as_json
    with progress_bars(shown=on_terminal) as on_progress:
        tick = run_async(run_once(settings, sources or [], on_progress=on_progress), settings, quiet=on_terminal)
    return print_tick(tick, print_json=as_json)


def print_tick(tick: Tick, *, print_json: bool) -> int:
    """Say how it ended, as text or as JSON; the exit code that says the same."""
    print(_as_json(tick) if print_json else _as_text(tick))
    return CONFIGURATION if tick.wrong_files else EXIT_CODES[tick.status]


def _as_json(tick: Tick) -> str:
    return json.dumps(
        {
            "tick_id": str(tick.tick_id),
            "status": tick.status,
            "seconds": tick.seconds,
            "runs": [report.as_json() for report in tick.reports],
            "locked": tick.locked,
            "not_opened": {source: str(error) for source, error in tick.unopened.items()},
            "wrong_files": tick.wrong_files,
        }
    )


def _as_text(tick: Tick) -> str:
    lines = []
    for report in tick.reports:
        counts = report.counts
        told = ", ".join(
            f"{count:,} {name}" for name, count in asdict(counts).items() if count and name not in {"pages", "raw_rows"}
        )
        lines.append(
            f"{report.source}: {report.status} in {report.seconds:.1f} s ({report.outcome or 'see below'}) {told}"
        )
        if counts.outdated:
            lines.append(
                f"  {counts.outdated:,} are older, by mapping.updated_at, than what is here, and were left out"
            )
        if report.error_message:
            lines.append(f"  {report.error_class}: {report.error_message}")
    lines += [f"{source}: locked, another process is running it" for source in tick.locked]
    lines += [f"{source}: not started: {error}" for source, error in tick.unopened.items()]
    lines += [f"not run: {line}" for reason in tick.wrong_files.values() for line in reason.splitlines()]
    return "\n".join(lines)
