"""How one source is asked: its credentials, limits, patience and permissions, around each request."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import structlog
from yarl import URL

from app.clock import monotonic, utc_now
from app.errors import SourceBusyError, SourceRefusedError, SourceUnavailableError
from app.extract.actions import failure, find_action
from app.extract.addresses import check_url, next_hop
from app.extract.auth import Authenticator, OutgoingRequest, sent_url
from app.extract.breaker import Breakers
from app.extract.calls import Call
from app.extract.content_encoding import read_beginning
from app.extract.http_body import Body, Response, RestOf, read_links, read_page
from app.extract.http_errors import excerpt, redact, source_errors
from app.extract.limits import Limiter
from app.extract.manners import Manners
from app.extract.page_request import PageRequest
from app.extract.rate_headers import read_budget
from app.extract.requests import outgoing_request
from app.extract.retry import RetryPolicy, parse_retry_after
from app.records import Traffic, Validators
from app.settings.proxies import proxy_for
from app.sources.rest import ResponseAction

log = structlog.get_logger()

T = TypeVar("T")

MAX_HOPS: Final = 5
SHORT_WAIT_SECONDS: Final = 0.001
ERROR_BODY_BYTES: Final = 64 * 1024
"""Of an answer that is no success, for `response_actions` to look at."""


class IgnoredError(Exception):
    """An answer that `response_actions` says to ignore."""


class SourceClient:
    """
    Asks one source.

    Args:
        limiter: shared by the resources of the source, and by all sources that name its bucket.
    """

    def __init__(
        self,
        manners: Manners,
        session: aiohttp.ClientSession,
        *,
        auth: Authenticator,
        limiter: Limiter,
        breakers: Breakers,
        retry: RetryPolicy,
    ) -> None:
        self._manners = manners
        self._session = session
        self._auth = auth
        self._limiter = limiter
        self._breakers = breakers
        self._retry = retry
        self._rng = random.Random()  # noqa: S311 -- spreads retries, keeps no secret

    @property
    def concurrency(self) -> int:
        """Requests that may be in flight."""
        return self._manners.concurrency

    @property
    def max_file_bytes(self) -> int:
        """Of a file, decompressed."""
        return self._manners.max_file_bytes

    @property
    def max_page_bytes(self) -> int:
        """Of what is held whole, decompressed."""
        return self._manners.max_page_bytes

    async def get_page(self, request: PageRequest, *, validators: Validators | None, traffic: Traffic) -> Response:
        """
        Ask for a whole body, trying again where that can help.

        Raises:
            SourceUnavailableError: after the last attempt, with the last reason.
            SourceRefusedError: a status that will not change by itself.
            SourceMalformedError: a body that is too large, or cut.
        """
        outgoing = outgoing_request(request, headers=self._manners.headers, validators=validators)
        call = Call(traffic, request.given.params)

        async def once() -> Response:
            with source_errors(outgoing.url):
                # aiohttp's own total would begin anew with each hop
                async with asyncio.timeout(self._manners.total_timeout_seconds):
                    return await self._page(outgoing, validators, call)

        try:
            response = await self._patiently(once, url=outgoing.url, call=call)
        except IgnoredError:
            response = Response(200, ignored=True)
        return replace(response, asked=call.asked)

    @asynccontextmanager
    async def open_body(
        self, url: str, *, validators: Validators | None = None, rest: RestOf | None = None, traffic: Traffic
    ) -> AsyncIterator[Body | None]:
        """
        Ask for a body to be read in parts; None when it was not modified.

        Only the opening is tried again: a body that breaks in the middle is an
        error, and the next run goes on from the checkpoint. Where `rest` is
        given, no more is asked for; the body says where it begins.
        """
        outgoing = outgoing_request(PageRequest(url), headers=self._manners.headers, validators=validators)
        call = Call(traffic, parse_qsl(urlsplit(url).query))

        async def open_once(headers: Mapping[str, str]) -> aiohttp.ClientResponse:
            asked = replace(outgoing, headers={**outgoing.headers, **headers})

            async def once() -> aiohttp.ClientResponse:
                with source_errors(url):
                    return await self._open(asked, conditional=bool(validators), call=call)

            call.attempt = 1
            return await self._patiently(once, url=url, call=call)

        response = await open_once(rest.headers if rest else {})
        goes_on = rest is not None and rest.is_answered_by(response)
        if response.status in {206, 416} and not goes_on:
            response.close()
            response = await open_once({})
        try:
            if response.status == 304 and validators is not None:
                traffic.bytes_saved += validators.size_bytes
            offset = rest.offset if rest and goes_on else 0
            body = Body(response, url=url, call=call, patience=self._manners, offset=offset)
            yield None if response.status == 304 else body
        finally:
            response.close()

    async def _patiently(self, once: Callable[[], Awaitable[T]], *, url: str, call: Call) -> T:
        started = monotonic()
        while True:
            try:
                return await once()
            except SourceBusyError:
                raise
            except SourceUnavailableError as error:
                await self._wait_or_raise(error, url=url, call=call, started=started)
                call.attempt += 1

    async def _wait_or_raise(self, error: SourceUnavailableError, *, url: str, call: Call, started: float) -> None:
        elapsed, attempt = monotonic() - started, call.attempt
        decision = self._retry.decide(error, attempt=attempt, elapsed_seconds=elapsed, rng=self._rng)
        asked = error.retry_after_seconds
        if decision.action == "reschedule":
            raise SourceBusyError(
                f"{error}; it asks to wait {decision.seconds:.0f} s, longer than a run waits (retry.max_retry_after)",
                retry_after_seconds=decision.seconds,
            ) from error
        if decision.action == "give_up":
            tried = f"gave up after {attempt} {'try' if attempt == 1 else 'tries'} in {elapsed:.1f} s"
            raise SourceUnavailableError(f"{error} ({tried})", retry_after_seconds=asked) from error
        reason = "retry" if asked is None else "retry_after"
        log.info("retry", url=redact(url), attempt=attempt, wait_seconds=round(decision.seconds, 3), reason=str(error))
        call.traffic.retries += 1
        call.traffic.waited(reason, decision.seconds)
        await asyncio.sleep(decision.seconds)

    async def _page(self, outgoing: OutgoingRequest, validators: Validators | None, call: Call) -> Response:
        response = await self._open(outgoing, conditional=bool(validators), call=call)
        what = f"{outgoing.method} {redact(outgoing.url)}"
        page = Response(response.status)
        try:
            links, has_links = read_links(response, what), "Link" in response.headers
            if response.status == 304:
                call.traffic.bytes_saved += validators.size_bytes if validators else 0
                return Response(304, links=links, has_links=has_links)
            body = Body(response, url=outgoing.url, call=call, patience=self._manners)
            page = await read_page(response, body, self._manners)
            if action := self._action(response.status, page.body):
                page = self._act(action, what, response.status)
        finally:
            if page.rest is None:
                response.close()
        return replace(page, links=links, has_links=has_links, ignored=page.ignored or response.status == 204)

    async def _open(self, outgoing: OutgoingRequest, *, conditional: bool, call: Call) -> aiohttp.ClientResponse:
        """An answer whose status is a success; credentials are renewed once when the source refuses them."""
        for renewed in (False, True):
            response = await self._send(
                await self._auth.apply(outgoing), call, shown=str(sent_url(outgoing.url, outgoing.params))
            )
            try:
                if not await self._is_success(response, outgoing, conditional=conditional, renewed=renewed):
                    response.close()
                    continue
            except BaseException:
                response.close()
                raise
            return response
        raise AssertionError("the second answer is judged without renewal")

    async def _send(self, outgoing: OutgoingRequest, call: Call, *, shown: str) -> aiohttp.ClientResponse:
        """Follow redirects by hand: each hop is checked, and credentials stay with their origin."""
        url, headers, method, body = outgoing.url, dict(outgoing.headers), outgoing.method, outgoing.body
        params = outgoing.params
        for _ in range(MAX_HOPS + 1):
            check_url(url)
            sent = sent_url(url, params)
            response = await self._exchange(method, sent, headers, body, call, shown=shown)
            location = response.headers.get("Location")
            if response.status not in {301, 302, 303, 307, 308} or location is None:
                return response
            response.close()
            if response.status == 303 or (response.status in {301, 302} and method == "POST"):
                method, body = "GET", None
            url, headers = next_hop(str(sent), location, headers)
            params, shown = (), url
        raise SourceRefusedError(f"{outgoing.method} {redact(outgoing.url)}: more than {MAX_HOPS} redirects")

    async def _exchange(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None, call: Call, *, shown: str
    ) -> aiohttp.ClientResponse:
        """One request, when the limits allow it, and its answer's head."""
        breaker = self._breakers.of(str(url))
        timeout = aiohttp.ClientTimeout(
            total=None, connect=self._manners.connect_timeout_seconds, sock_read=self._manners.read_timeout_seconds
        )
        async with self._limiter.slot() as waited_seconds:
            if waited_seconds > SHORT_WAIT_SECONDS:
                call.traffic.waited("rate_limit", waited_seconds)
            try:
                breaker.check()
            except SourceUnavailableError as error:
                # To wait here would hold up the run; the scheduler comes back when the host may be asked again
                raise SourceBusyError(str(error), retry_after_seconds=error.retry_after_seconds) from None
            asked, began = call.begin(method, shown), monotonic()
            try:
                response = await self._session.request(
                    method,
                    url,
                    headers=headers,
                    data=body,
                    timeout=timeout,
                    allow_redirects=False,
                    auto_decompress=False,
                    proxy=proxy_for(str(url)),
                )
            except aiohttp.InvalidURL:
                breaker.abandoned()
                raise
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                asked.error = type(error).__name__
                breaker.failed(asked.error)
                raise
            except BaseException:
                breaker.abandoned()
                raise
            finally:
                asked.seconds = monotonic() - began
        asked.status = response.status
        breaker.answered(response.status)
        if budget := read_budget(response.headers, now=utc_now()):
            self._limiter.learn(budget)
        return response

    async def _is_success(
        self, response: aiohttp.ClientResponse, outgoing: OutgoingRequest, *, conditional: bool, renewed: bool
    ) -> bool:
        """
        False when the credentials were renewed, and the request is to be made again.

        Raises:
            SourceError: what the status, or the source's own `response_actions`, say.
        """
        status = response.status
        ranged = status in {206, 416} and "Range" in outgoing.headers
        if status in {200, 201, 203, 204} or (status == 304 and conditional) or ranged:
            return True
        body = await read_beginning(response, ERROR_BODY_BYTES)
        what = f"{outgoing.method} {redact(outgoing.url)}: HTTP {status} {response.reason or ''}".rstrip()
        action = self._action(status, body)
        renewable = action.action == "refresh_auth" if action else status == 401
        if renewable and not renewed and await self._auth.refresh():
            return False
        wait = parse_retry_after(response.headers.get("Retry-After"), now=utc_now())
        if action is not None and action.action == "ignore":
            raise IgnoredError
        if action is not None and action.action == "fail":
            raise failure(what, action)
        if self._retry.is_retriable(status) or (action is not None and action.action == "retry"):
            raise SourceUnavailableError(what, retry_after_seconds=wait)
        hint = "; check the credentials" if status in {401, 403} else ""
        raise SourceRefusedError(f"{what}{hint}", status=status, said=excerpt(body))

    def _action(self, status: int, body: bytes) -> ResponseAction | None:
        return find_action(self._manners.actions, status, body)

    def _act(self, action: ResponseAction, what: str, status: int) -> Response:
        if action.action == "ignore":
            return Response(status, ignored=True)
        if action.action == "fail":
            raise failure(what, action)
        raise SourceUnavailableError(f"{what}: HTTP {status}, and response_actions says {action.action}")
