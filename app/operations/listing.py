"""What a source itself says it has: read without a database, so that nothing of ours can agree with itself."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.clock import utc_now
from app.db.invariants import ListedRecord, ListedSource
from app.errors import ConfigError
from app.extract.http import Fetcher
from app.extract.kinds import read_pages
from app.land import Landed, land_records, storable
from app.normalize.rows import Normalizer, open_normalizer
from app.operations.sources import nowhere
from app.records import Traffic
from app.settings import Settings
from app.sources.resource import ResourceSpec
from app.sources.tables import RestResource

Parents = dict[str, dict[str, Mapping[str, Any]]]
"""Resource → key → record."""


@dataclass(slots=True)
class Listing:
    sources: list[ListedSource] = field(default_factory=list)
    records: list[ListedRecord] = field(default_factory=list)

    def unplaced(self) -> "Listing":
        """The same without places: where records come in another order, none of them has its own."""
        return Listing(self.sources, [record._replace(place=None) for record in self.records])

    def same_as(self, other: "Listing") -> bool:
        """Whether the source had the same records, in whatever order."""
        return sorted(map(_unplaced, self.records)) == sorted(map(_unplaced, other.records))


async def read_listing(specs: Sequence[ResourceSpec], settings: Settings) -> Listing:
    """
    Every record of these resources.

    Args:
        specs: parents before their children, as a catalogue has them.

    Raises:
        SourceError: one of them does not deliver.
    """
    listing, parents = Listing(), Parents()
    async with Fetcher(settings.http) as fetcher:
        for spec in specs:
            mapping = spec.table.mapping
            listing.sources.append(
                ListedSource(spec.name, mapping.created_at is not None, mapping.updated_at is not None)
            )
            listing.records += await _read(spec, fetcher, parents)
    return listing


def given_listing(spec: ResourceSpec, file: Path) -> Listing:
    """
    The keys that somebody else wrote down, one a line.

    Raises:
        ConfigError: the file cannot be read, or holds none.
    """
    try:
        keys = [line for line in file.read_text("utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); it is UTF-8 text, one key a line") from error
    if not keys:
        raise ConfigError(f"{file}: holds no key; one a line")
    mapping = spec.table.mapping
    return Listing(
        [ListedSource(spec.name, mapping.created_at is not None, mapping.updated_at is not None)],
        [ListedRecord(spec.name, key, None, None) for key in keys],
    )


async def _read(spec: ResourceSpec, fetcher: Fetcher, parents: Parents) -> list[ListedRecord]:
    async def read_parents(name: str, begin: str) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        for key, record in sorted(parents.get(f"{spec.source}.{name}", {}).items()):
            if key >= begin:
                yield key, record

    found = read_pages(
        spec, nowhere(spec), fetcher=fetcher, traffic=Traffic(), now=utc_now(), read_parents=read_parents
    )
    normalizer: Normalizer | None = None
    listed: list[ListedRecord] = []
    kept = parents.setdefault(spec.name, {})
    async with aclosing(found) as pages:
        async for page in pages:
            if not len(page.records):
                continue
            normalizer = normalizer or open_normalizer(spec, page.input)
            landed = Landed()
            land_records(landed, page.number, page.records, read_keys=normalizer.read_keys)
            for at in range(len(landed)):
                listed.append(_record(spec, landed, at, ordinal=len(listed) + 1))
                if (key := landed.source_ids[at]) is not None and spec.raw_kind == "rest":
                    kept[key] = landed.fields[at]
    return listed


def _record(spec: ResourceSpec, landed: Landed, at: int, *, ordinal: int) -> ListedRecord:
    payload, _ = storable(landed.payloads[at], kind=spec.raw_kind)
    # A cursor counts the lines of a file, and the records of an API that is read in one walk
    place = landed.positions[at] if spec.raw_kind == "csv" else ordinal if _is_one_walk(spec) else None
    digest = hashlib.md5(payload.encode(), usedforsecurity=False).hexdigest()
    return ListedRecord(spec.name, landed.source_ids[at], place, digest)


def _is_one_walk(spec: ResourceSpec) -> bool:
    is_split = isinstance(spec.table, RestResource) and bool(spec.table.endpoint.partitions)
    return not (spec.parent or spec.is_incremental or is_split)


def _unplaced(record: ListedRecord) -> tuple[str, str, str]:
    return record.source, record.source_id or "", record.digest or ""
