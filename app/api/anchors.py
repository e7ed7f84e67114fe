"""
Where pages that were read by number ended.

A page further on begins to count there instead of at the first row, so who
walks by number pays for each page what a cursor would have cost.
"""

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from app.db.data import DataVersion
from app.db.data_query import DataQuery

MAX_ANCHORS: Final = 20_000


@dataclass(slots=True)
class _Walk:
    """Places in one source, counted from its first row or from the first of all."""

    version: str
    """Of the rows up to there."""
    offsets: list[int] = field(default_factory=list)
    places: dict[int, tuple[Any, ...]] = field(default_factory=dict)


class Anchors:
    def __init__(self) -> None:
        self._walks: dict[str | None, dict[str, _Walk]] = {}
        """By the source asked for, None for all of them; then by the source in which the places are."""

    def nearer(self, query: DataQuery, known: DataVersion) -> DataQuery:
        """The same page, counted from the last anchor before it; as it is, where there is none."""
        if query.offset is None:
            return query
        near, place = 0, None
        for source, walk in self._walks.get(query.source, {}).items():
            if walk.version == known.until(source, of=query.source):
                at = bisect_right(walk.offsets, query.offset)
                if at and walk.offsets[at - 1] > near:
                    near = walk.offsets[at - 1]
                    place = walk.places[near]
        return query if place is None else replace(query, offset=query.offset - near, after=place)

    def remember(self, query: DataQuery, known: DataVersion, rows: Sequence[Sequence[Any]]) -> None:
        """
        Args:
            query: as it was asked, in the default order.
            known: what the rows are of.
            rows: of its page, in the columns of `SERVED`; one more than its limit when there are more.
        """
        if query.after is not None or query.limit is None or len(rows) <= query.limit:
            return
        if sum(len(walk.offsets) for walks in self._walks.values() for walk in walks.values()) >= MAX_ANCHORS:
            self._walks.clear()
        offset, last = (query.offset or 0) + query.limit, rows[query.limit - 1]
        source = last[1]
        version = known.until(source, of=query.source)
        if version is None:
            return
        walks = self._walks.setdefault(query.source, {})
        walk = walks.get(source)
        if walk is None or walk.version != version:
            walk = walks[source] = _Walk(version)
        if offset not in walk.places:
            insort(walk.offsets, offset)
            walk.places[offset] = (source, last[0])
