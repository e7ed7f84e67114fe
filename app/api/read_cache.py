"""
Answers of /data as bytes, kept for as long as the data are what they show.

The version of the data is confirmed with the database when the last
confirmation is older than CONFIRM_SECONDS, so an answer is never older than
that after a commit, whichever process made it. While no run changes a row, a
read costs no query but that one; how fresh the rows are is said anew each time.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers

from app.api.deps import READ_TIMEOUT_SECONDS
from app.api.etags import etag_of, joined, validated_response
from app.api.freshness import freshness_headers
from app.clock import monotonic
from app.db.data import DataVersion, read_version
from app.db.engine import Database
from app.sources.catalog import Catalog

CONFIRM_SECONDS: Final = 0.1
ENTRY_BYTES: Final = 1_000
"""What an entry takes besides its body and its key."""

Key = tuple[bytes, bytes]
"""The query as sent, and in whose name."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A page, ready to be sent."""

    body: bytes
    etag: str
    source: str | None
    """The one that it covers; None: all of them."""
    version: str
    """Of what it covers."""
    max_staleness: str | None
    """As the client gave it: asked anew each time that the page is sent."""
    link: str | None
    rows: "Rows | None" = None
    """None: they are what the version says, and nothing besides."""

    def for_total(self, known: DataVersion) -> "Answer":
        """The same rows of what is there now."""
        assert self.rows is not None
        body = b"%b%d%b" % (self.body[: self.rows.before], known.total(None), self.body[-self.rows.after :])
        return replace(self, body=body, etag=etag_of(body), version=known.all.version)


class Rows(NamedTuple):
    """
    What stands on a page of all sources with more behind it, but for the total.

    A run of a source that comes after them in the order changes that number and nothing else.
    """

    before: int
    """Bytes of the body, up to the total."""
    after: int
    """Bytes behind it."""
    until: str
    """The source of the row after its last."""
    version: str
    """Of all rows up to there: see `DataVersion.until`."""

    def are_of(self, known: DataVersion) -> bool:
        return self.version == known.until(self.until, of=None)


class Page(NamedTuple):
    answer: Answer
    version: DataVersion


class ReadCache:
    """
    Args:
        max_bytes: that answers may take; 0 keeps none.
    """

    def __init__(self, database: Database, *, max_bytes: int) -> None:
        self._database = database
        self._max_bytes = max_bytes
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._bytes = 0
        self._known: DataVersion | None = None
        self._known_at = float("-inf")
        """When the question was asked to which `_known` is the answer."""
        self._asking: tuple[float, asyncio.Task[None]] | None = None
        self.hits = 0
        self.misses = 0

    async def find(self, key: Key, *, strict: bool) -> Page | None:
        """
        What is kept, with what is known now: the rows may be the same and fresher.

        Args:
            strict: the version is asked for now, however recently it was.

        Raises:
            StoreError: the database cannot be asked.
        """
        answer = self._answers.get(key)
        if answer is None:
            self.misses += 1
            return None
        known = await self._confirm(strict=strict)
        answer = self._answers.get(key)
        if answer is not None and answer.version != known.mark(answer.source).version:
            answer = self._brought_up(key, answer, known)
        if answer is None:
            self.misses += 1
            return None
        self._answers.move_to_end(key)
        self.hits += 1
        return Page(answer, known)

    def _brought_up(self, key: Key, answer: Answer, known: DataVersion) -> Answer | None:
        """The answer with another total, if nothing else of it has changed."""
        if answer.rows is None or not answer.rows.are_of(known):
            return None
        self._bytes -= _size(key, answer)
        self._answers[key] = answer = answer.for_total(known)
        self._bytes += _size(key, answer)
        return answer

    def keep(self, key: Key, answer: Answer) -> None:
        size = _size(key, answer)
        # One of another version was read while a run commits: no next reader will find it right
        if size > self._max_bytes // 8 or not (self._known and _shows(answer, self._known)):
            return
        if (replaced := self._answers.pop(key, None)) is not None:
            self._bytes -= _size(key, replaced)
        self._answers[key] = answer
        self._bytes += size
        while self._bytes > self._max_bytes:
            oldest, dropped = self._answers.popitem(last=False)
            self._bytes -= _size(oldest, dropped)

    @property
    def latest(self) -> DataVersion | None:
        """The version that was met last; it may not be the current one any more."""
        return self._known

    def learn(self, found: DataVersion, *, asked_at: float) -> None:
        """
        Args:
            asked_at: of the monotonic clock, before it was read.
        """
        if asked_at < self._known_at:
            return
        self._known_at = asked_at
        self._known = found

    async def ask(self) -> DataVersion:
        """
        The version as it is now, or a moment later.

        Raises:
            StoreError: the database cannot be asked.
        """
        return await self._confirm(strict=True)

    async def _confirm(self, *, strict: bool) -> DataVersion:
        now = monotonic()
        while self._known is None or self._known_at < (now if strict else now - CONFIRM_SECONDS):
            if self._asking is None or self._asking[0] < (now if strict else now - CONFIRM_SECONDS):
                task = asyncio.create_task(self._ask(), name="data version")
                task.add_done_callback(lambda asked: asked.cancelled() or asked.exception())  # all may have left
                self._asking = (monotonic(), task)
            # All who wait share the question; one that leaves does not take it along
            async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                await asyncio.shield(self._asking[1])
        return self._known

    async def _ask(self) -> None:
        asked_at = monotonic()
        try:
            self.learn(await read_version(self._database), asked_at=asked_at)
        finally:
            self._asking = None


def _shows(answer: Answer, known: DataVersion) -> bool:
    """All of it, or at least its rows."""
    return answer.version == known.mark(answer.source).version or (
        answer.rows is not None and answer.rows.are_of(known)
    )


def _size(key: Key, answer: Answer) -> int:
    return len(answer.body) + sum(map(len, key)) + ENTRY_BYTES


class PageResponse(Response):
    """What a route answers that lets its answer be kept."""

    def __init__(self, page: Page) -> None:
        super().__init__(page.answer.body, media_type="application/json")
        self.page = page


class CachedRoute(APIRoute):
    """A route whose PageResponses are kept, and sent again without being made again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        make = super().get_route_handler()

        async def answer(request: Request) -> Response:
            cache: ReadCache = request.app.state.data_reader.cache
            catalog: Catalog = request.app.state.resources.catalog
            headers = request.headers
            # Who may read is part of what was asked: only who sends the same is sent the same
            key = (request.scope["query_string"], headers.get("authorization", "").encode())
            found = await cache.find(key, strict=_is_strict(joined(headers, "cache-control")))
            kept = found is not None
            if found is None:
                made = await make(request)
                if not isinstance(made, PageResponse):
                    return made
                found = made.page
                cache.keep(key, found.answer)
            return _sent(found, headers, kept=kept, catalog=catalog)

        return answer


def _is_strict(cache_control: str) -> bool:
    """RFC 9111 §5.2.1: whoever asks for no kept answer, or for none of any age, as a browser's reload does."""
    directives = {item.strip().lower() for item in cache_control.split(",")}
    return not directives.isdisjoint({"no-cache", "no-store", "max-age=0"})


def _sent(page: Page, asked: Headers, *, kept: bool, catalog: Catalog) -> Response:
    answer = page.answer
    headers = freshness_headers(page.version.as_of(answer.source, is_there=catalog.has), answer.max_staleness)
    # RFC 9211
    status = "etl-river; hit" if kept else "etl-river; fwd=miss"
    headers["Cache-Status"] = status
    if answer.link is not None:
        headers["Link"] = answer.link
    return validated_response(answer.body, answer.etag, headers, asked=asked)
