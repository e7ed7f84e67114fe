"""What strangers post to a hook, byte for byte, on a real socket: refused or cut off, and never a 500."""

import asyncio
import contextlib
import gzip
import hashlib
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.databases import with_database
from tests.processes import Service, connect, exchange, serving
from tests.webhooks import SECRET, body, signed, source, write

HOOK = b"POST /hooks/shop-orders HTTP/1.1\r\nHost: h\r\n"
CLOSE = b"Connection: close\r\n\r\n"
BODY = body(1)


def with_headers(payload: bytes = BODY, *more: bytes, **changed: bytes | None) -> bytes:
    """A delivery whose headers are signed, but for those that are changed (None: left out)."""
    headers = {name: value.encode() for name, value in signed(payload).items()}
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}  # type: ignore[misc]
    headers.setdefault("content-length", b"%d" % len(payload))
    lines = [name.encode() + b": " + value for name, value in headers.items() if value is not None]
    return HOOK + b"\r\n".join([*lines, *more]) + b"\r\n" + CLOSE + payload


def good(payload: bytes, *more: bytes, packed: bytes | None = None) -> bytes:
    """A delivery that is signed; its own id, so that each is news."""
    sent = payload if packed is None else packed
    named = signed(payload, id=hashlib.md5(sent + b"".join(more), usedforsecurity=False).hexdigest())
    headers = [f"{name}: {value}".encode() for name, value in named.items()]
    if not any(line.lower().startswith(b"transfer-encoding") for line in more):
        headers.append(b"content-length: %d" % len(sent))
    return HOOK + b"\r\n".join([*headers, *more]) + b"\r\n" + CLOSE + sent


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def refused() -> dict[str, tuple[bytes, set[int]]]:
    """What is sent, signed now, and the statuses that may come of it."""
    return {
        "nothing signed": (HOOK + b"Content-Length: 2\r\n" + CLOSE + b"{}", {401}),
        "no body": (HOOK + CLOSE, {401}),
        "another path": (b"POST /hooks/%ff%00 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n" + CLOSE, {404}),
        "a path of 60 kB": (b"POST /hooks/" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: h\r\n" + CLOSE,
                            {400, 404, 414, 431}),
        "a path with dots": (b"POST /hooks/../hooks/shop-orders HTTP/1.1\r\nHost: h\r\n" + CLOSE, {404}),
        "another method": (HOOK.replace(b"POST", b"PUT") + CLOSE, {405}),
        "an id of odd bytes": (with_headers(webhook_id=b"\xff\xfe\x80"), {400, 401}),
        "an id of NUL": (with_headers(webhook_id=b"a\x00b"), {400, 401}),
        "an id that is empty": (with_headers(webhook_id=b""), {401}),
        "an id of 50 kB": (with_headers(webhook_id=b"m" * 50_000), {400, 401, 431}),
        "an id twice": (with_headers(BODY, b"webhook-id: msg_1"), {401}),
        "a signature twice": (with_headers(BODY, b"webhook-signature: v1,AAAA"), {401}),
        "a signature of odd bytes": (with_headers(webhook_signature=b"v1,\xff\xff\xff"), {400, 401}),
        "a signature in UTF-8": (with_headers(webhook_signature="v1,ÄÖÜ".encode()), {400, 401}),
        "a signature of NUL": (with_headers(webhook_signature=b"v1,\x00"), {400, 401}),
        "a signature of another version": (with_headers(webhook_signature=b"v2,AAAA"), {401}),
        "a signature that is no base64": (with_headers(webhook_signature=b"v1,%%%"), {401}),
        "a signature of 50 kB": (with_headers(webhook_signature=b"v1," + b"A" * 50_000), {400, 401, 431}),
        "many signatures": (with_headers(webhook_signature=b"v1,A " * 10_000), {400, 401, 431}),
        "a signature over two lines": (with_headers(webhook_signature=b"v1,A\r\n AAA"), {400, 401}),
        "no signature": (with_headers(webhook_signature=None), {401}),
        "no timestamp": (with_headers(webhook_timestamp=None), {401}),
        "a timestamp of text": (with_headers(webhook_timestamp=b"yesterday"), {401}),
        "a negative timestamp": (with_headers(webhook_timestamp=b"-1"), {401}),
        "a timestamp of 9,000 digits": (with_headers(webhook_timestamp=b"9" * 9_000), {401}),
        "a timestamp of odd bytes": (with_headers(webhook_timestamp=b"\xd9\xa1\xd9\xa2"), {400, 401}),
        "a timestamp of NaN": (with_headers(webhook_timestamp=b"nan"), {401}),
        "an old delivery": (HOOK + b"".join(
            f"{name}: {value}\r\n".encode() for name, value in signed(BODY, at=int(time.time()) - 301).items()
        ) + b"Content-Length: %d\r\n" % len(BODY) + CLOSE + BODY, {401}),
        "one of tomorrow": (HOOK + b"".join(
            f"{name}: {value}\r\n".encode() for name, value in signed(BODY, at=int(time.time()) + 86_400).items()
        ) + b"Content-Length: %d\r\n" % len(BODY) + CLOSE + BODY, {401}),
        "another body": (with_headers(BODY).replace(b"order 1", b"order 2"), {401}),
        "a bearer token": (with_headers(BODY, b"Authorization: Bearer \xff\xfe", webhook_id=None), {400, 401}),
        "a length that is none": (with_headers(content_length=b"-1"), {400}),
        "a length of 5,000 digits": (with_headers(content_length=b"9" * 5_000), {400, 413}),
        "a length in other digits": (with_headers(content_length="١٢".encode()), {400}),
        "a length that is too large": (with_headers(content_length=b"99999999"), {413}),
        "two lengths": (with_headers(BODY, b"Content-Length: 3"), {400}),
        "chunks without an end": (with_headers(b"zz\r\n", b"Transfer-Encoding: chunked", content_length=None), {400}),
        "too much in chunks": (
            with_headers(chunked(*[b"x" * 60_000] * 40), b"Transfer-Encoding: chunked", content_length=None), {413},
        ),
        "chunks and a length": (
            good(BODY, b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(BODY), packed=chunked(BODY)), {400},
        ),
        "chunks twice": (good(BODY, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), {400}),
        "a chunk of 2^68": (good(BODY, b"Transfer-Encoding: chunked", packed=b"f" * 17 + b"\r\n"), {400}),
        "a signature behind the chunks": (
            good(BODY, b"Transfer-Encoding: chunked", packed=chunked(BODY)[:-2] + b"webhook-signature: A\r\n\r\n"),
            {401},
        ),
        "another transfer encoding": (good(BODY, b"Transfer-Encoding: xchunked"), {400}),
        "bare line feeds": (good(BODY).replace(b"\r\n", b"\n"), {400}),
        "a header without a colon": (with_headers(BODY, b"webhook-id"), {400}),
        "a header of odd name": (with_headers(BODY, b"\xff\xff: a"), {400}),
        "another version of HTTP": (good(BODY).replace(b"HTTP/1.1", b"HTTP/9.9"), {400}),
        "a preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
        "a slash at the end": (HOOK.replace(b"orders ", b"orders/ ") + b"Content-Length: 2\r\n" + CLOSE + b"{}", {401}),
        "a slash too many": (good(BODY).replace(b"/hooks/", b"/hooks//"), {404}),
        "dots that are escaped": (good(BODY).replace(b"/hooks/", b"/hooks/%2e%2e/hooks/"), {404}),
        "a host of odd bytes": (good(BODY).replace(b"Host: h", b"Host: \xff\x00"), {400}),
        "another encoding": (with_headers(BODY, b"Content-Encoding: br"), {415}),
        "an encoding of odd bytes": (with_headers(BODY, b"Content-Encoding: \xff"), {400, 415}),
        "two encodings": (with_headers(BODY, b"Content-Encoding: gzip", b"Content-Encoding: gzip"), {415}),
        "a damaged body": (with_headers(b"\x1f\x8b\x08garbage", b"Content-Encoding: gzip"), {400}),
        "two members": (good(BODY, b"Content-Encoding: gzip", packed=gzip.compress(BODY) * 2), {400}),
        # 413: cut off while it sends
        "much behind the end": (
            good(BODY, b"Content-Encoding: gzip", packed=gzip.compress(BODY) + b" " * 1_050_000), {400, 413},
        ),
        "blocks of nothing": (
            good(BODY, b"Content-Encoding: deflate", b"Transfer-Encoding: chunked",
                 packed=chunked(b"\x78\x9c", *[b"\x00\x00\x00\xff\xff" * 10_000] * 40)), {413},
        ),
        "a bomb": (with_headers(gzip.compress(b" " * 200_000_000, 1), b"Content-Encoding: gzip"), {413}),
        "expect": (HOOK + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n" + CLOSE, {100, 413}),
        "brackets": (HOOK + b"Content-Length: 90000\r\n" + CLOSE + b"[" * 90_000, {401}),
    }  # fmt: skip


@pytest.fixture(scope="module")
async def dsn_of_module(server_dsn: str, template: str) -> AsyncIterator[str]:
    connection = await asyncpg.connect(server_dsn)
    await connection.execute(f"CREATE DATABASE etl_hostile_hooks TEMPLATE {template}")
    yield with_database(server_dsn, "etl_hostile_hooks")
    await connection.execute("DROP DATABASE etl_hostile_hooks WITH (FORCE)")
    await connection.close()


@pytest.fixture(scope="module")
async def service(dsn_of_module: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    folder: Path = tmp_path_factory.mktemp("hooks") / "sources"
    write(folder, source())
    environment = {"DATABASE_URL": dsn_of_module, "SOURCES_DIR": str(folder), "ETL_SECRET_HOOK": SECRET}
    async with serving("serve", BUILT_IN_SOURCES="none", **environment) as started:
        yield started


@pytest.mark.parametrize("name", refused())
async def test_it_is_refused_and_leaves_nothing(name: str, service: Service, dsn_of_module: str) -> None:
    sent, expected = refused()[name]
    before = await count_raw(dsn_of_module)

    answer = await exchange(service, sent)

    assert status_of(answer) in expected, answer[:500]
    assert await count_raw(dsn_of_module) == before
    assert not any('"level": "error"' in line for line in service.log)


# Signed, and stored: however it comes, and whatever it holds
def taken() -> dict[str, bytes]:
    """What is sent, signed now."""
    return {
        "chunks with extensions": good(
            BODY, b"Transfer-Encoding: chunked", packed=b"%x;a=b;c=\"d\"\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
        ),
        "a trailer": good(BODY, b"Transfer-Encoding: chunked", packed=chunked(BODY)[:-2] + b"X-Sum: 1\r\n\r\n"),
        "HTTP/1.0": good(BODY, b"X-A: 1").replace(b"HTTP/1.1", b"HTTP/1.0"),
        "an absolute URI": good(BODY, b"X-A: 2").replace(b"POST /", b"POST http://h/"),
        "an escaped path and a query": good(BODY, b"X-A: 3").replace(b"shop-orders", b"shop%2Dorders?a=%00&b=%ff"),
        "a slash at the end": good(BODY, b"X-A: 4").replace(b"orders ", b"orders/ "),
        "a header of 60 kB": good(BODY, b"X-Long: " + b"a" * 60_000),
        "content types": good(BODY, b"Content-Type: a", b"Content-Type: b"),
        "deflate": good(BODY, b"Content-Encoding: deflate", packed=zlib.compress(BODY)),
        "gzip": good(BODY, b"Content-Encoding: GZip", packed=gzip.compress(BODY)),
        "gzip of gzip": good(gzip.compress(BODY, mtime=0), b"Content-Encoding: gzip",
                             packed=gzip.compress(gzip.compress(BODY, mtime=0))),
        "NUL": good(b'{"id": 1, "title": "a\x00"}'),
        "a NUL that is escaped": good(b'{"id": 1, "title": "a\\u0000"}'),
        "a surrogate": good(b'{"id": 1, "title": "a\\ud800"}'),
        "a key that is a surrogate": good(b'{"id": "\\ud800"}'),
        "a surrogate in UTF-8": good(b'{"id": 1, "title": "\xed\xa0\x80"}'),
        "100,000 lists": good(b"[" * 100_000 + b"]" * 100_000),
        "100,000 objects": good(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        "5,000 digits": good(b'{"id": 1, "total": ' + b"9" * 5_000 + b"}"),
        "an exponent of 5,000 digits": good(b'{"id": 1, "total": 1e' + b"9" * 5_000 + b"}"),
        "an empty list": good(b"[]"),
        "UTF-16": good(BODY.decode().encode("utf-16")),
    }  # fmt: skip


@pytest.mark.parametrize("name", taken())
async def test_what_is_signed_is_kept_however_odd(name: str, service: Service, dsn_of_module: str) -> None:
    before = await count_raw(dsn_of_module)

    answer = await exchange(service, taken()[name])

    assert status_of(answer) == 202, answer[:500]
    assert await count_raw(dsn_of_module) == before + 1
    assert not any('"level": "error"' in line for line in service.log)


async def test_a_body_that_never_ends_is_cut_off_and_others_are_answered(service: Service) -> None:
    """One byte a second, without a length: after 15 s it is over."""
    reader, writer = await connect(service)
    writer.write(HOOK + b"Transfer-Encoding: chunked\r\n\r\n")

    async def dribble() -> None:
        while True:
            writer.write(b"1\r\n{\r\n")
            await writer.drain()
            await asyncio.sleep(1)

    dribbling = asyncio.create_task(dribble())
    try:
        async with asyncio.timeout(30):
            assert status_of(await exchange(service, b"GET /livez HTTP/1.0\r\n\r\n")) == 200
            assert status_of(await reader.readuntil(b"\r\n\r\n")) == 408
    finally:
        dribbling.cancel()
        await asyncio.gather(dribbling, return_exceptions=True)
        writer.close()


async def test_bodies_that_do_not_end_fill_no_memory(service: Service) -> None:
    """160 strangers who send a megabyte each but for its last byte: those beyond 128 MiB are told to come later."""
    begun = HOOK + b"Content-Length: 1048576\r\nConnection: close\r\n\r\n" + b" " * 1_048_575
    held = [await connect(service) for _ in range(160)]
    first = asyncio.Queue[bytes]()

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(begun)
            await writer.drain()
            first.put_nowait(await reader.read(100))

    senders = [asyncio.create_task(send(*one)) for one in held]
    async with asyncio.timeout(12):
        refused = [await first.get() for _ in range(20)]
    for sender, (_, writer) in zip(senders, held, strict=True):
        sender.cancel()
        writer.transport.abort()
    await asyncio.gather(*senders, return_exceptions=True)

    assert {status_of(answer) for answer in refused} == {429}
    async with asyncio.timeout(10):
        while status_of(await exchange(service, good(BODY, b"X-A: later"))) != 202:
            await asyncio.sleep(0.1)


async def test_a_sender_that_leaves_in_the_middle_leaves_others_alone(service: Service) -> None:
    for _ in range(20):
        _, writer = await connect(service)
        writer.write(HOOK + b"Content-Length: 1000\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()

    assert status_of(await exchange(service, b"GET /livez HTTP/1.0\r\n\r\n")) == 200
    assert not any('"level": "error"' in line for line in service.log)


async def count_raw(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM raw_api_data"))
    finally:
        await connection.close()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0
