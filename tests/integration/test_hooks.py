"""Webhooks, from a signed body to a row: over real HTTP, into PostgreSQL."""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.processes import Service, run, serving
from tests.source_server import SourceServer

SECRET = "a shared secret"

ORDERS = """
name = "shop"
type = "webhook"

[[resources]]
name = "orders"
primary_key = "order.id"

[resources.webhook]
path = "shop-orders"
max_body_bytes = 10_000
verify = { type = "hmac", header = "X-Signature", prefix = "sha256=", secret = "{secrets.SHOP}" }

[resources.mapping]
name = "order.reference"
value = { path = "order.total", type = "decimal" }
updated_at = "at"
"""


@dataclass
class Shop:
    """A sender, and the service that it delivers to."""

    service: Service
    sql: asyncpg.Connection
    client: httpx2.AsyncClient

    async def deliver(self, body: bytes, *, path: str = "shop-orders", **headers: str) -> int:
        signature = "sha256=" + hmac.new(SECRET.encode(), body, "sha256").hexdigest()
        url = f"{self.service.url}/hooks/{path}"
        return (await self.client.post(url, content=body, headers={"X-Signature": signature, **headers})).status_code

    async def rows(self) -> list[tuple[Any, ...]]:
        query = "SELECT source_id, name, value FROM normalized_data WHERE deleted_at IS NULL ORDER BY source_id"
        return [tuple(row) for row in await self.sql.fetch(query)]

    async def raw(self) -> list[str]:
        return [row["payload"] for row in await self.sql.fetch("SELECT payload FROM raw_api_data ORDER BY id")]


def order(number: int, **more: Any) -> bytes:
    return json.dumps({"order": {"id": number, "reference": f"R-{number}", "total": number / 2, **more}}).encode()


def polled(url: str) -> str:
    """The same resource, polled as well."""
    client = f'[client]\nbase_url = "{url}"\nallow_private_networks = true\n[[resources]]'
    text = ORDERS.replace('"webhook"', '"rest_api"').replace("[[resources]]", client)
    return text.replace('name = "orders"', 'name = "orders"\nendpoint = { path = "orders" }')


def files(folder: Path, text: str = ORDERS) -> str:
    (folder / "sources").mkdir(exist_ok=True)
    (folder / "sources" / "shop.toml").write_text(text)
    return str(folder / "sources")


@asynccontextmanager
async def shop(dsn: str, folder: Path, text: str = ORDERS, **environment: str) -> AsyncIterator[Shop]:
    given = {"BUILT_IN_SOURCES": "none", "ETL_SECRET_SHOP": SECRET, "ETL_INTERVAL": "3600", **environment}
    connection = await asyncpg.connect(dsn)
    try:
        async with (
            serving("serve", DATABASE_URL=dsn, SOURCES_DIR=files(folder, text), **given) as service,
            httpx2.AsyncClient(timeout=30) as client,
        ):
            yield Shop(service, connection, client)
    finally:
        await connection.close()


async def test_a_delivery_is_a_row_when_it_is_answered(dsn: str, tmp_path: Path) -> None:
    body = b' {"order": {"id": 7, "reference": "R-7", "total": 1.50, "a": 1, "a": 2}}\n'
    async with shop(dsn, tmp_path) as sender:
        assert await sender.deliver(body) == 202
        assert await sender.rows() == [("7", "R-7", 1.5)]
        assert await sender.raw() == [body.decode()]
        (row,) = (await sender.service.get("/data"))["data"]
        assert (row["source"], row["name"]) == ("shop", "R-7")
        assert await sender.service.stop() == 0
    async with shop(dsn, tmp_path) as sender:
        (done,) = await sender.sql.fetch("SELECT * FROM etl_runs")
        assert (done["trigger"], done["status"], done["outcome"]) == ("hook", "succeeded", "changed")
        assert (done["extracted"], done["inserted"], done["requests"]) == (1, 1, 1)
        (checkpoint,) = await sender.sql.fetch("SELECT * FROM etl_checkpoint WHERE kind = 'cursor'")
        assert checkpoint["row_count"] == 1
        assert checkpoint["succeeded_at"] is not None
        # Known again by another process
        assert await sender.deliver(body) == 202
        assert len(await sender.raw()) == 1


async def test_fifty_at_once_are_one(dsn: str, tmp_path: Path) -> None:
    async with shop(dsn, tmp_path) as sender:
        answers = await asyncio.gather(*(sender.deliver(order(1), **{"X-Delivery": str(n)}) for n in range(50)))
        assert set(answers) == {202}
        assert len(await sender.raw()) == 1
        counted = await sender.sql.fetchrow("SELECT extracted, inserted, duplicate FROM etl_runs")
        assert counted is not None
        assert tuple(counted) == (50, 1, 49)


async def test_two_services_receive_side_by_side(dsn: str, tmp_path: Path) -> None:
    async with shop(dsn, tmp_path) as one, shop(dsn, tmp_path) as other:
        both = [sender.deliver(order(number)) for number in range(40) for sender in (one, other)]
        assert set(await asyncio.gather(*both)) == {202}
        assert len(await one.rows()) == len(await one.raw()) == 40
        assert await one.sql.fetchval("SELECT row_count FROM etl_checkpoint WHERE kind = 'cursor'") == 40
        runs = await one.sql.fetch("SELECT status, extracted, inserted + duplicate AS known FROM etl_runs")
        assert [tuple(row) for row in runs] == [("running", 40, 40), ("running", 40, 40)]


async def test_a_later_version_wins_and_a_retry_of_the_first_changes_nothing(dsn: str, tmp_path: Path) -> None:
    async with shop(dsn, tmp_path) as sender:
        for body in (order(1), order(1, total=99), order(1)):
            assert await sender.deliver(body) == 202
        assert await sender.rows() == [("1", "R-1", 99.0)]
        # After the retention the same body is news
        await sender.sql.execute("UPDATE raw_api_data SET extracted_at = now() - interval '8 days'")
        assert await sender.deliver(order(1)) == 202
        assert await sender.rows() == [("1", "R-1", 0.5)]
        assert len(await sender.raw()) == 3


async def test_what_is_signed_and_no_record_is_kept_as_a_reject(dsn: str, tmp_path: Path) -> None:
    bodies = [b"no json", b"[1]", b'{"order": {}}', b'{"order": {"id": "\xff"}}', b"", b'{"order": {"id": "\\u0000"}}']
    async with shop(dsn, tmp_path) as sender:
        assert [await sender.deliver(body) for body in bodies] == [202] * len(bodies)
        rejects = await sender.sql.fetch("SELECT reject_code FROM raw_api_data ORDER BY id")
        codes = [row["reject_code"] for row in rejects]
        assert codes[:5] == ["not_json", "not_an_object", "missing_key", "invalid_utf8", "not_json"]
        assert codes[5] is not None
        assert await sender.rows() == []
        assert await sender.deliver(order(1)) == 202


async def test_one_that_cannot_be_stored_keeps_no_other_from_it(dsn: str, tmp_path: Path) -> None:
    async with shop(dsn, tmp_path) as sender:
        await sender.sql.execute("ALTER TABLE normalized_data ADD CHECK (name <> 'R-13')")
        answers = await asyncio.gather(*(sender.deliver(order(number)) for number in range(30)))
        assert [number for number, status in enumerate(answers) if status != 202] == [13]
        assert answers[13] == 503
        assert len(await sender.rows()) == len(await sender.raw()) == 29
        assert any('"delivery_not_stored"' in line for line in sender.service.log)


async def test_a_senders_rate_is_limited(dsn: str, tmp_path: Path) -> None:
    limit = '[rate_limit]\nrequests = 2\nper = "PT1M"\n\n[[resources]]'
    async with shop(dsn, tmp_path, ORDERS.replace("[[resources]]", limit)) as sender:
        assert [await sender.deliver(order(n)) for n in range(3)] == [202, 202, 429]
        forged = await sender.client.post(f"{sender.service.url}/hooks/shop-orders", content=b"{}")
        assert forged.status_code == 401


@pytest.mark.parametrize(
    ("text", "secret", "said"),
    [
        (ORDERS, "", "there is no secret SHOP"),
        (ORDERS.replace("{secrets.SHOP}", "{secrets.OTHER}"), SECRET, "there is no secret OTHER"),
        (ORDERS.replace('prefix = "sha256="', 'algorithm = "md5"'), SECRET, "algorithm"),
        (ORDERS.replace("primary_key", 'schema_contract = "freeze"\nprimary_key'), SECRET, "a delivery is kept"),
    ],
)
async def test_what_cannot_be_received_is_said_and_never_open(
    text: str, secret: str, said: str, dsn: str, tmp_path: Path
) -> None:
    async with shop(dsn, tmp_path, text, ETL_SECRET_SHOP=secret) as sender:
        assert await sender.deliver(order(1)) == 404
        assert any(said in line for line in sender.service.log), sender.service.log


async def test_two_resources_cannot_share_a_path(dsn: str, tmp_path: Path) -> None:
    second = ORDERS.partition("[[resources]]")[2].replace('"orders"', '"others"')
    code, output = await run(
        "sources",
        "check",
        "shop",
        DATABASE_URL=dsn,
        SOURCES_DIR=files(tmp_path, ORDERS + "[[resources]]" + second),
        ETL_SECRET_SHOP=SECRET,
        BUILT_IN_SOURCES="none",
    )
    assert code == 2
    assert "/hooks/shop-orders is taken by shop.orders" in output


async def test_it_is_delivered_and_not_run(dsn: str, tmp_path: Path) -> None:
    given = {"DATABASE_URL": dsn, "SOURCES_DIR": files(tmp_path), "ETL_SECRET_SHOP": SECRET, "BUILT_IN_SOURCES": "none"}
    code, output = await run("run", "shop", **given)
    assert (code, "shop to /hooks/shop-orders" in output) == (2, True)
    code, output = await run("sources", "check", "shop", **given)
    assert code == 0
    code, output = await run("sources", "list", "--json", **given)
    assert json.loads(output)[0]["reads"] == "/hooks/shop-orders"


async def test_a_mended_mapping_is_replayed_from_what_was_delivered(dsn: str, tmp_path: Path) -> None:
    async with shop(dsn, tmp_path) as sender:
        assert await sender.deliver(order(1)) == 202
        await sender.service.stop()
    async with shop(dsn, tmp_path, ORDERS.replace('"order.reference"', '"order.id"')) as sender:
        async with asyncio.timeout(10):
            while await sender.rows() != [("1", "1", 0.5)]:
                await asyncio.sleep(0.05)
        assert await sender.deliver(order(2)) == 202
        assert await sender.rows() == [("1", "1", 0.5), ("2", "2", 1.0)]


async def test_polling_heals_what_was_not_delivered(dsn: str, tmp_path: Path, source_server: SourceServer) -> None:
    text = polled(source_server.url)
    source_server.put("/orders", b"[" + b",".join(map(order, range(3))) + b"]")
    async with shop(dsn, tmp_path, text) as sender:
        async with asyncio.timeout(10):
            while len(await sender.rows()) < 3:
                await asyncio.sleep(0.05)
        assert await sender.deliver(order(3)) == 202
        source_server.put("/orders", b"[" + b",".join(map(order, range(5))) + b"]")
        given = {"DATABASE_URL": dsn, "SOURCES_DIR": files(tmp_path, text), "ETL_SECRET_SHOP": SECRET}
        code, output = await run("run", "shop", BUILT_IN_SOURCES="none", **given)
        assert code == 0, output
        assert len(await sender.rows()) == 5
        (last,) = await sender.sql.fetch("SELECT * FROM etl_runs WHERE trigger = 'command'")
        assert (last["extracted"], last["inserted"], last["unchanged"]) == (5, 1, 4)
        assert {"code": "not_delivered", "rows": 1} in json.loads(last["findings"])
        assert await sender.sql.fetchval("SELECT status FROM etl_runs WHERE trigger = 'hook'") == "running"
        assert await sender.sql.fetchval("SELECT row_count FROM etl_checkpoint WHERE kind = 'cursor'") == 5


async def test_a_poll_puts_no_older_version_over_one_that_was_delivered_meanwhile(
    dsn: str, tmp_path: Path, source_server: SourceServer
) -> None:
    def version(day: int) -> bytes:
        return json.dumps({"order": {"id": 1, "reference": f"day {day}"}, "at": f"2026-01-0{day}T00:00:00Z"}).encode()

    text = polled(source_server.url)
    given = {"DATABASE_URL": dsn, "SOURCES_DIR": files(tmp_path, text), "ETL_SECRET_SHOP": SECRET}
    source_server.put("/orders", b"[" + version(1) + b"]")
    code, output = await run("run", "shop", BUILT_IN_SOURCES="none", **given)
    assert code == 0, output
    source_server.put("/orders", b"[" + version(2) + b"]")
    delivery = await asyncpg.connect(dsn)
    try:
        # A delivery in its transaction, as far as the rows are concerned
        async with delivery.transaction():
            await delivery.execute("SELECT pg_advisory_xact_lock(hashtextextended('etl-river hook shop', 0))")
            polling = asyncio.create_task(run("run", "shop", BUILT_IN_SOURCES="none", **given))
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            async with asyncio.timeout(20):
                while not await delivery.fetchval(waiting):
                    assert not polling.done(), polling.result()
                    await asyncio.sleep(0.05)
            await delivery.execute(
                "UPDATE normalized_data SET name = 'day 3', updated_at = '2026-01-03', content_hash = '3'"
            )
        code, output = await polling
        assert code == 0, output
        assert await delivery.fetchval("SELECT name FROM normalized_data") == "day 3"
        assert await delivery.fetchval("SELECT outdated FROM etl_runs ORDER BY id DESC LIMIT 1") == 1
    finally:
        await delivery.close()
