"""A few questions to a source that nobody has described yet: bounded, counted, and by the client that runs use."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiofiles
import aiohttp

from app.errors import EtlError, SourceMalformedError, SourceRefusedError, SourceUnavailableError
from app.extract.addresses import is_public
from app.extract.client import SourceClient
from app.extract.decompress import decompressed
from app.extract.http_body import Response
from app.extract.json_body import Cut, cut_body
from app.extract.large_pages import held
from app.extract.page_request import PageRequest
from app.extract.paging import PageAnswer
from app.records import Traffic, Validators
from app.settings.proxies import proxy_for

MAX_REQUESTS: Final = 12
"""That a probe makes, retries apart."""
FILE_BYTES: Final = 2 * 1024 * 1024
"""Of a file's beginning that is looked at, decompressed."""
_PART_BYTES: Final = 64 * 1024

Identify = Callable[[Any, str], str]
"""A record and its text → what it is known by."""


@dataclass(frozen=True, slots=True)
class Look:
    """An answer with its records."""

    request: PageRequest
    response: Response
    cut: Cut

    @property
    def answer(self) -> PageAnswer:
        """As a paginator sees it."""
        given = self.response
        return PageAnswer(self.cut.body, self.cut.records.fields, given.headers, given.links, given.has_links)

    def __len__(self) -> int:
        return len(self.cut.records)

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [record for record in self.cut.records.fields if isinstance(record, dict)]

    def identities(self, identify: Identify) -> list[str]:
        records = self.cut.records
        return [identify(fields, text) for fields, text in zip(records.fields, records.payloads, strict=True)]


@dataclass(slots=True)
class Probe:
    """
    Asks one source, and no more often than it may.

    Args:
        client: of a spec that says how the source is to be asked.
    """

    client: SourceClient
    what: str
    """Names the source in errors; without secrets."""
    max_requests: int = MAX_REQUESTS
    traffic: Traffic = field(default_factory=Traffic)
    asked: int = 0

    @property
    def is_spent(self) -> bool:
        """No question is left."""
        return self.asked >= self.max_requests

    async def fetch(self, request: PageRequest, *, validators: Validators | None = None) -> Response:
        """
        Raises:
            SourceError: the source does not answer, or refuses.
        """
        self.asked += 1
        return await self.client.get_page(request, validators=validators, traffic=self.traffic)

    async def look(self, request: PageRequest, selector: str) -> Look | None:
        """The records of another page; None where that is refused, is something else, or no question is left."""
        if self.is_spent:
            return None
        try:
            response = await held(await self.fetch(request))
            if response.ignored or response.status != 200:
                return None
            return Look(request, response, cut_body(response.body, selector, what=self.what))
        except (SourceRefusedError, SourceMalformedError, SourceUnavailableError):
            return None

    async def is_confirmed(self, look: Look) -> bool:
        """Whether the source answers 304 to its own validators; False where it sends none, or none is left to ask."""
        if not look.response.validators or self.is_spent:
            return False
        try:
            return (await self.fetch(look.request, validators=look.response.validators)).not_modified
        except EtlError:
            return False


async def whole(response: Response) -> Response:
    """
    The answer with its whole body, where it may be held.

    Raises:
        SourceMalformedError: it is larger than a page may be.
    """
    try:
        return await held(response)
    finally:
        await response.aclose()


async def beginning(response: Response) -> tuple[bytes, bool]:
    """The beginning of the answer's body, and whether it is all; what is not held is not read."""
    await response.aclose()
    return response.body[:FILE_BYTES], response.rest is None and len(response.body) <= FILE_BYTES


async def read_beginning(path: Path) -> tuple[bytes, bool]:
    """
    A file's first bytes, decompressed, and whether they are all.

    Raises:
        SourceUnavailableError: there is no such file.
        SourceRefusedError: it cannot be read.
    """
    try:
        async with aiofiles.open(path, "rb") as file:

            async def parts() -> AsyncIterator[bytes]:
                while part := await file.read(_PART_BYTES):
                    yield part

            found = b""
            async for part in decompressed(parts(), "auto", max_bytes=2**62, what=str(path)):
                found += part
                if len(found) >= FILE_BYTES:
                    return found, False
            return found, True
    except FileNotFoundError:
        raise SourceUnavailableError(f"{path}: no such file; give an http(s) URL, or the path of a CSV file") from None
    except OSError as error:
        raise SourceRefusedError(f"{path}: {error.strerror}; give the path of a file that can be read") from None


async def is_private(url: str) -> bool:
    """Whether a URL's host has an address that is not public; False where none is found, or a proxy looks it up."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    if proxy_for(url):
        return False
    resolver = aiohttp.DefaultResolver()
    try:
        return any(not is_public(found["host"]) for found in await resolver.resolve(host))
    except OSError:
        return False
    finally:
        await resolver.close()
