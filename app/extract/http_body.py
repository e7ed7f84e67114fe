"""What comes back: a whole answer, or a body read in parts."""

import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import aiohttp

from app.clock import monotonic
from app.errors import SourceMalformedError, SourceUnavailableError
from app.extract.calls import Call
from app.extract.content_encoding import decoded
from app.extract.decompress import decompressed
from app.extract.http_errors import redact, source_errors
from app.extract.link_header import parse_links
from app.records import AskedRequest, Validators

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE)
BEGINNING_BYTES: Final = 8 * 1024 * 1024
"""Of a page: a larger one is cut as it comes."""


class Patience(Protocol):
    """How long a body may take, and how large it may be."""

    @property
    def read_timeout_seconds(self) -> float: ...
    @property
    def file_timeout_seconds(self) -> float: ...
    @property
    def min_bytes_per_second(self) -> int: ...
    @property
    def max_page_bytes(self) -> int: ...
    @property
    def max_file_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Response:
    """An answer with a body, or one that has none to give."""

    status: int
    body: bytes = b""
    validators: Validators = field(default_factory=Validators)
    headers: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    """RFC 8288 `Link` targets by relation, absolute."""
    has_links: bool = False
    """The server sends a Link header, be it empty."""
    ignored: bool = False
    """Nothing of it counts: no records, and no page after it."""
    rest: "Remainder | None" = None
    """What follows `body`, where that is only the beginning; whoever takes the answer closes it."""
    asked: AskedRequest | None = None
    """The request that it answers."""

    @property
    def not_modified(self) -> bool:
        return self.status == 304

    async def aclose(self) -> None:
        if self.rest is not None:
            await self.rest.close()


@dataclass(frozen=True, slots=True)
class RestOf:
    """
    The rest of a body of which we have the beginning (RFC 9110 §13.1.5, §14).

    Args:
        offset: of its first byte.
        etag: of the body that the beginning is of; a strong one.
    """

    offset: int
    etag: str

    @property
    def headers(self) -> dict[str, str]:
        # Of another encoding, the same offset would be another place
        return {"Range": f"bytes={self.offset}-", "If-Range": self.etag, "Accept-Encoding": "identity"}

    def is_answered_by(self, response: aiohttp.ClientResponse) -> bool:
        """Whether this is the same body from there to its end; what a server makes of ranges is not taken on trust."""
        headers = response.headers
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if response.status != 206 or found is None or headers.get("ETag") != self.etag:
            return False
        if headers.get("Content-Encoding", "identity") != "identity":
            return False
        first, last, size = map(int, found.groups())
        return first == self.offset and last == size - 1 and response.content_length in {None, size - first}


class Body:
    """
    A body being read, with a deadline on the waiting and a floor under the speed.

    Args:
        offset: of its first byte in the whole body.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        *,
        url: str,
        call: Call,
        patience: Patience,
        offset: int = 0,
    ) -> None:
        self._response = response
        self._url = url
        self._traffic = call.traffic
        self.asked = call.asked
        self._patience = patience
        self._received_bytes = 0
        self.what = f"{response.method} {redact(url)}"
        self.validators = read_validators(response)
        self.headers: Mapping[str, str] = response.headers
        self.final_url = str(response.url)
        """Redirects followed."""
        self.offset = offset
        self.is_encoded = "Content-Encoding" in response.headers
        length = response.content_length
        self.size_bytes = None if self.is_encoded or length is None else offset + length
        """Of the whole body; None when the server does not say, or says it of the compressed body."""

    @property
    def proven(self) -> Validators:
        """With the size of the body, as far as it was received."""
        return replace(self.validators, size_bytes=self._received_bytes)

    def close(self) -> None:
        self._response.close()

    async def parts(self) -> AsyncIterator[bytes]:
        """
        The body's bytes, without the transfer's own compression.

        Raises:
            SourceUnavailableError: silent, too slow, or cut.
        """
        waited = window_waited = 0.0
        window_bytes = 0
        stream = decoded(self._response, what=self.what)
        while True:
            began = monotonic()
            with source_errors(self._url):
                part = await anext(stream, b"")
            if not part:
                return
            # Only the waiting counts: time that the database takes is not the source's fault
            seconds = monotonic() - began
            waited += seconds
            window_waited += seconds
            window_bytes += len(part)
            self._received_bytes += len(part)
            self._traffic.bytes_received += len(part)
            if self.asked is not None:
                self.asked.bytes += len(part)
                self.asked.seconds += seconds
            self._check_pace(waited, window_waited, window_bytes)
            if window_waited >= self._patience.read_timeout_seconds:
                window_waited, window_bytes = 0.0, 0
            yield part

    def _check_pace(self, waited: float, window_waited: float, window_bytes: int) -> None:
        limits = self._patience
        if waited > limits.file_timeout_seconds:
            raise SourceUnavailableError(
                f"GET {redact(self._url)}: not complete after {waited:.0f} s of waiting for it "
                f"(HTTP_FILE_TIMEOUT_SECONDS or timeout.total is {limits.file_timeout_seconds:g})"
            )
        slow = window_bytes < limits.min_bytes_per_second * window_waited
        if window_waited >= limits.read_timeout_seconds and slow:
            raise SourceUnavailableError(
                f"GET {redact(self._url)}: only {window_bytes} bytes in {window_waited:.0f} s "
                f"(HTTP_MIN_BYTES_PER_SECOND={limits.min_bytes_per_second})"
            )


class Remainder:
    """What follows the beginning of a body that is too large to be held: read once, or closed."""

    def __init__(
        self, body: Body, plain: AsyncGenerator[bytes, None], *, first: bytes, held: int, manners: Patience
    ) -> None:
        self._body = body
        self._plain = plain
        self._first = first
        self._size = held
        self._limits = manners

    @property
    def validators(self) -> Validators:
        """Of the body as far as it was received."""
        return self._body.proven

    @property
    def max_value_bytes(self) -> int:
        """Of what must be held at once."""
        return self._limits.max_page_bytes

    async def parts(self) -> AsyncIterator[bytes]:
        """
        Raises:
            SourceMalformedError: the body is larger than a file may be.
            SourceUnavailableError: silent, too slow, or cut.
        """
        part = self._first
        while part:
            self._size += len(part)
            if self._size > self._limits.max_file_bytes:
                raise SourceMalformedError(
                    f"{self._body.what}: the body is larger than {self._limits.max_file_bytes} bytes; "
                    "raise client.max_response_bytes or HTTP_MAX_FILE_BYTES"
                )
            yield part
            part = await anext(self._plain, b"")

    async def read(self) -> bytes:
        """
        All of it, where it may be held.

        Raises:
            SourceMalformedError: the page is larger than that.
        """
        parts: list[bytes] = []
        async for part in self.parts():
            if self._size > self._limits.max_page_bytes:
                raise SourceMalformedError(
                    f"{self._body.what}: the page is larger than {self._limits.max_page_bytes} bytes; "
                    "raise client.max_response_bytes or HTTP_MAX_PAGE_BYTES, or give a plain dotted path in "
                    "endpoint.data_selector: its records are then read as they come"
                )
            parts.append(part)
        return b"".join(parts)

    async def close(self) -> None:
        await self._plain.aclose()
        self._body.close()


async def read_page(response: aiohttp.ClientResponse, body: Body, manners: Patience) -> Response:
    """
    A body, decompressed; of a large one the beginning, and the rest to be read.

    Some servers send a .gz and call it JSON: the first bytes say what a body is.

    Raises:
        SourceError: see `Body.parts` and `decompressed`.
    """
    # Remainder counts, and names the setting
    plain = decompressed(body.parts(), "auto", max_bytes=sys.maxsize, what=body.what)
    held: list[bytes] = []
    size, most = 0, min(BEGINNING_BYTES, manners.max_page_bytes)
    async for part in plain:
        held.append(part)
        size += len(part)
        if size > most:
            break
    whole = b"".join(held)
    rest = Remainder(body, plain, first=whole[most:], held=most, manners=manners) if size > most else None
    return Response(response.status, whole[:most], body.proven, response.headers, rest=rest)


async def read_bounded(response: aiohttp.ClientResponse, *, max_bytes: int, what: str) -> bytes:
    """
    The whole body.

    Raises:
        SourceMalformedError: it is larger than `max_bytes`.
    """
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > max_bytes:
            raise SourceMalformedError(f"{what}: the answer is larger than {max_bytes} bytes")
        parts.append(part)
    return b"".join(parts)


def read_links(response: aiohttp.ClientResponse, what: str) -> dict[str, str]:
    try:
        return parse_links(", ".join(response.headers.getall("Link", ())), base=str(response.url))
    except ValueError as error:
        raise SourceMalformedError(f"{what}: its Link header holds what is no URL") from error


def is_strong(etag: str | None) -> bool:
    """Whether it vouches for each byte (RFC 9110 §8.8.1)."""
    return etag is not None and etag.startswith('"') and etag.endswith('"') and len(etag) > 1


def read_validators(response: aiohttp.ClientResponse) -> Validators:
    return Validators(etag=response.headers.get("ETag"), last_modified=response.headers.get("Last-Modified"))
