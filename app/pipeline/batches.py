"""Pages → batches: what commits together."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final, TypeVar

from app.clock import monotonic
from app.errors import SourceError
from app.records import Cursor, Page, Records, Stretch, StretchRules, Validators

T = TypeVar("T")

MAX_RECORDS: Final = 5_000
FIRST_RECORDS: Final = 1_000
GROWTH: Final = 50
"""Batches grow with what a run has brought, to this part of it: five may be read again after a kill, the one being
made among them. So that is MAX_RECORDS of a run of 50,000, and of any run a tenth of what it had committed. There are
more only where that stays so (`app.pipeline.flights.flights_after`)."""

MAX_SECONDS: Final = 1.0
MAX_BYTES: Final = 8 * 1024 * 1024
"""Of bodies: records may be large."""


@dataclass(slots=True)
class Batch:
    """Whole small pages, or a part of a large one."""

    parts: list[tuple[int, Records]] = field(default_factory=list)
    """Page number and records."""
    begins_within: bool = False
    """Its first part is not the beginning of a page: read again, what was before it would be counted twice."""
    size: int = 0
    """Records."""
    pages: int = 0
    """Pages completed with this batch."""
    not_modified: int = 0
    body_bytes: int = 0
    after: Cursor | None = None
    """None: the batch ends within a page, which is read again should the run die now."""
    last: bool = False
    bounded: bool = False
    """The pass ends here by its own bounds."""
    doubts: list[str] = field(default_factory=list)
    """Why there may be more at the source."""
    validators: Mapping[str, Validators] = field(default_factory=dict)
    state: Mapping[str, Any] | None = None
    findings: list[Mapping[str, Any]] = field(default_factory=list)
    input: Mapping[str, Any] = field(default_factory=dict)
    stretches: list[Stretch] = field(default_factory=list)
    """Of the pages completed with this batch."""
    stretch_rules: StretchRules | None = None
    opened_at: float = field(default_factory=monotonic)

    @property
    def skipped(self) -> int:
        """Records that were not cut, because they are known to be in the table as they are."""
        return sum(stretch.records for stretch in self.stretches if stretch.skipped is not None)

    def has_no_room_for(self, records: Records, max_records: int) -> bool:
        return 0 < self.size > max_records - len(records) or self.body_bytes >= MAX_BYTES

    def add_part(self, page: Page, records: Records) -> None:
        self.parts.append((page.number, records))
        self.size += len(records)
        self.input = page.input or self.input
        self.stretch_rules = page.stretch_rules or self.stretch_rules

    def end_page(self, page: Page) -> None:
        self.body_bytes += page.body_bytes
        if page.partial:
            return
        self.pages += 1
        self.not_modified += page.not_modified
        self.after = page.after
        self.last = page.last
        self.bounded |= page.bounded
        if page.doubt is not None:
            self.doubts.append(page.doubt)
        self.validators = page.validators
        self.state = page.state
        self.findings += page.findings
        self.stretches += page.stretches


async def batches(
    pages: AsyncGenerator[Page, None], *, max_records: int = MAX_RECORDS, max_seconds: float = MAX_SECONDS
) -> AsyncGenerator[Batch, None]:
    """
    Group pages until they hold as many records as a batch may, or the first of them is `max_seconds` old.

    A batch holds FIRST_RECORDS, and more as the run goes on: `max_records` at most. A slow source does not hold back
    what it sent before; when it fails, what came before the fault is given out first.
    """
    batch, given = Batch(), 0
    upcoming: asyncio.Task[Page] | None = None
    try:
        while True:
            room = min(max(given // GROWTH, FIRST_RECORDS), max_records)
            upcoming = upcoming or asyncio.create_task(_next(pages))
            patience = batch.opened_at + max_seconds - monotonic() if batch.parts else None
            await asyncio.wait({upcoming}, timeout=None if patience is None else max(0.0, patience))
            if not upcoming.done():
                yield batch
                given += batch.size + batch.skipped
                batch = Batch()
                continue
            page = upcoming.result()
            upcoming = None
            for number, part in enumerate(_parts(page, room)):
                if batch.has_no_room_for(part, room) or (batch.begins_within and _skips(page)):
                    yield batch
                    given += batch.size + batch.skipped
                    batch = Batch(begins_within=number > 0)
                batch.add_part(page, part)
            batch.end_page(page)
    except StopAsyncIteration:
        if batch.parts:
            yield batch
    except SourceError:
        if batch.parts:
            yield batch
        raise
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait({upcoming})
        await pages.aclose()


async def one_ahead(found: AsyncGenerator[Batch, None]) -> AsyncGenerator[Batch, None]:
    """The same; the next one is made while its consumer is busy with one."""
    upcoming = asyncio.create_task(_next(found))
    try:
        while True:
            batch = await upcoming
            upcoming = asyncio.create_task(_next(found))
            yield batch
    except StopAsyncIteration:
        pass
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)
        await found.aclose()


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


def _skips(page: Page) -> bool:
    """Should that prove wrong, its batch is read again from where it begins: nothing of it may have been counted."""
    return any(stretch.skipped is not None for stretch in page.stretches)


def _parts(page: Page, max_records: int) -> list[Records]:
    # Half as many again are one batch still, rather than one of that size and a tail that costs as many statements
    count = max(1, round(len(page.records) / max_records))
    if count == 1 or _skips(page):
        return [page.records]
    size = ceil(len(page.records) / count)
    return [page.records.part(at, at + size) for at in range(0, len(page.records), size)]
