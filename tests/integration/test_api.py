"""The contract of DESIGN §6, and what strangers send instead."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import asyncpg
import httpx2
import pytest

from app.api import deps
from app.db.engine import Database
from app.resources import Resources
from app.settings import load_settings
from tests.conftest import Tick, api_client
from tests.source_server import Fault, SourceServer

CSV = b"id,name,value,description,updated_at\n" + b"".join(
    b"%d,Item %d,%d.5,row %d of the file,2025-01-01T00:00:00Z\n" % (n, n, n, n) for n in range(1, 31)
)


@pytest.fixture
async def filled(tick: Tick, source_server: SourceServer) -> None:
    posts = [{"id": n, "userId": 1, "title": f"Post {n}", "body": "100%_sure"} for n in range(1, 26)]
    source_server.put_pages("/posts", posts)
    source_server.put("/items.csv", CSV)
    assert (await tick()).status == "success"


@pytest.mark.usefixtures("filled")
async def test_a_page_has_the_shape_that_was_promised(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/data", params={"page": 1, "page_size": 10, "source": "csv"})).json()

    assert {name: page[name] for name in ("total", "page", "page_size", "has_more")} == {
        "total": 30,
        "page": 1,
        "page_size": 10,
        "has_more": True,
    }
    assert list(page["data"][0]) == [
        "id",
        "source",
        "source_id",
        "name",
        "value",
        "description",
        "created_at",
        "updated_at",
    ]
    assert page["data"][0]["updated_at"] == "2025-01-01T00:00:00Z"
    assert page["data"][0]["value"] == 1.5


async def pages_of(client: httpx2.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    pages = []
    while True:
        page = (await client.get("/data", params=params)).json()
        pages.append(page)
        if not page["has_more"]:
            return pages
        params = {**params, "page": page["page"] + 1}


@pytest.mark.usefixtures("filled")
async def test_pages_by_number_and_by_cursor_are_the_same(client: httpx2.AsyncClient) -> None:
    by_number = [row["id"] for page in await pages_of(client, page_size=7) for row in page["data"]]
    by_cursor: list[int] = []
    params: dict[str, Any] = {"page_size": 7}
    numbers = []
    while True:
        page = (await client.get("/data", params=params)).json()
        by_cursor += [row["id"] for row in page["data"]]
        numbers.append(page["page"])
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]

    assert by_number == by_cursor
    assert len(set(by_number)) == 55
    assert numbers == list(range(1, 9))


@pytest.mark.usefixtures("filled")
async def test_the_link_header_leads_to_the_next_page(client: httpx2.AsyncClient) -> None:
    first = await client.get("/data?page_size=50&source=csv&page=1")
    second = await client.get("/data?page_size=20&source=csv")

    assert "link" not in first.headers
    target = second.headers["link"].split(">")[0].removeprefix("<")
    assert [row["source_id"] for row in (await client.get(target)).json()["data"]] == [str(n) for n in range(21, 31)]


@pytest.mark.usefixtures("filled")
async def test_a_row_has_an_etag_of_its_own(
    client: httpx2.AsyncClient, tick: Tick, source_server: SourceServer
) -> None:
    rows = (await client.get("/data?source=csv&page_size=2")).json()["data"]
    targets = [f"/data/{row['id']}" for row in rows]
    first = [await client.get(target) for target in targets]
    assert [answer.json() for answer in first] == rows

    source_server.put("/items.csv", CSV.replace(b"2,Item 2,", b"2,Other 2,"))
    await tick("csv")
    later = [
        await client.get(target, headers={"If-None-Match": answer.headers["etag"]})
        for target, answer in zip(targets, first, strict=True)
    ]

    assert [(answer.status_code, answer.content == b"") for answer in later] == [(304, True), (200, False)]
    assert later[1].json()["name"] == "Other 2"
    assert later[0].headers["etag"] == first[0].headers["etag"] != later[1].headers["etag"]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("search", "found"),
    [("ITEM 3", 2), ("file", 30), ("100%_sure", 25), ("%", 25), ("_", 25), ("\\", 0), ("nowhere", 0), ("é", 0)],
)
async def test_search_is_a_substring_without_case(client: httpx2.AsyncClient, search: str, found: int) -> None:
    page = (await client.get("/data", params={"search": search, "page_size": 1})).json()

    assert page["total"] == found


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "page=x",
        "page=1.5",
        "page_size=0",
        "page_size=101",
        "page_size=",
        "search=%00",
        "source=%00",
        "search=" + "a" * 10_000,
        "source=" + "a" * 10_000,
        "cursor=broken",
        "cursor=" + "a" * 5_000,
        "cursor=%00",
        "cursor=W10",
        "cursor=bnVsbA",
        "page=1" + "0" * 5000,
        "page=1_0",
        "page=%2B1",
        "page=+1",
        "page=%201%20",
        "page=%D9%A1",
        "page_size=1_0",
        "id=1_0",
        "id__in=1,+2",
        "value=1_0",
        "value__gte=%2B1",
        "value__gte=%201",
        "value=Infinity",
    ],
)
async def test_bad_input_is_a_problem_and_not_a_500(client: httpx2.AsyncClient, query: str) -> None:
    response = await client.get(f"/data?{query}")

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == 422
    assert problem["detail"]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "query",
    [
        "page=99999999999",
        "page=1" + "0" * 40,
        "source=nobody",
        "source=%F0%9F%8C%8A",
        "search=%ED%A0%80",
        "page=7&page_size=100",
    ],
)
async def test_beyond_what_there_is_lies_an_empty_page(client: httpx2.AsyncClient, query: str) -> None:
    response = await client.get(f"/data?{query}")

    assert response.status_code == 200
    assert response.json()["data"] == []
    assert response.json()["has_more"] is False


@pytest.mark.usefixtures("filled")
async def test_a_cursor_is_not_taken_for_other_filters(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/data?page_size=5&source=csv")).json()

    response = await client.get("/data", params={"cursor": page["next_cursor"], "source": "api"})

    assert response.status_code == 409
    assert "made with other filters" in response.json()["detail"]


@pytest.mark.parametrize("target", ["/runs?limit=1_0", "/runs?before=%2B1", "/runs/1_0", "/runs/%201", "/data/1_0"])
async def test_a_number_is_in_digits_alone_everywhere(client: httpx2.AsyncClient, target: str) -> None:
    response = await client.get(target)

    assert response.status_code == 422
    assert "valid integer, in digits alone" in response.json()["detail"]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("/data?page=1&page=2", ["page"]),
        ("/data?page=1&page=1", ["page"]),
        ("/data?source=csv&search=a&source=api&search=b", ["source", "search"]),
        ("/data?cursor=&cursor=", ["cursor"]),
        ("/data/export?format=csv&format=ndjson", ["format"]),
        ("/runs?limit=1&limit=2", ["limit"]),
        ("/sources/csv/config?resolved=true&resolved=false", ["resolved"]),
    ],
)
async def test_a_parameter_that_is_given_twice_is_named(
    dsn: str, resources: Resources, target: str, names: list[str]
) -> None:
    closed = replace(resources, settings=load_settings(DATABASE_URL=dsn, READ_TOKEN="look"))
    async with api_client(closed, headers={"Authorization": "Bearer look"}) as client:
        response = await client.get(target)

    assert response.status_code == 422
    assert [error["where"] for error in response.json()["errors"]] == [f"query.{name}" for name in names]
    assert "given 2 times; give it once" in response.json()["detail"]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/data?_=1&_=2", 200),
        ("/data?id__not=1&id__not=2", 200),
        ("/data?name__contains=i&name__contains=m", 200),
        ("/stats?a=1&a=2", 200),
        ("/livez?a=1&a=2", 200),
        ("/runs?a=1&a=2", 200),
        ("/rejects/redrive?a=1&a=2", 405),
    ],
)
async def test_conditions_and_what_is_nobodys_may_come_twice(
    client: httpx2.AsyncClient, target: str, status: int
) -> None:
    assert (await client.get(target)).status_code == status


async def test_an_unknown_path_and_a_wrong_method_are_problems(client: httpx2.AsyncClient) -> None:
    missing, wrong = await client.get("/nowhere"), await client.post("/data")

    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert {missing.headers["content-type"], wrong.headers["content-type"]} == {"application/problem+json"}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "target",
    [
        *("/data?page=2&page_size=7", "/data?search=item", "/data?page=0", "/data/1", "/data/0", "/health", "/stats"),
        *("/livez", "/readyz", "/runs", "/runs/1", "/runs/99", "/rejects", "/sources/schema", "/nowhere", "/docs"),
        *("/openapi.json", "/sources/csv/config", "/static/swagger-ui/swagger-init.js"),
    ],
)
async def test_head_is_get_without_a_body(client: httpx2.AsyncClient, target: str) -> None:
    got = await client.get(target)
    asked = await client.head(target)

    of_the_moment = {"cache-status", "x-source-lag-seconds", "last-modified"}
    told = [{k: v for k, v in answer.headers.items() if k not in of_the_moment} for answer in (got, asked)]
    assert asked.status_code == got.status_code
    assert asked.content == b""
    assert told[0] == told[1]
    assert int(asked.headers["content-length"]) == len(got.content)


@pytest.mark.usefixtures("filled")
async def test_head_brings_a_304_too_and_starts_no_export(client: httpx2.AsyncClient, resources: Resources) -> None:
    etag = (await client.head("/data")).headers["etag"]

    known = await client.head("/data", headers={"If-None-Match": etag})
    async with resources.exports, resources.exports:  # all turns are taken
        export = await client.head("/data/export?format=csv")
    wrong = await client.head("/data/export")

    assert known.status_code == 304
    assert (export.status_code, export.headers["content-type"]) == (200, "text/csv; charset=utf-8; header=present")
    assert wrong.status_code == 422


@pytest.mark.parametrize("path", ["/data", "/data/export", "/runs", "/sources/csv/checkpoint", "/runs/1/cancel"])
async def test_allow_names_head_wherever_there_is_get(client: httpx2.AsyncClient, path: str) -> None:
    refused = await client.request("TRACE", path)

    allowed = refused.headers["allow"].split(", ")
    assert refused.status_code == 405
    assert ("HEAD" in allowed) == ("GET" in allowed) == ((await client.head(path)).status_code != 405)


async def test_health_before_the_first_tick(client: httpx2.AsyncClient) -> None:
    response = await client.get("/health")

    assert response.status_code == 200
    assert response.json() == {
        "status": "healthy",
        "db_connected": True,
        "last_etl_run": None,
        "etl_status": "never",
        "detail": None,
        "stale_sources": [],
        "wrong_files": [],
    }


@pytest.mark.usefixtures("filled")
async def test_health_after_a_good_tick(client: httpx2.AsyncClient) -> None:
    health = (await client.get("/health")).json()

    assert (health["status"], health["etl_status"]) == ("healthy", "success")
    assert health["last_etl_run"].endswith("Z")


async def test_health_is_degraded_when_a_source_fails(
    client: httpx2.AsyncClient, tick: Tick, source_server: SourceServer
) -> None:
    source_server.put("/items.csv", CSV)
    await tick()

    response = await client.get("/health")

    assert response.status_code == 200
    assert (response.json()["status"], response.json()["etl_status"]) == ("degraded", "partial")


async def test_health_says_running_while_a_tick_runs(
    client: httpx2.AsyncClient, tick: Tick, source_server: SourceServer
) -> None:
    gate = asyncio.Event()
    source_server.put_pages("/posts", [])
    source_server.fault("/posts", Fault(gate=gate))
    running = asyncio.create_task(tick("api"))
    while not source_server.requests("/posts"):
        await asyncio.sleep(0.005)

    during = (await client.get("/health")).json()
    gate.set()
    await running

    assert during["etl_status"] == "running"


async def test_stats_sum_over_ticks(client: httpx2.AsyncClient, tick: Tick, source_server: SourceServer) -> None:
    source_server.put("/items.csv", CSV)
    source_server.put_pages("/posts", [{"id": 1}])
    await tick()
    source_server.fault("/posts", Fault(status=404))
    await tick()

    stats = (await client.get("/stats")).json()

    assert set(stats) == {
        "total_records_processed",
        "total_duration_seconds",
        "last_success",
        "last_failure",
        "last_failure_reason",
        "run_count",
    }
    assert (stats["run_count"], stats["total_records_processed"]) == (2, 61)
    assert stats["last_success"] < stats["last_failure"]
    assert stats["last_failure_reason"].startswith("api: ")
    assert stats["total_duration_seconds"] > 0


async def test_stats_before_the_first_tick(client: httpx2.AsyncClient) -> None:
    stats = (await client.get("/stats")).json()

    assert (stats["run_count"], stats["total_records_processed"], stats["last_success"]) == (0, 0, None)


async def test_without_a_database_every_route_says_so_in_time(resources: Resources) -> None:
    gone = replace(resources, database=Database("postgresql://u:secret@127.0.0.1:1/x"))
    async with api_client(gone) as client, asyncio.timeout(2):
        answers = [await client.get(path) for path in ("/health", "/readyz", "/data", "/stats", "/livez")]

    assert [answer.status_code for answer in answers] == [503, 503, 503, 503, 200]
    assert answers[0].json()["status"] == "unhealthy"
    assert not [answer for answer in answers if "secret" in answer.text]


async def test_health_answers_while_the_database_is_silent(
    client: httpx2.AsyncClient, resources: Resources, sql: asyncpg.Connection
) -> None:
    async with sql.transaction():
        await sql.execute("LOCK TABLE etl_runs")  # the question will wait for this for ever
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*(client.get("/health") for _ in range(5)))

    assert {answer.status_code for answer in answers} == {503}
    assert (await client.get("/health")).status_code == 200


async def test_a_read_that_takes_too_long_is_given_up(
    client: httpx2.AsyncClient, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deps, "READ_TIMEOUT_SECONDS", 0.2)
    async with sql.transaction():
        await sql.execute("LOCK TABLE normalized_data, etl_checkpoint")
        response = await client.get("/data")

    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert "too long" in response.json()["detail"]


async def test_other_origins_may_read_without_credentials(client: httpx2.AsyncClient) -> None:
    response = await client.get("/livez", headers={"Origin": "https://elsewhere.example"})

    assert response.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in response.headers


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/data?page_size=5", "/data"),
        ("/data?source=csv&page_size=100", "/data"),
        ("/data?source=nobody", "/data"),
        ("/data/1", "/data/{row_id}"),
    ],
)
async def test_the_headers_of_an_answer_are_those_described(client: httpx2.AsyncClient, target: str, path: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    tree = (await client.get("/openapi.json")).json()
    first = await client.get(target)

    for answer in (first, await client.get(target, headers={"If-None-Match": first.headers["etag"]})):
        response = tree["paths"][path]["get"]["responses"][str(answer.status_code)]
        described = {name.lower(): header for name, header in response["headers"].items()}
        assert ("content" in response) == bool(answer.content)
        # RFC 9110 §8.3, §8.6, and what CORS adds to every answer
        assert set(answer.headers) - {"content-type", "content-length", "vary"} <= set(described)
        assert {name for name, header in described.items() if header.get("required")} <= set(answer.headers)
        for name, header in described.items():
            if (value := answer.headers.get(name)) is not None:
                given = int(value) if header["schema"]["type"] == "integer" else value
                jsonschema.validate(given, header["schema"], format_checker=jsonschema.FormatChecker())


async def test_openapi_describes_the_routes(client: httpx2.AsyncClient) -> None:
    paths = json.loads((await client.get("/openapi.json")).text)["paths"]

    assert set(paths) == {
        "/data",
        "/data/export",
        "/data/{row_id}",
        "/data/{row_id}/lineage",
        "/health",
        "/stats",
        "/hooks/{path}",
        "/livez",
        "/readyz",
        "/rejects",
        "/rejects/{fingerprint}",
        "/rejects/redrive",
        "/runs",
        "/runs/{run_id}",
        "/runs/{run_id}/cancel",
        "/sources",
        "/sources/{name}/backfill",
        "/sources/{name}/checkpoint",
        "/sources/{name}/deletes",
        "/sources/{name}/refresh",
        "/sources/{name}/replay",
        "/sources/schema",
        "/sources/check",
        "/sources/preview",
        "/sources/{name}/config",
        "/sources/{name}/check",
        "/sources/{name}/preview",
    }
