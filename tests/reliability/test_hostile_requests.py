"""Bytes that no client library sends, on a real socket: each is answered or cut off, and none is a 500."""

from collections.abc import AsyncIterator

import pytest

from tests.processes import Service, connect, exchange, serving

HOST = b"Host: h\r\n"
CLOSE = b"Connection: close\r\n\r\n"
TOKEN = b"Authorization: Bearer operate\r\n"
POST = b"POST /sources/check HTTP/1.1\r\n" + HOST + TOKEN
JSON = b"Content-Type: application/json\r\n"

REQUESTS: dict[str, tuple[bytes, set[int]]] = {
    "HTTP/1.0": (b"GET /livez HTTP/1.0\r\n\r\n", {200}),
    "HTTP/9.9": (b"GET /livez HTTP/9.9\r\n" + HOST + CLOSE, {200, 400, 505}),
    "no host": (b"GET /livez HTTP/1.1\r\n" + CLOSE, {200, 400}),
    "nonsense": (b"\x00\xff\xfe nonsense\r\n\r\n", {400}),
    "invalid UTF-8 in the path": (b"GET /data/%ff%fe HTTP/1.1\r\n" + HOST + CLOSE, {422}),
    "raw bytes in the path": (b"GET /data/\xff\xfe HTTP/1.1\r\n" + HOST + CLOSE, {400, 404, 422}),
    "a surrogate in the query": (b"GET /data?search=%ED%A0%80 HTTP/1.1\r\n" + HOST + CLOSE, {200}),
    "NUL in the query": (b"GET /data?source=%00 HTTP/1.1\r\n" + HOST + CLOSE, {422}),
    "NUL in the path": (b"GET /sources/%00/config HTTP/1.1\r\n" + TOKEN + HOST + CLOSE, {404}),
    "a path with dots": (b"GET /static/swagger-ui/../../../../etc/passwd HTTP/1.1\r\n" + HOST + CLOSE, {404}),
    "an encoded path with dots": (
        b"GET /static/swagger-ui/%2e%2e%2f%2e%2e%2fapp.py HTTP/1.1\r\n" + HOST + CLOSE,
        {404},
    ),
    "a query of 60 kB": (b"GET /data?search=" + b"a" * 60_000 + b" HTTP/1.1\r\n" + HOST + CLOSE, {400, 414, 422, 431}),
    "a parameter twice": (b"GET /data?page=1&page=x HTTP/1.1\r\n" + HOST + CLOSE, {422}),
    "a header of odd bytes": (b"GET /data HTTP/1.1\r\nX-Odd: \xff\x80\x7f\r\n" + HOST + CLOSE, {200, 400}),
    "an absurd Range": (b"GET /data HTTP/1.1\r\nRange: bytes=-1-,9-3\r\n" + HOST + CLOSE, {200}),
    "an absurd If-None-Match": (b'GET /data HTTP/1.1\r\nIf-None-Match: "\xff", W/*\r\n' + HOST + CLOSE, {200}),
    "an absurd Accept": (b"GET /data HTTP/1.1\r\nAccept: q=;;;,\xff\r\n" + HOST + CLOSE, {200}),
    "a token of odd bytes": (b"GET /rejects HTTP/1.1\r\nAuthorization: Bearer \xff\xfe\r\n" + HOST + CLOSE, {401}),
    "an empty token": (b"GET /rejects HTTP/1.1\r\nAuthorization: Bearer \r\n" + HOST + CLOSE, {401}),
    "another scheme": (b"GET /rejects HTTP/1.1\r\nAuthorization: Basic Og==\r\n" + HOST + CLOSE, {401}),
    "a length that is none": (POST + b"Content-Length: -1\r\n" + CLOSE, {400}),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n" + CLOSE + b"{}", {400}),
    "a body that is no JSON": (POST + JSON + b"Content-Length: 2\r\n" + CLOSE + b"\xff{", {422}),
    "a body of another type": (POST + b"Content-Type: image/png\r\nContent-Length: 2\r\n" + CLOSE + b"{}", {422}),
    "a body of brackets": (POST + JSON + b"Content-Length: 90000\r\n" + CLOSE + b"[" * 90_000, {422}),
    "a body of 10 MB": (POST + JSON + b"Content-Length: 10000000\r\n" + CLOSE + b" " * 10_000_000, {413}),
    "chunks without an end": (POST + JSON + b"Transfer-Encoding: chunked\r\n" + CLOSE + b"zz\r\n", {400}),
    "a number of 5,000 digits": (b"GET /runs/" + b"9" * 5_000 + b" HTTP/1.1\r\n" + HOST + CLOSE, {422}),
    "an unknown method": (b"BREW /data HTTP/1.1\r\n" + HOST + CLOSE, {400, 405}),
}


@pytest.fixture(scope="module")
async def service(server_dsn: str) -> AsyncIterator[Service]:
    async with serving("serve", DATABASE_URL=server_dsn, BUILT_IN_SOURCES="none", OPERATOR_TOKEN="operate") as started:
        yield started


@pytest.mark.parametrize("name", REQUESTS)
async def test_it_is_answered_in_good_form(name: str, service: Service) -> None:
    sent, expected = REQUESTS[name]
    answer = await exchange(service, sent)

    status = int(answer.split(b" ", 2)[1]) if answer else 0
    assert status in expected, answer[:500]
    assert (await exchange(service, b"GET /livez HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_body_shorter_than_it_says_leaves_others_alone(service: Service) -> None:
    reader, writer = await connect(service)
    writer.write(POST + JSON + b"Content-Length: 1000\r\n\r\n{")
    await writer.drain()
    answered = await exchange(service, b"GET /livez HTTP/1.0\r\n\r\n")
    writer.close()
    rest = await reader.read()

    assert answered.startswith(b"HTTP/1.1 200")
    assert not rest.startswith(b"HTTP/1.1 5")


@pytest.mark.parametrize("target", [b"/livez", b"/data", b"/data/export?format=ndjson", b"/nowhere", b"/runs/1/cancel"])
async def test_nothing_follows_the_headers_that_answer_a_head(service: Service, target: bytes) -> None:
    answer = await exchange(service, b"HEAD " + target + b" HTTP/1.1\r\n" + HOST + CLOSE)

    headers, _, rest = answer.partition(b"\r\n\r\n")
    assert headers.startswith((b"HTTP/1.1 200", b"HTTP/1.1 404", b"HTTP/1.1 405"))
    assert rest == b""
