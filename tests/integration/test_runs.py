"""Runs over HTTP: the ledger, starting one, stopping one, and who may."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from app.errors import ConfigError
from app.operations.seen import demand_seen
from app.resources import Resources
from app.settings import load_settings
from tests.conftest import api_client
from tests.source_files import SourceFiles, resource
from tests.source_server import Fault, SourceServer

Service = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
OPERATOR = {"Authorization": "Bearer operate"}
READER = {"Authorization": "Bearer look"}


@pytest.fixture
def service(resources: Resources, source_server: SourceServer, tmp_path: Path) -> Service:
    """The API over one source `s`, without the scheduler's own ticks."""
    sources = SourceFiles(resources, tmp_path / "sources", source_server.url)
    sources.rest(
        resource('paginator = { type = "page_number", limit = 2 }'), client="timeout = { read = 30, total = 60 }"
    )

    @asynccontextmanager
    async def serving(**settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
        resources.settings = load_settings(SOURCES_DIR=sources.folder, **settings)
        resources.catalog = sources.catalog()
        async with api_client(resources) as client:
            yield client
        await asyncio.gather(*resources.background)

    return serving


def pages(query: dict[str, str]) -> list[dict[str, Any]]:
    page = int(query["page"])
    return [{"id": page * 2}, {"id": page * 2 + 1}] if page < 4 else []


async def settled(client: httpx2.AsyncClient, place: str) -> dict[str, Any]:
    async with asyncio.timeout(15):
        while (run := (await client.get(place)).json())["status"] == "running":
            await asyncio.sleep(0.05)
    return dict(run)


async def test_a_run_is_started_watched_and_listed(service: Service, source_server: SourceServer) -> None:
    source_server.put_json("/things", pages)
    async with service(OPERATOR_TOKEN="operate") as client:
        started = await client.post("/runs", json={"source": "s"}, headers=OPERATOR)
        run = await settled(client, started.headers["Location"])
        listed = (await client.get("/runs", params={"source": "s"})).json()

    assert started.status_code == 202
    assert started.json()["runs"] == {"s": run["id"]}
    assert (run["status"], run["trigger"], run["outcome"], run["inserted"]) == ("succeeded", "command", "changed", 6)
    assert [one["id"] for one in listed["runs"]] == [run["id"]]
    assert listed["next_before"] is None


async def test_a_second_trigger_is_told_which_run_is_in_the_way(service: Service, source_server: SourceServer) -> None:
    source_server.put_json("/things", pages)
    gate = asyncio.Event()
    source_server.fault("/things", Fault(gate=gate))
    async with service(OPERATOR_TOKEN="operate") as client:
        first = await client.post("/runs", json={"source": "s"}, headers=OPERATOR)
        second = await client.post("/runs", json={"source": "s"}, headers=OPERATOR)
        gate.set()
        await settled(client, first.headers["Location"])

    assert (first.status_code, second.status_code) == (202, 409)
    assert second.json()["running"] == {"s": first.json()["runs"]["s"]}


async def test_a_run_is_cancelled_and_the_next_goes_on(
    service: Service, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_json("/things", pages)
    source_server.fault("/things", Fault(gate=None), *[Fault(hang=True)] * 4)
    async with service(OPERATOR_TOKEN="operate") as client:
        place = (await client.post("/runs", json={"source": "s"}, headers=OPERATOR)).headers["Location"]
        async with asyncio.timeout(10):
            while await sql.fetchval("SELECT count(*) FROM normalized_data") < 2:
                await asyncio.sleep(0.05)
        asked = await client.post(f"{place}/cancel", headers=OPERATOR)
        async with asyncio.timeout(5):
            run = await settled(client, place)
        again = await client.post(f"{place}/cancel", headers=OPERATOR)
        source_server.forget_faults("/things")
        following = await settled(
            client, (await client.post("/runs", json={"source": "s"}, headers=OPERATOR)).headers["Location"]
        )

    assert (asked.status_code, again.status_code) == (202, 409)
    assert (run["status"], run["inserted"]) == ("cancelled", 2)
    assert "goes on from its last batch" in run["error_message"]
    assert (following["status"], following["inserted"]) == ("succeeded", 4)


async def test_runs_come_in_pages(service: Service, source_server: SourceServer, resources: Resources) -> None:
    source_server.put_json("/things", pages)
    async with service(OPERATOR_TOKEN="operate") as client:
        for _ in range(5):
            started = await client.post("/runs", json={"source": "s"}, headers=OPERATOR)
            await settled(client, started.headers["Location"])
        one = (await client.get("/runs?limit=2")).json()
        two = (await client.get(f"/runs?limit=2&before={one['next_before']}")).json()
        three = (await client.get(f"/runs?limit=2&before={two['next_before']}&status=succeeded")).json()

    ids = [run["id"] for page in (one, two, three) for run in page["runs"]]
    assert ids == sorted(ids, reverse=True)
    assert (len(set(ids)), three["next_before"]) == (5, None)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/runs/99", 404),
        ("GET", "/runs/0", 422),
        ("GET", "/runs/99999999999999999999", 422),
        ("GET", "/runs/x", 422),
        ("GET", "/runs?limit=0", 422),
        ("GET", "/runs?before=-1", 422),
        ("GET", "/runs?status=odd", 422),
        ("GET", "/runs?source=%00", 422),
        ("GET", "/runs?tick_id=1", 422),
        ("POST", "/runs/99/cancel", 404),
        ("POST", "/runs", 422),
    ],
)
async def test_what_is_not_there_or_makes_no_sense(service: Service, method: str, path: str, status: int) -> None:
    async with service(OPERATOR_TOKEN="operate") as client:
        answer = await client.request(method, path, headers=OPERATOR)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_key_that_no_run_takes_is_refused(service: Service) -> None:
    async with service(OPERATOR_TOKEN="operate") as client:
        answer = await client.post("/runs", json={"source": "s", "dry_run": True}, headers=OPERATOR)

    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, "body.dry_run")


async def test_an_unknown_source_is_named(service: Service) -> None:
    async with service(OPERATOR_TOKEN="operate") as client:
        answer = await client.post("/runs", json={"source": "nobody"}, headers=OPERATOR)

    assert answer.status_code == 404
    assert "nobody" in answer.json()["detail"]


async def test_a_disabled_source_says_so_and_can_still_be_read(
    service: Service, resources: Resources, tmp_path: Path
) -> None:
    SourceFiles(resources, tmp_path / "sources", "http://off.test").rest(resource(), top="enabled = false", name="off")
    async with service(OPERATOR_TOKEN="operate") as client:
        started = await client.post("/runs", json={"source": "off"}, headers=OPERATOR)
        read = [
            (await client.get(f"/sources/off/{what}", headers=OPERATOR)).status_code
            for what in ("checkpoint", "deletes", "config")
        ]

    assert started.status_code == 404
    assert re.fullmatch(r"off is disabled: enabled = false in .*/off\.toml", started.json()["detail"])
    assert read == [200] * 3


async def test_a_source_that_was_removed_is_known_and_one_that_never_was_is_not(
    resources: Resources, source_server: SourceServer, tmp_path: Path
) -> None:
    sources = SourceFiles(resources, tmp_path / "sources", source_server.url)
    sources.rest(resource(), name="gone")
    source_server.put_json("/things", lambda _: [{"id": 1}])
    await sources.run("gone")
    (sources.folder / "gone.toml").unlink()
    sources.rest(resource(name="a"), resource(name="b"))
    catalog = sources.catalog()

    async with resources.database.read() as session:
        for known in ("gone", "s.a"):
            await demand_seen(session, catalog, known)
        for name, why in (("nope", "unknown source nope"), ("s", r"name one of them: s\.a, s\.b$")):
            with pytest.raises(ConfigError, match=why):
                await demand_seen(session, catalog, name)


@pytest.mark.parametrize(
    ("configured", "headers", "expected"),
    [
        ({}, {}, (200, 403, 403)),
        ({}, READER, (200, 403, 403)),
        ({"OPERATOR_TOKEN": "operate"}, {}, (200, 401, 401)),
        ({"OPERATOR_TOKEN": "operate"}, READER, (200, 401, 401)),
        ({"OPERATOR_TOKEN": "operate"}, OPERATOR, (200, 200, 202)),
        ({"READ_TOKEN": "look"}, {}, (401, 401, 401)),
        ({"READ_TOKEN": "look"}, READER, (200, 200, 403)),
        ({"READ_TOKEN": "look"}, OPERATOR, (401, 401, 401)),
        ({"READ_TOKEN": "look", "OPERATOR_TOKEN": "operate"}, READER, (200, 200, 403)),
        ({"READ_TOKEN": "look", "OPERATOR_TOKEN": "operate"}, OPERATOR, (200, 200, 202)),
        ({"OPERATOR_TOKEN": "sha256:" + hashlib.sha256(b"operate").hexdigest()}, OPERATOR, (200, 200, 202)),
        (
            {"OPERATOR_TOKEN": "sha256:" + hashlib.sha256(b"operate").hexdigest()},
            {"Authorization": "Bearer sha256:" + hashlib.sha256(b"operate").hexdigest()},
            (200, 401, 401),
        ),
    ],
)
async def test_who_may_read_look_behind_and_operate(
    service: Service,
    source_server: SourceServer,
    configured: dict[str, str],
    headers: dict[str, str],
    expected: tuple[int, int, int],
) -> None:
    source_server.put_json("/things", pages)
    async with service(**configured) as client:
        answers = [
            await client.get("/data", headers=headers),
            await client.get("/sources/s/config", headers=headers),
            await client.post("/runs", json={"source": "s"}, headers=headers),
        ]
        alive = await client.get("/livez")

    assert tuple(answer.status_code for answer in answers) == expected
    assert alive.status_code == 200


def test_a_hash_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        load_settings(OPERATOR_TOKEN="sha256:abc")
