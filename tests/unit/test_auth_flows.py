"""Credentials on requests, and tokens asked for, kept and renewed; the token endpoint is a script."""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, unquote_plus

import pytest
from pydantic import SecretStr, TypeAdapter

from app.errors import ConfigError, SourceRefusedError, SourceUnavailableError, StoreUnavailableError
from app.extract import auth as auth_room
from app.extract.auth import Authenticator, OutgoingRequest, open_auth
from app.sources.auth import AuthSpec
from app.sources.resource import Secrets

START = datetime(2026, 1, 1, tzinfo=UTC)  # Unix time 1767225600
REQUEST = OutgoingRequest("GET", "https://api.example/v1", (("page", "2"),), {"Accept": "application/json"})
SECRET = "hunter2secret"
TOKEN_URL = "https://login.example/token"
BEARER = {"type": "bearer", "token": "{secrets.S}"}
BASIC = {"type": "http_basic", "username": "feed", "password": "{secrets.S}"}
CLIENT = {
    "type": "oauth2_client_credentials",
    "access_token_url": TOKEN_URL,
    "client_id": "river",
    "client_secret": "{secrets.S}",
}
REFRESH = {**CLIENT, "type": "oauth2_refresh_token", "refresh_token": "{secrets.R}"}


@dataclass
class Clock:
    at: datetime = START

    def __call__(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


Answer = tuple[int, object]


@dataclass
class TokenEndpoint:
    """Answers in turn, the last again and again; `gate` holds answers back."""

    answers: list[Answer]
    forms: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    gate: asyncio.Event | None = None
    on_answer: Callable[[], None] = lambda: None

    async def __call__(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
        assert url == TOKEN_URL
        self.forms.append(dict(form))
        self.headers.append(dict(headers))
        if self.gate is not None:
            await self.gate.wait()
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.on_answer()
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()

    @property
    def refresh_tokens(self) -> list[str]:
        return [form["refresh_token"] for form in self.forms]


@dataclass
class Store:
    kept: str | None = None
    events: list[str] = field(default_factory=list)
    fails: int = 0

    async def load(self) -> str | None:
        return self.kept

    async def save(self, refresh_token: str) -> None:
        if self.fails:
            self.fails -= 1
            raise StoreUnavailableError("the store is down")
        self.events.append(f"saved {refresh_token}")
        self.kept = refresh_token


def token(access: str = "a1", **more: object) -> Answer:
    return 200, {"access_token": access, "token_type": "Bearer", "expires_in": 3600, **more}


def refused(code: str = "invalid_grant") -> Answer:
    return 400, {"error": code}


def open_with(
    spec: dict[str, Any] | None,
    *answers: Answer,
    endpoint: TokenEndpoint | None = None,
    store: Store | None = None,
    now: Clock | None = None,
    **secrets: str,
) -> Authenticator:
    values = {"S": SECRET, "R": "r0", **secrets}
    return open_auth(
        TypeAdapter[AuthSpec](AuthSpec).validate_python(spec) if spec else None,
        Secrets({name: SecretStr(value) for name, value in values.items()}, "crm.toml"),
        ask=endpoint or TokenEndpoint(list(answers)),
        store=store,
        now=now or Clock(),
    )


async def bearer(auth: Authenticator) -> str:
    return (await auth.apply(REQUEST)).headers["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("spec", [None, {"type": "none"}])
async def test_no_auth_changes_nothing(spec: dict[str, Any] | None) -> None:
    assert await open_with(spec).apply(REQUEST) == REQUEST


@pytest.mark.parametrize(
    ("spec", "name", "value"),
    [
        (BEARER, "Authorization", "Bearer hunter2secret"),
        ({"type": "api_key", "name": "X-Api-Key", "api_key": "{secrets.S}"}, "X-Api-Key", "hunter2secret"),
        (
            {"type": "api_key", "name": "sid", "api_key": "{secrets.S}", "location": "cookie"},
            "Cookie",
            "sid=hunter2secret",
        ),
        # RFC 7617 §2.1: "test" with the password "123£", in UTF-8
        (
            {"type": "http_basic", "username": "test", "password": "{secrets.P}"},
            "Authorization",
            "Basic dGVzdDoxMjPCow==",
        ),
        ({"type": "http_basic", "username": "{secrets.P}"}, "Authorization", "Basic MTIzwqM6"),
    ],
)
async def test_a_credential_becomes_a_header(spec: dict[str, Any], name: str, value: str) -> None:
    sent = await open_with(spec, P="123£").apply(REQUEST)

    assert sent.headers == {"Accept": "application/json", name: value}
    assert (sent.params, sent.url) == (REQUEST.params, REQUEST.url)


async def test_a_credential_replaces_a_header_written_in_another_case() -> None:
    request = OutgoingRequest("GET", "https://a.example", (), {"authorization": "Bearer old"})

    assert (await open_with(BEARER).apply(request)).headers == {"Authorization": "Bearer hunter2secret"}


async def test_an_api_key_in_the_query_follows_the_other_parameters() -> None:
    auth = open_with({"type": "api_key", "name": "appid", "api_key": "{secrets.S}", "location": "query"})

    sent = await auth.apply(REQUEST)

    assert sent.params == (("page", "2"), ("appid", SECRET))
    assert sent.headers == REQUEST.headers


async def test_a_cookie_joins_the_cookies_that_are_there() -> None:
    auth = open_with({"type": "api_key", "name": "sid", "api_key": "{secrets.S}", "location": "cookie"})

    sent = await auth.apply(OutgoingRequest("GET", "https://a.example", (), {"cookie": "lang=de"}))

    assert sent.headers == {"Cookie": "lang=de; sid=hunter2secret"}


@pytest.mark.parametrize("spec", [None, BEARER, BASIC])
async def test_what_never_changes_is_not_refreshed(spec: dict[str, Any] | None) -> None:
    assert await open_with(spec).refresh() is False


API_KEY = {"type": "api_key", "name": "X-Key", "api_key": "{secrets.S}"}


@pytest.mark.parametrize(
    ("spec", "value", "key"),
    [
        (BEARER, "abc\r\nX-Evil: 1", "token"),
        (BEARER, "abc\n", "token"),
        (BEARER, "abc ", "token"),
        (BEARER, "", "token"),
        (BEARER, "abcł", "token"),
        (API_KEY, "abc\rdef", "api_key"),
        ({**API_KEY, "location": "query"}, "", "api_key"),
        ({**API_KEY, "location": "cookie"}, "abc;admin=1", "api_key"),
        (BASIC, "abc\n", "password"),
        ({"type": "hmac", "secret": "{secrets.S}"}, "", "secret"),
        (CLIENT, "abc\ndef", "client_secret"),
        ({**BASIC, "username": "{secrets.S}"}, "abc:def", "username"),
    ],
)
def test_a_secret_that_cannot_be_sent_is_named_and_not_shown(spec: dict[str, Any], value: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_with(spec, S=value)

    assert str(caught.value).startswith(f"crm.toml: client.auth.{key} must be ")
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ({**API_KEY, "name": "X Key"}, "name"),
        ({**API_KEY, "name": "sid=", "location": "cookie"}, "name"),
        ({"type": "hmac", "secret": "{secrets.S}", "header": "X:Y"}, "header"),
        ({"type": "hmac", "secret": "{secrets.S}", "timestamp_header": "X\nY"}, "timestamp_header"),
        ({"type": "hmac", "secret": "{secrets.S}", "prefix": "v1\n"}, "prefix"),
        ({"type": "hmac", "secret": "{secrets.S}", "signed_payload": "{url}"}, "signed_payload"),
    ],
)
def test_a_name_that_cannot_be_sent_is_a_config_error(spec: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"crm\.toml: client\.auth\.{key} "):
        open_with(spec)


def test_a_missing_secret_is_found_before_the_first_request() -> None:
    with pytest.raises(ConfigError, match="there is no secret NOT_SET"):
        open_with({"type": "bearer", "token": "{secrets.NOT_SET}"})


async def test_a_literal_accented_letter_may_be_sent() -> None:
    auth = open_with(BEARER, S="café")

    sent = await auth.apply(OutgoingRequest("GET", "https://a.example/v1", (), {}, None))

    assert sent.headers["Authorization"] == "Bearer café"


async def test_hmac_signs_what_goes_over_the_wire() -> None:
    """The digest is of `openssl dgst -sha256 -hmac`, over the text that the server would rebuild."""
    auth = open_with({"type": "hmac", "secret": "{secrets.S}", "prefix": "sha256="})
    request = OutgoingRequest("POST", "https://a.example/v1/a%20b?x=1", (("q", "a b&c"),), {}, '{"k":"é"}'.encode())

    sent = await auth.apply(request)

    assert sent.headers == {
        "X-Signature": "sha256=" + "d12d91af963cac0b84ef74ce5bdcb3b95e7395e543a4eb20b842c9c140ff2ea0",
        "X-Timestamp": "1767225600",
    }


async def test_hmac_as_the_source_says() -> None:
    auth = open_with(
        {
            "type": "hmac",
            "secret": "{secrets.S}",
            "header": "Sig",
            "algorithm": "sha512",
            "encoding": "base64",
            "signed_payload": "{method}|{path}|{query}",
            "timestamp_header": None,
        }
    )

    sent = await auth.apply(OutgoingRequest("get", "https://a.example/v1", (), {}))

    assert sent.headers == {
        "Sig": "W4X5SgacRaD53FwLJnLl14pLDz5d6QWPvWPn82XEWFgMCnnqhqA087XZWmP029Q24l+/N/YZSjKOXOxIFSMG5A=="
    }


async def test_hmac_signs_a_body_that_is_no_text_and_braces_in_it() -> None:
    auth = open_with({"type": "hmac", "secret": "{secrets.S}", "signed_payload": "{body}"})

    sent = await auth.apply(OutgoingRequest("POST", "https://a.example", (), {}, b"\xff\x00{query}{{"))

    assert sent.headers["X-Signature"] == "1d95fefdd33154e4b4fb79e23f242ced857ad35b85db8a28eea7eea92e46fad9"


async def test_client_credentials_in_the_body() -> None:
    endpoint = TokenEndpoint([token()])

    assert await bearer(open_with({**CLIENT, "scope": "read write"}, endpoint=endpoint)) == "a1"
    assert endpoint.forms == [
        {
            "grant_type": "client_credentials",
            "client_id": "river",
            "client_secret": SECRET,
            "scope": "read write",
        }
    ]
    assert endpoint.headers == [{"Accept": "application/json"}]


@pytest.mark.parametrize("decode", [unquote, unquote_plus])
async def test_client_credentials_in_basic_are_form_encoded_first(decode: Callable[[str], str]) -> None:
    """RFC 6749 §2.3.1; a colon in the id would otherwise end it. Not all servers read a plus as a space."""
    endpoint = TokenEndpoint([token()])

    await bearer(open_with({**CLIENT, "client_id": "a:b", "client_auth": "basic"}, endpoint=endpoint, S="p w+%é"))

    scheme, _, encoded = endpoint.headers[0]["Authorization"].partition(" ")
    name, _, password = base64.b64decode(encoded).decode("ascii").partition(":")
    assert (scheme, decode(name), decode(password)) == ("Basic", "a:b", "p w+%é")
    assert endpoint.forms == [{"grant_type": "client_credentials"}]


async def test_a_public_client_says_who_it_is() -> None:
    endpoint = TokenEndpoint([token()])
    spec = {key: value for key, value in REFRESH.items() if key != "client_secret"}

    await bearer(open_with({**spec, "client_auth": "basic"}, endpoint=endpoint))

    assert endpoint.forms == [{"grant_type": "refresh_token", "client_id": "river", "refresh_token": "r0"}]


@pytest.mark.parametrize(("seconds_later", "requests"), [(3569, 1), (3570, 2)])
async def test_a_token_is_used_until_30_s_before_it_expires(seconds_later: float, requests: int) -> None:
    now, endpoint = Clock(), TokenEndpoint([token("a1"), token("a2")])
    auth = open_with(CLIENT, endpoint=endpoint, now=now)
    await bearer(auth)
    now.advance(seconds_later)

    assert await bearer(auth) == f"a{requests}"
    assert len(endpoint.forms) == requests


@pytest.mark.parametrize(
    ("expires_in", "lifetime_seconds"),
    [
        (100, 100),
        ("100", 100),
        ("100.5", 100.5),
        (None, 600),
        ("soon", 600),
        (True, 600),
        (0, 600),
        (-5, 600),
        ([100], 600),
        (10**400, 600),
        (10**20, 366 * 86_400),
    ],
)
async def test_a_lifetime_is_read_or_replaced_by_the_default(expires_in: object, lifetime_seconds: float) -> None:
    now, endpoint = Clock(), TokenEndpoint([token("a1", expires_in=expires_in), token("a2")])
    auth = open_with({**CLIENT, "default_token_expiration": 600}, endpoint=endpoint, now=now)
    await bearer(auth)

    now.advance(lifetime_seconds - 31)
    before = await bearer(auth)
    now.advance(1)

    assert (before, await bearer(auth)) == ("a1", "a2")


@pytest.mark.parametrize("junk", [b"NaN", b"Infinity"])
async def test_a_lifetime_that_is_no_number_is_replaced_by_the_default(junk: bytes) -> None:
    now = Clock()
    endpoint = TokenEndpoint([(200, b'{"access_token": "a1", "expires_in": %s}' % junk), token("a2")])
    auth = open_with({**CLIENT, "default_token_expiration": 600}, endpoint=endpoint, now=now)
    await bearer(auth)
    now.advance(570)

    assert await bearer(auth) == "a2"


async def test_a_short_token_is_used_for_half_its_life() -> None:
    """A margin of 30 s would ask for a token with each request."""
    now, endpoint = Clock(), TokenEndpoint([token("a1", expires_in=20), token("a2", expires_in=20)])
    auth = open_with(CLIENT, endpoint=endpoint, now=now)
    await bearer(auth)

    now.advance(9)
    before = await bearer(auth)
    now.advance(1)

    assert (before, await bearer(auth)) == ("a1", "a2")


async def test_many_requests_ask_for_one_token() -> None:
    endpoint = TokenEndpoint([token("a1"), token("a2")], gate=asyncio.Event())
    auth = open_with(CLIENT, endpoint=endpoint)
    assert endpoint.gate is not None
    tasks = [asyncio.create_task(bearer(auth)) for _ in range(5)]
    await asyncio.sleep(0)
    endpoint.gate.set()

    assert await asyncio.gather(*tasks) == ["a1"] * 5
    assert len(endpoint.forms) == 1


async def test_a_refresh_gets_another_token() -> None:
    auth = open_with(CLIENT, token("a1"), token("a2"))
    await bearer(auth)

    assert await auth.refresh() is True
    assert await bearer(auth) == "a2"


async def test_a_refresh_that_gets_the_same_token_is_no_reason_to_try_again() -> None:
    auth = open_with(CLIENT, token("a1"))
    await bearer(auth)

    assert await auth.refresh() is False


async def test_a_late_401_does_not_replace_the_token_that_another_task_got() -> None:
    """With servers that keep one token per client it would break the other task's second try."""
    endpoint = TokenEndpoint([token("a1"), token("a2"), token("a3")])
    auth = open_with(CLIENT, endpoint=endpoint)
    both_sent, first_renewed = asyncio.Event(), asyncio.Event()

    async def late() -> tuple[bool, str]:
        await bearer(auth)
        both_sent.set()
        await first_renewed.wait()
        return await auth.refresh(), await bearer(auth)

    task = asyncio.create_task(late())
    await both_sent.wait()
    await bearer(auth)
    await auth.refresh()
    first_renewed.set()

    assert await task == (True, "a2")
    assert len(endpoint.forms) == 2


async def test_a_refresh_that_fails_does_not_bring_the_refused_token_back() -> None:
    auth = open_with(CLIENT, token("a1"), (503, b""), token("a2"))
    await bearer(auth)
    with pytest.raises(SourceUnavailableError):
        await auth.refresh()

    assert await bearer(auth) == "a2"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((401, {"error": "invalid_client"}), "HTTP 401, invalid_client; check client.auth"),
        (refused("invalid_grant"), "HTTP 400, invalid_grant; check client.auth"),
        # As GitHub answers
        ((200, {"error": "bad_verification_code"}), "HTTP 200, bad_verification_code; check client.auth"),
        ((400, b"<html>no</html>"), "HTTP 400, unnamed error"),
        ((302, b""), "HTTP 302, unnamed error"),
        ((400, {"error": {"code": 1}}), "HTTP 400, unnamed error"),
        ((400, {"error": "a\nb"}), "HTTP 400, unnamed error"),
        ((200, b"<html>login</html>"), "HTTP 200, no JSON object"),
        ((200, b""), "HTTP 200, no JSON object"),
        ((200, b"[" * 100_000), "HTTP 200, no JSON object"),
        ((200, b"\xff"), "HTTP 200, no JSON object"),
        ((200, {"token": "a1"}), "no usable access_token of type Bearer"),
        ((200, {"access_token": 7}), "no usable access_token of type Bearer"),
        ((200, {"access_token": ""}), "no usable access_token of type Bearer"),
        ((200, {"access_token": "a\r\nX-Evil: 1"}), "no usable access_token of type Bearer"),
        (token(token_type="mac"), "no usable access_token of type Bearer"),
        (token(token_type=None), "no usable access_token of type Bearer"),
    ],
)
async def test_an_answer_without_a_token_is_refused(answer: Answer, text: str) -> None:
    with pytest.raises(SourceRefusedError) as caught:
        await bearer(open_with(CLIENT, answer))

    assert f"crm.toml: token endpoint {TOKEN_URL}: HTTP {answer[0]}, " in str(caught.value)
    assert text in str(caught.value)
    assert caught.value.status == answer[0]


@pytest.mark.parametrize("kind", ["bearer", "BEARER", "Bearer"])
async def test_the_type_of_a_token_has_no_case(kind: str) -> None:
    assert await bearer(open_with(CLIENT, token(token_type=kind))) == "a1"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_a_busy_token_endpoint_is_tried_later(status: int) -> None:
    with pytest.raises(SourceUnavailableError, match=f"HTTP {status}"):
        await bearer(open_with(CLIENT, (status, {"error": "invalid_client"})))


@pytest.mark.parametrize(
    ("client_auth", "echoed"),
    [
        ("body", "hunter234"),
        ("body", "x-hunter234-y"),
        ("body", "r0"),
        ("basic", "hunter234"),
        ("basic", "r0"),
        ("basic", "cml2ZXI6aHVudGVyMjM0"),
    ],
)
async def test_a_secret_that_the_server_echoes_is_not_shown(client_auth: str, echoed: str) -> None:
    spec = {**REFRESH, "client_auth": client_auth}
    with pytest.raises(SourceRefusedError) as caught:
        # Its Base64 has no padding, which an error code could not hold anyway
        await bearer(open_with(spec, (400, {"error": echoed, "error_description": "hunter234"}), S="hunter234"))

    assert "unnamed error" in str(caught.value)
    assert echoed not in str(caught.value)


@pytest.mark.parametrize("spec", [BEARER, API_KEY, BASIC, CLIENT, REFRESH, {"type": "hmac", "secret": "{secrets.S}"}])
async def test_no_repr_holds_a_secret(spec: dict[str, Any]) -> None:
    auth = open_with(spec, token("access-token"))

    sent = await auth.apply(REQUEST)

    shown = f"{auth!r} {sent!r} {sent}"
    assert "OutgoingRequest(GET https://api.example/v1)" in shown
    assert not any(secret in shown for secret in (SECRET, "access-token", "Basic", "Signature"))


async def test_a_rotated_refresh_token_is_saved_before_its_access_token_is_used() -> None:
    store = Store()
    endpoint = TokenEndpoint([token("a1", refresh_token="r1")], on_answer=lambda: store.events.append("answered"))
    auth = open_with(REFRESH, endpoint=endpoint, store=store)

    store.fails = 1
    with pytest.raises(StoreUnavailableError):
        await bearer(auth)
    after_failure = list(store.events)
    used = await bearer(auth)

    assert after_failure == ["answered"]
    assert (store.events, used) == (["answered", "answered", "saved r1"], "a1")
    assert endpoint.refresh_tokens == ["r0", "r1"]


async def test_a_rotated_refresh_token_outlives_the_task_that_asked_for_it() -> None:
    gate = asyncio.Event()
    endpoint = TokenEndpoint([token("a1", refresh_token="r1"), refused()], gate=gate)
    store = Store()
    auth = open_with(REFRESH, endpoint=endpoint, store=store)
    task = asyncio.create_task(bearer(auth))
    while not endpoint.forms:
        await asyncio.sleep(0)

    task.cancel()
    asyncio.get_running_loop().call_soon(gate.set)
    with pytest.raises(asyncio.CancelledError):
        await task

    assert store.kept == "r1"
    assert await bearer(auth) == "a1"
    assert endpoint.refresh_tokens == ["r0"]


async def test_a_renewal_that_outlasts_the_patience_serves_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_room, "STOP_PATIENCE_SECONDS", 0.01)
    gate = asyncio.Event()
    endpoint = TokenEndpoint([token("a1", refresh_token="r1"), refused()], gate=gate)
    store = Store()
    auth = open_with(REFRESH, endpoint=endpoint, store=store)
    task = asyncio.create_task(bearer(auth))
    while not endpoint.forms:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    later = asyncio.create_task(bearer(auth))
    await asyncio.sleep(0)
    gate.set()

    assert await later == "a1"
    assert endpoint.refresh_tokens == ["r0"], "a token that was replaced is not sent again"
    assert store.kept == "r1"


async def test_each_rotated_refresh_token_is_used_next() -> None:
    endpoint = TokenEndpoint([token("a1", refresh_token="r1"), token("a2", refresh_token="r2"), token("a3")])
    store = Store()
    auth = open_with(REFRESH, endpoint=endpoint, store=store)

    for _ in range(2):
        await bearer(auth)
        await auth.refresh()

    assert endpoint.refresh_tokens == ["r0", "r1", "r2"]
    assert store.events == ["saved r1", "saved r2"]


async def test_a_rotated_refresh_token_is_remembered_without_a_store() -> None:
    endpoint = TokenEndpoint([token("a1", refresh_token="r1"), token("a2"), token("a3")])
    auth = open_with(REFRESH, endpoint=endpoint)

    for _ in range(2):
        await bearer(auth)
        await auth.refresh()

    assert endpoint.refresh_tokens == ["r0", "r1", "r1"]


async def test_a_refresh_token_that_is_not_rotated_is_not_saved() -> None:
    store = Store()

    await bearer(open_with(REFRESH, token(), store=store))

    assert store.events == []


async def test_after_a_restart_the_stored_token_wins() -> None:
    endpoint = TokenEndpoint([token()])

    await bearer(open_with(REFRESH, endpoint=endpoint, store=Store("r7")))

    assert endpoint.refresh_tokens == ["r7"]


async def test_when_the_stored_token_is_refused_the_configured_one_is_tried() -> None:
    endpoint, store = TokenEndpoint([refused(), token("a1", refresh_token="r8")]), Store("r7")

    assert await bearer(open_with(REFRESH, endpoint=endpoint, store=store)) == "a1"
    assert endpoint.refresh_tokens == ["r7", "r0"]
    assert store.kept == "r8"


async def test_a_configured_token_that_works_replaces_a_stored_one_that_does_not() -> None:
    store = Store("r7")

    await bearer(open_with(REFRESH, refused(), token(), store=store))

    assert store.kept == "r0"


async def test_the_configured_token_is_tried_once() -> None:
    """Servers take a replaced token that comes back for a theft, and revoke the whole family."""
    endpoint = TokenEndpoint([refused()])
    auth = open_with(REFRESH, endpoint=endpoint, store=Store("r7"))

    for _ in range(2):
        with pytest.raises(SourceRefusedError, match="invalid_grant"):
            await bearer(auth)

    assert endpoint.refresh_tokens == ["r7", "r0", "r7"]


async def test_a_configured_token_that_was_used_does_not_come_back() -> None:
    endpoint = TokenEndpoint([token("a1", refresh_token="r1"), refused()])
    auth = open_with(REFRESH, endpoint=endpoint, store=Store())
    await bearer(auth)

    with pytest.raises(SourceRefusedError, match="invalid_grant"):
        await auth.refresh()

    assert endpoint.refresh_tokens == ["r0", "r1"]


@pytest.mark.parametrize("answer", [refused("invalid_client"), (503, b""), (200, b"<html>")])
async def test_only_a_refused_token_brings_the_configured_one(answer: Answer) -> None:
    endpoint = TokenEndpoint([answer])
    auth = open_with(REFRESH, endpoint=endpoint, store=Store("r7"))

    with pytest.raises((SourceRefusedError, SourceUnavailableError)):
        await bearer(auth)

    assert endpoint.refresh_tokens == ["r7"]


async def test_a_token_that_another_process_stored_is_used() -> None:
    endpoint, store = TokenEndpoint([token("a1", refresh_token="r1"), token("a2")]), Store()
    auth = open_with(REFRESH, endpoint=endpoint, store=store)
    await bearer(auth)
    store.kept = "r2"

    await auth.refresh()

    assert endpoint.refresh_tokens == ["r0", "r2"]
