"""The body that a resource is read from, over HTTP or on disk, with what will make the next request conditional."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import aiofiles
import aiofiles.os
from aiofiles.threadpool.binary import AsyncBufferedReader

from app.clock import utc_now
from app.errors import SourceRefusedError, SourceUnavailableError
from app.extract.client import SourceClient
from app.extract.http_body import RestOf, is_strong
from app.records import AskedRequest, Traffic, Validators

READ_BYTES: Final = 480 * 1024
"""Of a file, at once."""

RACY_SECONDS: Final = 2.0
"""A file written this shortly before it is read may change again without its time of modification moving."""


@dataclass(frozen=True, slots=True)
class SourceBody:
    parts: AsyncIterator[bytes]
    validators: Validators
    size_bytes: int | None
    """Of the whole body."""
    traffic: Traffic
    received_before: int
    """What the run had received when the body began."""
    offset: int = 0
    """Of the first byte."""
    has_ranges: bool = True
    """Whether offsets in what we read are offsets in what was sent."""
    asked: AskedRequest | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the answer; a file has none."""
    url: str | None = None
    """Where the answer came from, redirects followed; a file has none."""

    @property
    def proven(self) -> Validators:
        """Of the whole body, at its end."""
        received = self.traffic.bytes_received - self.received_before
        return replace(self.validators, size_bytes=self.offset + received)


@asynccontextmanager
async def open_source(
    url: str,
    saved: Validators | None,
    *,
    rest: RestOf | None = None,
    client: SourceClient,
    traffic: Traffic,
    setting: str = "file.url (CSV_URL for the built-in source)",
) -> AsyncIterator[SourceBody | None]:
    """
    The body, or no more than the rest of it; None when it is the one that `saved` describes.

    Args:
        setting: where the URL is from, for errors.
    """
    if url.lower().startswith(("http://", "https://")):
        ranged = rest if rest and is_strong(rest.etag) else None
        async with client.open_body(url, validators=saved, rest=ranged, traffic=traffic) as remote:
            if remote is None:
                yield None
            else:
                yield SourceBody(
                    remote.parts(),
                    remote.validators,
                    remote.size_bytes,
                    traffic,
                    received_before=traffic.bytes_received,
                    offset=remote.offset,
                    has_ranges=not remote.is_encoded,
                    asked=remote.asked,
                    headers=remote.headers,
                    url=remote.final_url,
                )
        return
    traffic.requests += 1
    asked = traffic.ledger.add(at=utc_now(), method="READ", url=url)
    try:
        stat = await aiofiles.os.stat(url)
        validators = Validators(etag=f"{stat.st_mtime_ns:x}-{stat.st_size:x}-{stat.st_ino:x}")
        if saved is not None and validators.etag == saved.etag:
            traffic.bytes_saved += stat.st_size
            yield None
            return
        if utc_now().timestamp() - stat.st_mtime < RACY_SECONDS:
            validators = Validators()
        offset = rest.offset if rest and rest.etag == validators.etag else 0
        async with aiofiles.open(url, "rb") as opened:
            await opened.seek(offset)
            received = traffic.bytes_received
            parts = _file_parts(opened, traffic, asked)
            yield SourceBody(parts, validators, stat.st_size, traffic, received, offset, asked=asked)
    except FileNotFoundError:
        raise SourceUnavailableError(f"{url}: no such file; {setting} takes an http(s) URL or a path") from None
    except (IsADirectoryError, PermissionError) as error:
        raise SourceRefusedError(f"{url}: {error.strerror}; {setting} takes a file that can be read") from None


async def _file_parts(file: AsyncBufferedReader, traffic: Traffic, asked: AskedRequest) -> AsyncIterator[bytes]:
    while part := await file.read(READ_BYTES):
        traffic.bytes_received += len(part)
        asked.bytes += len(part)
        yield part
