"""The fake world is proved before anything trusts it."""

import asyncio

import aiohttp
import pytest

from tests.source_server import Fault, SourceServer


async def test_a_body_is_served_as_it_is(source_server: SourceServer) -> None:
    url = source_server.put("/a.csv", b"id\n1\n")

    async with aiohttp.ClientSession() as session, session.get(url) as response:
        body = await response.read()

    assert body == b"id\n1\n"
    assert [seen.path for seen in source_server.seen] == ["/a.csv"]


async def test_a_known_etag_gets_304(source_server: SourceServer) -> None:
    url = source_server.put("/a.csv", b"id\n", etag='"1"')

    async with aiohttp.ClientSession() as session, session.get(url, headers={"If-None-Match": '"1"'}) as response:
        status = response.status

    assert status == 304


async def test_pages_follow_one_another_by_link(source_server: SourceServer) -> None:
    url: str | None = source_server.put_pages("/posts", list(range(25))) + "?_page=1&_limit=10"
    got: list[int] = []

    async with aiohttp.ClientSession() as session:
        while url:
            async with session.get(url) as response:
                got += await response.json()
                link = response.links.get("next")
            url = str(link["url"]) if link else None

    assert got == list(range(25))


async def test_a_fault_spoils_one_request(source_server: SourceServer) -> None:
    url = source_server.put("/a.csv", b"id\n")
    source_server.fault("/a.csv", Fault(status=500))

    async with aiohttp.ClientSession() as session:
        statuses = [(await session.get(url)).status for _ in range(2)]

    assert statuses == [500, 200]


async def test_a_cut_body_ends_early(source_server: SourceServer) -> None:
    url = source_server.put("/a.csv", b"x" * 1000)
    source_server.fault("/a.csv", Fault(cut_after=10))

    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientPayloadError):
            await (await session.get(url)).read()


async def test_a_hang_answers_nothing(source_server: SourceServer) -> None:
    source_server.fault("/a.csv", Fault(hang=True))

    async with aiohttp.ClientSession() as session:
        with pytest.raises(asyncio.TimeoutError):
            await session.get(source_server.url + "/a.csv", timeout=aiohttp.ClientTimeout(total=0.2))
