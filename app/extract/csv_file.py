"""A CSV file, over HTTP or on disk → pages, in memory that does not grow with the file."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiofiles
import aiofiles.os
import structlog
from aiofiles.threadpool.binary import AsyncBufferedReader

from app.clock import utc_now
from app.errors import SourceMalformedError, SourceRefusedError, SourceUnavailableError
from app.extract.client import SourceClient
from app.extract.csv_cutter import CsvCutter, Slice
from app.extract.decompress import decompressed
from app.extract.http_errors import redact
from app.records import Checkpoint, Cursor, Page, Records, Traffic, Validators
from app.sources.csv_format import FileSpec
from app.sources.resource import ResourceSpec
from app.sources.tables import CsvResource

log = structlog.get_logger()

PART_BYTES: Final = 512 * 1024
"""Cut at once: about 5,000 rows of 100 bytes."""

BEGINNING_BYTES: Final = 1024 * 1024
"""Of a body that is gone on with: read again for its header, encoding and dialect."""

RACY_SECONDS: Final = 2.0
"""A file written this shortly before it is read may change again without its time of modification moving."""


@dataclass(frozen=True, slots=True)
class _Body:
    parts: AsyncIterator[bytes]
    validators: Validators
    size_bytes: int | None


async def read_csv(
    spec: ResourceSpec, checkpoint: Checkpoint, *, client: SourceClient, traffic: Traffic
) -> AsyncGenerator[Page, None]:
    """
    Read the file from where the checkpoint stands; from its beginning when it
    is no longer the same file up to there.

    Raises:
        SourceError: not there, not readable, not CSV in UTF-8, empty, or cut.
    """
    assert isinstance(spec.table, CsvResource)
    table, cursor = spec.table, checkpoint.cursor
    if cursor.byte_offset:
        async with _open(table.file, None, client=client, traffic=traffic) as body:
            assert body is not None
            reading = _Reading(spec, body, max_bytes=client.max_file_bytes)
            if await reading.skip(cursor):
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
    async with _open(table.file, saved, client=client, traffic=traffic) as body:
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
        async for page in _Reading(spec, body, max_bytes=client.max_file_bytes).pages():
            yield page


class _Reading:
    """One pass over one body."""

    def __init__(self, spec: ResourceSpec, body: _Body, *, max_bytes: int) -> None:
        assert isinstance(spec.table, CsvResource)
        self._what = redact(spec.table.file.url)
        self._body = body
        plain = decompressed(body.parts, spec.table.file.compression, max_bytes=max_bytes, what=self._what)
        self._parts = _joined(plain)
        self._rest = b""
        self._prefix = hashlib.blake2b(digest_size=16)
        self._cutter = CsvCutter(what=self._what, format=spec.table.format)
        self._cursor = Cursor()

    async def skip(self, to: Cursor) -> bool:
        """Go on where the cursor stands; False when the bytes up to there are not those that it saw."""
        left = to.byte_offset
        beginning = b""
        async for part in self._parts:
            if len(beginning) < BEGINNING_BYTES:
                beginning += part
            seen = part[:left]
            self._prefix.update(seen)
            left -= len(seen)
            if left == 0:
                self._rest = part[len(seen) :]
                break
        if left or self._prefix.hexdigest() != to.prefix_hash:
            return False
        resumed = self._cutter.resumed(beginning, first_line=to.position + 1)
        if resumed is None:
            return False
        self._cutter, self._cursor = resumed, to
        return True

    async def pages(self) -> AsyncGenerator[Page, None]:
        held = self._rest
        async for part in self._parts:
            if held:
                yield self._page(self._cutter.feed(held))
            held = part
        page = self._page(self._cutter.feed(held, final=True), last=True)
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
            prefix_hash=self._prefix.hexdigest(),
        )
        return Page(
            number=self._cursor.page,
            records=cut.records,
            after=self._cursor,
            last=last,
            body_bytes=len(cut.body),
            # Only the end of the body proves that the validators describe what was read
            validators={"": self._body.validators} if last and self._body.validators else {},
            input={**self._cutter.report(), "size_bytes": self._body.size_bytes},
        )


@asynccontextmanager
async def _open(
    file: FileSpec, saved: Validators | None, *, client: SourceClient, traffic: Traffic
) -> AsyncIterator[_Body | None]:
    """The body; None when it is the one that `saved` describes."""
    if file.url.lower().startswith(("http://", "https://")):
        async with client.open_body(file.url, validators=saved, traffic=traffic) as remote:
            yield _Body(remote.parts(), remote.validators, remote.size_bytes) if remote else None
        return
    traffic.requests += 1
    try:
        stat = await aiofiles.os.stat(file.url)
        validators = Validators(etag=f"{stat.st_mtime_ns:x}-{stat.st_size:x}-{stat.st_ino:x}")
        if validators == saved:
            yield None
            return
        if utc_now().timestamp() - stat.st_mtime < RACY_SECONDS:
            validators = Validators()
        async with aiofiles.open(file.url, "rb") as opened:
            yield _Body(_file_parts(opened, traffic), validators, stat.st_size)
    except FileNotFoundError:
        raise SourceUnavailableError(
            f"{file.url}: no such file; file.url (CSV_URL for the built-in source) takes an http(s) URL or a path"
        ) from None
    except (IsADirectoryError, PermissionError) as error:
        raise SourceRefusedError(
            f"{file.url}: {error.strerror}; file.url (CSV_URL for the built-in source) takes a file that can be read"
        ) from None


async def _file_parts(file: AsyncBufferedReader, traffic: Traffic) -> AsyncIterator[bytes]:
    while part := await file.read(PART_BYTES):
        traffic.bytes_received += len(part)
        yield part


async def _joined(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in parts of about PART_BYTES: the network's own are a hundred times smaller."""
    held: list[bytes] = []
    size = 0
    async for part in parts:
        held.append(part)
        size += len(part)
        if size >= PART_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
