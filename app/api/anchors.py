"""
Where pages that were read by number ended.

A page further on begins to count there instead of at the first row, so who
walks by number pays for each page what a cursor would have cost.
"""

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from app.db.data_query import DataQuery

MAX_ANCHORS: Final = 20_000


@dataclass(slots=True)
class _Walk:
    """Of the pages of one source, or of all, in one version."""

    version: str
    offsets: list[int] = field(default_factory=list)
    places: dict[int, tuple[Any, ...]] = field(default_factory=dict)


class Anchors:
    def __init__(self) -> None:
        self._walks: dict[str | None, _Walk] = {}

    def nearer(self, query: DataQuery, version: str) -> DataQuery:
        """The same page, counted from the last anchor before it; as it is, where there is none."""
        walk = self._walks.get(query.source)
        if walk is None or walk.version != version or query.offset is None:
            return query
        at = bisect_right(walk.offsets, query.offset)
        if not at:
            return query
        offset = walk.offsets[at - 1]
        return replace(query, offset=query.offset - offset, after=walk.places[offset])

    def remember(self, query: DataQuery, version: str, rows: Sequence[Sequence[Any]]) -> None:
        """
        Args:
            query: as it was asked, in the default order.
            rows: of its page, in the columns of `SERVED`; one more than its limit when there are more.
        """
        if query.after is not None or query.limit is None or len(rows) <= query.limit:
            return
        if sum(len(walk.offsets) for walk in self._walks.values()) >= MAX_ANCHORS:
            self._walks.clear()
        walk = self._walks.get(query.source)
        if walk is None or walk.version != version:
            walk = self._walks[query.source] = _Walk(version)
        offset, last = (query.offset or 0) + query.limit, rows[query.limit - 1]
        if offset not in walk.places:
            insort(walk.offsets, offset)
            walk.places[offset] = (last[1], last[0])
