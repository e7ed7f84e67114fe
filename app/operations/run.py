"""`run`: one tick over some sources, now."""

from collections.abc import Sequence

from app.errors import ConfigError
from app.pipeline.progress import OnProgress
from app.resources import open_ready
from app.scheduler import Tick, run_tick
from app.settings import Settings
from app.sources.catalog import open_catalog


async def run_once(settings: Settings, names: Sequence[str], *, on_progress: OnProgress | None = None) -> Tick:
    """
    Migrate where needed, and run the named sources once; when none is named, all whose file is right.

    Raises:
        ConfigError: a name is unknown or of a file that is wrong, or a setting is wrong.
        StoreUnavailableError: the database cannot be reached.
    """
    catalog = open_catalog(settings)
    selected = catalog.select(names)
    sources = [spec for spec in selected if not spec.is_pushed]
    if names and not sources:
        where = ", ".join(f"{spec.name} to /hooks/{spec.webhook.path}" for spec in selected if spec.webhook)
        raise ConfigError(f"delivered while `etl serve` runs, and not run: {where}")
    async with open_ready(settings) as resources:
        tick = await run_tick(resources, sources, trigger="command", on_progress=on_progress)
    if not names:
        tick.wrong_files = {file.where: file.reason for file in catalog.wrong}
    return tick
