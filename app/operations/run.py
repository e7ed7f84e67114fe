"""`run`: one tick over some sources, now."""

from collections.abc import Sequence

from app.pipeline.progress import OnProgress
from app.resources import open_ready
from app.scheduler import Tick, run_tick
from app.settings import Settings
from app.sources.catalog import open_catalog


async def run_once(settings: Settings, names: Sequence[str], *, on_progress: OnProgress | None = None) -> Tick:
    """
    Migrate where needed, and run the named sources once; all of them when none is named.

    Raises:
        ConfigError: a name is unknown, or a setting is wrong.
        StoreUnavailableError: the database cannot be reached.
    """
    sources = open_catalog(settings).select(names)
    async with open_ready(settings) as resources:
        return await run_tick(resources, sources, trigger="command", on_progress=on_progress)
