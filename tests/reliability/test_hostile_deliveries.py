"""What strangers post to a hook, byte for byte, on a real socket: refused or cut off, and never a 500."""

import asyncio
import gzip
import time
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


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


REFUSED: dict[str, tuple[bytes, set[int]]] = {
    "nothing signed": (HOOK + b"Content-Length: 2\r\n" + CLOSE + b"{}", {401}),
    "no body": (HOOK + CLOSE, {401}),
    "another path": (b"POST /hooks/%ff%00 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n" + CLOSE, {404}),
    "a path of 60 kB": (b"POST /hooks/" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: h\r\n" + CLOSE, {400, 404, 414, 431}),
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
    "another encoding": (with_headers(BODY, b"Content-Encoding: br"), {415}),
    "an encoding of odd bytes": (with_headers(BODY, b"Content-Encoding: \xff"), {400, 415}),
    "two encodings": (with_headers(BODY, b"Content-Encoding: gzip", b"Content-Encoding: gzip"), {415}),
    "a damaged body": (with_headers(b"\x1f\x8b\x08garbage", b"Content-Encoding: gzip"), {400}),
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


@pytest.mark.parametrize("name", REFUSED)
async def test_it_is_refused_and_leaves_nothing(name: str, service: Service, dsn_of_module: str) -> None:
    sent, expected = REFUSED[name]

    answer = await exchange(service, sent)

    assert status_of(answer) in expected, answer[:500]
    connection = await asyncpg.connect(dsn_of_module)
    assert await connection.fetchval("SELECT count(*) FROM raw_api_data") == 0
    await connection.close()
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


async def test_a_sender_that_leaves_in_the_middle_leaves_others_alone(service: Service) -> None:
    for _ in range(20):
        _, writer = await connect(service)
        writer.write(HOOK + b"Content-Length: 1000\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()

    assert status_of(await exchange(service, b"GET /livez HTTP/1.0\r\n\r\n")) == 200
    assert not any('"level": "error"' in line for line in service.log)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0
