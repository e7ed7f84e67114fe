"""The door to the web: the only user of aiohttp. Foreign errors end here."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
import structlog

from app import __version__
from app.clock import monotonic, utc_now
from app.errors import (
    SourceError,
    SourceMalformedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from app.extract.http_errors import redact, source_errors
from app.extract.retry import RETRIABLE_STATUSES, RetryPolicy, parse_retry_after
from app.records import Traffic, Validators
from app.settings.groups import HttpSettings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Response:
    """An answer with a body (200) or without one (304)."""

    status: int
    body: bytes
    validators: Validators
    links: Mapping[str, str]
    """RFC 8288 `Link` targets by relation, absolute."""
    has_links: bool
    """The server sends a Link header, be it empty."""

    @property
    def not_modified(self) -> bool:
        return self.status == 304


class Fetcher:
    """One HTTP client for all sources: deadlines, retries, conditional requests."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._retry = RetryPolicy(max_attempts=settings.max_attempts, max_elapsed_seconds=settings.max_elapsed_seconds)
        self._rng = random.Random()  # noqa: S311 -- spreads retries, keeps no secret
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"User-Agent": f"etl-river/{__version__}"},
            # DummyCookieJar: one source's cookie is not another source's business
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get_page(
        self, url: str, *, token: str | None = None, validators: Validators | None = None, traffic: Traffic
    ) -> Response:
        """
        GET a whole body, trying again where that can help.

        Raises:
            SourceUnavailableError: after the last attempt, with the last reason.
            SourceRefusedError: a status that will not change by itself.
            SourceMalformedError: a body larger than HTTP_MAX_PAGE_BYTES, or cut.
        """
        started = monotonic()
        attempt = 1
        while True:
            try:
                return await self._get_once(url, token=token, validators=validators, traffic=traffic)
            except SourceUnavailableError as error:
                await self._wait_or_raise(error, url=url, attempt=attempt, started=started, traffic=traffic)
                attempt += 1

    @asynccontextmanager
    async def open_body(
        self, url: str, *, validators: Validators | None = None, traffic: Traffic
    ) -> AsyncIterator["Body | None"]:
        """
        GET a body to be read in parts; None when it was not modified.

        Only the opening is tried again: a body that breaks in the middle is an
        error, and the next run goes on from the checkpoint.
        """
        started = monotonic()
        attempt = 1
        while True:
            try:
                response = await self._open(url, token=None, validators=validators, traffic=traffic, total=None)
                break
            except SourceUnavailableError as error:
                await self._wait_or_raise(error, url=url, attempt=attempt, started=started, traffic=traffic)
                attempt += 1
        try:
            yield (
                None if response.status == 304 else Body(response, url=url, traffic=traffic, settings=self._settings)
            )
        finally:
            response.close()

    async def _wait_or_raise(
        self, error: SourceUnavailableError, *, url: str, attempt: int, started: float, traffic: Traffic
    ) -> None:
        elapsed = monotonic() - started
        delay = self._retry.delay_seconds(error, attempt=attempt, elapsed_seconds=elapsed, rng=self._rng)
        if delay is None:
            tried = f"gave up after {attempt} {'try' if attempt == 1 else 'tries'} in {elapsed:.1f} s"
            wait = error.retry_after_seconds
            asked = f"; it asks to wait {wait:.0f} s" if wait is not None else ""
            raise SourceUnavailableError(f"{error}{asked} ({tried})", retry_after_seconds=wait) from error
        reason = "retry" if error.retry_after_seconds is None else "retry_after"
        log.info("retry", url=redact(url), attempt=attempt, wait_seconds=round(delay, 3), reason=str(error))
        traffic.retries += 1
        traffic.waited(reason, delay)
        await asyncio.sleep(delay)

    async def _get_once(
        self, url: str, *, token: str | None, validators: Validators | None, traffic: Traffic
    ) -> Response:
        with source_errors(url):
            # aiohttp's total runs until the body is read: one byte a second ends, too
            response = await self._open(
                url, token=token, validators=validators, traffic=traffic, total=self._settings.total_timeout_seconds
            )
            try:
                body = b"" if response.status == 304 else await self._read(response, url)
            finally:
                response.close()
        traffic.bytes_received += len(body)
        return Response(response.status, body, _validators(response), _links(response, url), "Link" in response.headers)

    async def _open(
        self,
        url: str,
        *,
        token: str | None,
        validators: Validators | None,
        traffic: Traffic,
        total: float | None,
    ) -> aiohttp.ClientResponse:
        assert self._session is not None
        headers = {"Accept": "application/json, text/csv;q=0.9, */*;q=0.1"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if validators is not None and validators.etag:
            headers["If-None-Match"] = validators.etag
        if validators is not None and validators.last_modified:
            headers["If-Modified-Since"] = validators.last_modified
        traffic.requests += 1
        timeout = aiohttp.ClientTimeout(
            total=total,
            connect=self._settings.connect_timeout_seconds,
            sock_read=self._settings.read_timeout_seconds,
        )
        with source_errors(url):
            response = await self._session.get(url, headers=headers, timeout=timeout, max_redirects=5)
            try:
                _check_status(response, url, conditional=bool(validators))
            except SourceError:
                response.close()
                raise
        return response

    async def _read(self, response: aiohttp.ClientResponse, url: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self._settings.max_page_bytes:
                raise SourceMalformedError(
                    f"GET {redact(url)}: the page is larger than HTTP_MAX_PAGE_BYTES={self._settings.max_page_bytes}"
                )
            parts.append(part)
        return b"".join(parts)


class Body:
    """A body being read, with a deadline on the waiting and a floor under the speed."""

    def __init__(self, response: aiohttp.ClientResponse, *, url: str, traffic: Traffic, settings: HttpSettings) -> None:
        self._response = response
        self._url = url
        self._traffic = traffic
        self._settings = settings
        self.validators = _validators(response)
        self.size_bytes = response.content_length if "Content-Encoding" not in response.headers else None
        """None when the server does not say, or says it of the compressed body."""

    async def parts(self) -> AsyncIterator[bytes]:
        """
        The body's bytes, decompressed.

        Raises:
            SourceUnavailableError: silent, too slow, or cut.
        """
        waited = window_waited = 0.0
        window_bytes = 0
        stream = self._response.content.iter_any().__aiter__()
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
            self._traffic.bytes_received += len(part)
            self._check_pace(waited, window_waited, window_bytes)
            if window_waited >= self._settings.read_timeout_seconds:
                window_waited, window_bytes = 0.0, 0
            yield part

    def _check_pace(self, waited: float, window_waited: float, window_bytes: int) -> None:
        limits = self._settings
        if waited > limits.file_timeout_seconds:
            raise SourceUnavailableError(
                f"GET {redact(self._url)}: not complete after {waited:.0f} s of waiting for it "
                f"(HTTP_FILE_TIMEOUT_SECONDS={limits.file_timeout_seconds:g})"
            )
        slow = window_bytes < limits.min_bytes_per_second * window_waited
        if window_waited >= limits.read_timeout_seconds and slow:
            raise SourceUnavailableError(
                f"GET {redact(self._url)}: only {window_bytes} bytes in {window_waited:.0f} s "
                f"(HTTP_MIN_BYTES_PER_SECOND={limits.min_bytes_per_second})"
            )


def _check_status(response: aiohttp.ClientResponse, url: str, *, conditional: bool) -> None:
    status = response.status
    if status == 200 or (status == 304 and conditional):
        return
    what = f"GET {redact(url)}: HTTP {status} {response.reason or ''}".rstrip()
    if status in RETRIABLE_STATUSES:
        wait = parse_retry_after(response.headers.get("Retry-After"), now=utc_now())
        raise SourceUnavailableError(what, retry_after_seconds=wait)
    if status in {401, 403}:
        raise SourceRefusedError(f"{what}; check the credentials (API_KEY)")
    raise SourceRefusedError(what)


def _links(response: aiohttp.ClientResponse, url: str) -> dict[str, str]:
    try:
        return {str(rel): str(link["url"]) for rel, link in response.links.items() if "url" in link}
    except ValueError as error:
        raise SourceMalformedError(f"GET {redact(url)}: its Link header holds what is no URL") from error


def _validators(response: aiohttp.ClientResponse) -> Validators:
    return Validators(etag=response.headers.get("ETag"), last_modified=response.headers.get("Last-Modified"))
