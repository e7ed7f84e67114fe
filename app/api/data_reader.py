"""Reads pages of data for the routes: in how many statements, and how many readers at once."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from app.api.anchors import Anchors
from app.api.data_page import TotalIs
from app.api.data_parameters import Count
from app.api.deps import READ_TIMEOUT_SECONDS
from app.api.read_cache import ReadCache
from app.clock import monotonic
from app.db.data import DataVersion, count_rows, estimate_rows, read_few, read_quickly, read_rows, read_version_in
from app.db.data_query import SERVED, DataQuery
from app.db.engine import Database, ReadSession
from app.resources import Resources

SLOW_READS: Final = 4
"""Searches, filters, other orders and deep pages at once; they wait for one another, and nobody else for them."""
QUICK_TRIES: Final = 2
"""While batches are committed; then both are read in one snapshot, for about three times the cost."""
_NO_BOUND: Final = 2**63
_SOURCE: Final = list(SERVED).index("source")


@dataclass(frozen=True, slots=True)
class DataRead:
    """Some rows, and what is known of all that match."""

    rows: Sequence[Sequence[Any]]
    """Columns as the query has them; one more than its limit, where there is one."""
    version: DataVersion
    total: int | None
    total_is: TotalIs


class DataReader:
    """
    Args:
        cache: knows what is known of the version of the data.
    """

    def __init__(self, database: Database, cache: ReadCache) -> None:
        self._database = database
        self.cache = cache
        self._slow = asyncio.Semaphore(SLOW_READS)
        self._anchors = Anchors()

    async def read(self, query: DataQuery, *, count: Count, seen: int) -> DataRead:
        """
        Args:
            seen: rows that are known to come before.

        Raises:
            TimeoutError: it took longer than READ_TIMEOUT_SECONDS.
        """
        async with asyncio.timeout(READ_TIMEOUT_SECONDS):
            if query.is_plain and (found := await self._read_quickly(query)) is not None:
                return found
            async with self._turn(query), self._database.read() as session:
                return await self._read_in(session, query, count=count, seen=seen)

    async def _read_quickly(self, query: DataQuery) -> DataRead | None:
        """None: it is too far to walk, or the data or their freshness changed meanwhile."""
        known = self.cache.latest
        if known is None:
            return None
        for _ in range(QUICK_TRIES):
            nearer = self._anchors.nearer(query, known)
            if not nearer.is_quick:
                return None
            found = await read_quickly(self._database, nearer)
            if found.mark != known.mark(query.source):
                # Most often a batch was committed since, and these rows are of what is there now
                before, known = known, await self.cache.ask()
                same = nearer is query and found.mark == known.mark(query.source)
                if not same and not _is_untouched(query, found.rows, before, known):
                    continue
            self._anchors.remember(query, known, found.rows)
            return DataRead(found.rows, known, known.total(query.source), "exact")
        return None

    def _turn(self, query: DataQuery) -> AbstractAsyncContextManager[None]:
        return nullcontext() if query.is_quick else self._slow

    async def _read_in(self, session: ReadSession, query: DataQuery, *, count: Count, seen: int) -> DataRead:
        asked_at = monotonic()
        version = await read_version_in(session)
        self.cache.learn(version, asked_at=asked_at)
        total = version.total(query.source)
        # Nobody counts the rows that are not served
        most = _NO_BOUND if query.include_deleted else total
        if not query.is_counted and count == "exact":
            few = await read_few(session, query)
            if few is not None:
                return DataRead(few[1], version, few[0], "exact")
        # Beyond the end there is nothing to look for, however large the number
        rows: Sequence[Sequence[Any]] = []
        if query.offset is None or query.offset < most:
            rows = await read_rows(session, self._anchors.nearer(query, version) if query.is_plain else query)
        if query.is_plain:
            self._anchors.remember(query, version, rows)
        if query.is_counted:
            return DataRead(rows, version, total, "exact")
        if query.after is None and (rows or not query.offset) and (query.limit is None or len(rows) <= query.limit):
            return DataRead(rows, version, seen + len(rows), "exact")
        if count == "none":
            return DataRead(rows, version, None, "not_counted")
        # Beyond the end, and in a cursor of other sizes of pages, what was seen before is anybody's word
        least = min(len(rows) + (seen if rows and query.after is None else 0), most)
        if count == "estimated":
            return DataRead(rows, version, min(max(least, await estimate_rows(session, query)), most), "estimated")
        counted = await count_rows(session, query)
        if counted is None:
            return DataRead(rows, version, least, "at_least")
        return DataRead(rows, version, counted, "exact")


def source_behind(query: DataQuery, rows: Sequence[Sequence[Any]]) -> str | None:
    """
    Of a page of all sources in their order, the source of the row behind it: what comes after that one is not shown.

    Returns:
        None: it is no such page, or it ends with the last row there is.
    """
    if query.source is not None or not query.is_plain or query.limit is None or len(rows) <= query.limit:
        return None
    source: str = rows[query.limit][_SOURCE]
    return source


def _is_untouched(query: DataQuery, rows: Sequence[Sequence[Any]], before: DataVersion, after: DataVersion) -> bool:
    """Whatever changed between two versions comes after these rows of all sources, and after the one behind them."""
    source = source_behind(query, rows)
    known = None if source is None else before.until(source, of=None)
    return source is not None and known is not None and known == after.until(source, of=None)


def open_data_reader(resources: Resources) -> DataReader:
    cache = ReadCache(resources.database, max_bytes=resources.settings.server.read_cache_bytes)
    return DataReader(resources.database, cache)
