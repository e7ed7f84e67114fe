"""Answers are kept while the data are what they show: ETag, 304, and never an older one than allowed."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg
import httpx2
import pytest
from sqlalchemy import event

from app.api.anchors import Anchors
from app.api.read_cache import ENTRY_BYTES, Answer, ReadCache
from app.clock import monotonic
from app.db import data
from app.db.data import DataVersion, Mark, read_version
from app.db.data_query import DataQuery
from app.db.engine import Database
from app.db.quick_reads import Compiled, QuickReads
from app.resources import Resources
from app.settings import load_settings
from app.sources.catalog import WrongFile
from tests.conftest import Tick, api_client
from tests.source_server import SourceServer

ROWS = 40


def csv(version: int, *, name: str = "Item") -> bytes:
    """Of each version another number of rows, and its number in each of them."""
    lines = (f"{n},{name} {n},{version}\n" for n in range(ROWS + version))
    return ("id,name,value\n" + "".join(lines)).encode()


@pytest.fixture
async def client(resources: Resources) -> AsyncIterator[httpx2.AsyncClient]:
    async with api_client(resources, strict=False) as client:
        yield client


@pytest.fixture
async def filled(tick: Tick, source_server: SourceServer) -> None:
    source_server.put("/items.csv", csv(1))
    assert (await tick("csv")).status == "success"


@pytest.fixture
def statements(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is asked of the database, all of it."""
    found: list[str] = []
    engine, fetch = resources.database.engine.sync_engine, QuickReads.fetch

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    async def fetch_and_note(self: QuickReads, statement: Compiled, values: Mapping[str, Any]) -> Any:
        found.append(statement.sql)
        return await fetch(self, statement, values)

    monkeypatch.setattr(QuickReads, "fetch", fetch_and_note)
    event.listen(engine, "before_cursor_execute", note)
    yield found
    event.remove(engine, "before_cursor_execute", note)


@pytest.mark.usefixtures("filled")
async def test_a_page_that_was_read_a_moment_ago_costs_no_query(
    client: httpx2.AsyncClient, statements: list[str]
) -> None:
    first = await client.get("/data?page=2")
    statements.clear()
    again = [await client.get("/data?page=2") for _ in range(5)]

    assert {answer.content for answer in again} == {first.content}
    told = [answer.headers["Cache-Status"] for answer in (first, again[-1])]
    assert told == ["etl-river; fwd=miss", "etl-river; hit"]
    assert statements == []
    await asyncio.sleep(0.15)
    await client.get("/data?page=2")
    assert len(statements) == 1
    assert "normalized_data" not in statements[0]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("given", [["no-cache"], ["No-Cache"], ["max-age=0"], ["no-transform", "no-cache"]])
async def test_who_asks_for_no_cache_is_answered_by_the_database(
    client: httpx2.AsyncClient, statements: list[str], given: list[str]
) -> None:
    await client.get("/data")
    statements.clear()

    await client.get("/data", headers=[("Cache-Control", line) for line in given])

    assert len(statements) == 1


@pytest.mark.usefixtures("filled")
async def test_an_etag_brings_a_304_until_the_data_change(
    client: httpx2.AsyncClient, tick: Tick, source_server: SourceServer
) -> None:
    first = await client.get("/data?search=item")
    etag = first.headers["etag"]
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        same = await client.get("/data?search=item", headers={"If-None-Match": given})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        assert "x-data-as-of" in same.headers

    source_server.put("/items.csv", csv(2))
    await tick("csv")
    strict = {"If-None-Match": etag, "Cache-Control": "no-cache"}
    changed = await client.get("/data?search=item", headers=strict)

    assert changed.status_code == 200
    assert changed.headers["etag"] != etag
    assert changed.json()["total"] == ROWS + 2


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("shape", ["not modified", "the same bytes", "a column that is not mapped"])
async def test_a_run_that_changes_no_row_leaves_version_and_etag_and_brings_freshness(
    client: httpx2.AsyncClient, tick: Tick, source_server: SourceServer, sql: asyncpg.Connection, shape: str
) -> None:
    source_server.put("/items.csv", csv(1), **({"etag": '"one"'} if shape == "not modified" else {}))
    await tick("csv")
    first = await client.get("/data?page=2", headers={"Cache-Control": "no-cache"})
    if shape == "a column that is not mapped":
        source_server.put("/items.csv", csv(1).replace(b"name,value", b"name,price"))
    assert (await tick("csv")).status == "success"
    assert await sql.fetchval("SELECT outcome FROM etl_runs ORDER BY id DESC LIMIT 1") != "changed"

    strict = {"Cache-Control": "no-cache"}
    again = await client.get("/data?page=2", headers=strict)
    known = await client.get("/data?page=2", headers={**strict, "If-None-Match": first.headers["etag"]})

    assert again.content == first.content
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["cache-status"] == "etl-river; hit"
    assert (known.status_code, known.content) == (304, b"")
    fresh = moment(await sql.fetchval("SELECT succeeded_at FROM etl_checkpoint WHERE source = 'csv'"))
    assert first.headers["x-data-as-of"] < again.headers["x-data-as-of"] == known.headers["x-data-as-of"] == fresh


@pytest.mark.usefixtures("filled")
async def test_a_page_made_after_a_run_that_changed_nothing_is_as_fresh_as_that_run(
    client: httpx2.AsyncClient, tick: Tick, sql: asyncpg.Connection
) -> None:
    """What was known of the version before the run is right about rows and totals, and old."""
    await client.get("/data?page=1")
    await tick("csv")

    page = await client.get("/data?page=2")

    assert page.headers["cache-status"] == "etl-river; fwd=miss"
    assert page.headers["x-data-as-of"] == moment(await sql.fetchval("SELECT succeeded_at FROM etl_checkpoint"))


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("count", ["estimated", "exact"])
async def test_totals_that_differ_within_a_version_have_etags_that_differ(
    client: httpx2.AsyncClient, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, count: str
) -> None:
    monkeypatch.setattr(data, "FEW_ROWS", 1)
    query = f"/data?value__gte=0&page_size=3&count={count}"
    if count == "exact":
        monkeypatch.setattr(data, "COUNT_SECONDS", 0.001)
        await sql.execute(
            "INSERT INTO normalized_data (id, raw_id, run_id, source, source_id, value, content_hash)"
            " SELECT n, 0, 0, 'csv', 'x' || n, n, '' FROM generate_series(100001, 200000) AS n"
        )
    first = await client.get(query, headers={"Cache-Control": "no-cache"})
    monkeypatch.setattr(data, "COUNT_SECONDS", 60)
    await sql.execute("ANALYZE normalized_data")

    second = await client.get(f"{query}&_=2", headers={"If-None-Match": first.headers["etag"]})

    assert first.json()["total_is"] == ("at_least" if count == "exact" else "estimated")
    assert first.json()["total"] != second.json()["total"]
    assert second.status_code == 200
    assert second.headers["etag"] != first.headers["etag"]


@pytest.mark.usefixtures("filled")
async def test_a_page_whose_rows_stay_keeps_its_etag_while_others_change(
    client: httpx2.AsyncClient, tick: Tick, source_server: SourceServer
) -> None:
    strict = {"Cache-Control": "no-cache"}
    first, last = [await client.get(f"/data?page={page}", headers=strict) for page in (1, 4)]
    source_server.put("/items.csv", csv(1).replace(b"39,Item 39,1", b"39,Other,1"))
    assert (await tick("csv")).status == "success"

    known = await client.get("/data?page=1", headers={**strict, "If-None-Match": first.headers["etag"]})
    changed = await client.get("/data?page=4", headers={**strict, "If-None-Match": last.headers["etag"]})

    assert (known.status_code, changed.status_code) == (304, 200)


@pytest.mark.usefixtures("filled")
async def test_pages_of_one_source_are_kept_while_another_one_changes(
    client: httpx2.AsyncClient, tick: Tick, source_server: SourceServer
) -> None:
    source_server.put_pages("/posts", [{"id": 1, "title": "one"}])
    kept = {}
    for path in ("/data?source=csv", "/data?source=csv&page=2", "/data?source=none", "/data?source=api", "/data"):
        kept[path] = (await client.get(path)).content
    assert (await tick("api")).status == "success"

    strict = {"Cache-Control": "no-cache"}
    again = {path: await client.get(path, headers=strict) for path in kept}

    told = {path: answer.headers["cache-status"].removeprefix("etl-river; ") for path, answer in again.items()}
    assert told == {
        "/data?source=csv": "hit",
        "/data?source=csv&page=2": "hit",
        "/data?source=none": "hit",
        "/data?source=api": "fwd=miss",
        "/data": "fwd=miss",
    }
    assert {path for path, answer in again.items() if answer.content == kept[path]} == set(list(kept)[:3])


def posts(version: int) -> list[dict[str, Any]]:
    """Of each version another number of records, and its number in each of them."""
    return [{"id": n, "title": f"Post {n}", "value": version} for n in range(ROWS + version)]


async def test_a_page_before_the_rows_that_change_is_kept_and_its_total_follows(
    client: httpx2.AsyncClient, filled: None, tick: Tick, source_server: SourceServer
) -> None:
    source_server.put_pages("/posts", posts(0))
    assert (await tick("api")).status == "success"
    paths = [f"/data?page={page}" for page in range(1, 9)]  # rows of api on the first four, of csv on the others
    before = [(await client.get(path)).json() for path in paths]
    source_server.put("/items.csv", csv(3))
    assert (await tick("csv")).status == "success"

    again = [await client.get(path, headers={"Cache-Control": "no-cache"}) for path in paths]
    made_anew = [await client.get(f"{path}&count=exact", headers={"Cache-Control": "no-cache"}) for path in paths]

    # Behind the fourth page comes the first row of csv, so that it is read again
    assert ["hit" in answer.headers["cache-status"] for answer in again] == [True] * 3 + [False] * 5
    assert [answer.content for answer in again] == [answer.content for answer in made_anew]
    assert [answer.headers["etag"] for answer in again] == [answer.headers["etag"] for answer in made_anew]
    assert [answer.json()["total"] - page["total"] for answer, page in zip(again, before, strict=True)] == [2] * 8


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("content", [csv(1, name="Other"), csv(2), csv(1).replace(b"7,1\n", b"7,\n")])
async def test_whatever_changes_a_row_changes_the_version(
    database: Database, tick: Tick, source_server: SourceServer, content: bytes
) -> None:
    before = await read_version(database)
    source_server.put("/items.csv", content)

    assert (await tick("csv")).status == "success"

    assert (await read_version(database)).all.version != before.all.version


@pytest.mark.usefixtures("filled")
async def test_an_etag_does_not_hide_what_is_wrong_with_a_request(client: httpx2.AsyncClient) -> None:
    etag = (await client.get("/data")).headers["etag"]

    assert (await client.get("/data?page=0", headers={"If-None-Match": etag})).status_code == 422


@pytest.mark.usefixtures("filled")
async def test_a_kept_page_grows_old_and_is_refused_to_who_wants_none_so_old(
    client: httpx2.AsyncClient, sql: asyncpg.Connection
) -> None:
    query = "/data?max_staleness=2"
    assert (await client.get(query)).status_code == 200
    await asyncio.sleep(2.1)

    late = await client.get(query)

    assert late.status_code == 503
    assert "older than max_staleness" in late.json()["detail"]


@pytest.mark.usefixtures("filled")
async def test_a_source_that_is_no_more_makes_nothing_stale_but_itself(
    client: httpx2.AsyncClient, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO etl_checkpoint (source, resource, row_count, succeeded_at)"
        " VALUES ('gone', 'gone', 0, '2020-01-01T00:00:00Z'), ('never', 'never', 0, NULL)"
    )
    for target in ("/data?max_staleness=60", "/data/export?format=csv&max_staleness=60"):
        for _ in range(2):
            answer = await client.get(target)
            assert answer.status_code == 200
            assert answer.headers["x-data-as-of"] > "2026"

    by_name = await client.get("/data?source=gone")

    assert by_name.headers["x-data-as-of"] == "2020-01-01T00:00:00Z"
    assert (await client.get("/data?source=gone&max_staleness=60")).status_code == 503


@pytest.mark.usefixtures("filled")
async def test_a_source_whose_file_is_wrong_is_not_gone(
    client: httpx2.AsyncClient, resources: Resources, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO etl_checkpoint (source, resource, row_count, succeeded_at)"
        " VALUES ('library.books', 'books', 0, '2020-01-01T00:00:00Z')"
    )
    resources.catalog.wrong.append(WrongFile("sources/library.toml", "library", "it is wrong"))

    assert (await client.get("/data?max_staleness=60")).status_code == 503


@pytest.mark.usefixtures("filled")
async def test_a_kept_page_is_not_for_who_may_not_read(dsn: str, resources: Resources) -> None:
    closed = replace(resources, settings=load_settings(DATABASE_URL=dsn, READ_TOKEN="hunter2"))
    async with api_client(closed, strict=False) as client:
        allowed = {"Authorization": "Bearer hunter2"}
        assert [(await client.get("/data", headers=allowed)).status_code for _ in range(2)] == [200, 200]

        assert (await client.get("/data")).status_code == 401
        assert (await client.get("/data", headers={"Authorization": "Bearer hunter"})).status_code == 401


@pytest.mark.usefixtures("filled")
async def test_a_database_that_cannot_confirm_answers_503_also_for_what_is_kept(
    client: httpx2.AsyncClient, resources: Resources, sql: asyncpg.Connection
) -> None:
    await client.get("/data")
    await asyncio.sleep(0.15)
    await sql.execute("ALTER TABLE etl_checkpoint RENAME TO elsewhere")

    refused = await client.get("/data")

    assert refused.status_code == 503
    await sql.execute("ALTER TABLE elsewhere RENAME TO etl_checkpoint")
    assert (await client.get("/data")).status_code == 200


async def test_readers_see_one_version_each_time_and_none_older_than_allowed(
    filled: None, resources: Resources, tick: Tick, source_server: SourceServer
) -> None:
    """Eight readers hammer random pages while versions are committed; every answer is one version, whole."""
    committed: list[tuple[float, int]] = [(monotonic(), 1)]
    seen: dict[tuple[str, str], bytes] = {}
    answers: defaultdict[int, int] = defaultdict(int)
    stop = asyncio.Event()

    async def hammer(client: httpx2.AsyncClient, seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            number = rng.randint(1, 5)
            began = monotonic()
            oldest = max(version for at, version in committed if at <= began - 0.1 or version == 1)
            answer = await client.get(f"/data?page={number}&page_size=10&source=csv")
            page = answer.json()
            versions = {item["value"] for item in page["data"]}
            assert len(versions) == 1, versions
            version = int(versions.pop())
            assert version >= oldest
            assert page["total"] == ROWS + version
            assert [item["source_id"] for item in page["data"]] == [
                str(n) for n in range(ROWS + version) if (number - 1) * 10 <= n < number * 10
            ]
            assert seen.setdefault((answer.headers["etag"], str(number)), answer.content) == answer.content
            answers[version] += 1
            await asyncio.sleep(0)

    async with api_client(resources, strict=False) as client, asyncio.TaskGroup() as group:
        for seed in range(8):
            group.create_task(hammer(client, seed))
        for version in range(2, 9):
            await asyncio.sleep(0.15)
            source_server.put("/items.csv", csv(version))
            assert (await tick("csv")).status == "success"
            committed.append((monotonic(), version))
        await asyncio.sleep(0.3)
        stop.set()

    assert sorted(answers) == list(range(1, 9))


async def test_readers_of_all_sources_see_rows_and_totals_of_one_moment(
    filled: None, resources: Resources, tick: Tick, source_server: SourceServer
) -> None:
    """Pages of two sources that change in turn: those of the first outlive changes of the second, not of their own."""
    source_server.put_pages("/posts", posts(1))
    assert (await tick("api")).status == "success"
    states = [(1, 1)]
    since = [monotonic()]
    hits: defaultdict[bool, int] = defaultdict(int)
    stop = asyncio.Event()

    async def hammer(client: httpx2.AsyncClient, seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            began, number = monotonic(), rng.randint(1, 9)
            oldest = max(at for at, moment in enumerate(since) if moment <= began - 0.1 or at == 0)
            answer = await client.get(f"/data?page={number}&page_size=10")
            page = answer.json()
            shown = {(item["source"], int(item["value"])) for item in page["data"]}
            # The next one may be committed, and not yet be noted here
            allowed = [*states[oldest:], upcoming]
            fitting = [
                (api, items)
                for api, items in allowed
                if page["total"] == 2 * ROWS + api + items and shown <= {("api", api), ("csv", items)}
            ]
            assert fitting, (shown, page["total"], allowed)
            hits["hit" in answer.headers["cache-status"]] += 1
            await asyncio.sleep(0)

    upcoming = (1, 1)
    async with api_client(resources, strict=False) as client, asyncio.TaskGroup() as group:
        for seed in range(8):
            group.create_task(hammer(client, seed))
        for round_ in range(8):
            await asyncio.sleep(0.15)
            api, items = states[-1]
            upcoming = (api + 2, items) if round_ % 2 else (api, items + 3)
            if round_ % 2:
                source_server.put_pages("/posts", posts(upcoming[0]))
            else:
                source_server.put("/items.csv", csv(upcoming[1]))
            assert (await tick("api" if round_ % 2 else "csv")).status == "success"
            states.append(upcoming)
            since.append(monotonic())
        await asyncio.sleep(0.3)
        stop.set()

    assert hits[True] > hits[False] > 0


def moment(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def answer(size: int, version: str = "v") -> Answer:
    return Answer(b"x" * size, "etag", None, version, None, None)


async def test_what_is_kept_is_bounded_in_bytes_and_the_oldest_goes_first(database: Database) -> None:
    cache = ReadCache(database, max_bytes=10 * (ENTRY_BYTES + 1_001))
    cache.learn(DataVersion(Mark("v", "f"), {}, {}), asked_at=monotonic())
    for n in range(11):
        cache.keep((b"%d" % (n % 10), b""), answer(1_000))  # the first one twice
    cache.keep((b"large", b""), answer(5_000))
    cache.keep((b"other", b""), answer(10, version="w"))

    cache.keep((b"a", b""), answer(1_000))

    assert list(cache._answers) == [*((b"%d" % n, b"") for n in (2, 3, 4, 5, 6, 7, 8, 9, 0)), (b"a", b"")]
    assert cache._bytes == 10 * (ENTRY_BYTES + 1_001)


def test_who_asks_for_sources_that_are_not_there_leaves_nothing_behind() -> None:
    anchors, known = Anchors(), DataVersion(Mark("v", "f"), {}, {})

    for n in range(100):
        query = DataQuery(source=f"none{n}", limit=10, offset=10)
        assert anchors.nearer(query, known) is query
        anchors.remember(query, known, [])

    assert anchors._walks == {}


async def test_an_older_answer_of_the_database_does_not_undo_a_newer_one(database: Database) -> None:
    cache = ReadCache(database, max_bytes=1_000_000)
    cache.learn(DataVersion(Mark("new", "f"), {}, {}), asked_at=2.0)

    cache.learn(DataVersion(Mark("old", "f"), {}, {}), asked_at=1.0)

    assert cache.latest == DataVersion(Mark("new", "f"), {}, {})
