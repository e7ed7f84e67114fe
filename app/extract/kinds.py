"""Kind of source → how its pages are read."""

from collections.abc import AsyncGenerator

from app.extract.csv_file import read_csv
from app.extract.http import Fetcher
from app.extract.rest_api import read_api
from app.records import Checkpoint, Page, Traffic
from app.sources.spec import ApiSource, SourceSpec


def read_pages(
    source: SourceSpec, checkpoint: Checkpoint, *, fetcher: Fetcher, traffic: Traffic
) -> AsyncGenerator[Page, None]:
    """The pages of a source, from where the checkpoint stands."""
    if isinstance(source, ApiSource):
        return read_api(source, checkpoint, fetcher=fetcher, traffic=traffic)
    return read_csv(source, checkpoint, fetcher=fetcher, traffic=traffic)
