"""A page too large to be held: its records are cut while it comes, off the event loop."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Final

from app.extract.http_body import Response
from app.extract.json_body import ARRAY, PLAIN, WHOLE, Cut, cut_body
from app.extract.json_records import decode, skip
from app.extract.json_stream import StreamCutter, Tail, find_open_list
from app.extract.parts import in_parts
from app.records import Records, Validators
from app.sources.paginators import CursorInBody, JsonLink, Offset, PageNumber, PaginatorSpec
from app.steps import Steps

LARGE_BODY_BYTES: Final = 1024 * 1024
"""A larger body would hold the event loop for more than some 20 ms while it is parsed."""
FEED_BYTES: Final = 512 * 1024
"""Cut at once: some ten milliseconds."""


class LargePage:
    """One answer, whose records come in parts; the rest is known at the end."""

    def __init__(self, response: Response, cutter: StreamCutter, selector: str, evidence: str | None) -> None:
        assert response.rest is not None
        self._response, self._rest = response, response.rest
        self._cutter, self._selector, self._evidence = cutter, selector, evidence
        self._steps = Steps()

    async def parts(self) -> AsyncIterator[tuple[Records, int]]:
        """
        Records, and how many bytes they came in.

        Raises:
            SourceError: see `Remainder.parts` and `StreamCutter`.
        """
        async for data in in_parts(_after(self._response.body, self._rest.parts()), FEED_BYTES):
            records = await self._steps.do(self._cutter.feed, data)
            if len(records):
                yield records, len(data)
        records = await self._steps.do(self._cutter.feed, b"", final=True)
        if len(records):
            yield records, 0

    @property
    def seen(self) -> Tail:
        return self._cutter.records

    @property
    def cut(self) -> Cut:
        return Cut(self._cutter.body, Records(), self._selector, self._evidence)

    @property
    def digest(self) -> bytes:
        return self._cutter.digest.digest()

    @property
    def validators(self) -> Validators:
        return self._rest.validators


async def open_large(
    response: Response, selector: str | None, paginator: PaginatorSpec, *, what: str
) -> LargePage | None:
    """
    Args:
        response: has a rest.
        selector: None to find out, from the beginning of the body.

    Returns:
        None where the records cannot be cut without the whole body.
    """
    assert response.rest is not None
    evidence = None
    text = await asyncio.to_thread(_beginning, response.body)
    if text[:1] == "[":
        if selector not in {None, ARRAY, WHOLE}:
            return None
        evidence = None if selector else "the body is an array"
        selector = selector or ARRAY
    elif selector is None:
        selector = await asyncio.to_thread(find_open_list, text)
        evidence = f"{selector}, in the beginning of a large body: the usual name"
    del text
    if selector is None or not (selector in {ARRAY, WHOLE} or PLAIN.fullmatch(selector)):
        return None
    if any(not _is_beside(path, selector) for path in _paths(paginator)):
        return None
    cutter = StreamCutter(
        selector, found_out=evidence is not None, what=what, max_value_bytes=response.rest.max_value_bytes
    )
    return LargePage(response, cutter, selector, evidence)


async def cut_held(body: bytes, selector: str | None, *, what: str) -> Cut:
    """`cut_body`, off the event loop where it would hold it up."""
    if len(body) > LARGE_BODY_BYTES:
        return await asyncio.to_thread(cut_body, body, selector, what=what)
    return cut_body(body, selector, what=what)


async def held(response: Response) -> Response:
    """
    The answer with its whole body.

    Raises:
        SourceError: see `Remainder.read`.
    """
    if response.rest is None:
        return response
    body = response.body + await response.rest.read()
    return replace(response, body=body, validators=response.rest.validators, rest=None)


def _beginning(body: bytes) -> str:
    text = decode(body)
    return text[skip(text, 0) :]


def _paths(paginator: PaginatorSpec) -> list[str]:
    """Where a paginator looks in the body."""
    found: list[str | None] = []
    if isinstance(paginator, CursorInBody):
        found.append(paginator.cursor_path)
    if isinstance(paginator, PageNumber | Offset):
        found.append(paginator.total_path)
    if isinstance(paginator, JsonLink):
        found.append(paginator.next_url_path)
    found.append(getattr(paginator, "has_more_path", None))
    return [path for path in found if path is not None]


def _is_beside(path: str, selector: str) -> bool:
    """Whether a path leads past the records, or to the last of them: that much is known of a large page."""
    records = "" if selector in {ARRAY, WHOLE} else selector
    last = f"{records}[-1]"
    if path == last or (path.startswith(f"{last}.") and PLAIN.fullmatch(path.removeprefix(f"{last}."))):
        return True
    return PLAIN.fullmatch(path) is not None and path != records and not path.startswith(f"{records}.")


async def _after(beginning: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield beginning
    async for part in parts:
        yield part


async def cut_answer(
    response: Response, large: LargePage | None, selector: str | None, *, what: str
) -> tuple[Cut, Sequence[Any], list[str] | bytes]:
    """The body cut; its records as a paginator sees them; and that by which a repetition is known."""
    if large is not None:
        return large.cut, large.seen, large.digest
    cut = await cut_held(response.body, selector, what=what)
    return cut, cut.records.fields, cut.records.payloads
