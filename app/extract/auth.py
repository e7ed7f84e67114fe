"""
Credentials, put on requests. No I/O of its own: tokens are asked for through a `TokenAsker`, kept by a `TokenStore`.

No secret is in a message or in a repr; a message names the key that holds it.
"""

import asyncio
import base64
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol
from urllib.parse import quote, quote_plus, urlencode

from yarl import URL

from app.errors import ConfigError, SourceUnavailableError
from app.extract.http_errors import redact
from app.extract.token_answer import HEADER_VALUE, Token, TokenRefusedError, parse_token
from app.sources import auth as given
from app.sources.resource import Secrets
from app.sources.values import fill, placeholders

Clock = Callable[[], datetime]
_OAuth2Spec = given.OAuth2ClientCredentials | given.OAuth2RefreshToken

TOKEN_MARGIN_SECONDS: Final = 30
"""A token is renewed this long before it expires; after half its life where that is later."""
STOP_PATIENCE_SECONDS: Final = 3.0
"""How long a task that was told to stop stays with a token request that is under way."""

# What a value must be, and how to say it
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), "a header's or cookie's name (RFC 9110 §5.6.2)"
_COOKIE_VALUE: Final = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+"), "a cookie's value (RFC 6265 §4.1.1)"
_USERNAME: Final = re.compile(r"[^:\x00-\x1f\x7f]*"), "text without colons or control characters (RFC 7617 §2)"
_PASSWORD: Final = re.compile(r"[^\x00-\x1f\x7f]*"), "text without control characters (RFC 7617 §2)"
_HMAC_KEY: Final = re.compile(r".+", re.DOTALL), "some text"


@dataclass(frozen=True, slots=True, repr=False)
class OutgoingRequest:
    """A request about to be sent; `params` are added to the query of `url`."""

    method: str
    url: str
    params: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes | None = None

    def __repr__(self) -> str:
        return f"OutgoingRequest({self.method} {redact(self.url)})"

    def with_header(self, name: str, value: str) -> "OutgoingRequest":
        """In place of any header of that name, in whatever case."""
        others = {other: text for other, text in self.headers.items() if other.lower() != name.lower()}
        return replace(self, headers={**others, name: value})


class Authenticator(Protocol):
    async def apply(self, request: OutgoingRequest) -> OutgoingRequest: ...

    async def refresh(self) -> bool:
        """After a 401, in the task that was answered it: True when one more try makes sense."""
        ...


TokenAsker = Callable[[str, Mapping[str, str], Mapping[str, str]], Awaitable[tuple[int, bytes]]]
"""(url, form, headers) → (status, body). Follows no redirects; raises SourceError where there is no answer."""


class TokenStore(Protocol):
    """Where the refresh token of one source outlives the process."""

    async def load(self) -> str | None: ...

    async def save(self, refresh_token: str) -> None: ...


def sent_url(url: str, params: tuple[tuple[str, str], ...]) -> URL:
    """As it goes over the wire: encoded once, and what a server wrote into a link stays as it is."""
    query = urlencode(params, quote_via=quote)
    return URL(f"{url}{'&' if '?' in url else '?'}{query}" if query else url, encoded=True)


def open_auth(
    spec: given.AuthSpec | None, secrets: Secrets, *, ask: TokenAsker, store: TokenStore | None, now: Clock
) -> Authenticator:
    """
    Args:
        store: None keeps a rotated refresh token in this process only.

    Raises:
        ConfigError: a secret is missing, or cannot be sent as it is.
    """
    match spec:
        case None | given.NoAuth():
            return _Stateless(lambda request: request)
        case given.BearerAuth():
            return _header("Authorization", f"Bearer {_checked(secrets, spec.token, 'token', HEADER_VALUE)}")
        case given.ApiKeyAuth():
            return _api_key(spec, secrets)
        case given.HttpBasicAuth():
            return _header("Authorization", _basic(spec, secrets))
        case given.HmacAuth():
            return _hmac(spec, secrets, now)
        case _:
            return _OAuth2(spec, secrets, ask=ask, store=store, now=now)


class _Stateless:
    """The same credentials for each request: a 401 means that they are wrong."""

    def __init__(self, change: Callable[[OutgoingRequest], OutgoingRequest]) -> None:
        self._change = change

    async def apply(self, request: OutgoingRequest) -> OutgoingRequest:
        return self._change(request)

    async def refresh(self) -> bool:
        return False


def _header(name: str, value: str) -> _Stateless:
    return _Stateless(lambda request: request.with_header(name, value))


def _api_key(spec: given.ApiKeyAuth, secrets: Secrets) -> _Stateless:
    name, key = spec.name, _checked(secrets, spec.api_key, "api_key", HEADER_VALUE)
    if spec.location == "query":
        return _Stateless(lambda request: replace(request, params=(*request.params, (name, key))))
    name = _checked(secrets, name, "name", _HEADER_NAME)
    if spec.location == "header":
        return _header(name, key)
    _checked(secrets, spec.api_key, "api_key", _COOKIE_VALUE)

    def with_cookie(request: OutgoingRequest) -> OutgoingRequest:
        others = [text for header, text in request.headers.items() if header.lower() == "cookie"]
        return request.with_header("Cookie", "; ".join([*others, f"{name}={key}"]))

    return _Stateless(with_cookie)


def _basic(spec: given.HttpBasicAuth, secrets: Secrets) -> str:
    username = _checked(secrets, spec.username, "username", _USERNAME)
    password = _checked(secrets, spec.password, "password", _PASSWORD) if spec.password else ""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _hmac(spec: given.HmacAuth, secrets: Secrets, now: Clock) -> _Stateless:
    secret = _checked(secrets, spec.secret, "secret", _HMAC_KEY).encode()
    _checked(secrets, spec.header, "header", _HEADER_NAME)
    _checked(secrets, spec.timestamp_header or "none", "timestamp_header", _HEADER_NAME)
    # The signature follows the prefix, so that a space at its end stays inside
    _checked(secrets, f"{spec.prefix}0", "prefix", HEADER_VALUE)
    if unknown := set(placeholders(spec.signed_payload)) - {"method", "path", "query", "timestamp", "body"}:
        raise ConfigError(f"{secrets.where}: client.auth.signed_payload has the unknown placeholder {{{min(unknown)}}}")

    def sign(request: OutgoingRequest) -> OutgoingRequest:
        url, timestamp = sent_url(request.url, request.params), str(int(now().timestamp()))
        parts = {
            "method": request.method.upper(),
            "path": url.raw_path,
            "query": url.raw_query_string,
            "timestamp": timestamp,
            # Any bytes pass through text and back unchanged
            "body": (request.body or b"").decode("utf-8", "surrogateescape"),
        }
        payload = fill(spec.signed_payload, parts.__getitem__).encode("utf-8", "surrogateescape")
        digest = hmac.digest(secret, payload, spec.algorithm)
        text = digest.hex() if spec.encoding == "hex" else base64.b64encode(digest).decode()
        signed = request.with_header(spec.header, spec.prefix + text)
        return signed.with_header(spec.timestamp_header, timestamp) if spec.timestamp_header else signed

    return _Stateless(sign)


# Which token, by number, this task's last request carried: a 401 that comes late,
# when another task has renewed already, must not renew again
_carried: ContextVar[tuple["_OAuth2 | None", int]] = ContextVar("_carried", default=(None, 0))


class _OAuth2:
    """RFC 6749 §4.4 and §6; one request for a token at a time."""

    def __init__(
        self, spec: _OAuth2Spec, secrets: Secrets, *, ask: TokenAsker, store: TokenStore | None, now: Clock
    ) -> None:
        self._spec, self._where, self._ask, self._store, self._now = spec, secrets.where, ask, store, now
        self._client, self._headers, self._hidden = _client_auth(spec, secrets)
        self._configured = ""
        if isinstance(spec, given.OAuth2RefreshToken):
            self._configured = _checked(secrets, spec.refresh_token, "refresh_token", HEADER_VALUE)
        self._configured_was_sent = False
        self._unsaved: str | None = None
        self._lock = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None
        self._access: str | None = None
        self._number = 0
        self._renew_at = now()

    async def apply(self, request: OutgoingRequest) -> OutgoingRequest:
        async with self._lock:
            if self._access is None or self._now() >= self._renew_at:
                await self._renew()
            _carried.set((self, self._number))
            return request.with_header("Authorization", f"Bearer {self._access}")

    async def refresh(self) -> bool:
        owner, number = _carried.get()
        refused = number if owner is self else self._number
        async with self._lock:
            if refused != self._number:
                return self._access is not None
            before, self._access = self._access, None
            await self._renew()
            return self._access != before

    async def _renew(self) -> None:
        # Another may be under way still, begun by a task that was cancelled
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._exchange())
            self._renewing.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            # Once asked, a server that rotates has replaced the refresh token: no task that is cancelled may lose it
            await asyncio.shield(self._renewing)
        except asyncio.CancelledError:
            await asyncio.wait({self._renewing}, timeout=STOP_PATIENCE_SECONDS)
            raise

    async def _exchange(self) -> None:
        token = await (self._with_refresh_token() if self._configured else self._ask_for("client_credentials"))
        self._access = token.access
        self._number += 1
        margin = min(TOKEN_MARGIN_SECONDS, token.lifetime_seconds / 2)
        self._renew_at = self._now() + timedelta(seconds=token.lifetime_seconds - margin)

    async def _with_refresh_token(self) -> Token:
        # Read each time: another process may have renewed it
        stored = await self._store.load() if self._store else None
        current = self._unsaved or stored or self._configured
        try:
            token = await self._ask_for("refresh_token", current)
        except TokenRefusedError as error:
            # Once: servers revoke everything when a token that they replaced comes back
            if not error.about_token or self._configured_was_sent:
                raise
            current = self._configured
            token = await self._ask_for("refresh_token", current)
        newest = token.refresh or current
        if newest != (stored or self._configured):
            self._unsaved = newest
            if self._store:
                await self._store.save(newest)
                self._unsaved = None
        return token

    async def _ask_for(self, grant: str, refresh_token: str = "") -> Token:
        self._configured_was_sent |= refresh_token == self._configured
        optional = {"refresh_token": refresh_token, "scope": self._spec.scope}
        form = {"grant_type": grant, **self._client, **{name: text for name, text in optional.items() if text}}
        status, body = await self._ask(self._spec.access_token_url, form, self._headers)
        what = f"{self._where}: token endpoint {redact(self._spec.access_token_url)}: HTTP {status}".removeprefix(": ")
        if status >= 500 or status in {408, 425, 429}:
            raise SourceUnavailableError(what)
        hidden, default_seconds = {*self._hidden, refresh_token} - {""}, self._spec.default_token_expiration
        return parse_token(status, body, what=what, hidden=hidden, default_seconds=default_seconds)


def _client_auth(spec: _OAuth2Spec, secrets: Secrets) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Form fields and headers that say who asks, and what of them no message may show."""
    client_id, headers = secrets.fill(spec.client_id), {"Accept": "application/json"}
    if spec.client_secret is None:
        return {"client_id": client_id}, headers, ()
    secret = _checked(secrets, spec.client_secret, "client_secret", HEADER_VALUE)
    if spec.client_auth == "body":
        return {"client_id": client_id, "client_secret": secret}, headers, (secret, quote_plus(secret))
    # RFC 6749 §2.3.1: form-encoded, then joined. A space as %20, for authlib and others do not read a plus as one
    joined = base64.b64encode(f"{quote(client_id, safe='')}:{quote(secret, safe='')}".encode()).decode()
    return {}, {**headers, "Authorization": f"Basic {joined}"}, (secret, quote(secret, safe=""), joined)


def _checked(secrets: Secrets, text: str, key: str, rule: tuple[re.Pattern[str], str]) -> str:
    """The text with its secrets, when it is what the rule says; an error names the key, never the value."""
    value = secrets.fill(text)
    if not rule[0].fullmatch(value):
        raise ConfigError(f"{secrets.where}: client.auth.{key} must be {rule[1]}".removeprefix(": "))
    return value
