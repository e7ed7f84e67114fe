"""What was delivered, later: its retries, replays, lineage and retention, and the verbs that are not for it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from app.clock import utc_now
from app.db import runs
from app.db.invariants import AT_ANY_MOMENT, ListedRecord, ListedSource, open_invariants
from app.db.rejects import read_groups
from app.operations.replay import replay
from app.pipeline.retention import Pruned, prune
from app.records import ReplayRange
from app.resources import Resources
from app.settings import load_settings
from tests.conftest import api_client
from tests.processes import run
from tests.webhooks import SECRET, body, signed, source, use, write

STRICT = source(resource='schema_contract = "reject_row"', mapping='deleted = "gone"')
OLD, NEW = body(7), body(7, title="new")
DEAR, GONE = body(7, total="dear"), body(7, gone=True)
IN_BYTES = """
SELECT reject_code, CASE payload_encoding WHEN 'escape' THEN decode(payload #>> '{}', 'escape')
    ELSE convert_to(payload::text, 'UTF8') END FROM raw_api_data ORDER BY id
"""


@dataclass
class Delivered:
    """A service in this process, and a sender."""

    resources: Resources
    folder: Path
    sql: asyncpg.Connection

    @asynccontextmanager
    async def serving(self, text: str = STRICT) -> AsyncIterator[httpx2.AsyncClient]:
        use(self.resources, self.folder, text)
        async with api_client(self.resources, headers={"Authorization": "Bearer operate"}) as client:
            yield client

    async def post(self, *deliveries: tuple[str, bytes], text: str = STRICT) -> None:
        """Each by the id that its sender gives it."""
        async with self.serving(text) as client:
            for name, payload in deliveries:
                answer = await client.post("/hooks/shop-orders", content=payload, headers=signed(payload, id=name))
                assert answer.status_code == 202, answer.text

    async def replay(self, text: str, chosen: ReplayRange = ReplayRange()) -> str:  # noqa: B008 -- frozen
        use(self.resources, self.folder, text)
        (done,) = (await replay(self.resources, list(self.resources.catalog), chosen)).values()
        assert done is not None
        return done.report.status

    async def prune(self) -> Pruned:
        """As if ten days had passed, of which seven are kept."""
        settings = load_settings(RAW_RETENTION_DAYS=7).retention
        return await prune(self.resources.database, settings, now=utc_now() + timedelta(days=10))

    async def rows(self) -> list[tuple[str, str]]:
        query = "SELECT source_id, name FROM normalized_data WHERE deleted_at IS NULL ORDER BY source_id"
        return [tuple(row) for row in await self.sql.fetch(query)]

    async def raw(self) -> list[tuple[str, str]]:
        """Dispositions, and the ids of the deliveries."""
        query = "SELECT disposition, substr(delivery_key, 4) FROM raw_api_data ORDER BY id"
        return [tuple(row) for row in await self.sql.fetch(query)]

    async def rejects(self) -> list[tuple[str, int]]:
        async with self.resources.database.read() as session:
            return [(group["code"], group["count"]) for group in await read_groups(session)]


@pytest.fixture
def delivered(
    resources: Resources, tmp_path: Path, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> Delivered:
    monkeypatch.setenv("ETL_SECRET_HOOK", SECRET)
    resources.settings = load_settings(OPERATOR_TOKEN="operate")
    return Delivered(resources, tmp_path / "sources", sql)


@pytest.mark.parametrize(
    ("before", "retried"),
    [
        ([("m1", OLD), ("m2", OLD)], ("m2", OLD)),
        ([("m1", OLD), ("m2", GONE), ("m3", GONE)], ("m3", GONE)),
        ([("m1", DEAR), ("m2", DEAR)], ("m2", DEAR)),
    ],
    ids=["unchanged", "deleted already", "rejected already"],
)
async def test_a_retry_of_what_changed_nothing_takes_nothing_back(
    before: list[tuple[str, bytes]], retried: tuple[str, bytes], delivered: Delivered, dsn: str
) -> None:
    """No time in the record tells that it is old: only the key that its first delivery left."""
    await delivered.post(*before, ("m9", NEW), retried)

    assert await delivered.rows() == [("7", "new")]
    assert await delivered.rejects() == []
    assert await delivered.sql.fetchval("SELECT sum(duplicate) FROM etl_runs") == 1
    listing = [ListedRecord("shop", "7", None, None)]
    async with open_invariants(dsn, sources=[ListedSource("shop", False, False)], listing=listing) as invariants:
        assert await invariants.violations((*AT_ANY_MOMENT, "I1 nothing lost")) == []


async def test_what_was_repeated_speaks_for_no_record_and_is_pruned(delivered: Delivered) -> None:
    await delivered.post(("m1", DEAR), ("m2", DEAR), ("m3", b"no JSON"), ("m4", b"no JSON"))
    assert await delivered.raw() == [("rejected", "m1"), ("repeated", "m2"), ("rejected", "m3"), ("repeated", "m4")]
    assert sorted(await delivered.rejects()) == [("not_a_number", 1), ("not_json", 1)]

    pruned = await delivered.prune()

    assert pruned.raw_rows == 2
    assert await delivered.raw() == [("rejected", "m1"), ("rejected", "m3")]


async def test_a_mended_mapping_makes_good_what_was_rejected_and_its_lineage_tells_all(delivered: Delivered) -> None:
    await delivered.post(("m1", DEAR), ("m2", DEAR))

    status = await delivered.replay(source(), ReplayRange(rejected=True))

    assert status == "succeeded"
    assert await delivered.rows() == [("7", "order 7")]
    assert await delivered.rejects() == []
    async with delivered.serving(source()) as client:
        (row,) = (await client.get("/data?source=shop")).json()["data"]
        lineage = (await client.get(f"/data/{row['id']}/lineage")).json()
    assert lineage["received"]["payload"] == DEAR.decode()
    assert lineage["request"]["reason"] == "it was delivered, in run 1, and not asked for"
    assert (lineage["run"]["trigger"], lineage["normalized_by"]["trigger"]) == ("hook", "replay")
    assert [version["disposition"] for version in lineage["set_aside"]] == ["repeated"]


async def test_what_is_pruned_is_known_no_longer(delivered: Delivered) -> None:
    await delivered.post(("m1", OLD), ("m2", NEW))

    pruned = await delivered.prune()
    await delivered.post(("m2", NEW), ("m1", OLD))

    assert pruned.raw_rows == 1
    assert await delivered.rows() == [("7", "order 7")]
    assert await delivered.raw() == [("loaded", "m2"), ("loaded", "m1")]


async def test_a_replay_reads_bodies_as_they_were_read_when_they_came(delivered: Delivered) -> None:
    bodies = [b"\n " + OLD + b"\n", b"no JSON", b"\xff\x00\xfe", b"", OLD + b" x", b"[" * 2_000, b'{"title": "no key"}']
    await delivered.post(*((f"m{n}", payload) for n, payload in enumerate(bodies)))
    received = [tuple(row) for row in await delivered.sql.fetch(IN_BYTES)]

    status = await delivered.replay(source(mapping='deleted = "gone"\ndescription = "total"'))

    assert [payload for _, payload in received] == bodies
    assert [code for code, _ in received] == [None, *["not_json"] * 5, "missing_key"]
    assert status == "succeeded"
    assert [tuple(row) for row in await delivered.sql.fetch(IN_BYTES)] == received
    assert await delivered.sql.fetchval("SELECT description FROM normalized_data") == "10.5"
    assert await delivered.sql.fetchval("SELECT findings FROM etl_runs WHERE trigger = 'replay'") == "[]"


async def test_a_run_that_another_process_closed_is_followed_by_a_new_one(delivered: Delivered) -> None:
    """As it does after a silence of a lease; here the database was away for so long."""
    async with delivered.serving() as client:
        await client.post("/hooks/shop-orders", content=body(1), headers=signed(body(1), id="m1"))
        async with delivered.resources.database.write() as session:
            assert await runs.close_orphans(session, lease_seconds=0) == 1
        await client.post("/hooks/shop-orders", content=body(2), headers=signed(body(2), id="m2"))

    found = await delivered.sql.fetch("SELECT status, extracted, requests FROM etl_runs ORDER BY id")
    assert [tuple(row) for row in found] == [("crashed", 1, 0), ("succeeded", 1, 1)]


@pytest.mark.parametrize(
    ("method", "path", "given"),
    [
        ("PATCH", "checkpoint", {"cursor_value": None}),
        ("PATCH", "checkpoint?dry_run=true", {"cursor_value": "2026-01-01T00:00:00Z"}),
        ("PATCH", "checkpoint", {"rewind_by": "PT1H"}),
        ("POST", "backfill", {"from": "2026-01-01"}),
        ("POST", "refresh", {"scope": "state"}),
        ("POST", "refresh?dry_run=true", {"scope": "data"}),
    ],
)
async def test_verbs_that_would_ask_its_source_are_refused(
    method: str, path: str, given: dict[str, Any], delivered: Delivered
) -> None:
    await delivered.post(("m1", OLD))

    async with delivered.serving() as client:
        answer = await client.request(method, f"/sources/shop/{path}", json=given)
        standing = (await client.get("/sources/shop/checkpoint")).json()

    assert (answer.status_code, "shop is delivered, to /hooks/shop-orders" in answer.text) == (409, True), answer.text
    assert [item["row_count"] for item in standing] == [1]
    assert await delivered.sql.fetchval("SELECT count(*) FROM etl_runs") == 1


async def test_what_is_delivered_cannot_be_proven_by_its_source(dsn: str, tmp_path: Path) -> None:
    write(tmp_path / "sources", source())
    given = {"DATABASE_URL": dsn, "SOURCES_DIR": str(tmp_path / "sources"), "ETL_SECRET_HOOK": SECRET}

    code, output = await run("prove", "shop", BUILT_IN_SOURCES="none", **given)

    assert (code, output.splitlines()[-1]) == (
        2,
        "etl: shop is delivered, to /hooks/shop-orders: there is nobody to ask",
    )


async def test_a_refresh_deletes_nothing_that_was_delivered_beside_it(delivered: Delivered) -> None:
    text = source().replace('type = "webhook"', 'type = "rest_api"\n[client]\nbase_url = "http://127.0.0.1:9"')
    text = text.replace('name = "orders"', 'name = "orders"\nendpoint = { path = "orders" }')

    async with delivered.serving(text) as client:
        answers = [await client.post("/sources/shop/refresh", json={"scope": scope}) for scope in ("data", "all")]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert "delivered meanwhile" in json.loads(answers[0].text)["detail"]


SEVERAL = b'{"orders": [%s, %s, {"title": "no key"}], "sent": 1}'


@pytest.mark.parametrize(
    ("selector", "payload"),
    [("orders", SEVERAL), ("@", b"[%s,\n %s, {}]"), ('"a.b".*[]', b'{"a.b": {"c": [%s, %s, {}]}}')],
)
async def test_one_delivery_may_hold_several_records(selector: str, payload: bytes, delivered: Delivered) -> None:
    first, second, changed = body(1), body(2), body(2, title="new")
    text = source(webhook=f"data_selector = '{selector}'")

    await delivered.post(
        ("m1", payload % (first, second)),
        ("m1", payload % (first, second)),
        ("m2", payload % (first, changed)),
        ("m1", payload % (first, second)),
        ("m3", payload % (first, second)),
        text=text,
    )

    assert await delivered.rows() == [("1", "order 1"), ("2", "order 2")]
    kept = await delivered.sql.fetch(
        "SELECT payload::text AS said FROM raw_api_data WHERE disposition = 'loaded' ORDER BY id"
    )
    assert [row["said"].encode() for row in kept] == [first, second, changed, second]
    assert [key for _, key in await delivered.raw() if key] == ["m1", "m2", "m3"]
    run = await delivered.sql.fetchrow("SELECT pages, extracted, inserted, updated, rejected, duplicate FROM etl_runs")
    assert run is not None
    assert tuple(run) == (5, 15, 2, 2, 3, 6)
    assert await delivered.replay(text.replace('"total"', '"id"')) == "succeeded"
    assert len(await delivered.rows()) == 2


@pytest.mark.parametrize("payload", [b'{"zen": "a ping"}', b"[]", b"no JSON", b'{"orders": [1'])
async def test_a_delivery_without_records_is_kept_whole(payload: bytes, delivered: Delivered) -> None:
    await delivered.post(("m1", payload), text=source(webhook='data_selector = "orders"'))

    (kept,) = await delivered.sql.fetch(IN_BYTES)
    assert kept[1] == payload
    assert await delivered.rows() == []
