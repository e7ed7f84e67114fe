"""Every row explains itself: followed back to the bytes that it came from."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx2
import pytest

from app.operations.replay import replay
from app.records import ReplayRange
from app.resources import Resources
from app.settings import load_settings
from tests.conftest import api_client
from tests.source_files import SourceFiles, resource
from tests.source_server import SourceServer

READER = {"Authorization": "Bearer look"}
BODIES = (
    b'[{"id": 1, "title": "a", "price": 1.10}]',
    b'[{"id": 1,  "title": "b", "price": "n/a"}]',
    b'[{"id": 1,  "title": "\\u00e9", "price": 26000000000000000000000001}, {"id": 2, "title": "x"}]',
)


@pytest.fixture
async def traced(
    resources: Resources, source_server: SourceServer, tmp_path: Path
) -> AsyncIterator[httpx2.AsyncClient]:
    """The API after three runs that changed record 1 twice."""
    sources = SourceFiles(resources, tmp_path / "sources", source_server.url)
    sources.rest(resource(mapping='name = "title"\nvalue = "price"'))
    for body in BODIES:
        source_server.put("/things", body, content_type="application/json")
        await sources.run()
    resources.settings = load_settings(READ_TOKEN="look")
    async with api_client(resources, headers=READER) as client:
        yield client


async def test_a_row_is_followed_to_its_bytes_and_its_earlier_versions(traced: httpx2.AsyncClient) -> None:
    served = {row["source_id"]: row for row in (await traced.get("/data?source=s")).json()["data"]}

    one = await traced.get(f"/data/{served['1']['id']}")
    lineage = (await traced.get(f"/data/{served['1']['id']}/lineage")).json()

    assert one.json() == served["1"]
    assert lineage["received"]["payload"] == r'{"id": 1,  "title": "\u00e9", "price": 26000000000000000000000001}'
    assert [version["payload"] for version in lineage["earlier"]] == [
        '{"id": 1,  "title": "b", "price": "n/a"}',
        '{"id": 1, "title": "a", "price": 1.10}',
    ]
    assert lineage["earlier"][0]["notes"][0]["given"] == "n/a"
    assert (lineage["received"]["page"], lineage["received"]["position"]) == (1, 1)
    assert lineage["run"]["id"] == lineage["received"]["run_id"]
    assert len(lineage["run"]["mapping_version"]) == 24
    assert lineage["normalized_by"] == {name: lineage["run"][name] for name in lineage["normalized_by"]}
    assert lineage["row"]["name"] == "é"
    asked = lineage["request"]["asked"]
    assert (asked["method"], asked["url"], asked["status"]) == ("GET", lineage["request"]["resource_url"], 200)
    assert asked["url"].endswith("/things")
    assert lineage["request"]["reason"] is None
    assert lineage["set_aside"] == []


async def test_who_may_not_look_behind_and_what_is_not_there(traced: httpx2.AsyncClient) -> None:
    served = (await traced.get("/data?source=s")).json()["data"][0]

    assert (await traced.get("/data/999999999")).status_code == 404
    assert (await traced.get("/data/999999999/lineage")).status_code == 404
    assert (await traced.get("/data/0")).status_code == 422
    assert (await traced.get("/data/9223372036854775808/lineage")).status_code == 422
    del traced.headers["Authorization"]
    assert (await traced.get(f"/data/{served['id']}/lineage")).status_code == 401


async def test_a_version_that_was_refused_is_told_with_its_reason(
    traced: httpx2.AsyncClient, resources: Resources, source_server: SourceServer, tmp_path: Path
) -> None:
    sources = SourceFiles(resources, tmp_path / "sources", source_server.url)
    sources.rest(resource(mapping='name = "title"\nvalue = "price"', keys='schema_contract = "reject_row"'))
    source_server.put("/things", b'[{"id": 1, "title": "z", "price": "dear"}]', content_type="application/json")
    await sources.run()
    row = next(row for row in (await traced.get("/data?source=s")).json()["data"] if row["source_id"] == "1")

    (refused,) = (await traced.get(f"/data/{row['id']}/lineage")).json()["set_aside"]

    assert (refused["disposition"], refused["reject_field"]) == ("rejected", "value")
    assert refused["payload"] == '{"id": 1, "title": "z", "price": "dear"}'


async def test_a_replayed_row_names_the_request_that_brought_its_bytes(
    traced: httpx2.AsyncClient, resources: Resources, source_server: SourceServer, tmp_path: Path
) -> None:
    sources = SourceFiles(resources, tmp_path / "sources", source_server.url)
    before = (await traced.get("/data?source=s")).json()["data"][0]
    landed = (await traced.get(f"/data/{before['id']}/lineage")).json()
    sources.rest(resource(mapping='name = "price"'))
    resources.catalog = sources.catalog()
    await replay(resources, resources.catalog.select(["s"]), ReplayRange())

    lineage = (await traced.get(f"/data/{before['id']}/lineage")).json()

    assert lineage["row"]["run_id"] > landed["row"]["run_id"]
    assert lineage["run"]["id"] == landed["run"]["id"]
    assert lineage["request"] == landed["request"]


async def test_a_request_that_is_not_told_has_a_reason(traced: httpx2.AsyncClient, sql: asyncpg.Connection) -> None:
    row = (await traced.get("/data?source=s")).json()["data"][0]

    async def reason() -> str:
        request = (await traced.get(f"/data/{row['id']}/lineage")).json()["request"]
        assert request["asked"] is None
        assert request["resource_url"].endswith("/things")
        return str(request["reason"])

    await sql.execute("""UPDATE etl_runs SET request_ledger = '{"requests": [], "left_out": 7}'""")
    assert "no request for page 1" in await reason()
    assert "7 are left out" in await reason()
    await sql.execute("UPDATE etl_runs SET request_ledger = NULL")
    assert "not closed by its own process" in await reason()
    await sql.execute("UPDATE etl_runs SET finished_at = NULL")
    assert "in progress" in await reason()
    await sql.execute("DELETE FROM etl_runs")
    assert "was pruned" in await reason()
