"""A run says what it asked for, request by request, without secrets."""

import json
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from app.records import KEPT_REQUESTS
from app.resources import Resources
from tests.source_files import SourceFiles, resource
from tests.source_server import Fault, SourceServer

PAGED = """params = { _limit = 2, tag = "a-literal" }
paginator = { type = "page_number", page_param = "_page", base_page = 1, stop_after_empty_page = true }"""


@pytest.fixture
def sources(resources: Resources, source_server: SourceServer, tmp_path: Path) -> SourceFiles:
    return SourceFiles(resources, tmp_path / "sources", source_server.url)


async def ledger(sql: asyncpg.Connection) -> dict[str, Any]:
    """Of the newest run."""
    found: dict[str, Any] = json.loads(await sql.fetchval("SELECT request_ledger FROM etl_runs ORDER BY id DESC"))
    return found


async def test_each_try_is_told_with_what_came_of_it(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/things", [{"id": n, "title": "x"} for n in (1, 2, 3)], links=False)
    source_server.fault("/things", Fault(status=503))
    sources.rest(resource(PAGED))

    report = await sources.run()

    told = await ledger(sql)
    first, second, third = told["requests"][:3]
    assert (first["status"], first["attempt"], first["page"], first["number"]) == (503, 1, None, 1)
    assert (second["status"], second["attempt"], second["page"]) == (200, 2, 1)
    assert second["url"] == f"{source_server.url}/things?_limit=2&tag=***&_page=1"
    assert (third["page"], third["last_page"], third["method"]) == (2, 2, "GET")
    assert len(told["requests"]) == report.traffic.requests
    assert told["left_out"] == 0
    assert sum(asked["bytes"] for asked in told["requests"]) == report.traffic.bytes_received


async def test_of_a_long_run_the_first_and_the_last_requests_are_kept(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/things", [{"id": n, "title": "x"} for n in range(2 * KEPT_REQUESTS + 50)], links=False)
    sources.rest(resource(PAGED.replace("_limit = 2", "_limit = 1")), top="")

    report = await sources.run()

    told = await ledger(sql)
    assert len(told["requests"]) == 2 * KEPT_REQUESTS
    assert told["left_out"] == report.traffic.requests - 2 * KEPT_REQUESTS > 0
    numbers = [asked["number"] for asked in told["requests"]]
    assert numbers[:KEPT_REQUESTS] == list(range(1, KEPT_REQUESTS + 1))
    assert numbers[-1] == report.traffic.requests


async def test_a_run_that_fails_tells_what_it_asked_for(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.fault("/things", Fault(status=500), Fault(status=500))
    sources.rest(resource())

    assert (await sources.run()).status == "failed"

    told = await ledger(sql)
    assert [(asked["status"], asked["attempt"]) for asked in told["requests"]] == [(500, 1), (500, 2)]


async def test_one_request_brings_all_the_pages_of_a_file(
    resources: Resources,
    source_server: SourceServer,
    sql: asyncpg.Connection,
    client: httpx2.AsyncClient,
    sources: SourceFiles,
) -> None:
    rows = "".join(f"{n},{'x' * 90}\n" for n in range(20_000))
    body = f"id,name\n{rows}".encode()
    source_server.put("/items.csv", body)
    sources.write(
        f"""
name = "c"
type = "csv"
[client]
allow_private_networks = true
[[resources]]
name = "rows"
primary_key = "id"
file = {{ url = "{source_server.url}/items.csv?sig=hidden" }}
mapping = {{ name = "name" }}
""",
        name="c",
    )

    report = await sources.run("c")

    run = (await client.get(f"/runs/{report.run_id}")).json()
    (asked,) = run["request_ledger"]["requests"]
    assert (asked["page"], asked["last_page"], asked["bytes"]) == (1, run["pages"], len(body))
    assert asked["last_page"] > 1
    assert asked["url"].endswith("/items.csv?sig=***")
