"""Where a request may go. The refusals are of real connections: the server on loopback must not even see one."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from app.errors import SourceRefusedError
from app.extract.addresses import GuardedResolver, check_url, guarded_connector, is_public, next_hop

PUBLIC = "93.184.215.14"


class Loopback:
    """Answers each request in one line, on IPv4 and IPv6 loopback, and counts connections."""

    def __init__(self) -> None:
        self.connections = 0
        self.received = b""
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Loopback"]:
        listening = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port = listening.getsockname()[1]
        server = await asyncio.start_server(self._serve, sock=listening)
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.received += await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()


@pytest.fixture
async def loopback() -> AsyncIterator[Loopback]:
    async with Loopback().serving() as server:
        yield server


class FakeResolver(AbstractResolver):
    """Answers in turn, the last again and again."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ResolveResult(hostname=host, host=ip, port=port, family=family, proto=0, flags=0) for ip in addresses]

    async def close(self) -> None:
        self.closed = True


def nobody(_host: str) -> bool:
    return False


async def get(
    url: str | URL,
    *,
    allowed: Callable[[str], bool] = nobody,
    resolver: AbstractResolver | None = None,
    behind: Callable[[aiohttp.TCPConnector], None] = lambda _connector: None,
    **options: Any,
) -> str:
    connector = guarded_connector(allowed, resolver=resolver)
    behind(connector)
    async with aiohttp.ClientSession(connector=connector) as session, session.get(url, **options) as response:
        return await response.text()


@pytest.mark.parametrize(
    "ip",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "100::1",
        "2001:2::1",
        "2001:4:112::1",
        "2001:db8::1",
        # Teredo: server 8.8.8.8, client 127.0.0.1 (inverted); then server 127.0.0.1, client 8.8.8.8
        "2001:0:808:808::80ff:fffe",
        "2001:0:7f00:1::f7f7:f7f7",
        "2002:7f00:1::1",
        "2002:a00:1::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "2130706433",
        "127.1",
        "0x7f.1",
        "localhost",
        "",
    ],
)
def test_an_address_that_is_not_public(ip: str) -> None:
    assert is_public(ip) is False


@pytest.mark.parametrize(
    "ip",
    [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.215.14",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "2001:0:808:808::f7f7:f7f7",
    ],
)
def test_an_address_that_is_public(ip: str) -> None:
    assert is_public(ip) is True


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example/v1?x=1",
        "http://api.example:8080",
        "HTTPS://API.example./",
        "http://127.0.0.1/",
        "http://[::1]:8080/",
        "http://a_b.example/?email=a@b",
    ],
)
def test_a_url_that_can_be_asked(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("ftp://a.example/", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("//a.example/", "only http and https"),
        ("a.example", "only http and https"),
        ("", "only http and https"),
        ("http://hunter2@a.example/", "user name"),
        ("http://u:hunter2@a.example/", "user name"),
        ("http://@a.example/", "user name"),
        ("http://127.0.0.1%2f@a.example/", "user name"),
        ("http://a.example:0/", "port 0"),
        ("http://a.example:00/", "port 0"),
        ("http://a.example:70000/", "not a URL"),
        ("http://a.example:b/", "not a URL"),
        ("http:///x", "no host"),
        ("http://a%2eexample/", "no host"),
        ("http://\uff11\uff12\uff17.0.0.1/", "no host"),
        ("http://[fe80::1%25eth0]/", "no host"),
        ("http://bücher.example/", "no host"),
        ("http://[::1/", "not a URL"),
        ("http://a.example\\@b.example/", "not a URL"),
        ("http://a.example/x\r\nX-Evil: 1", "control character"),
        ("http://a.example/x y", "control character"),
        (" http://a.example/", "control character"),
        ("http://a.example/\x7f", "control character"),
    ],
)
def test_a_url_that_is_refused(url: str, fault: str) -> None:
    with pytest.raises(SourceRefusedError, match=fault) as caught:
        check_url(url)

    assert "hunter2" not in str(caught.value)


SPELLINGS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "0x7f.1",
    "0x7f000001",
    "0177.0.0.1",
    "2130706433",
    "017700000001",
    "0",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "any.localhost",
    "\uff11\uff12\uff17.0.0.1",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "127｡0｡0｡1",
]


@pytest.mark.parametrize("encoded", [True, False], ids=["as written", "normalized"])
@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_loopback_is_connected_to(loopback: Loopback, host: str, *, encoded: bool) -> None:
    url = URL(f"http://{host}:{loopback.port}/", encoded=encoded)

    with pytest.raises(SourceRefusedError, match=r"set client\.allow_private_networks = true in the source file"):
        await get(url)

    assert loopback.connections == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "LOCALHOST", "db.internal", "db.internal."]
)
async def test_an_allowed_host_is_connected_to(loopback: Loopback, host: str) -> None:
    url, plain = URL(f"http://{host}:{loopback.port}/", encoded=True), host.strip("[]").lower().rstrip(".")

    text = await get(url, allowed=lambda asked: asked == plain, resolver=FakeResolver(["127.0.0.1"]))

    assert text == "ok"


async def test_a_host_is_allowed_with_the_dot_that_the_source_wrote(loopback: Loopback) -> None:
    url = f"http://db.internal.:{loopback.port}/"

    assert await get(url, allowed=lambda host: host == "db.internal.", resolver=FakeResolver(["127.0.0.1"])) == "ok"


async def test_the_connector_guards_its_resolver() -> None:
    """The socket would refuse all the same, but a public address beside a private one is found only here."""
    connector = guarded_connector(nobody, resolver=FakeResolver(["10.0.0.1"]))
    async with connector:
        with pytest.raises(SourceRefusedError):
            await connector._resolver.resolve("intranet.example")


async def test_permission_for_one_host_is_not_for_its_address(loopback: Loopback) -> None:
    with pytest.raises(SourceRefusedError):
        await get(f"http://127.0.0.1:{loopback.port}/", allowed=lambda host: host == "localhost")

    assert loopback.connections == 0


async def test_a_refusal_names_host_and_address(loopback: Loopback) -> None:
    with pytest.raises(SourceRefusedError, match=r"^intranet\.example leads to 10\.1\.2\.3, ") as caught:
        await get(f"http://intranet.example:{loopback.port}/", resolver=FakeResolver(["10.1.2.3"]))

    assert caught.value.status is None


async def test_a_name_that_resolves_anew_to_loopback_is_refused(loopback: Loopback) -> None:
    """DNS rebinding: public when it was looked at, loopback when it is connected to."""
    rebinding = FakeResolver([PUBLIC], ["127.0.0.1"])
    looked_at = await GuardedResolver(nobody, rebinding).resolve("rebind.example")

    with pytest.raises(SourceRefusedError, match=r"rebind\.example leads to 127\.0\.0\.1"):
        await get(f"http://rebind.example:{loopback.port}/", resolver=rebinding)

    assert [result["host"] for result in looked_at] == [PUBLIC]
    assert (loopback.connections, rebinding.asked) == (0, ["rebind.example"] * 2)


@pytest.mark.parametrize("answer", [["127.0.0.1"], ["::1"], ["127.0.0.1", "::1"], ["0.0.0.0", "::ffff:127.0.0.1"]])
async def test_the_socket_refuses_what_slipped_past_the_resolver(loopback: Loopback, answer: list[str]) -> None:
    """A cached answer, for one. Several addresses take another way through aiohttp than one."""

    def without_guard(connector: aiohttp.TCPConnector) -> None:
        connector._resolver = FakeResolver(answer)

    with pytest.raises(SourceRefusedError, match=r"evil\.example leads to"):
        await get(f"http://evil.example:{loopback.port}/", behind=without_guard)

    assert loopback.connections == 0


async def test_the_socket_refuses_when_aiohttp_calls_it_in_another_way(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new aiohttp may rename the method that says for whom a connection is."""
    monkeypatch.delattr("app.extract.addresses._GuardedConnector._create_connection")

    with pytest.raises(aiohttp.ClientConnectorError, match="not a public address"):
        await get(f"http://127.0.0.1:{loopback.port}/", allowed=lambda _host: True)

    assert loopback.connections == 0


async def test_the_resolver_leaves_out_private_addresses() -> None:
    resolver = GuardedResolver(nobody, FakeResolver(["10.0.0.1", PUBLIC, "::1"]))

    assert [result["host"] for result in await resolver.resolve("mixed.example")] == [PUBLIC]


async def test_the_resolver_leaves_allowed_hosts_alone() -> None:
    resolver = GuardedResolver(lambda host: host == "db.internal", FakeResolver(["10.0.0.1"]))

    assert [result["host"] for result in await resolver.resolve("db.internal")] == ["10.0.0.1"]
    with pytest.raises(SourceRefusedError):
        await resolver.resolve("other.internal")


async def test_closing_the_connector_closes_the_resolver() -> None:
    resolver = FakeResolver([PUBLIC])

    await guarded_connector(nobody, resolver=resolver).close()

    assert resolver.closed


async def test_each_hop_of_a_redirect_is_checked(loopback: Loopback) -> None:
    """Also where aiohttp follows by itself."""

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        place = f"http://127.1:{loopback.port}/"
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(SourceRefusedError, match=r"127\.1 leads to 127\.0\.0\.1"):
            await get(f"http://localhost:{port}/", allowed=lambda host: host == "localhost")

    assert loopback.connections == 0


async def test_a_proxy_may_be_private(loopback: Loopback) -> None:
    text = await get("http://api.example/v1", proxy=f"http://localhost:{loopback.port}")

    assert text == "ok"
    assert loopback.received.startswith(b"GET http://api.example/v1 HTTP/1.1\r\n")


@pytest.mark.parametrize("host", ["10.0.0.1", "127.1", "[::ffff:10.0.0.1]", "localhost", "127。0。0。1"])
async def test_a_proxy_is_not_asked_for_a_private_address(loopback: Loopback, host: str) -> None:
    with pytest.raises(SourceRefusedError, match=r"set client\.allow_private_networks"):
        await get(URL(f"http://{host}/", encoded=True), proxy=f"http://127.0.0.1:{loopback.port}")

    assert loopback.connections == 0


async def test_a_proxy_is_not_itself_a_place_to_ask(loopback: Loopback) -> None:
    """Its address was let through, and resolved and cached, for being the proxy's."""
    resolver = FakeResolver(["127.0.0.1"])
    connector = guarded_connector(nobody, resolver=resolver)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get("http://api.example/", proxy=f"http://proxy.example:{loopback.port}") as response:
            assert await response.text() == "ok"

        with pytest.raises(SourceRefusedError, match=r"proxy\.example leads to 127\.0\.0\.1"):
            await session.get(f"http://proxy.example:{loopback.port}/")

    assert (loopback.connections, resolver.asked) == (1, ["proxy.example"])


HEADERS = {
    "Accept": "application/json",
    "User-Agent": "etl-river",
    "authorization": "Bearer hunter2",
    "Cookie": "sid=hunter2",
    "X-Api-Key": "hunter2",
    "X-Shop-Access": "hunter2",
    "Host": "a.example",
}


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/v2", "https://a.example/v2"),
        (" v2 ", "https://a.example/dir/v2"),
        ("../v2?y=2", "https://a.example/v2?y=2"),
        ("?y=2", "https://a.example/dir/v1?y=2"),
        ("", "https://a.example/dir/v1"),
        ("#part", "https://a.example/dir/v1"),
        ("https://a.example/x#part", "https://a.example/x"),
        ("https://A.example:443/x", "https://A.example:443/x"),
        # A byte that is no UTF-8, as aiohttp hands it over
        ("/caf\udce9", "https://a.example/caf%E9"),
        ("/a b/ü%20?q=a%26b", "https://a.example/a%20b/%C3%BC%20?q=a%26b"),
    ],
)
def test_a_redirect_within_the_origin_keeps_the_headers(location: str, url: str) -> None:
    assert next_hop("https://a.example/dir/v1?key=hunter2", location, HEADERS) == (url, HEADERS)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://b.example/x?y=2", "https://b.example/x?y=2"),
        ("//b.example/x", "https://b.example/x"),
        ("https://a.example:8443/", "https://a.example:8443/"),
        ("https://a.example.b.example/", "https://a.example.b.example/"),
        ("https://sub.a.example/", "https://sub.a.example/"),
    ],
)
def test_a_redirect_to_another_origin_takes_no_secret_along(location: str, url: str) -> None:
    went = next_hop("https://a.example/dir/v1?key=hunter2", location, HEADERS)

    assert went == (url, {"Accept": "application/json", "User-Agent": "etl-river"})


@pytest.mark.parametrize("port", ["", ":8443"])
def test_http_to_https_is_another_origin(port: str) -> None:
    _, headers = next_hop(f"http://a.example{port}/", f"https://a.example{port}/", HEADERS)

    assert "authorization" not in headers


def test_headers_that_the_caller_calls_secret_stay_behind() -> None:
    _, headers = next_hop("https://a.example/", "https://b.example/", HEADERS, secret_headers=["user-agent"])

    assert headers == {"Accept": "application/json"}


@pytest.mark.parametrize(
    ("url", "headers", "secret_headers"),
    [
        ("https://a.example/", {"Authorization": "Bearer hunter2"}, ()),
        ("https://a.example/", {"X-Shop-Access": "hunter2"}, ()),
        ("https://a.example/", {"User-Agent": "hunter2"}, ("User-Agent",)),
        ("https://a.example/?api_key=hunter2", {}, ()),
    ],
)
def test_a_request_with_credentials_does_not_go_from_https_to_http(
    url: str, headers: dict[str, str], secret_headers: tuple[str, ...]
) -> None:
    with pytest.raises(SourceRefusedError, match="from https to http") as caught:
        next_hop(url, "http://b.example/", headers, secret_headers=secret_headers)

    assert "hunter2" not in str(caught.value)


def test_a_request_without_credentials_may_go_from_https_to_http() -> None:
    headers = {"Accept": "text/csv"}

    assert next_hop("https://a.example/", "http://b.example/", headers, secret_headers=["X-Key"]) == (
        "http://b.example/",
        headers,
    )


@pytest.mark.parametrize(
    "location",
    ["ftp://a.example/", "file:///etc/passwd", "javascript:alert(1)", "https://u:p@b.example/", "https://b:0/"],
)
def test_a_redirect_to_what_cannot_be_asked_is_refused(location: str) -> None:
    with pytest.raises(SourceRefusedError):
        next_hop("https://a.example/", location, {})
