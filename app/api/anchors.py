"""
Where pages that were read by number ended.

A page further on begins to count there instead of at the first row, so who
walks by number pays for each page what a cursor would have cost.
"""

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from app.db.data_query import DataQuery

MAX_ANCHORS: Final = 20_000


class Anchors:
    """Of one version of the data; another one forgets them."""

    def __init__(self) -> None:
        self._version = ""
        self._offsets: dict[str | None, list[int]] = {}
        self._places: dict[tuple[str | None, int], tuple[Any, ...]] = {}

    def nearer(self, query: DataQuery, version: str) -> DataQuery:
        """The same page, counted from the last anchor before it; as it is, where there is none."""
        if version != self._version or query.offset is None:
            return query
        offsets = self._offsets.get(query.source, [])
        at = bisect_right(offsets, query.offset)
        if not at:
            return query
        offset = offsets[at - 1]
        return replace(query, offset=query.offset - offset, after=self._places[query.source, offset])

    def remember(self, query: DataQuery, version: str, rows: Sequence[Sequence[Any]]) -> None:
        """
        Args:
            query: as it was asked, in the default order.
            rows: of its page, in the columns of `SERVED`; one more than its limit when there are more.
        """
        if query.after is not None or query.limit is None or len(rows) <= query.limit:
            return
        if version != self._version or len(self._places) == MAX_ANCHORS:
            self._version = version
            self._offsets.clear()
            self._places.clear()
        place, last = (query.source, (query.offset or 0) + query.limit), rows[query.limit - 1]
        if place not in self._places:
            insort(self._offsets.setdefault(query.source, []), place[1])
            self._places[place] = (last[1], last[0])
