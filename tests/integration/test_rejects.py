"""What was rejected, grouped by what is wrong with it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.resources import Resources
from app.settings import load_settings
from tests.conftest import api_client
from tests.source_files import SourceFiles, resource
from tests.source_server import SourceServer


class Rejecting:
    def __init__(self, sources: SourceFiles, server: SourceServer, client: httpx2.AsyncClient) -> None:
        self.sources, self.server, self.client = sources, server, client

    async def run(self, records: list[dict[str, Any]]) -> None:
        self.server.put_json("/things", lambda _: records)
        await self.sources.run()

    async def groups(self) -> list[tuple[str, str | None, int]]:
        return [(group["code"], group["field"], group["count"]) for group in (await self.client.get("/rejects")).json()]


@pytest.fixture
async def rejecting(resources: Resources, source_server: SourceServer, tmp_path: Path) -> AsyncIterator[Rejecting]:
    sources = SourceFiles(resources, tmp_path / "sources", source_server.url)
    sources.rest(resource(mapping='name = "title"\nvalue = "price"', keys='schema_contract = "reject_row"'))
    resources.settings = load_settings(OPERATOR_TOKEN="operate")
    async with api_client(resources, headers={"Authorization": "Bearer operate"}) as client:
        yield Rejecting(sources, source_server, client)


async def test_a_hundred_wrong_prices_are_one_group(rejecting: Rejecting) -> None:
    dear = [{"id": n, "price": f"{n},50 EUR"} for n in range(100)]
    await rejecting.run([*dear, {"id": 200, "price": "--"}, {"title": "no key"}, {"id": 300, "price": 5}])

    groups = (await rejecting.client.get("/rejects?source=s")).json()
    members = (await rejecting.client.get(f"/rejects/{groups[0]['fingerprint']}?limit=3")).json()
    following = (
        await rejecting.client.get(f"/rejects/{groups[0]['fingerprint']}?limit=100&after={members[-1]['id']}")
    ).json()

    assert sorted(group["count"] for group in groups) == [1, 1, 100]
    assert (groups[0]["field"], groups[0]["example_source_id"]) == ("value", "0")
    assert "0,50 EUR" in groups[0]["example"]
    assert [one["payload"] for one in members] == [f'{{"id": {n}, "price": "{n},50 EUR"}}' for n in range(3)]
    assert len(following) == 97
    assert (await rejecting.client.get("/rejects?source=nobody")).json() == []


async def test_a_rejection_is_open_until_a_later_version_is_loaded(rejecting: Rejecting) -> None:
    seen = []
    for price in ("dear", "very dear", 5, "free"):
        await rejecting.run([{"id": 1, "price": price}])
        seen.append([count for _, _, count in await rejecting.groups()])

    assert seen == [[1], [1], [], [1]]


@pytest.mark.parametrize("path", ["/rejects/x", "/rejects/0123456789ab?limit=0", "/rejects?source=%00"])
async def test_what_makes_no_sense_is_refused(rejecting: Rejecting, path: str) -> None:
    assert (await rejecting.client.get(path)).status_code == 422


async def test_records_are_shown_to_who_has_a_token(rejecting: Rejecting) -> None:
    del rejecting.client.headers["Authorization"]

    assert (await rejecting.client.get("/rejects")).status_code == 401


async def test_a_wrong_mapping_is_found_mended_previewed_and_redriven_without_the_source(
    rejecting: Rejecting, resources: Resources, source_server: SourceServer
) -> None:
    await rejecting.run(
        [{"id": n, "title": f"t{n}", "price": f"{n},50"} for n in range(50)] + [{"id": 99, "price": "?"}]
    )
    (prices, _) = (await rejecting.client.get("/rejects")).json()
    asked = len(source_server.seen)
    mended = 'name = "title"\nvalue = { path = "price", type = "decimal", decimal = "," }'
    rejecting.sources.rest(resource(mapping=mended, keys='schema_contract = "reject_row"'))
    resources.catalog = rejecting.sources.catalog()

    previewed = await rejecting.client.post(f"/sources/s/replay?dry_run=true&fingerprint={prices['fingerprint']}")
    started = await rejecting.client.post("/rejects/redrive", json={"fingerprint": prices["fingerprint"]})
    await asyncio.gather(*resources.background)
    left = await rejecting.groups()
    again = await rejecting.client.post("/rejects/redrive", json={"fingerprint": prices["fingerprint"]})
    by_replay = await rejecting.client.post(f"/sources/s/replay?fingerprint={prices['fingerprint']}")
    run = (await rejecting.client.get(started.headers["Location"])).json()
    row = (await rejecting.client.get("/data?source=s&search=t7")).json()["data"][0]
    lineage = (await rejecting.client.get(f"/data/{row['id']}/lineage")).json()

    assert (previewed.json()[0]["healed"], previewed.json()[0]["rows"]) == (50, 50)
    assert (started.status_code, again.status_code, by_replay.status_code) == (202, 404, 404)
    assert (run["status"], run["trigger"], run["extracted"], run["inserted"]) == ("succeeded", "replay", 50, 50)
    assert [count for _, _, count in left] == [1]
    assert (row["value"], lineage["received"]["payload"]) == (7.5, '{"id": 7, "title": "t7", "price": "7,50"}')
    assert len(source_server.seen) == asked
