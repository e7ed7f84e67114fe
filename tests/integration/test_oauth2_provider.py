"""Tokens from a real OAuth 2.0 provider: authlib's, over HTTP on loopback, through aiohttp."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from authlib.integrations.flask_oauth2 import AuthorizationServer  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.grants import (  # type: ignore[import-untyped]
    ClientCredentialsGrant,
    RefreshTokenGrant,
)
from flask import Flask, Response, request
from pydantic import SecretStr, TypeAdapter
from werkzeug.serving import WSGIRequestHandler, make_server

from app.clock import utc_now
from app.errors import SourceRefusedError
from app.extract.auth import Authenticator, OutgoingRequest, TokenAsker, TokenStore, open_auth
from app.sources.auth import AuthSpec
from app.sources.resource import Secrets

CLIENT_ID = "river:eu"
CLIENT_SECRET = "p w+%&=:/ü"  # each character of which some encoding breaks
FIRST = "first-refresh-token"


class Client(ClientMixin):  # type: ignore[misc]
    client_id = CLIENT_ID

    def get_client_id(self) -> str:
        return CLIENT_ID

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or ""

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == CLIENT_SECRET

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        return method in {"client_secret_basic", "client_secret_post"}

    def check_grant_type(self, _grant_type: str) -> bool:
        return True


@dataclass
class Token(TokenMixin):  # type: ignore[misc]
    refresh_token: str
    scope: str

    def check_client(self, client: Client) -> bool:
        return client.client_id == CLIENT_ID

    def get_scope(self) -> str:
        return self.scope


@dataclass
class Provider:
    """Issues tokens, rotates refresh tokens, and guards `/items` with them."""

    url: str = ""
    access_tokens: set[str] = field(default_factory=set)
    refresh_tokens: dict[str, Token] = field(default_factory=lambda: {FIRST: Token(FIRST, "read")})
    grants: list[tuple[str, str]] = field(default_factory=list)
    """(grant type, how the client showed who it is) of each token issued."""

    def save_token(self, token: dict[str, Any], asked: Any) -> None:
        self.access_tokens.add(token["access_token"])
        self.grants.append((asked.payload.grant_type, asked.auth_method))
        if refresh_token := token.get("refresh_token"):
            self.refresh_tokens[refresh_token] = Token(refresh_token, token.get("scope", ""))

    def app(self) -> Flask:
        app = Flask("provider")
        app.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True
        provider = self

        class Credentials(ClientCredentialsGrant):  # type: ignore[misc]
            TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")

        class Refresh(RefreshTokenGrant):  # type: ignore[misc]
            TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")
            INCLUDE_NEW_REFRESH_TOKEN = True

            def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
                return provider.refresh_tokens.get(refresh_token)

            def authenticate_user(self, _token: Token) -> str:
                return "user"

            def revoke_old_credential(self, token: Token) -> None:
                del provider.refresh_tokens[token.refresh_token]

        server = AuthorizationServer(app, lambda name: Client() if name == CLIENT_ID else None, self.save_token)
        server.register_grant(Credentials)
        server.register_grant(Refresh)

        @app.post("/token")
        def issue() -> Response:
            answer: Response = server.create_token_response()
            return answer

        @app.get("/items")
        def items() -> Response:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            return Response("[]", status=200 if given in self.access_tokens else 401)

        return app


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 -- werkzeug's name
        pass


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")  # http, on loopback
    provider = Provider()
    server = make_server("127.0.0.1", 0, provider.app(), request_handler=Quiet)
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield provider
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@dataclass
class Store:
    kept: str | None = None

    async def load(self) -> str | None:
        return self.kept

    async def save(self, refresh_token: str) -> None:
        self.kept = refresh_token


Opener = Callable[..., Authenticator]


@pytest.fixture
def opened(provider: Provider, session: aiohttp.ClientSession) -> Opener:
    def open_with(
        kind: str, *, store: TokenStore | None = None, secret: str = CLIENT_SECRET, **more: object
    ) -> Authenticator:
        spec = {
            "type": kind,
            "access_token_url": f"{provider.url}/token",
            "client_id": CLIENT_ID,
            "client_secret": "{secrets.SECRET}",
            **({"refresh_token": "{secrets.FIRST}"} if kind == "oauth2_refresh_token" else {}),
            **more,
        }
        secrets = Secrets({"SECRET": SecretStr(secret), "FIRST": SecretStr(FIRST)}, "crm.toml")
        parsed = TypeAdapter[AuthSpec](AuthSpec).validate_python(spec)
        return open_auth(parsed, secrets, ask=asker(session), store=store, now=utc_now)

    return open_with


def asker(session: aiohttp.ClientSession) -> TokenAsker:
    async def ask(url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
        async with session.post(url, data=dict(form), headers=dict(headers), allow_redirects=False) as response:
            return response.status, await response.read()

    return ask


async def status_of_items(auth: Authenticator, provider: Provider, session: aiohttp.ClientSession) -> int:
    sent = await auth.apply(OutgoingRequest("GET", f"{provider.url}/items", (), {}))
    async with session.get(sent.url, headers=sent.headers) as response:
        return response.status


@pytest.mark.parametrize(("client_auth", "method"), [("body", "client_secret_post"), ("basic", "client_secret_basic")])
@pytest.mark.parametrize(
    ("kind", "grant"),
    [("oauth2_client_credentials", "client_credentials"), ("oauth2_refresh_token", "refresh_token")],
)
async def test_a_token_of_the_provider_opens_its_door(
    provider: Provider,
    session: aiohttp.ClientSession,
    opened: Opener,
    *,
    kind: str,
    grant: str,
    client_auth: str,
    method: str,
) -> None:
    auth = opened(kind, client_auth=client_auth, scope="read")

    statuses = [await status_of_items(auth, provider, session) for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert provider.grants == [(grant, method)]


async def test_the_door_is_closed_without_a_token(provider: Provider, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{provider.url}/items") as response:
        assert response.status == 401


@pytest.mark.parametrize("client_auth", ["body", "basic"])
async def test_a_wrong_client_secret_is_refused(
    provider: Provider, session: aiohttp.ClientSession, opened: Opener, client_auth: str
) -> None:
    auth = opened("oauth2_client_credentials", client_auth=client_auth, secret="wrong-secret")

    with pytest.raises(SourceRefusedError, match=r"HTTP 40[01], invalid_client; check client\.auth") as caught:
        await status_of_items(auth, provider, session)

    assert "wrong-secret" not in str(caught.value)


async def test_a_token_revoked_by_the_provider_is_replaced(
    provider: Provider, session: aiohttp.ClientSession, opened: Opener
) -> None:
    auth = opened("oauth2_client_credentials")
    await status_of_items(auth, provider, session)
    provider.access_tokens.clear()

    refused = await status_of_items(auth, provider, session)
    renewed = await auth.refresh()

    assert (refused, renewed) == (401, True)
    assert await status_of_items(auth, provider, session) == 200


async def test_refresh_tokens_rotate_and_survive_a_restart(
    provider: Provider, session: aiohttp.ClientSession, opened: Opener
) -> None:
    """The first one is revoked by then; only the stored one can open the second process's door."""
    store = Store()
    auth = opened("oauth2_refresh_token", store=store)
    kept = []
    for _ in range(3):
        await status_of_items(auth, provider, session)
        await auth.refresh()
        kept.append(store.kept)

    status = await status_of_items(opened("oauth2_refresh_token", store=store), provider, session)

    assert (status, len(set(kept))) == (200, 3)
    assert list(provider.refresh_tokens) == [store.kept]


async def test_an_old_refresh_token_that_comes_back_is_refused(
    provider: Provider, session: aiohttp.ClientSession, opened: Opener
) -> None:
    await status_of_items(opened("oauth2_refresh_token"), provider, session)

    with pytest.raises(SourceRefusedError, match="HTTP 400, invalid_grant") as caught:
        await status_of_items(opened("oauth2_refresh_token"), provider, session)

    assert FIRST not in str(caught.value)


async def test_a_stored_token_that_the_provider_forgot_gives_way_to_the_configured_one(
    provider: Provider, session: aiohttp.ClientSession, opened: Opener
) -> None:
    store = Store("of another consent")

    assert await status_of_items(opened("oauth2_refresh_token", store=store), provider, session) == 200
    assert list(provider.refresh_tokens) == [store.kept]
