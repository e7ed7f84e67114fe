"""
A body without its Content-Encoding (RFC 9110 §8.4).

aiohttp would undo it too; but it takes a gzip body that is cut for a whole one
where the server's Content-Length was made for the cut body, as proxies do.
"""

import sys
import zlib
from collections.abc import AsyncIterator
from typing import Final

import aiohttp

from app.errors import SourceMalformedError, SourceUnavailableError
from app.extract.decompress import decompressed

ACCEPTED: Final = "gzip"
"""For Accept-Encoding."""


def decoded(response: aiohttp.ClientResponse, *, what: str) -> AsyncIterator[bytes]:
    """
    Raises:
        SourceUnavailableError: cut, or damaged.
        SourceMalformedError: of an encoding that was not asked for.
    """
    parts = response.content.iter_any()
    encoding = _encoding(response)
    return parts if encoding == "identity" else _gunzipped(parts, encoding, what=what)


async def read_beginning(response: aiohttp.ClientResponse, most: int) -> bytes:
    """At most so many bytes; as they came, where they cannot be decoded."""
    raw = await response.content.read(most)
    if _encoding(response) != "gzip":
        return raw
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw, most)
    except zlib.error:
        return raw


def _encoding(response: aiohttp.ClientResponse) -> str:
    given = response.headers.get("Content-Encoding", "").strip().lower()
    return {"": "identity", "x-gzip": "gzip"}.get(given, given)


async def _gunzipped(parts: AsyncIterator[bytes], encoding: str, *, what: str) -> AsyncIterator[bytes]:
    first = await anext(parts, b"")
    if not first:
        return
    if encoding != "gzip":
        raise SourceMalformedError(
            f"{what}: its Content-Encoding is {encoding[:40]!r}, and not {ACCEPTED} or none, as was asked for; is "
            "there another Accept-Encoding in client.headers?"
        )
    try:
        async for part in decompressed(_rejoined(first, parts), "gzip", max_bytes=sys.maxsize, what=what):
            yield part
    except SourceMalformedError as error:
        # Damaged on its way: the next time it may be whole
        raise SourceUnavailableError(f"{error}; its Content-Encoding is {encoding}") from error


async def _rejoined(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in parts:
        yield part
