"""The door to the web: sessions, and what all sources share."""

from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp

from app import __version__
from app.clock import utc_now
from app.db.engine import Database
from app.db.tokens import StoredToken
from app.extract.addresses import check_url, guarded_connector
from app.extract.auth import Authenticator, TokenAsker, open_auth
from app.extract.breaker import Breakers, BreakerState
from app.extract.client import SourceClient
from app.extract.content_encoding import ACCEPTED
from app.extract.http_body import read_bounded
from app.extract.http_errors import redact, source_errors
from app.extract.limits import Limiters
from app.extract.manners import Manners
from app.extract.relayed import RelayedConnector
from app.extract.retry import RetryPolicy
from app.settings.proxies import proxy_for
from app.settings.sources import HttpSettings
from app.sources.auth import OAuth2RefreshToken
from app.sources.resource import BUILT_IN, ResourceSpec
from app.sources.tables import RestResource

TOKEN_BYTES: Final = 1024 * 1024
"""Largest answer of a token endpoint."""


class Fetcher:
    """
    One client for each source; sessions, limits and breakers live as long as the process.

    Args:
        database: where limits that several processes share are kept; None keeps them in this one.
    """

    def __init__(self, settings: HttpSettings, database: Database | None = None) -> None:
        self._settings = settings
        self._database = database
        self._sessions: dict[frozenset[str] | None, aiohttp.ClientSession] = {}
        self._auths: dict[str, Authenticator] = {}
        self._limiters = Limiters(database)
        self._breakers = Breakers()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._limiters.close()
        for session in self._sessions.values():
            await session.close()

    def client(self, spec: ResourceSpec) -> SourceClient:
        """
        Raises:
            ConfigError: a secret is missing, or credentials cannot be sent.
        """
        session = self._session(spec)
        if spec.source not in self._auths:
            self._auths[spec.source] = open_auth(
                spec.client.auth,
                spec.secrets,
                ask=_asker(session, self._settings),
                store=self._token_store(spec),
                now=utc_now,
            )
        retry = RetryPolicy.of(spec.retry) if spec.retry else self._default_retry()
        return SourceClient(
            Manners.of(spec, self._settings),
            session,
            auth=self._auths[spec.source],
            limiter=self._limiters.of(spec.source, spec.rate_limit, longest_seconds=retry.max_retry_after_seconds),
            breakers=self._breakers,
            retry=retry,
        )

    def breaker(self, url: str) -> BreakerState:
        """How the host of a URL is doing."""
        return self._breakers.of(url).state()

    def _session(self, spec: ResourceSpec) -> aiohttp.ClientSession:
        hosts = _private_hosts(spec)
        if hosts not in self._sessions:
            self._sessions[hosts] = aiohttp.ClientSession(
                headers={"User-Agent": f"etl-river/{__version__}", "Accept-Encoding": ACCEPTED},
                # DummyCookieJar: one source's cookie is not another source's business
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=RelayedConnector(relay)
                if (relay := self._settings.fault_relay)
                else guarded_connector(lambda host: hosts is None or host in hosts),
                # Not trust_env, which would read ~/.netrc and send its passwords unasked
                trust_env=False,
            )
        return self._sessions[hosts]

    def _token_store(self, spec: ResourceSpec) -> StoredToken | None:
        auth = spec.client.auth
        if self._database is None or not isinstance(auth, OAuth2RefreshToken):
            return None
        material = "".join(spec.secrets.fill(text) for text in (auth.refresh_token, auth.client_secret or ""))
        return StoredToken(self._database, spec.source, key_material=f"{auth.client_id}\n{material}")

    def _default_retry(self) -> RetryPolicy:
        return RetryPolicy(
            max_attempts=self._settings.max_attempts, max_elapsed_seconds=self._settings.max_elapsed_seconds
        )


def _private_hosts(spec: ResourceSpec) -> frozenset[str] | None:
    """Hosts that may have an address that is not public; None: any."""
    if spec.where == BUILT_IN:
        # API_HOST and CSV_URL imply permission for their own host, and for no other
        path = spec.table.endpoint.path if isinstance(spec.table, RestResource) else ""
        host = urlsplit(spec.body_url or path).hostname
        return frozenset({host} if host else ())
    return spec.private_hosts if spec.client.allow_private_networks else frozenset()


def _asker(session: aiohttp.ClientSession, settings: HttpSettings) -> TokenAsker:
    async def ask(url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(total=settings.total_timeout_seconds, connect=settings.connect_timeout_seconds)
        check_url(url)
        with source_errors(url):
            async with session.post(
                url,
                data=dict(form),
                headers=dict(headers),
                timeout=timeout,
                allow_redirects=False,
                proxy=proxy_for(url),
            ) as response:
                return response.status, await read_bounded(response, max_bytes=TOKEN_BYTES, what=f"POST {redact(url)}")

    return ask
