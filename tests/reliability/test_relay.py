"""The relay spoils real answers on the wire, once each, and no request of a session leads past it."""

import asyncio
import gzip
import json
import random
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.clock import monotonic, utc_now
from app.errors import ConfigError
from app.extract.relayed import RelayedConnector
from app.faults import relay as relaying
from app.faults.http import Head, reordered
from app.faults.plans import Fault, parse_fault, parse_plan, place_faults
from app.faults.relay import Relay
from app.settings import load_settings
from tests.source_server import Reply, Seen, SourceServer

CLOCK_STEP = 0.02
"""The loop's timers may end so much before the clock says so."""
RECORDS = [{"id": n, "text": f"row {n}"} for n in range(20)]


async def get(session: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    async with session.get(url) as response:
        return response.status, await response.read()


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay() as relay:
        yield relay


@pytest.fixture
async def session(relay: Relay) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=RelayedConnector(relay.url)) as session:
        yield session


def ids(body: bytes) -> list[int]:
    return [record["id"] for record in json.loads(body)]


async def test_each_fault_happens_once_at_its_page(
    relay: Relay, session: aiohttp.ClientSession, source_server: SourceServer
) -> None:
    url = source_server.put_pages("/posts", RECORDS)
    relay.plan([Fault("http_500", "page", 2), Fault("cut_body", "page", 2), Fault("dup_page", "page", 2)])
    await get(session, f"{url}?_page=1")

    assert await get(session, f"{url}?_page=2") == (500, b"planned")
    assert len(source_server.requests("/posts")) == 1, "the source is not asked"
    with pytest.raises(aiohttp.ClientPayloadError):
        await get(session, f"{url}?_page=2")
    assert ids((await get(session, f"{url}?_page=2"))[1]) == list(range(10)), "the page before"
    assert ids((await get(session, f"{url}?_page=2"))[1]) == list(range(10, 20))
    assert [str(fault) for fault in relay.struck] == ["http_500@page2", "cut_body@page2", "dup_page@page2"]


async def test_a_page_keeps_the_number_it_got_first(
    relay: Relay, session: aiohttp.ClientSession, source_server: SourceServer
) -> None:
    url = source_server.put_pages("/posts", RECORDS)

    for page in (1, 2, 1, 2):
        await get(session, f"{url}?_page={page}")

    assert relay.pages == [f"GET {url}?_page=1", f"GET {url}?_page=2"]
    assert dict(relay.able) == {
        "http_500": [1, 2],
        "cut_body": [1, 2],
        "slow": [1, 2],
        "reorder": [1, 2],
        "dup_page": [2],
    }


async def test_a_token_made_anew_stands_for_the_page_that_had_another(source_server: SourceServer) -> None:
    url = source_server.put_pages("/posts", RECORDS)
    before = [f"GET {url}?_page=1", f"GET {url}?_page=1&token=a", f"GET {url}?_page=1&token=b"]

    async with Relay(pages=before) as relay, aiohttp.ClientSession(connector=RelayedConnector(relay.url)) as session:
        for query in ("_page=1", "_page=1&token=x", "_page=1&token=b", "_page=1&token=x", "_page=1&other=y"):
            await get(session, f"{url}?{query}")

    assert relay.pages == [before[0], f"GET {url}?_page=1&token=x", before[2], f"GET {url}?_page=1&other=y"]
    assert relay.asked.total() == 5


async def test_reordered_records_are_the_same_bytes_in_another_order(
    relay: Relay, session: aiohttp.ClientSession, source_server: SourceServer
) -> None:
    body = (
        b'{"meta": {"tags": [{"a": 1}, {"a": 2}]}, "data": [ {"id": 1.10}, {"id":2, "x": [1, 2]},\n{"id": "\\u00e9"}]}'
    )
    url = source_server.put("/records", body, content_type="application/json", etag='"v1"')
    relay.plan([Fault("reorder", "page", 1)])

    async with session.get(url) as response:
        sent = await response.read()
        vouched = response.headers.get("ETag")

    assert sent != body
    assert sorted(sent) == sorted(body)
    assert all(record in sent for record in (b'{"id": 1.10}', b'{"id":2, "x": [1, 2]}', b'{"id": "\\u00e9"}'))
    assert sent.startswith(body[: body.index(b"{", 50)]), "what is no record stays"
    assert vouched is None
    assert (await get(session, url))[1] == body


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'[{"id": 1}]', b'[{"id": 1}, {"id": 1}]', b"[1, 2]", b'{"a": 1}\n{"a": [{}, {"b": 1}]}', b"id\n1"],
)
def test_what_has_no_two_records_is_not_reordered(body: bytes) -> None:
    assert reordered(Head("HTTP/1.1 200 OK", ()), body, random.Random(1)) is None


def test_a_compressed_page_is_reordered_too() -> None:
    head = Head("HTTP/1.1 200 OK", (("Content-Encoding", "gzip"),))

    found = reordered(head, gzip.compress(json.dumps(RECORDS).encode()), random.Random(1))

    assert found is not None
    assert found[0].fields == ()
    assert sorted(ids(found[1])) == list(range(20)) != ids(found[1])


async def test_a_slow_body_arrives_whole(
    relay: Relay, session: aiohttp.ClientSession, source_server: SourceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "SLOW_SECONDS", 0.3)
    body = json.dumps(RECORDS).encode()
    url = source_server.put("/posts", body)
    relay.plan([Fault("slow", "page", 1)])

    began = monotonic()

    assert await get(session, url) == (200, body)
    assert monotonic() - began >= 0.3 - CLOCK_STEP


async def test_a_body_larger_than_what_is_held_passes_and_is_cut_in_the_middle(
    relay: Relay, session: aiohttp.ClientSession, source_server: SourceServer
) -> None:
    body = bytes(range(256)) * 16 * 1024
    url = source_server.put("/file", body)
    assert await get(session, url) == (200, body)

    relay.plan([Fault("cut_body", "page", 1)])
    async with session.get(url) as response:
        received = await response.content.readexactly(len(body) // 2)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.readexactly(1)

    assert received == body[: len(body) // 2]


async def test_redirects_to_the_source_itself_do_not_lead_past_it(
    relay: Relay, session: aiohttp.ClientSession, source_server: SourceServer
) -> None:
    def redirect(_seen: Seen) -> Reply:
        return Reply(None, status=302, headers={"Location": f"{source_server.url}/there"})

    url = source_server.put_script("/here", redirect)
    source_server.put("/there", b"[]")

    assert await get(session, url) == (200, b"[]")
    assert relay.pages == [f"GET {url}", f"GET {source_server.url}/there"]


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """One for localhost that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(utc_now() - timedelta(days=1)).not_valid_after(utc_now() + timedelta(days=1))
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    file = folder / "localhost.pem"
    kinds = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *kinds)
        + built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return file, context


async def test_a_source_that_speaks_tls_is_asked_in_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, context = certificate(tmp_path)
    heads = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/posts?_page=1"
        async with Relay() as stranger, aiohttp.ClientSession(connector=RelayedConnector(stranger.url)) as session:
            with pytest.raises(aiohttp.ClientError):
                await get(session, url)
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        async with Relay() as relay, aiohttp.ClientSession(connector=RelayedConnector(relay.url)) as session:
            assert await get(session, url) == (200, b"abcde")
            assert relay.pages == [f"GET {url}"]

    assert len(heads) == 1, "a certificate that nobody vouches for is not accepted"
    assert b"GET /posts?_page=1 HTTP/1.1\r\n" in heads[0]


def test_a_plan_is_read_from_one_line_and_gets_its_places_from_the_seed() -> None:
    plan = parse_plan("http_500@page3; cut_body ;kill; dup_page; reorder;seed = 7;")
    counted, pages = {"before_commit": 3, "after_commit": 3}, {"cut_body": [1, 2, 3], "dup_page": [2]}

    placed = [place_faults(plan, counted, pages, seed=seed) for seed in (1, 2)]  # type: ignore[arg-type]
    others = {str(place_faults(parse_plan("kill"), counted, {}, seed=seed)) for seed in range(20)}  # type: ignore[arg-type]

    assert placed[0] == placed[1], "the plan's own seed wins"
    assert str(placed[0]).startswith("http_500@page3; cut_body@page")
    assert str(placed[0]).endswith("; dup_page@page2; reorder; seed=7"), "there is no page to reorder"
    assert parse_plan(str(placed[0])) == placed[0]
    assert len(others) > 3


@pytest.mark.parametrize("text", ["", "seed=1", "kill; seed=1; seed=2", "kill; eat", "http_500@page0", "kill@page1"])
def test_a_plan_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="for example"):
        parse_plan(text)


@pytest.mark.parametrize("text", ["cut_body@after_commit:1", "kill@page2", "http_500@page:1", "slow@page"])
def test_a_fault_has_a_place_of_its_own_side(text: str) -> None:
    with pytest.raises(ConfigError, match="for example http_500@page3"):
        parse_fault(text)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"FAULT_RELAY": "http://127.0.0.1:9000", "HOST": "0.0.0.0"}, "refused where others are served"),
        ({"FAULT_RELAY": "http://relay.example.com:9000"}, "must be http://127.0.0.1:PORT"),
        ({"FAULT_RELAY": "https://127.0.0.1:9000"}, "must be http://127.0.0.1:PORT"),
        ({"FAULT_RELAY": "http://127.0.0.1"}, "must be http://127.0.0.1:PORT"),
    ],
)
def test_a_relay_is_refused_where_others_are_served(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_settings(**settings)
