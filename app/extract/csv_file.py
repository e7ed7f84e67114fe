"""A CSV file, over HTTP or on disk → pages, in memory that does not grow with the file."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import structlog

from app.errors import SourceError, SourceMalformedError
from app.extract.bodies import SourceBody, open_source
from app.extract.client import SourceClient
from app.extract.csv_cutter import CsvCutter, Slice
from app.extract.csv_resume import PackedCheck, found_before, rest_to_ask_for, state_while_reading
from app.extract.csv_stretches import StretchCutter
from app.extract.decompress import decompressed
from app.extract.http_errors import redact
from app.extract.parts import in_parts
from app.extract.prefix_hash import PrefixCheck, PrefixHash
from app.records import (
    Checkpoint,
    Cursor,
    Fingerprints,
    Page,
    ReadFingerprints,
    Records,
    Traffic,
)
from app.sources.resource import ResourceSpec
from app.sources.tables import CsvResource
from app.steps import Steps

log = structlog.get_logger()

PART_BYTES: Final = 480 * 1024
"""Cut at once: about 5,000 rows of 100 bytes, a batch."""
FIRST_PART_BYTES: Final = 96 * 1024
"""As the first batches are small, too."""

BEGINNING_BYTES: Final = 1024 * 1024
"""Of a body that is gone on with: read again for its header, encoding and dialect."""


async def read_csv(
    spec: ResourceSpec,
    checkpoint: Checkpoint,
    *,
    client: SourceClient,
    traffic: Traffic,
    read_fingerprints: ReadFingerprints | None = None,
) -> AsyncGenerator[Page, None]:
    """
    Read the file from where the checkpoint stands; from its beginning when it
    is no longer the same file up to there.

    Args:
        read_fingerprints: of the stretches that may be skipped; None where none are kept.

    Raises:
        SourceError: not there, not readable, not CSV in UTF-8, empty, or cut.
    """
    assert isinstance(spec.table, CsvResource)
    table, cursor = spec.table, checkpoint.cursor

    async def open_reading(body: SourceBody) -> _Reading:
        keep = read_fingerprints is not None
        known = await read_fingerprints() if read_fingerprints else None
        return _Reading(spec, body, checkpoint.state, max_bytes=client.max_file_bytes, keep=keep, known=known)

    if cursor.byte_offset:
        rest = rest_to_ask_for(checkpoint)
        async with open_source(table.file.url, None, rest=rest, client=client, traffic=traffic) as body:
            assert body is not None
            reading = await open_reading(body)
            if await reading.go_on(cursor):
                log.info("resumed", byte_offset=cursor.byte_offset, read_again=0 if body.offset else cursor.byte_offset)
                async for page in reading.pages():
                    yield page
                return
        log.info(
            "resume_refused",
            source=spec.name,
            byte_offset=cursor.byte_offset,
            reason="the file has changed",
        )
    saved = checkpoint.validators.get("") if spec.client.conditional_requests else None
    async with open_source(table.file.url, saved, client=client, traffic=traffic) as body:
        if body is None:
            yield Page(
                number=1,
                records=Records(),
                after=Cursor(),
                last=True,
                not_modified=True,
                validators=checkpoint.validators,
            )
            return
        reading = await open_reading(body)
        async for page in reading.pages():
            yield page


class _Reading:
    """One pass over one body."""

    def __init__(
        self,
        spec: ResourceSpec,
        body: SourceBody,
        state: Mapping[str, Any],
        *,
        max_bytes: int,
        keep: bool,
        known: Fingerprints | None,
    ) -> None:
        assert isinstance(spec.table, CsvResource)
        self._what = redact(spec.table.file.url)
        self._body = body
        self._state = state
        self._packed = PackedCheck(spec.table.file.compression)
        self._parts = in_parts(
            decompressed(
                self._packed.watched(body.parts),
                # In the middle of a file, what looks like the mark of an archive is none
                "none" if body.offset else spec.table.file.compression,
                max_bytes=max_bytes - body.offset,
                what=self._what,
            ),
            PART_BYTES,
            first=FIRST_PART_BYTES,
        )
        self._rest = b""
        self._prefix = PrefixHash()
        self._cutter = CsvCutter(what=self._what, format=spec.table.format)
        if keep:
            self._cutter = StretchCutter(
                what=self._what,
                format=spec.table.format,
                basis=f"{spec.request_hash} {spec.mapping_hash} {spec.table.write_disposition}",
                known=known,
                size_bytes=body.size_bytes if body.has_ranges else None,
            )
        self._cursor = Cursor()
        self._steps = Steps()

    async def go_on(self, at: Cursor) -> bool:
        """Go on where the cursor stands; False when the bytes up to there are not those that it saw."""
        if not self._body.offset:
            return await self._skip(at)
        found = found_before(self._state)
        # Else the rest was not asked for
        assert found is not None
        assert at.prefix_hash is not None
        self._cutter = self._cutter.going_on(first_line=at.position + 1, **found)
        self._prefix = PrefixHash(at.prefix_hash, offset=at.byte_offset)
        self._cursor = at
        return True

    async def _skip(self, to: Cursor) -> bool:
        check = PrefixCheck(to.prefix_hash or "", size=to.byte_offset)
        left = to.byte_offset
        beginning = b""
        async for part in self._parts:
            if len(beginning) < BEGINNING_BYTES:
                beginning += part
            seen = part[:left]
            self._prefix.update(seen)
            check.feed(seen)
            left -= len(seen)
            if left == 0:
                self._rest = part[len(seen) :]
                break
        if not check.holds:
            return False
        resumed = self._cutter.resumed(beginning, first_line=to.position + 1)
        if resumed is None:
            return False
        self._cutter, self._cursor = resumed, to
        return True

    async def pages(self) -> AsyncGenerator[Page, None]:
        held = self._rest
        try:
            async for part in self._parts:
                if held:
                    yield self._page(await self._steps.do(self._cutter.feed, held))
                held = part
        except SourceError:
            # A dialect is not to be found out from the beginning of a beginning
            if held and self._cutter.header is not None:
                yield self._page(await self._steps.do(self._cutter.feed, held))
            raise
        page = self._page(await self._steps.do(self._cutter.feed, held, final=True), last=True)
        if self._cutter.header is None:
            raise SourceMalformedError(f"{self._what}: no line of CSV at all; expected at least a header")
        yield page

    def _page(self, cut: Slice, *, last: bool = False) -> Page:
        self._prefix.update(cut.body)
        before = self._cursor
        self._cursor = Cursor(
            page=before.page + 1,
            position=cut.next_line - 1,
            byte_offset=before.byte_offset + len(cut.body),
            prefix_hash=str(self._prefix),
        )
        if self._body.asked is not None:
            self._body.asked.brings(self._cursor.page)
        plain = self._body.has_ranges and not self._packed.is_packed
        return Page(
            number=self._cursor.page,
            records=cut.records,
            after=self._cursor,
            last=last,
            body_bytes=len(cut.body),
            # Only the end of the body proves that the validators describe what was read
            validators={"": self._body.proven} if last and self._body.validators else {},
            state=state_while_reading(
                self._state, self._cutter, etag=self._body.validators.etag if plain and not last else None
            ),
            input={**self._cutter.report(), "size_bytes": self._body.size_bytes},
            stretches=cut.stretches,
            stretch_rules=cut.rules,
        )
