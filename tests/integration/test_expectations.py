"""What a run promised, held against what it brought; and how old an answer may be."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from app.clock import utc_now
from app.records import RunReport
from app.resources import Resources
from tests.source_files import IMPATIENT, SourceFiles
from tests.source_server import SourceServer


class Things:
    def __init__(self, sources: SourceFiles, server: SourceServer) -> None:
        self.sources, self.server = sources, server

    def expect(self, text: str, *, more: str = 'mapping = { name = "name", description = "text" }') -> None:
        self.sources.rest(
            '[[resources]]\nname = "things"\nprimary_key = "id"\n'
            'endpoint = { path = "things", paginator = { type = "single_page" } }\n'
            f"{more}\n[resources.expect]\n{text}"
        )

    async def run(self, records: list[dict[str, Any]]) -> RunReport:
        self.server.put_json("/things", lambda _: records)
        return await self.sources.run()

    async def run_of(self, count: int) -> RunReport:
        return await self.run([{"id": n, "name": f"n{n}"} for n in range(count)])


@pytest.fixture
def things(resources: Resources, source_server: SourceServer, tmp_path: Path) -> Things:
    return Things(SourceFiles(resources, tmp_path / "sources", source_server.url), source_server)


@pytest.mark.parametrize(
    ("expect", "counts", "statuses"),
    [
        ("volume_drop = 0.5", (100, 50), ("succeeded", "succeeded")),
        ("volume_drop = 0.5", (100, 49), ("succeeded", "suspect")),
        ("volume_drop = 0", (100, 100, 99), ("succeeded", "succeeded", "suspect")),
        ("volume_rise = 0.5", (100, 150, 151), ("succeeded", "succeeded", "succeeded")),  # 125 are usual by then
        ("volume_rise = 0.5", (100, 151), ("succeeded", "suspect")),
        # What stays so becomes usual
        ("volume_drop = 0.5", (100, 40, 40, 40), ("succeeded", "suspect", "succeeded", "succeeded")),
    ],
)
async def test_volume_is_compared_with_what_is_usual(
    things: Things, expect: str, counts: tuple[int, ...], statuses: tuple[str, ...]
) -> None:
    things.expect(expect)

    reports = [await things.run_of(count) for count in counts]

    assert tuple(report.status for report in reports) == statuses


async def test_a_complaint_names_the_figure_the_usual_one_and_the_bound(things: Things) -> None:
    things.expect("volume_drop = 0.3")
    await things.run_of(100)

    report = await things.run_of(60)

    assert report.error_class == "data_error"
    assert report.error_message == "60 records, and 100 are usual (-40%); expect.volume_drop is 30%"
    assert (report.counts.extracted, report.counts.unchanged) == (60, 60)


async def test_a_run_that_reads_only_what_changed_is_not_compared(
    things: Things, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    things.sources.rest(
        '[[resources]]\nname = "things"\nprimary_key = "id"\nexpect = { volume_drop = 0.1, min_rows = 5 }\n'
        'endpoint = { path = "things", paginator = { type = "single_page" },'
        ' params = { since = "{incremental.start_value}" },'
        ' incremental = { cursor_path = "n", cursor_type = "integer", initial_value = 0 } }'
    )
    source_server.put_json("/things", lambda q: [{"id": n, "n": n} for n in range(int(q["since"]), 20)])

    first, second = await things.sources.run(), await things.sources.run()

    assert [(report.status, report.counts.extracted) for report in (first, second)] == [
        ("succeeded", 20),
        ("succeeded", 1),
    ]
    assert await sql.fetchval("SELECT array_agg(profile->>'whole' ORDER BY id) FROM etl_runs") == ["true", "false"]


@pytest.mark.parametrize(
    ("expect", "record", "complaint"),
    [
        ('not_null = ["name"]', {"id": 3}, "name: 1 rows are empty, for example '3'; see expect.not_null"),
        ('not_null = ["name"]', {"id": 3, "name": ""}, "name: 1 rows are empty"),
        ('not_null = ["description"]', {"id": 3, "name": "c"}, "description: 3 rows are empty"),
        ('unique = ["name"]', {"id": 3, "name": "a"}, "name: 2 rows repeat another row's value, for example '1'"),
        ('unique = ["source_id"]', {"id": 1, "name": "c"}, "source_id: 1 keys came more than once in this pass"),
    ],
)
async def test_columns_are_looked_at(things: Things, expect: str, record: dict[str, Any], complaint: str) -> None:
    things.expect(expect)
    records: list[dict[str, Any]] = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, record]

    report = await things.run(records)
    again = await things.run(records)

    assert report.status == again.status == "suspect"
    assert complaint in str(report.error_message)
    assert report.counts.inserted == len({one["id"] for one in records})


async def test_columns_that_hold_make_no_noise(things: Things) -> None:
    things.expect(
        'not_null = ["name", "value"]\nunique = ["source_id", "name", "value"]',
        more='mapping = { name = "name", value = "id" }',
    )

    assert (await things.run_of(20)).status == "succeeded"


async def test_a_key_that_comes_twice_is_found_across_batches(things: Things) -> None:
    things.expect('unique = ["source_id"]')

    report = await things.run([{"id": n % 6000, "name": "same" + str(n % 6000)} for n in range(12_000)])

    assert report.status == "suspect"
    assert "source_id: 6000 keys came more than once" in str(report.error_message)


async def test_data_say_what_they_are_as_of(
    things: Things, client: httpx2.AsyncClient, sql: asyncpg.Connection
) -> None:
    things.expect("min_rows = 0")
    before = utc_now()
    never = await client.get("/data?source=s&max_staleness=60")
    await things.run_of(3)
    fresh = await client.get("/data?source=s&max_staleness=PT1M")
    await sql.execute(
        "UPDATE etl_checkpoint SET succeeded_at = succeeded_at - interval '10 minutes' WHERE source = 's'"
    )
    old = await client.get("/data?source=s&max_staleness=60")
    patient = await client.get("/data?source=s&max_staleness=PT1H")
    searched = await client.get("/data?source=s&search=n1&max_staleness=60")

    assert [answer.status_code for answer in (never, fresh, old, patient, searched)] == [503, 200, 503, 200, 503]
    assert fresh.headers["X-Data-As-Of"] >= before.isoformat()[:19]
    assert fresh.headers["X-Source-Lag-Seconds"] == "0"
    assert 600 <= int(patient.headers["X-Source-Lag-Seconds"]) < 660
    assert old.headers["content-type"] == "application/problem+json"
    assert old.headers["Retry-After"] == "30"
    assert "max_staleness=60 s" in old.json()["detail"]


@pytest.mark.parametrize("value", ["soon", "-1", "P1Y", "%00", "1e99", "nan", "inf", "99999999999"])
async def test_an_odd_staleness_is_refused(client: httpx2.AsyncClient, value: str) -> None:
    answer = await client.get(f"/data?max_staleness={value}")

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_answer_is_as_fresh_as_its_least_fresh_source(
    client: httpx2.AsyncClient, sql: asyncpg.Connection
) -> None:
    now = utc_now()
    for source, age in (("api", 5), ("csv", 500)):
        await sql.execute(
            "INSERT INTO etl_checkpoint (source, resource, succeeded_at) VALUES ($1, 'r', $2)",
            source,
            now - timedelta(seconds=age),
        )

    every, one = await client.get("/data"), await client.get("/data?source=api")

    assert int(every.headers["X-Source-Lag-Seconds"]) >= 500
    assert int(one.headers["X-Source-Lag-Seconds"]) < 60


async def test_a_stale_source_is_named(
    things: Things, client: httpx2.AsyncClient, resources: Resources, sql: asyncpg.Connection
) -> None:
    things.sources.rest(
        '[[resources]]\nname = "things"\nprimary_key = "id"\nendpoint = { path = "things" }\n',
        top=IMPATIENT + '[schedule]\ninterval = "PT1M"\nmax_staleness = "PT5M"\n',
    )
    await things.run_of(3)
    fresh = (await client.get("/health")).json()
    await sql.execute(
        "UPDATE etl_checkpoint SET succeeded_at = succeeded_at - interval '10 minutes' WHERE source = 's'"
    )
    stale = await client.get("/health")
    listed = {item["name"]: item for item in (await client.get("/sources")).json()}
    await sql.execute("UPDATE etl_checkpoint SET succeeded_at = NULL")
    started = (await client.get("/health")).json()
    resources.opened_at -= timedelta(minutes=10)
    never = (await client.get("/health")).json()

    assert (fresh["stale_sources"], started["stale_sources"], never["stale_sources"]) == ([], [], ["s"])
    assert (stale.status_code, stale.json()["status"], stale.json()["stale_sources"]) == (200, "degraded", ["s"])
    assert (listed["s"]["stale"], listed["s"]["max_staleness_seconds"], listed["api"]["stale"]) == (True, 300, False)
    assert 600 <= listed["s"]["staleness_seconds"] < 700
