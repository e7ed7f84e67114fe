"""Kind of source → how its pages are read."""

from collections.abc import AsyncGenerator
from datetime import datetime

from app.extract.csv_file import read_csv
from app.extract.http import Fetcher
from app.extract.rest_api import read_api
from app.extract.rss_feed import read_feed
from app.extract.scopes import ReadParents
from app.records import Checkpoint, Page, ReadFingerprints, Traffic
from app.sources.resource import ResourceSpec
from app.sources.tables import RestResource, RssResource


def read_pages(
    spec: ResourceSpec,
    checkpoint: Checkpoint,
    *,
    fetcher: Fetcher,
    traffic: Traffic,
    now: datetime,
    read_parents: ReadParents | None = None,
    read_fingerprints: ReadFingerprints | None = None,
) -> AsyncGenerator[Page, None]:
    """
    The pages of a resource, from where the checkpoint stands.

    Args:
        now: when the run began.
        read_parents: the rows of a parent resource; None where there is no database.
        read_fingerprints: what is known of a file; None where none are kept.

    Raises:
        ConfigError: nobody can be asked for them.
    """
    spec.demand_asked()
    client = fetcher.client(spec)
    if isinstance(spec.table, RestResource):
        return read_api(spec, checkpoint, client=client, traffic=traffic, now=now, read_parents=read_parents)
    if isinstance(spec.table, RssResource):
        return read_feed(spec, checkpoint, client=client, traffic=traffic)
    return read_csv(spec, checkpoint, client=client, traffic=traffic, read_fingerprints=read_fingerprints)
