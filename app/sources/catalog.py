"""Every source there is: for now the two that the environment configures."""

from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit, urlunsplit

from app.errors import ConfigError
from app.settings import Settings
from app.sources.spec import ApiSource, CsvSource, Mapping, SourceSpec


class Catalog:
    def __init__(self, sources: Iterable[SourceSpec]) -> None:
        self._sources = {source.name: source for source in sources}

    def __iter__(self) -> Iterator[SourceSpec]:
        return iter(self._sources.values())

    def select(self, names: Iterable[str]) -> list[SourceSpec]:
        """
        The sources of these names; all of them when none is named.

        Raises:
            ConfigError: a name is not in the catalogue.
        """
        wanted = list(dict.fromkeys(names))
        unknown = [name for name in wanted if name not in self._sources]
        if unknown:
            raise ConfigError(f"unknown source {', '.join(unknown)}; there are: {', '.join(self._sources)}")
        return [self._sources[name] for name in wanted] or list(self)


def open_catalog(settings: Settings) -> Catalog:
    given = settings.sources
    return Catalog(
        (
            ApiSource(
                name="api",
                resource="posts",
                url=endpoint(given.api_host),
                token=given.api_key,
                primary_key="id",
                mapping=Mapping(
                    name=("name", "title"),
                    value=("value", "userId"),
                    description=("description", "body"),
                    created_at=("created_at", "createdAt"),
                    updated_at=("updated_at", "updatedAt"),
                ),
            ),
            CsvSource(
                name="csv",
                resource="rows",
                url=given.csv_url,
                primary_key=given.csv_id_column,
                mapping=Mapping(
                    name=("name", "title"),
                    value=("value", "price", "amount"),
                    description=("description", "body"),
                    created_at=("created_at",),
                    updated_at=("updated_at",),
                ),
            ),
        )
    )


def endpoint(api_host: str) -> str:
    """`/posts` of a host; a URL that has a path of its own is taken as it is."""
    parts = urlsplit(api_host)
    return api_host if parts.path.strip("/") else urlunsplit(parts._replace(path="/posts"))
