"""From two sources to the tables: what is loaded, what is kept, what a second run does."""

import asyncio
import json

import asyncpg
import pytest

from app.pipeline import batches as batching
from tests.conftest import Tick
from tests.source_server import Fault, SourceServer

POSTS = [{"id": n, "userId": n % 10, "title": f"post {n}", "body": f"text of {n}"} for n in range(1, 251)]
CSV = (
    b"id,name,value,description,updated_at\n"
    b"1,One,1.50,first,2025-01-01T00:00:00Z\n"
    b"2,Two,,second,2025-01-02T00:00:00+02:00\n"
)


async def xmins(sql: asyncpg.Connection) -> list[tuple[str, str]]:
    rows = await sql.fetch("SELECT source_id, xmin::text FROM normalized_data ORDER BY source, id")
    return [tuple(row) for row in rows]


async def test_both_sources_land_and_load_in_one_tick(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/posts", POSTS)
    source_server.put("/items.csv", CSV)

    done = await tick()

    assert done.status == "success"
    counted = await sql.fetch("SELECT source, count(*) FROM normalized_data GROUP BY source ORDER BY source")
    assert [tuple(row) for row in counted] == [("api", 250), ("csv", 2)]
    assert await sql.fetchval("SELECT count(*) FROM raw_api_data") == 250
    assert await sql.fetchval("SELECT count(*) FROM raw_csv_data") == 2


async def test_a_csv_row_is_normalized(tick: Tick, source_server: SourceServer, sql: asyncpg.Connection) -> None:
    source_server.put("/items.csv", CSV)

    await tick("csv")

    row = await sql.fetchrow("SELECT * FROM normalized_data WHERE source_id = '2'")
    assert row is not None
    assert (row["name"], row["value"], row["description"]) == ("Two", None, "second")
    assert row["updated_at"].isoformat() == "2025-01-01T22:00:00+00:00"
    assert row["created_at"] == row["loaded_at"]


async def test_what_did_not_change_is_counted_as_bytes_saved(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/posts", POSTS, etags=True)
    source_server.put("/items.csv", CSV, etag='"v1"')
    first = {report.source: report.traffic for report in (await tick()).reports}

    second = {report.source: report.traffic for report in (await tick()).reports}

    assert first["csv"].bytes_received == len(CSV)
    assert first["api"].bytes_received > 250 * 40
    assert [(traffic.bytes_received, traffic.bytes_saved) for traffic in second.values()] == [
        (0, first[source].bytes_received) for source in second
    ]
    kept = await sql.fetch("SELECT source, sum(bytes_saved) AS saved FROM etl_runs GROUP BY source")
    assert {row["source"]: row["saved"] for row in kept} == {name: first[name].bytes_received for name in first}


async def test_validators_kept_before_sizes_were_counted_are_still_good(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put("/items.csv", CSV, etag='"v1"')
    await tick("csv")
    await sql.execute("""UPDATE etl_checkpoint SET validators = '{"": {"etag": "\\"v1\\"", "last_modified": null}}'""")

    report = (await tick("csv")).reports[0]

    assert (report.outcome, report.traffic.bytes_saved) == ("not_modified", 0)


async def test_the_walk_asks_for_each_page_once(tick: Tick, source_server: SourceServer) -> None:
    source_server.put_pages("/posts", POSTS)

    await tick("api")

    assert [seen.query["_page"] for seen in source_server.requests("/posts")] == ["1", "2", "3"]


async def test_without_a_link_header_a_short_page_is_the_last(tick: Tick, source_server: SourceServer) -> None:
    source_server.put_pages("/posts", POSTS[:200], links=False)

    done = await tick("api")

    assert done.reports[0].counts.extracted == 200
    assert [seen.query["_page"] for seen in source_server.requests("/posts")] == ["1", "2", "3"]


async def test_a_server_that_ignores_page_numbers_is_read_once(tick: Tick, source_server: SourceServer) -> None:
    body = json.dumps(POSTS[:100]).encode()
    source_server.put("/posts", body, content_type="application/json")

    done = await tick("api")

    assert done.reports[0].status == "succeeded"
    assert done.reports[0].counts.extracted == 100


async def test_a_payload_is_what_the_server_sent_byte_for_byte(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    records = [
        b'{"id":1, "price": 1.10, "a":1,"a":2}',
        rb'{ "id" : 2, "name":"caf\u00e9 \u0000 \ud800", "n":12345678901234567890123456 }',
        '{"id":3,"body":"日本\\n"}'.encode(),
    ]
    source_server.put("/posts", b"[ " + b" ,\n".join(records) + b"]\n", content_type="application/json")
    lines = [b'1,"quoted\nline end",1.10', b'2,"say ""hi""",  2.0 ', "3,naïve,0003".encode()]
    source_server.put("/items.csv", b"id,name,value\r\n" + b"\r\n".join(lines) + b"\r\n")

    await tick()

    kept = await sql.fetch("SELECT payload::text AS payload FROM raw_api_data ORDER BY position")
    assert [row["payload"].encode() for row in kept] == records
    kept = await sql.fetch("SELECT payload FROM raw_csv_data ORDER BY position")
    assert [row["payload"].encode() for row in kept] == lines


async def test_text_that_postgres_cannot_hold_is_mended_with_a_note(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put("/posts", rb'[{"id":1,"title":"a\u0000b\ud800"}]', content_type="application/json")

    done = await tick("api")

    assert done.reports[0].counts.coerced == 1
    assert await sql.fetchval("SELECT name FROM normalized_data") == "a\ufffdb\ufffd"
    note = json.loads(await sql.fetchval("SELECT notes FROM raw_api_data"))
    assert note[0]["field"] == "name"
    assert note[0]["code"] == "unstorable_character"


async def test_a_rejected_row_keeps_its_bytes_line_and_reason(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put("/items.csv", b"id,name\n1,one\n2,two,too many\n3,a\x00b\n4,\xff\n,no key\n6,six\n")

    done = await tick("csv")

    counts = done.reports[0].counts
    assert (counts.extracted, counts.inserted, counts.rejected) == (6, 2, 4)
    rejected = await sql.fetch(
        """
        SELECT position, reject_code, source_id,
               CASE payload_encoding WHEN 'escape' THEN decode(payload, 'escape') ELSE payload::bytea END AS bytes
        FROM raw_csv_data WHERE disposition = 'rejected' ORDER BY position
        """
    )
    assert [tuple(row) for row in rejected] == [
        (3, "ragged_row", "2", b"2,two,too many"),
        (4, "nul_byte", "3", b"3,a\x00b"),
        (5, "invalid_utf8", "4", b"4,\xff"),
        (6, "missing_key", None, b",no key"),
    ]


async def test_an_unchanged_source_without_validators_writes_nothing(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/posts", POSTS)
    source_server.put("/items.csv", CSV + b"3,bad,row,is,rejected,again\n,no key,,,\n")
    await tick()
    before = await xmins(sql), await sql.fetchval("SELECT max(id) FROM raw_csv_data")

    done = await tick()

    assert (await xmins(sql), await sql.fetchval("SELECT max(id) FROM raw_csv_data")) == before
    assert {report.source: report.outcome for report in done.reports} == {"api": "no_new_data", "csv": "no_new_data"}
    assert {report.source: report.counts.unchanged for report in done.reports} == {"api": 250, "csv": 2}
    assert all(report.counts.balanced for report in done.reports)
    assert await sql.fetchval("SELECT count(*) FROM raw_csv_data") == 4


async def test_a_source_with_validators_answers_304(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/posts", POSTS, etags=True)
    source_server.put("/items.csv", CSV, etag='"v1"')
    await tick()
    asked = len(source_server.seen)

    done = await tick()

    assert {report.source: report.outcome for report in done.reports} == {"api": "not_modified", "csv": "not_modified"}
    assert len(source_server.seen) - asked == 4
    assert all(report.counts.extracted == 0 for report in done.reports)


async def test_one_changed_page_of_a_walk_is_read_and_the_others_are_not(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/posts", POSTS, etags=True)
    await tick("api")
    source_server.put_pages("/posts", [*POSTS[:150], {**POSTS[150], "title": "new"}, *POSTS[151:]], etags=True)

    done = await tick("api")

    counts = done.reports[0].counts
    assert (counts.extracted, counts.updated, counts.unchanged) == (100, 1, 99)
    assert await sql.fetchval("SELECT name FROM normalized_data WHERE source_id = '151'") == "new"


async def test_a_changed_record_keeps_its_id_and_its_history(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put("/items.csv", CSV)
    await tick("csv")
    before = await sql.fetchrow("SELECT id, raw_id, created_at FROM normalized_data WHERE source_id = '1'")
    assert before is not None
    source_server.put("/items.csv", CSV.replace(b"1.50", b"1.75").replace(b"2025-01-01", b"2025-02-01"))

    done = await tick("csv")

    assert (done.reports[0].counts.updated, done.reports[0].counts.unchanged) == (1, 1)
    after = await sql.fetchrow("SELECT * FROM normalized_data WHERE source_id = '1'")
    assert after is not None
    assert (after["id"], after["created_at"], after["value"]) == (before["id"], before["created_at"], 1.75)
    assert await sql.fetchval("SELECT supersedes FROM raw_csv_data WHERE id = $1", after["raw_id"]) == before["raw_id"]


async def test_an_older_record_does_not_overwrite_a_newer_one(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put("/items.csv", CSV)
    await tick("csv")
    source_server.put("/items.csv", CSV.replace(b"1.50", b"9.99").replace(b"2025-01-01", b"2024-01-01"))

    done = await tick("csv")
    again = await tick("csv")

    assert done.reports[0].counts.outdated == 1
    assert again.reports[0].counts.outdated == 1
    assert await sql.fetchval("SELECT value FROM normalized_data WHERE source_id = '1'") == 1.5
    assert await sql.fetchval("SELECT count(*) FROM raw_csv_data WHERE disposition = 'overtaken'") == 1


async def test_a_key_that_comes_twice_keeps_the_later_record_and_both_raw_rows(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put("/items.csv", b"id,name\n1,early\n2,other\n1,late\n")

    first = await tick("csv")
    before = await xmins(sql)
    second = await tick("csv")

    assert (first.reports[0].counts.inserted, first.reports[0].counts.duplicate) == (2, 1)
    assert await sql.fetchval("SELECT name FROM normalized_data WHERE source_id = '1'") == "late"
    assert await sql.fetchval("SELECT count(*) FROM raw_csv_data") == 3
    assert await xmins(sql) == before
    assert second.reports[0].counts.balanced


async def test_a_key_that_comes_again_in_a_later_batch_is_met_by_the_table(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching.batches, "__kwdefaults__", {"max_records": 10, "max_seconds": 1.0})
    rows = [f"{n},name {n}" for n in range(50)] + ["3,again"]
    source_server.put("/items.csv", ("id,name\n" + "\n".join(rows)).encode())

    done = await tick("csv")

    counts = done.reports[0].counts
    assert (counts.inserted, counts.updated, counts.balanced) == (50, 1, True)
    assert await sql.fetchval("SELECT name FROM normalized_data WHERE source_id = '3'") == "again"


async def test_a_record_that_changes_back_in_the_next_batch_ends_as_the_file_ends(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching.batches, "__kwdefaults__", {"max_records": 10, "max_seconds": 1.0})
    others = "".join(f"{n},name {n}\n" for n in range(100, 109))
    source_server.put("/items.csv", f"id,name\n{others}1,first\n".encode())
    await tick("csv")
    source_server.put("/items.csv", f"id,name\n{others}1,other\n1,first\n{others}".encode())

    done = await tick("csv")

    assert done.reports[0].counts.updated == 2
    assert await sql.fetchval("SELECT name FROM normalized_data WHERE source_id = '1'") == "first"


async def test_a_failed_walk_goes_on_at_the_next_page(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/posts", POSTS)
    source_server.fault("/posts", Fault(bytes_per_second=None), Fault(bytes_per_second=None))
    source_server.fault("/posts", Fault(status=404))

    first = await tick("api")
    asked = len(source_server.seen)
    second = await tick("api")

    assert first.reports[0].status == "partial"
    assert "404" in (first.reports[0].error_message or "")
    assert second.reports[0].status == "succeeded"
    assert [seen.query["_page"] for seen in source_server.seen[asked:]] == ["3"]
    assert await sql.fetchval("SELECT count(*) FROM normalized_data") == 250


async def test_the_balance_holds_in_the_table_of_runs(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/posts", POSTS)
    source_server.put("/items.csv", CSV + b"ragged\n1,One again,2,x,2026-01-01T00:00:00Z\n")

    await tick()
    await tick()

    unbalanced = await sql.fetchval(
        """
        SELECT count(*) FROM etl_runs
        WHERE extracted <> inserted + updated + unchanged + filtered + duplicate + rejected + deleted + outdated
        """
    )
    assert unbalanced == 0
    assert await sql.fetchval("SELECT count(*) FROM etl_runs") == 4


async def test_the_exact_count_is_kept_with_the_checkpoint(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/posts", POSTS)
    source_server.put("/items.csv", CSV)

    await tick()

    kept = await sql.fetch("SELECT source, row_count FROM etl_checkpoint ORDER BY source")
    assert [tuple(row) for row in kept] == [("api", 250), ("csv", 2)]


async def test_a_changed_mapping_normalizes_again_without_landing(
    tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put("/items.csv", CSV, etag='"not to be trusted now"')
    await tick("csv")
    await sql.execute("UPDATE etl_checkpoint SET mapping_hash = 'another'")
    await sql.execute("UPDATE normalized_data SET name = 'as the other mapping had it' WHERE source_id = '1'")

    done = await tick("csv")

    assert (done.reports[0].counts.updated, done.reports[0].counts.unchanged) == (1, 1)
    assert await sql.fetchval("SELECT name FROM normalized_data WHERE source_id = '1'") == "One"
    assert await sql.fetchval("SELECT count(*) FROM raw_csv_data") == 2


async def test_two_sources_run_at_the_same_time(tick: Tick, source_server: SourceServer) -> None:
    gate = asyncio.Event()
    source_server.put_pages("/posts", POSTS)
    source_server.put("/items.csv", CSV)
    source_server.fault("/posts", Fault(gate=gate))
    running = asyncio.create_task(tick())
    while not (source_server.requests("/posts") and source_server.requests("/items.csv")):
        await asyncio.sleep(0.01)

    gate.set()
    done = await running

    assert done.status == "success"
