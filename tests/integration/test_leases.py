"""One run of a resource at a time, over all processes; a dead one is taken over, a zombie writes nothing."""

import asyncio

import asyncpg
import pytest

from app.db import checkpoints
from app.db.engine import Database
from app.db.locks import Presence
from app.errors import StoreConflictError
from app.records import Checkpoint
from tests.conftest import Tick
from tests.source_server import Fault, SourceServer


async def take(database: Database, holder: str, *, lease_seconds: float = 30) -> Checkpoint | None:
    async with database.write() as session:
        return await checkpoints.take_lease(
            session, source="api", resource="posts", holder=holder, lease_seconds=lease_seconds
        )


async def test_a_lease_is_not_given_twice(database: Database) -> None:
    async with Presence(database) as one, Presence(database) as two:
        await one.announce()
        await two.announce()
        first = await take(database, one.holder)
        second = await take(database, two.holder)

    assert first is not None
    assert second is None


async def test_the_lease_of_a_dead_process_is_taken_over_at_once(database: Database) -> None:
    async with Presence(database) as dead:
        await dead.announce()
        await take(database, dead.holder)

    async with Presence(database) as heir:
        await heir.announce()
        async with asyncio.timeout(5):
            while (taken := await take(database, heir.holder)) is None:
                await asyncio.sleep(0.01)

    assert taken.epoch == 2


async def test_an_expired_lease_is_taken_over_though_its_process_lives(database: Database) -> None:
    async with Presence(database) as stopped, Presence(database) as heir:
        await stopped.announce()
        await heir.announce()
        await take(database, stopped.holder, lease_seconds=0)
        taken = await take(database, heir.holder)

    assert taken is not None
    assert taken.epoch == 2


async def test_an_older_epoch_moves_no_checkpoint(database: Database) -> None:
    zombie = await take(database, "zombie", lease_seconds=0)
    heir = await take(database, "heir")
    assert zombie is not None
    assert heir is not None

    with pytest.raises(StoreConflictError, match="lost its lease"):
        async with database.write() as session:
            await checkpoints.move_checkpoint(session, zombie, zombie, new_rows=1, wrote=True)

    async with database.write() as session:
        moved = await checkpoints.move_checkpoint(session, heir, heir, new_rows=0, wrote=True)
    assert moved.batch_seq == 1
    assert moved.row_count == 0


async def test_an_older_epoch_of_the_same_process_moves_no_checkpoint(database: Database) -> None:
    before = await take(database, "the same", lease_seconds=0)
    after = await take(database, "the same")
    assert before is not None
    assert after is not None

    with pytest.raises(StoreConflictError):
        async with database.write() as session:
            await checkpoints.move_checkpoint(session, before, before, new_rows=0, wrote=True)


async def test_a_batch_number_is_used_once(database: Database) -> None:
    held = await take(database, "holder")
    assert held is not None
    async with database.write() as session:
        await checkpoints.move_checkpoint(session, held, held, new_rows=0, wrote=True)

    with pytest.raises(StoreConflictError):
        async with database.write() as session:
            await checkpoints.move_checkpoint(session, held, held, new_rows=0, wrote=True)


async def test_a_run_whose_lease_is_taken_over_writes_no_further_row(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    gate = asyncio.Event()
    records = [{"id": n} for n in range(300)]
    source_server.put_pages("/posts", records)
    source_server.fault("/posts", Fault(gate=gate))
    running = asyncio.create_task(tick("api"))
    while not source_server.requests("/posts"):
        await asyncio.sleep(0.005)

    await sql.execute("UPDATE etl_checkpoint SET epoch = epoch + 1, holder = 'another'")
    gate.set()
    done = await running

    assert done.reports[0].status == "failed"
    assert "lost its lease" in (done.reports[0].error_message or "")
    assert await sql.fetchval("SELECT count(*) FROM normalized_data") == 0
    assert await sql.fetchval("SELECT count(*) FROM raw_api_data") == 0


async def test_a_source_that_another_process_runs_is_skipped(
    tick: Tick, database: Database, sql: asyncpg.Connection, source_server: SourceServer
) -> None:
    async with Presence(database) as other:
        await other.announce()
        await take(database, other.holder)
        done = await tick("api")

    assert done.locked == ["api"]
    assert done.status == "locked"
    assert await sql.fetchval("SELECT count(*) FROM etl_runs") == 0


async def test_a_run_left_open_is_closed_as_crashed_by_the_next(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/posts", [{"id": 1}])
    await tick("api")
    await sql.execute("UPDATE etl_runs SET status = 'running', finished_at = NULL")

    await tick("api")

    statuses = await sql.fetch("SELECT status FROM etl_runs ORDER BY id")
    assert [row["status"] for row in statuses] == ["crashed", "succeeded"]


async def test_a_cancelled_run_is_closed_as_interrupted_and_gives_its_lease_back(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/posts", [{"id": 1}])
    source_server.fault("/posts", Fault(hang=True))
    running = asyncio.create_task(tick("api"))
    while not source_server.requests("/posts"):
        await asyncio.sleep(0.005)

    running.cancel()
    await asyncio.wait({running})

    assert running.cancelled()
    assert await sql.fetchval("SELECT status FROM etl_runs") == "interrupted"
    assert await sql.fetchval("SELECT holder FROM etl_checkpoint") is None
