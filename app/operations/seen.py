"""Whether a name means anything: of the resources there are, and of those that were."""

from app.db.engine import ReadSession
from app.db.run_reads import was_seen
from app.errors import ConfigError
from app.sources.catalog import Catalog


async def demand_seen(session: ReadSession, catalog: Catalog, name: str) -> None:
    """
    Raises:
        ConfigError: no resource has that name, and nothing here is of one that had it.
    """
    if await was_seen(session, name):
        return
    found = [spec.name for spec in catalog.look_up([name])]
    if name not in found:
        raise ConfigError(f"{name} has several resources; name one of them: {', '.join(found)}")
