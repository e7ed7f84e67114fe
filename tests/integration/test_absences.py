"""What a complete pass does not bring is gone: deletes by snapshot, hard deletes, resources that are replaced."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from app.main import create_app
from app.operations import backfill, deletes
from app.pipeline import batches
from app.records import RunReport
from app.resources import Resources
from app.scheduler import run_tick
from app.settings import load_settings
from tests.conftest import api_client
from tests.processes import run
from tests.source_files import SourceFiles, resource
from tests.source_server import Fault, SourceServer

SNAPSHOT = '[resources.deletes]\ndetect = "snapshot"\n'
LIVE = "SELECT string_agg(source_id, ',' ORDER BY source_id) FROM normalized_data WHERE deleted_at IS NULL"
HELD = """
SELECT row_count = (SELECT count(*) FROM normalized_data WHERE deleted_at IS NULL)
FROM etl_checkpoint WHERE kind = 'cursor'
"""
FOUND = """
SELECT count(*) FROM (SELECT source_id FROM raw_api_data UNION SELECT source_id FROM raw_csv_data) AS known
WHERE source_id NOT IN (SELECT source_id FROM normalized_data)
    AND source_id NOT IN (SELECT source_id FROM raw_api_data WHERE disposition <> 'loaded')
"""


class Things:
    """A source of numbered things, in one page or in several, with ETags or without."""

    def __init__(self, sources: SourceFiles, server: SourceServer, sql: asyncpg.Connection) -> None:
        self.sources, self.server, self.sql = sources, server, sql

    def describe(self, more: str = SNAPSHOT, *, pages: bool = False, key: str = "id") -> None:
        paginator = '{ type = "page_number", page_param = "_page", limit_param = "_limit", limit = 10 }'
        walk = paginator if pages else '{ type = "single_page" }'
        self.sources.rest(
            f'[[resources]]\nname = "things"\nprimary_key = "{key}"\n'
            f'endpoint = {{ path = "things", paginator = {walk} }}\n{more}'
        )

    def has(self, *numbers: int, etags: bool = False) -> None:
        records = [{"id": number, "name": f"t{number}"} for number in numbers]
        self.server.put_pages("/things", records, etags=etags, links=False)

    async def run_with_faults(self, *faults: Fault) -> RunReport:
        """Run once; faults that are left over are forgotten."""
        self.server.fault("/things", *faults)
        report = await self.sources.run()
        self.server.forget_faults("/things")
        return report

    async def live(self) -> str:
        assert await self.sql.fetchval(HELD)
        assert await self.sql.fetchval(FOUND) == 0
        return str(await self.sql.fetchval(LIVE))


@pytest.fixture
def things(resources: Resources, source_server: SourceServer, sql: asyncpg.Connection, tmp_path: Path) -> Things:
    return Things(SourceFiles(resources, tmp_path / "sources", source_server.url), source_server, sql)


@pytest.mark.parametrize("mode", ["soft", "hard"])
async def test_what_a_body_no_longer_holds_is_deleted_and_returns(things: Things, mode: str) -> None:
    things.describe(SNAPSHOT + f'mode = "{mode}"')
    seen = []
    for numbers in ((1, 2, 3, 4, 5, 6, 7, 8), (1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5, 6, 7), (1, 2, 3, 4, 5, 6, 7, 8)):
        things.has(*numbers)
        report = await things.sources.run()
        counts = report.counts
        seen.append(
            (report.status, report.outcome, counts.vanished, counts.inserted + counts.updated, await things.live())
        )

    assert seen == [
        ("succeeded", "changed", 0, 8, "1,2,3,4,5,6,7,8"),
        ("succeeded", "changed", 1, 0, "1,2,3,4,5,6,7"),
        ("succeeded", "no_new_data", 0, 0, "1,2,3,4,5,6,7"),
        ("succeeded", "changed", 0, 1, "1,2,3,4,5,6,7,8"),
    ]
    assert await things.sql.fetchval("SELECT count(*) FROM normalized_data") == 8


@pytest.mark.parametrize(
    ("more", "left", "why"),
    [
        ("", 7, "30.0% of them, and deletes.guard_ratio is 20%"),
        ("guard_ratio = 0.2", 7, "30.0% of them"),
        ("guard_ratio = 0", 9, "10.0% of them, and deletes.guard_ratio is 0%"),
        ('guard_ratio = 1.0\n[resources.expect]\non_zero = "suspect"', 0, "no record at all"),
        ("guard_ratio = 1.0\n[resources.expect]\nmin_rows = 8", 7, "expect.min_rows is 8"),
    ],
)
async def test_more_than_the_guard_allows_is_refused_until_it_is_back(
    things: Things, more: str, left: int, why: str
) -> None:
    things.describe(SNAPSHOT + more)
    things.has(*range(10), etags=True)
    await things.sources.run()
    before = await things.live()
    things.has(*range(left), etags=True)

    refused = await things.sources.run()
    again = await things.sources.run()

    assert (refused.status, refused.error_class, refused.counts.vanished) == ("suspect", "data_error", 0)
    assert why in str(refused.error_message)
    assert "etl deletes s" in str(refused.error_message)
    # The source says that nothing has changed since; the question is still open
    assert again.status == "suspect"
    assert await things.live() == before
    things.has(*range(10), etags=True)
    assert (await things.sources.run()).status == "succeeded"
    assert await things.sql.fetchval("SELECT count(*) FROM etl_checkpoint WHERE kind = 'absent'") == 0


async def test_all_may_vanish_where_the_file_says_so(things: Things) -> None:
    things.describe(SNAPSHOT + 'guard_ratio = 1.0\n[resources.expect]\non_zero = "ok"')
    things.has(1, 2)
    await things.sources.run()
    things.has()

    assert ((await things.sources.run()).counts.vanished, await things.live()) == (2, "None")


@pytest.mark.parametrize("etags", [False, True])
async def test_where_pages_may_shift_two_passes_must_miss_a_record(things: Things, etags: bool) -> None:
    things.describe(pages=True)
    vanished = []
    # 3 is missed once (it moved to a page already read) and is back; 25 stays away
    gone = [set(), {3, 25}, {25}, {25}]
    for absent in gone:
        things.has(*(n for n in range(30) if n not in absent), etags=etags)
        vanished.append((await things.sources.run()).counts.vanished)

    assert vanished == [0, 0, 1, 0]
    assert sorted((await things.live()).split(",")) == sorted(str(n) for n in range(30) if n != 25)


async def test_pages_that_have_not_changed_since_are_the_second_pass(things: Things) -> None:
    things.describe(pages=True)
    things.has(*range(30), etags=True)
    await things.sources.run()
    things.has(*range(29), etags=True)
    await things.sources.run()

    confirmed = await things.sources.run()
    after = await things.sources.run()

    assert (confirmed.counts.extracted, confirmed.counts.vanished, confirmed.outcome) == (0, 1, "changed")
    assert (after.counts.vanished, after.outcome) == (0, "not_modified")
    assert "29" not in (await things.live()).split(",")


async def test_pages_that_were_not_modified_are_read_before_anything_is_deleted(things: Things) -> None:
    """Otherwise all that they hold would count as absent."""
    things.describe(SNAPSHOT + "guard_ratio = 1.0", pages=True)
    things.has(*range(30), etags=True)
    await things.sources.run()
    things.has(*range(29), 99, etags=True)

    report = await things.sources.run()
    await things.sources.run()

    assert (report.counts.extracted, report.counts.inserted) == (40, 1)
    assert report.counts.balanced
    assert sorted((await things.live()).split(",")) == sorted(str(n) for n in (*range(29), 99))


async def test_a_resumed_pass_deletes_nothing_and_the_next_one_reads_all(things: Things) -> None:
    things.describe(SNAPSHOT + "guard_ratio = 1.0", pages=True)
    things.has(*range(30), etags=True)
    await things.sources.run()
    things.has(*range(100, 130), etags=True)
    broken = await things.run_with_faults(Fault(gate=None), *[Fault(status=403)] * 3)
    resumed = await things.sources.run()
    whole = await things.sources.run()
    second = await things.sources.run()

    assert resumed.error_message is None
    assert (broken.status, resumed.status) == ("partial", "succeeded")
    assert [report.counts.vanished for report in (broken, resumed, whole, second)] == [0, 0, 0, 30]
    assert whole.counts.extracted == 30


async def test_a_pass_that_ended_at_its_bounds_deletes_nothing(things: Things) -> None:
    more = SNAPSHOT + "guard_ratio = 1.0\n"
    things.describe(more, pages=True)
    things.has(*range(30))
    await things.sources.run()
    bounded = '{ type = "page_number", page_param = "_page", limit_param = "_limit", limit = 10, max_records = 20 }'
    things.sources.rest(
        '[[resources]]\nname = "things"\nprimary_key = "id"\n'
        f'endpoint = {{ path = "things", paginator = {bounded} }}\n{more}'
    )

    reports = [await things.sources.run() for _ in range(3)]

    assert [(report.counts.extracted, report.counts.vanished) for report in reports] == [(20, 0)] * 3


async def test_a_record_without_a_key_may_be_any_of_the_absent(things: Things) -> None:
    things.describe(SNAPSHOT + "guard_ratio = 1.0")
    things.has(1, 2, 3)
    await things.sources.run()
    things.server.put_json("/things", lambda _: [{"id": 1}, {"name": "who?"}])

    report = await things.sources.run()

    assert (report.status, report.counts.rejected, report.counts.vanished) == ("suspect", 1, 0)
    assert "1 new records came without a key" in str(report.error_message)
    # The one without a key is known by now; it is not the one that has gone
    assert (await things.sources.run()).counts.vanished == 2


async def test_a_record_that_is_rejected_is_not_absent(things: Things) -> None:
    things.describe('schema_contract = "reject_row"\nmapping = { value = "name" }\n' + SNAPSHOT + "guard_ratio = 1.0")
    things.server.put_json("/things", lambda _: [{"id": 1, "name": "1"}, {"id": 2, "name": "2"}])
    await things.sources.run()
    things.server.put_json("/things", lambda _: [{"id": 1, "name": "1"}, {"id": 2, "name": "two"}])

    report = await things.sources.run()

    assert (report.counts.rejected, report.counts.vanished, await things.live()) == (1, 0, "1,2")


async def test_a_csv_file_is_a_snapshot_too(things: Things, source_server: SourceServer) -> None:
    things.sources.write(
        f'name = "s"\ntype = "csv"\nclient = {{ allow_private_networks = true }}\n[[resources]]\nname = "items"\n'
        f'primary_key = "id"\nfile = {{ url = "{source_server.url}/items.csv" }}\n{SNAPSHOT}',
        name="s",
    )
    vanished = []
    for body in (
        b"id,name\n1,a\n2,b\n3,c\n4,d\n5,e\n",
        b"id,name\n1,a\n3,c\n4,d\n5,e\n",
        b"id,name\n1,a\n3,c\n4,d\n5,e\n",
    ):
        source_server.put("/items.csv", body)
        vanished.append((await things.sources.run()).counts.vanished)

    assert vanished == [0, 1, 0]
    assert await things.live() == "1,3,4,5"


async def test_a_hard_delete_by_flag_removes_the_row_and_keeps_its_raw_rows(things: Things) -> None:
    things.describe('mapping = { name = "name", deleted = "gone" }\n[resources.deletes]\nmode = "hard"\n')
    live: list[Any] = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    told = []
    for records in (live, [{"id": 1, "gone": True}], [{"id": 1, "gone": True}], live):
        things.server.put_json("/things", lambda _, records=records: records)  # type: ignore[misc]
        report = await things.sources.run()
        told.append((report.counts.deleted, await things.sql.fetchval("SELECT count(*) FROM normalized_data")))
        assert await things.sql.fetchval(HELD)

    assert told == [(0, 2), (1, 1), (0, 1), (0, 2)]
    assert await things.sql.fetchval("SELECT count(*) FROM raw_api_data WHERE source_id = '1'") == 3


REPLACE = 'write_disposition = "replace"\n'


@pytest.mark.parametrize("mode", ["soft", "hard"])
async def test_a_resource_is_swapped_whole(things: Things, mode: str) -> None:
    things.describe(REPLACE + f'[resources.deletes]\nmode = "{mode}"\n', pages=True)
    things.has(*range(25))
    first = await things.sources.run()
    things.has(*range(20, 60))

    second = await things.sources.run()
    again = await things.sources.run()

    assert (first.counts.inserted, first.counts.vanished) == (25, 0)
    assert (second.counts.inserted, second.counts.unchanged, second.counts.vanished) == (35, 5, 20)
    assert (again.outcome, again.counts.unchanged, again.counts.raw_rows) == ("no_new_data", 40, 0)
    assert sorted((await things.live()).split(",")) == sorted(str(n) for n in range(20, 60))


async def test_readers_see_the_old_rows_until_the_new_are_complete(
    things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_SECONDS", 0.05)
    things.describe(REPLACE, pages=True)
    things.has(*range(20))
    await things.sources.run()
    before = await things.live()
    gate = asyncio.Event()
    things.has(*range(100, 140))
    things.server.fault("/things", Fault(gate=None), Fault(gate=None), Fault(gate=gate))

    running = asyncio.create_task(things.sources.run())
    while len(things.server.requests("/things")) < 6:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    meanwhile = await things.live()
    gate.set()
    report = await running

    assert meanwhile == before
    assert report.counts.vanished == 20
    assert sorted((await things.live()).split(",")) == sorted(str(n) for n in range(100, 140))


async def test_a_swap_that_breaks_leaves_everything_as_it_was(things: Things) -> None:
    things.describe(REPLACE, pages=True)
    things.has(*range(20))
    await things.sources.run()
    before = await things.live()
    raw_rows = await things.sql.fetchval("SELECT count(*) FROM raw_api_data")
    things.has(*range(100, 140))
    broken = await things.run_with_faults(Fault(gate=None), *[Fault(status=403)] * 3)

    assert (broken.status, broken.counts.extracted) == ("failed", 0)
    assert (await things.live(), await things.sql.fetchval("SELECT count(*) FROM raw_api_data")) == (before, raw_rows)
    mended = await things.sources.run()
    assert (mended.counts.inserted, mended.counts.vanished) == (40, 20)


async def test_an_empty_pass_replaces_nothing(things: Things) -> None:
    things.describe(REPLACE)
    things.has(1, 2)
    await things.sources.run()
    things.has()

    report = await things.sources.run()

    assert (report.status, report.counts.vanished, await things.live()) == ("suspect", 0, "1,2")


async def test_a_replaced_key_may_come_twice_in_different_batches(
    things: Things,
) -> None:
    things.describe(REPLACE + 'mapping = { name = "name" }\n')
    records = [{"id": n % 6000, "name": str(n)} for n in range(12_000)]
    things.server.put_json("/things", lambda _: records)

    report = await things.sources.run()

    assert (report.counts.extracted, report.counts.inserted, report.counts.balanced) == (12_000, 6000, True)
    assert await things.sql.fetchval("SELECT name FROM normalized_data WHERE source_id = '5'") == "6005"
    assert await things.sql.fetchval(HELD)


@pytest.fixture
async def refused(things: Things) -> Things:
    """Ten rows are here, seven at the source, and the guard has refused."""
    things.describe()
    things.has(*range(10), etags=True)
    await things.sources.run()
    things.has(*range(7), etags=True)
    await things.sources.run()
    return things


async def test_what_a_guard_refused_is_shown_and_approved_once(refused: Things, resources: Resources) -> None:
    specs = resources.catalog.select(["s"])

    (shown,) = await deletes.waiting(resources, specs)
    (report,) = (await deletes.approve(resources, specs)).values()

    assert (shown.count, list(shown.keys)) == (3, ["7", "8", "9"])
    assert "30.0% of them" in str(shown.refused)
    assert report is not None
    assert (report.status, report.outcome, report.counts.vanished) == ("succeeded", "changed", 3)
    assert await refused.live() == "0,1,2,3,4,5,6"
    assert await deletes.waiting(resources, specs) == []
    assert await deletes.approve(resources, specs) == {}  # and no run is recorded for nothing
    after = await refused.sources.run()
    assert (after.status, after.counts.vanished) == ("succeeded", 0)


async def test_a_key_that_waits_is_not_another_records_once_keys_were_dealt_out_anew(things: Things) -> None:
    """A pass without any change counts as the second that misses it, and deleted the record that has the key now."""

    def has(*numbers: int) -> None:
        records = [{"id": n, "name": f"t{n}", "code": 15 if n == 3 else 100 + n} for n in numbers]
        things.server.put_pages("/things", records, etags=True, links=False)

    things.describe(pages=True)
    has(*range(20))
    await things.sources.run()
    has(*(n for n in range(20) if n != 15))
    await things.sources.run()
    things.describe(SNAPSHOT, pages=True, key="code")

    runs = [await things.sources.run() for _ in range(3)]

    assert sum(report.counts.vanished for report in runs) == 1
    keys = await things.sql.fetch("SELECT source_id FROM normalized_data WHERE deleted_at IS NULL")
    assert {row["source_id"] for row in keys} == {"15", *(str(100 + n) for n in range(20) if n not in {3, 15})}


async def test_what_came_back_does_not_wait_any_more(things: Things, resources: Resources) -> None:
    """By any run: this one takes no snapshot, so nothing else looks at what waits."""
    things.describe("")
    things.has(*range(10))
    await things.sources.run()
    things.has(*range(6))
    specs = resources.catalog.select(["s"])
    refreshed = (await run_tick(resources, backfill.refreshed(specs, "data"), trigger="refresh")).reports
    waited = await deletes.waiting(resources, specs)
    things.has(*range(9))
    await things.sources.run()

    (waiting,) = await deletes.waiting(resources, specs)
    await deletes.approve(resources, specs)

    assert [report.status for report in refreshed] == ["suspect"]
    assert list(waited[0].keys) == ["6", "7", "8", "9"]
    assert list(waiting.keys) == ["9"]
    assert await things.live() == "0,1,2,3,4,5,6,7,8"


async def test_what_is_discarded_stays_until_the_next_pass_asks_again(refused: Things, resources: Resources) -> None:
    specs = resources.catalog.select(["s"])

    await deletes.discard(resources, specs)

    assert await deletes.waiting(resources, specs) == []
    assert await refused.live() == "0,1,2,3,4,5,6,7,8,9"
    assert (await refused.sources.run()).status == "suspect"


async def test_the_operator_decides_over_http(refused: Things, resources: Resources) -> None:
    resources.settings = load_settings(OPERATOR_TOKEN="let-me")
    app = create_app(resources=resources)
    app.state.resources = resources  # the lifespan would run the scheduler
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        stranger = await client.post("/sources/s/deletes", json={"decision": "approve"})
        client.headers["Authorization"] = "Bearer let-me"
        shown = await client.get("/sources/s/deletes")
        wrong = await client.post("/sources/s/deletes", json={"decision": "maybe"})
        approved = await client.post("/sources/s/deletes", json={"decision": "approve"})
        nothing = await client.post("/sources/s/deletes", json={"decision": "approve"})
        nobody = await client.get("/sources/nobody/deletes")

    assert (stranger.status_code, wrong.status_code, nobody.status_code) == (401, 422, 404)
    assert shown.json()[0]["count"] == 3
    assert (approved.status_code, approved.json()["vanished"]) == (200, 3)
    assert list(approved.json()["runs"]) == ["s"]
    assert nothing.json() == {"vanished": 0, "runs": {}, "running": {}}


async def test_where_one_resource_is_running_the_others_deletions_are_told(
    things: Things, resources: Resources, source_server: SourceServer, dsn: str
) -> None:
    patient = "timeout = { read = 30, total = 60 }"
    things.sources.rest(*(resource(name=name, keys=SNAPSHOT) for name in ("a", "b")), client=patient)
    for count in (10, 7):
        for name in ("a", "b"):
            source_server.put_json(f"/{name}", lambda _, count=count: [{"id": n} for n in range(count)])  # type: ignore[misc]
        await things.sources.run_all("s")
    gate, order = asyncio.Event(), {"decision": "approve"}
    source_server.fault("/a", Fault(gate=gate))
    running = asyncio.create_task(things.sources.run_all("s.a"))
    while len(source_server.requests("/a")) < 3:
        await asyncio.sleep(0.02)
    resources.settings = load_settings(OPERATOR_TOKEN="let-me", SOURCES_DIR=things.sources.folder)
    async with api_client(resources, headers={"Authorization": "Bearer let-me"}) as client:
        partly = await client.post("/sources/s/deletes", json=order)
        not_at_all = await client.post("/sources/s/deletes", json=order)
    code, told = await run(
        "deletes", "s", "--approve", "--json", DATABASE_URL=dsn, SOURCES_DIR=str(things.sources.folder)
    )
    gate.set()
    in_the_way = {"s.a": (await running)["s.a"].run_id}

    assert (partly.status_code, not_at_all.status_code) == (200, 409)
    assert partly.json() == {"vanished": 3, "runs": {"s.b": in_the_way["s.a"] + 1}, "running": in_the_way}
    assert not_at_all.json()["running"] == in_the_way
    assert (code, told) == (75, '{"s.a": null}\n')


@pytest.mark.parametrize("more", [SNAPSHOT + "guard_ratio = 1.0", REPLACE])
async def test_what_a_whole_pass_brings_is_so_whatever_its_date(things: Things, more: str) -> None:
    """A row restored from a backup, a corrected date: the source holds it now."""
    things.describe('mapping = { name = "name", updated_at = "at" }\n' + more)
    old = {"id": 1, "name": "old", "at": "2020-01-01T00:00:00Z"}
    new = {"id": 1, "name": "new", "at": "2026-01-01T00:00:00Z"}
    other = {"id": 2, "name": "x", "at": None}
    told = []
    for records in ([new, other], [old, other], [other], [old, other], [new, other]):
        things.server.put_json("/things", lambda _, records=records: records)  # type: ignore[misc]
        counts = (await things.sources.run()).counts
        name = await things.sql.fetchval(
            "SELECT name FROM normalized_data WHERE source_id = '1' AND deleted_at IS NULL"
        )
        told.append((counts.outdated, counts.vanished, name))

    assert told == [(0, 0, "new"), (0, 0, "old"), (0, 1, None), (0, 0, "old"), (0, 0, "new")]
