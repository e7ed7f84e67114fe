"""`etl prune`: remove what is older than it is kept."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from app.cli.process import run_async
from app.errors import ConfigError
from app.pipeline import retention
from app.resources import open_ready
from app.settings import Settings, load_settings


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Remove raw rows and runs as RAW_RETENTION_DAYS and RUNS_RETENTION_DAYS say; what is current stays."""
    settings = load_settings()
    if settings.retention.raw_days is None and settings.retention.runs_days is None:
        raise ConfigError("everything is kept; set RAW_RETENTION_DAYS or RUNS_RETENTION_DAYS, for example to 90")
    pruned = run_async(_prune(settings, dry_run), settings, quiet=True)
    if as_json:
        print(json.dumps(asdict(pruned)))
    else:
        would = "would be removed" if dry_run else "removed"
        print(f"{pruned.raw_rows:,} raw rows and {pruned.runs:,} runs {would}, {pruned.seconds:.1f} s")
    return 0


async def _prune(settings: Settings, dry_run: bool) -> retention.Pruned:
    async with open_ready(settings) as resources:
        return await retention.prune(resources.database, settings.retention, dry_run=dry_run)
