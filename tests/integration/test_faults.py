"""A source that fails leaves its reason in its run, and the other source's rows committed."""

import asyncio
import gzip
from pathlib import Path

import asyncpg
import pytest

from app.resources import open_resources
from app.scheduler import run_tick
from app.settings import load_settings
from tests.conftest import Tick
from tests.source_server import Fault, SourceServer

POSTS = [{"id": n, "title": f"post {n}"} for n in range(1, 21)]
CSV = b"id,name,value\n1,one,1.5\n2,two,2.5\n"


@pytest.fixture(autouse=True)
def _healthy_at_first(source_server: SourceServer) -> None:
    source_server.put_pages("/posts", POSTS)
    source_server.put("/items.csv", CSV)


async def reason(sql: asyncpg.Connection, source: str) -> tuple[str, str, str]:
    row = await sql.fetchrow(
        "SELECT status, error_class, error_message FROM etl_runs WHERE source = $1 ORDER BY id DESC LIMIT 1", source
    )
    assert row is not None
    return row["status"], row["error_class"], row["error_message"]


@pytest.mark.parametrize(
    ("fault", "error_class", "said"),
    [
        (Fault(status=500), "transient_error", "HTTP 500"),
        (Fault(status=401), "config_error", "check the credentials"),
        (Fault(status=404), "config_error", "HTTP 404"),
        (Fault(status=200, body=b"<!doctype html><p>Sorry", content_type="text/html"), "data_error", "HTML"),
        (Fault(status=200, body=b""), "data_error", "an empty body"),
        (Fault(status=200, body=b'{"error": "none"}'), "data_error", "expected a JSON array"),
        (Fault(status=200, body=b'[{"id": 1}, {"id"'), "data_error", "not valid JSON"),
        (Fault(hang=True), "transient_error", "timed out"),
        (Fault(bytes_per_second=1), "transient_error", "timed out"),
        (Fault(cut_after=50), "transient_error", "cut"),
        (Fault(status=429, headers={"Retry-After": "3600"}), "transient_error", "asks to wait 3600 s"),
        (Fault(status=304), "config_error", "HTTP 304"),
        (Fault(status=302, headers={"Location": "file:///etc/passwd"}), "config_error", "only http and https"),
        (Fault(status=200, headers={"Content-Encoding": "gzip"}, body=b"junk"), "transient_error", "is not gzip"),
        (
            Fault(status=200, headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"[" + b" " * 9999)[:-9]),
            "transient_error",
            "the compressed body is cut",
        ),
        (Fault(status=200, headers={"Content-Encoding": "br"}, body=b"x"), "data_error", "Content-Encoding is 'br'"),
        (Fault(status=200, headers={"X-Long": "x" * 20_000}, body=b"[]"), "transient_error", "Got more than"),
        (
            Fault(status=200, headers={"Link": '<http://h:99999999/>; rel="next"'}, body=b"[]"),
            "data_error",
            "Link header",
        ),
        (
            Fault(status=200, headers={"Link": '<http://evil.example/>; rel="next"'}, body=b"[]"),
            "data_error",
            "another host",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_failing_api_says_why_and_leaves_the_csv_committed(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection, fault: Fault, error_class: str, said: str
) -> None:
    source_server.fault("/posts", fault, fault)

    done = await tick()

    status, recorded_class, message = await reason(sql, "api")
    assert (status, recorded_class) == ("failed", error_class)
    assert said in message
    assert done.status == "partial"
    assert await sql.fetchval("SELECT count(*) FROM normalized_data WHERE source = 'csv'") == 2
    assert await sql.fetchval("SELECT row_count FROM etl_checkpoint WHERE source = 'api'") == 0


async def test_a_server_that_is_down_is_said_to_be(sql: asyncpg.Connection, dsn: str) -> None:
    settings = load_settings(
        DATABASE_URL=dsn, API_HOST="http://127.0.0.1:1", CSV_URL="/no/such/file.csv", HTTP_MAX_ATTEMPTS=2
    )

    async with open_resources(settings) as resources:
        done = await run_tick(resources, list(resources.catalog), trigger="command")

    assert done.status == "failed"
    assert "gave up after 2 tries" in (await reason(sql, "api"))[2]
    assert "no such file" in (await reason(sql, "csv"))[2]


async def test_a_short_failure_is_tried_again(tick: Tick, source_server: SourceServer, sql: asyncpg.Connection) -> None:
    source_server.fault("/posts", Fault(status=503))

    done = await tick("api")

    assert done.reports[0].status == "succeeded"
    assert (done.reports[0].traffic.requests, done.reports[0].traffic.retries) == (2, 1)


async def test_retry_after_is_obeyed(tick: Tick, source_server: SourceServer) -> None:
    source_server.fault("/posts", Fault(status=429, headers={"Retry-After": "1"}))

    await tick("api")

    first, second = source_server.requests("/posts")
    assert 1.0 <= second.at - first.at < 5.0


async def test_a_refusal_is_not_tried_again(tick: Tick, source_server: SourceServer) -> None:
    source_server.fault("/posts", Fault(status=403))

    await tick("api")

    assert len(source_server.requests("/posts")) == 1


@pytest.mark.parametrize(
    ("body", "error_class", "said"),
    [
        (b"", "data_error", "no line of CSV"),
        (b"<!DOCTYPE html><html>", "data_error", "HTML"),
        (b"colour,size\nred,1\n", "config_error", "CSV_ID_COLUMN; there are: colour, size"),
    ],
)
async def test_a_file_that_is_not_what_was_promised_says_why(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection, body: bytes, error_class: str, said: str
) -> None:
    source_server.put("/items.csv", body)

    await tick("csv")

    status, recorded_class, message = await reason(sql, "csv")
    assert (status, recorded_class) == ("failed", error_class)
    assert said in message


async def test_a_compressed_file_that_is_cut_is_not_taken_for_a_whole_one(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    """As a proxy serves it that kept half an answer, and counts what it kept."""
    rows = b"id,name\n" + b"".join(b"%d,row %d\n" % (n, n) for n in range(5_000))
    source_server.put("/items.csv", gzip.compress(rows)[:-4000], content_encoding="gzip", etag='"cut"')
    cut = await tick("csv")
    source_server.put("/items.csv", gzip.compress(rows), content_encoding="gzip", etag='"whole"')

    whole = await tick("csv")

    assert (cut.reports[0].status, cut.reports[0].error_class) == ("failed", "transient_error")
    assert "the compressed body is cut" in str(cut.reports[0].error_message)
    assert whole.reports[0].status == "succeeded"
    assert await sql.fetchval("SELECT count(*) FROM normalized_data WHERE source = 'csv'") == 5_000


async def test_an_empty_answer_after_rows_is_suspect_and_deletes_nothing(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    await tick("api")
    source_server.put("/posts", b"[]", content_type="application/json")

    done = await tick("api")

    assert (done.reports[0].status, done.reports[0].outcome) == ("suspect", "empty")
    assert await sql.fetchval("SELECT count(*) FROM normalized_data") == 20


async def test_a_file_that_is_cut_goes_on_where_it_was_committed(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    body = b"id,name\n" + b"".join(b"%d,%s\n" % (n, b"x" * 100) for n in range(20_000))
    source_server.put("/items.csv", body, etag='"whole"')
    source_server.fault("/items.csv", Fault(cut_after=1_500_000))

    first = await tick("csv")
    held = await sql.fetchval("SELECT byte_offset FROM etl_checkpoint WHERE source = 'csv'")
    validators = await sql.fetchval("SELECT validators FROM etl_checkpoint WHERE source = 'csv'")
    second = await tick("csv")

    assert first.reports[0].status == "partial"
    assert 0 < held <= 1_500_000
    assert validators == "{}"  # of the whole body, of which a part is here
    assert second.reports[0].counts.unchanged == 0
    assert first.reports[0].counts.inserted + second.reports[0].counts.inserted == 20_000


async def test_a_file_that_changed_after_the_cut_is_read_from_its_beginning(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    rows = [b"%d,%s\n" % (n, b"x" * 100) for n in range(20_000)]
    source_server.put("/items.csv", b"id,name\n" + b"".join(rows))
    source_server.fault("/items.csv", Fault(cut_after=1_500_000))
    await tick("csv")
    source_server.put("/items.csv", b"id,name\n" + b"0,changed\n" + b"".join(rows[1:]))

    done = await tick("csv")

    assert done.reports[0].counts.extracted == 20_000
    assert await sql.fetchval("SELECT name FROM normalized_data WHERE source_id = '0'") == "changed"
    assert await sql.fetchval("SELECT count(*) FROM normalized_data") == 20_000


async def test_what_came_before_a_cut_is_kept(tick: Tick, source_server: SourceServer, sql: asyncpg.Connection) -> None:
    rows = [b"%d,%s\n" % (n, b"x" * 100) for n in range(20_000)]
    begin = b"id,name\n" + b"".join(rows[:15_000])
    source_server.put("/items.csv", begin + b"".join(rows[15_000:]))
    source_server.fault("/items.csv", Fault(cut_after=len(begin) + 10, pause_seconds=1))

    cut = await tick("csv")
    whole = await tick("csv")

    assert 14_900 < cut.reports[0].counts.extracted <= 15_000
    assert whole.reports[0].counts.extracted == 20_000 - cut.reports[0].counts.extracted
    assert await sql.fetchval("SELECT count(*) FROM normalized_data") == 20_000


async def test_a_file_on_disk_is_read_and_then_known_to_be_the_same(
    dsn: str, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(CSV)
    import os

    os.utime(path, (1_700_000_000, 1_700_000_000))
    settings = load_settings(DATABASE_URL=dsn, CSV_URL=str(path))

    async with open_resources(settings) as resources:
        sources = resources.catalog.select(["csv"])
        first = await run_tick(resources, sources, trigger="command")
        second = await run_tick(resources, sources, trigger="command")

    assert first.reports[0].counts.inserted == 2
    assert second.reports[0].outcome == "not_modified"


async def test_a_connection_lost_in_mid_run_ends_in_a_stated_reason_and_the_next_run_completes(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    body = b"id,name\n" + b"".join(b"%d,%s\n" % (n, b"x" * 100) for n in range(40_000))
    source_server.put("/items.csv", body)
    running = asyncio.create_task(tick("csv"))
    while not await sql.fetchval("SELECT sum(batch_seq) FROM etl_checkpoint"):
        await asyncio.sleep(0.005)

    await sql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    first = await running
    second = await tick("csv")

    assert first.reports[0].status == "partial"
    assert first.reports[0].store_failed
    assert "database" in (await sql.fetchval("SELECT error_message FROM etl_runs ORDER BY id LIMIT 1"))
    assert second.reports[0].status == "succeeded"
    assert await sql.fetchval("SELECT count(*) FROM normalized_data") == 40_000
    assert await sql.fetchval("SELECT sum(inserted) FROM etl_runs") == 40_000
