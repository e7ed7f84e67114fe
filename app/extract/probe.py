"""A few questions to a source that nobody has described yet: bounded, counted, and by the client that runs use."""

import re
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
from app.sources.json_paths import members, path_of

MAX_REQUESTS: Final = 12
"""That a probe makes, retries and redirects apart."""
SAID_DEPTH: Final = 5
"""Of tables within tables in which a body may say how pages follow one another."""
FILE_BYTES: Final = 2 * 1024 * 1024
"""Of a file's beginning that is looked at, decompressed."""
_PART_BYTES: Final = 64 * 1024
_MORE: Final = re.compile(r"(has|is)_?(more|next|next_?page|truncated)(_?items|_?records)?", re.IGNORECASE)

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


@dataclass(slots=True)
class Paging:
    """How pages follow one another."""

    paginator: dict[str, Any] | None = None
    """As a source file says it; None: no way to a second page was found."""
    evidence: str = ""
    dropped: tuple[str, ...] = ()
    """Parameters of the URL that the paginator sets itself."""
    second: Look | None = None
    notes: list[str] = field(default_factory=list)
    """What was tried and found wanting, and what speaks for more than was found."""
    is_whole: bool = False
    """Something proves that the first answer is all there is."""
    doubt: str | None = None
    """Why it may not be, although nothing leads on."""


def is_new(brought: list[str], known: list[str]) -> bool:
    """Other records, for the most part: while one looks, some may move from page to page."""
    seen = set(known)
    return bool(brought) and 2 * sum(one not in seen for one in brought) > len(brought)


def said_beside(look: Look) -> list[tuple[tuple[str, ...], Any]]:
    """What the body says beside the records, with the keys that lead there."""
    return list(members(look.cut.body, SAID_DEPTH))


def has_more_path(look: Look) -> str | None:
    """JMESPath to where the body says that there is more."""
    return next(
        (path_of(keys) for keys, value in said_beside(look) if value is True and _MORE.fullmatch(keys[-1])), None
    )


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
