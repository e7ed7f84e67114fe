"""Checkpoints, backfills and refreshes over HTTP and from the command line."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.resources import Resources
from app.settings import load_settings
from tests.conftest import api_client
from tests.processes import run
from tests.source_files import SourceFiles, resource
from tests.source_server import Fault, Reply, Seen, SourceServer

OPERATOR = {"Authorization": "Bearer operate"}
SINCE = """
params = { since = "{incremental.start_value}", until = "{incremental.end_value}" }
paginator = { type = "page_number", limit = 5 }
incremental = { cursor_path = "at", initial_value = 2025-06-01T00:00:00Z }
"""
RECORDS = [
    {"id": f"{month}-{day}", "title": "t", "at": f"2025-{month:02d}-{day:02d}T00:00:00Z"}
    for month in (5, 6)
    for day in range(1, 11)
]


def changed(seen: Seen) -> Reply:
    since, until, page = seen.query.get("since", ""), seen.query.get("until", "9"), int(seen.query["page"])
    found = [one for one in RECORDS if since <= str(one["at"]) < until]
    return Reply(found[(page - 1) * 5 : page * 5])


@pytest.fixture
def files(resources: Resources, source_server: SourceServer, tmp_path: Path) -> SourceFiles:
    source_server.put_script("/things", changed)
    written = SourceFiles(resources, tmp_path / "sources", source_server.url)
    written.rest(resource(SINCE), client="timeout = { read = 30, total = 60 }")
    return written


@pytest.fixture
async def client(resources: Resources, files: SourceFiles) -> AsyncIterator[httpx2.AsyncClient]:
    resources.settings = load_settings(SOURCES_DIR=files.folder, OPERATOR_TOKEN="operate")
    resources.catalog = files.catalog()
    async with api_client(resources, headers=OPERATOR) as client:
        yield client
    await asyncio.gather(*resources.background)


async def settled(client: httpx2.AsyncClient, answer: httpx2.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    async with asyncio.timeout(15):
        while (found := (await client.get(answer.headers["Location"])).json())["status"] == "running":
            await asyncio.sleep(0.05)
    return dict(found)


async def stand(client: httpx2.AsyncClient) -> Any:
    (one,) = (await client.get("/sources/s/checkpoint")).json()
    return one


async def test_a_backfill_is_started_and_watched(client: httpx2.AsyncClient, files: SourceFiles) -> None:
    await files.run()

    order = {"from": "2025-05-03", "to": "2025-05-06"}
    done = await settled(client, await client.post("/sources/s/backfill", json=order))

    assert (done["status"], done["trigger"], done["inserted"]) == ("succeeded", "backfill", 3)
    assert (await client.get("/data", params={"source": "s"})).json()["total"] == 13
    assert (await stand(client))["place"]["cursor_value"] == "2025-06-10T00:00:00+00:00"


async def test_a_backfill_that_broke_is_listed_until_it_is_discarded(
    client: httpx2.AsyncClient, files: SourceFiles, source_server: SourceServer
) -> None:
    await files.run()
    source_server.fault("/things", Fault(), Fault(status=400))
    broken = await settled(client, await client.post("/sources/s/backfill", json={"from": "2025-05-01"}))
    begun = (await stand(client))["backfills"]

    discarded = await client.delete("/sources/s/backfill")

    assert (broken["status"], len(begun), begun[0]["page"]) == ("partial", 1, 1)
    assert discarded.json() == {"discarded": 1}
    assert (await stand(client))["backfills"] == []
    assert (await client.get("/data", params={"source": "s"})).json()["total"] == 15


async def test_the_checkpoint_is_shown_previewed_and_moved(client: httpx2.AsyncClient, files: SourceFiles) -> None:
    before = await stand(client)
    await files.run()

    wish = {"cursor_value": "2025-06-04"}
    previewed = await client.patch("/sources/s/checkpoint", params={"dry_run": True}, json=wish)
    unmoved = await stand(client)
    moved = await client.patch("/sources/s/checkpoint", json=wish)
    back = await client.patch("/sources/s/checkpoint", json={"rewind_by": "P2D"})
    beginning = await client.patch("/sources/s/checkpoint", json={"cursor_value": None})

    assert before["place"] is None
    assert unmoved["place"]["cursor_value"] == "2025-06-10T00:00:00+00:00"
    (shown,), (done,) = previewed.json(), moved.json()
    assert (shown["run_id"], shown["before"], shown["after"]) == (None, done["before"], done["after"])
    assert done["after"]["cursor_value"] == "2025-06-04T00:00:00+00:00"
    assert back.json()[0]["after"]["cursor_value"] == "2025-06-02T00:00:00+00:00"
    assert beginning.json()[0]["after"]["cursor_value"] is None
    told = (await client.get(f"/runs/{done['run_id']}")).json()
    assert (told["trigger"], told["findings"][0]["code"]) == ("checkpoint", "checkpoint_moved")


async def test_what_asks_no_source_is_no_tick(client: httpx2.AsyncClient, files: SourceFiles) -> None:
    await files.run()
    before = (await client.get("/stats")).json(), (await client.get("/health")).json()["last_etl_run"]

    await settled(client, await client.post("/sources/s/replay"))
    await client.patch("/sources/s/checkpoint", json={"cursor_value": None})
    await client.post("/sources/s/deletes", json={"decision": "approve"})

    assert ((await client.get("/stats")).json(), (await client.get("/health")).json()["last_etl_run"]) == before
    # Nothing waited to be deleted, so that one made no run
    assert len((await client.get("/runs")).json()["runs"]) == 3


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_a_moment_that_utc_does_not_have_is_refused(
    client: httpx2.AsyncClient, files: SourceFiles, moment: str
) -> None:
    await files.run()

    answers = [
        await client.patch("/sources/s/checkpoint", json={"cursor_value": moment}),
        await client.post("/sources/s/backfill", json={"from": moment}),
        await client.post("/sources/s/replay", params={"since": moment}),
        await client.post("/sources/s/replay", params={"until": moment, "dry_run": True}),
        await client.patch("/sources/s/checkpoint", json={"rewind_by": "P200000W"}),
    ]

    assert [answer.status_code for answer in answers] == [422] * 5
    assert all(answer.headers["content-type"] == "application/problem+json" for answer in answers)


async def test_a_refresh_is_previewed_and_done(client: httpx2.AsyncClient, files: SourceFiles) -> None:
    await files.run()

    previewed = await client.post("/sources/s/refresh", params={"dry_run": True}, json={"scope": "data"})
    done = await settled(client, await client.post("/sources/s/refresh", json={"scope": "state"}))

    (shown,) = previewed.json()
    assert (shown["rows"], shown["deletes"], shown["guard_ratio"]) == (10, True, 0.2)
    assert shown["forgets"]["cursor_value"] == "2025-06-10T00:00:00+00:00"
    assert (done["status"], done["trigger"], done["unchanged"]) == ("succeeded", "refresh", 10)


async def test_each_is_refused_while_a_run_is_in_the_way(
    client: httpx2.AsyncClient, files: SourceFiles, source_server: SourceServer
) -> None:
    await files.run()
    gate = asyncio.Event()
    source_server.fault("/things", Fault(gate=gate))
    started = await client.post("/runs", json={"source": "s"})

    answers = [
        await client.post("/sources/s/backfill", json={"from": "2025-05-03"}),
        await client.post("/sources/s/refresh", json={"scope": "all"}),
        await client.patch("/sources/s/checkpoint", json={"cursor_value": None}),
    ]
    gate.set()
    await settled(client, started)

    assert [answer.status_code for answer in answers] == [409] * 3
    assert {answer.json()["running"]["s"] for answer in answers} == set(started.json()["runs"].values())


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("POST", "/sources/s/backfill", {"from": "May"}, 422, "'May' is no time"),
        ("POST", "/sources/s/backfill", {"from": "2025-05-02", "to": "2025-05-01"}, 422, "is empty"),
        ("POST", "/sources/s/backfill", {"to": "2025-05-02"}, 422, "name where the range begins, too (from)"),
        ("POST", "/sources/s/backfill", {"from": "2025-05-02", "step": "PT0S"}, 422, "at least PT1S"),
        ("POST", "/sources/s/backfill", {"since": "2025-05-02"}, 422, "since"),
        ("POST", "/sources/s/backfill", {"from": "2025-05-02", "step": "1 day"}, 422, "ISO 8601"),
        ("POST", "/sources/s/backfill", {"from": "2025-05-02", "step": "P99999999999D"}, 422, "ISO 8601"),
        ("POST", "/sources/s/backfill", {}, 409, "no backfill was begun"),
        ("POST", "/sources/none/backfill", {"from": "2025-05-02"}, 404, "none"),
        ("POST", "/sources/s/refresh", {"scope": "everything"}, 422, "scope"),
        ("POST", "/sources/s/refresh", {"scope": "state", "dry_run": True}, 422, "dry_run"),
        ("PATCH", "/sources/s/checkpoint", {}, 422, "body: give cursor_value or rewind_by, one of them"),
        ("PATCH", "/sources/s/checkpoint", {"cursor_value": None, "rewind_by": "P1D"}, 422, "one of them"),
        ("PATCH", "/sources/s/checkpoint", {"cursor_value": 5}, 422, "body.cursor_value: "),
        ("PATCH", "/sources/s/checkpoint", {"rewind_by": None}, 422, "body.rewind_by: "),
        ("PATCH", "/sources/s/checkpoint", {"cursor_value": "2025-05-02"}, 409, "no checkpoint yet"),
    ],
)
async def test_a_wrong_order_is_a_clear_error(
    client: httpx2.AsyncClient, method: str, path: str, body: dict[str, Any], status: int, detail: str
) -> None:
    answer = await client.request(method, path, json=body)

    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert detail in answer.text
    # One fault for one mistake, in the words of HTTP
    assert len(answer.json().get("errors", [{}])) == 1
    assert "--" not in answer.text


async def test_a_value_that_is_none_is_the_fault_of_the_body(client: httpx2.AsyncClient, files: SourceFiles) -> None:
    await files.run()

    answers = [
        await client.patch("/sources/s/checkpoint", json={"cursor_value": value}) for value in ("x", "2024-02-30")
    ]

    assert [answer.status_code for answer in answers] == [422] * 2
    assert answers[0].json()["errors"] == [
        {"where": "body.cursor_value", "fault": "'x' is no time; write 2026-01-31 or 2026-01-31T12:00:00Z"}
    ]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/sources/s/checkpoint"), ("PATCH", "/sources/s/checkpoint"), ("POST", "/sources/s/backfill"),
     ("POST", "/sources/s/refresh")],
)  # fmt: skip
async def test_each_needs_a_token(client: httpx2.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path, json={}, headers={"Authorization": "Bearer guess"})

    assert answer.status_code == 401


# From the command line


async def test_the_verbs_of_the_command_line(files: SourceFiles, dsn: str) -> None:
    async def etl(*arguments: str) -> tuple[int, str]:
        return await run(*arguments, DATABASE_URL=dsn, SOURCES_DIR=str(files.folder), BUILT_IN_SOURCES="none")

    async def tree(*arguments: str) -> Any:
        code, output = await etl(*arguments, "--json")
        assert code == 0, output
        return json.loads(output.splitlines()[-1])

    assert await etl("checkpoint", "show", "s") == (0, "s: not read yet\n")
    assert (await etl("run", "s"))[0] == 0
    code, told = await etl("backfill", "s", "--from", "2025-05-03", "--to", "2025-05-06")
    assert (code, "3 inserted" in told) == (0, True), told
    (moved,) = await tree("checkpoint", "rewind", "s", "--by", "P2D", "--dry-run")
    assert (moved["run_id"], moved["after"]["cursor_value"]) == (None, "2025-06-08T00:00:00+00:00")
    code, told = await etl("checkpoint", "rewind", "s", "--to", "2025-06-05")
    assert (code, "2025-06-10T00:00:00+00:00 → 2025-06-05T00:00:00+00:00" in told) == (0, True), told
    code, told = await etl("checkpoint", "rewind", "s", "--to", "2025-06-09")
    assert (code, "is not behind it" in told) == (2, True), told
    (shown,) = await tree("checkpoint", "show", "s")
    assert (shown["place"]["cursor_value"], shown["row_count"]) == ("2025-06-05T00:00:00+00:00", 13)
    code, told = await etl("refresh", "s", "--scope", "data", "--dry-run")
    assert (code, "13 rows" in told, "20%" in told) == (0, True, True), told
    done = await tree("refresh", "s", "--scope", "state")
    assert done["runs"][0]["counts"]["unchanged"] == 10
    assert (await etl("refresh", "s", "--scope", "everything"))[0] == 2
    assert (await etl("backfill", "s"))[0] == 2
