"""GET /data/export: the same rows as /data, as CSV and NDJSON, whatever is in them."""

import asyncio
import csv
import io
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest

from app.db.data_query import DataQuery
from app.db.engine import Database
from app.db.exports import CHUNK_BYTES, export_rows
from app.resources import Resources
from tests.conftest import api_client

TEXTS = [
    "",
    "plain",
    "comma, and \"quotes\" and 'apostrophes' ''",
    "line\nfeed, carriage\rreturn\r\n",
    "\ttab",
    "back\\slash \\n \\u0041 \\. \\x41",
    "\\.",
    "$1 $2::text $$ $tag$ :name %s %% %(x)s ?",
    "'; DROP TABLE normalized_data; --",
    "E'\\'' || chr(39)",
    "\x01\x02\x07\x1f\x7f\x85\u2028\u2029\ufeff",
    '","updated_at":"2025-01-01T00:00:00',
    "😀 e\u0301 \u202eabc \U0010ffff \ud7ff\ue000",
    "100%_sure /",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\rcarriage",
    "\nline",
    "＝1",  # noqa: RUF001
    "'=1",
    "NULL",
    "\\N",
    "x" * 300_000,
]
NUMBERS = [None, 0.0, -0.0, 1.0, -7.25, 0.1, 1e15, 999999999999999.0, 2.0**53 + 2, 1e16, 1e22, 1e308, 5e-324, -1e-7]
NUMBERS += [1.7976931348623157e308, 123456789012345680.0, 1 / 3]
MOMENTS = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(987, 6, 5, 4, 3, 2, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2025, 1, 1, tzinfo=UTC),
    datetime(2025, 1, 1, microsecond=120000, tzinfo=UTC),
    datetime(2025, 1, 1, microsecond=999990, tzinfo=UTC),
    datetime(2025, 1, 1, microsecond=10, tzinfo=UTC),
    datetime(2025, 3, 30, 1, 30, 0, 123456, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
]
INSERT = (
    "INSERT INTO normalized_data (id, raw_id, run_id, source, source_id, name, value, description, created_at,"
    " updated_at, deleted_at, content_hash) VALUES ($1, 0, 0, $2, $3, $4, $5, $6, $7::text::timestamptz,"
    " $8::text::timestamptz, $9, '')"
)
"""Moments as text: the driver takes Python's last one for infinity."""
FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001


@pytest.fixture
async def filled(sql: asyncpg.Connection) -> None:
    rows = [
        (
            n + 1,
            ["csv", "api", "-odd\nsource"][n % 3],
            f"{n}{text}"[:900] if n % 2 else f"{text}{n}"[:900],
            text,
            NUMBERS[n % len(NUMBERS)],
            None if n % 4 == 0 else TEXTS[-n % len(TEXTS)],
            MOMENTS[n % len(MOMENTS)].isoformat(),
            MOMENTS[-n % len(MOMENTS)].isoformat(),
            MOMENTS[3] if n == 40 else None,
        )
        for n, text in enumerate(TEXTS + TEXTS)
    ]
    await sql.executemany(INSERT, rows)
    await sql.execute(
        "INSERT INTO etl_checkpoint (source, resource, row_count, succeeded_at)"
        " SELECT source, source, count(*), '2026-01-01T00:00:00Z' FROM normalized_data GROUP BY source"
    )


async def items(client: httpx2.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    """All rows of /data, as JSON has them."""
    found: list[dict[str, Any]] = []
    params["page_size"] = 100
    while True:
        response = await client.get("/data", params=params)
        assert response.status_code == 200, response.text
        page = response.json()
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        params["cursor"] = page["next_cursor"]


async def export(client: httpx2.AsyncClient, **params: Any) -> str:
    response = await client.get("/data/export", params=params)
    assert response.status_code == 200, response.text
    return response.content.decode()


async def lines(client: httpx2.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    body = await export(client, format="ndjson", **params)
    assert body == "" or body.endswith("\n")
    return [json.loads(line) for line in body.split("\n")[:-1]]


def parse_csv(text: str) -> list[list[str | None]]:
    """Strictly, and telling NULL (nothing) from an empty text (`""`), which Python's own reader does not."""
    rows: list[list[str | None]] = [[]]
    at = 0
    while at < len(text):
        cell: str | None
        if text[at] == '"':
            cell = ""
            while True:
                end = text.index('"', at + 1)
                cell += text[at + 1 : end]
                at = end
                if text[at + 1] != '"':
                    break
                cell += '"'
                at += 1
            at += 1
        else:
            end = min(place for place in (text.find(",", at), text.find("\n", at)) if place >= 0)
            cell = text[at:end] or None
            assert cell is None or not set(cell) & set('"\r')
            at = end
        rows[-1].append(cell)
        if text[at] == "\n":
            rows.append([])
        else:
            assert text[at] == ","
        at += 1
    assert rows.pop() == []
    return rows


def same(one: Any, other: Any) -> bool:
    """To the sign of zero, and to the type."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return type(one) is type(other) and one == other


@pytest.mark.usefixtures("filled")
async def test_the_lines_of_ndjson_are_the_items_of_data(client: httpx2.AsyncClient) -> None:
    expected = await items(client)

    found = await lines(client)

    assert len(found) == len(expected) == 2 * len(TEXTS) - 1
    for line, item in zip(found, expected, strict=True):
        assert list(line) == list(item)
        assert [name for name in item if not same(line[name], item[name])] == []


@pytest.mark.usefixtures("filled")
async def test_the_cells_of_csv_are_the_values_of_data(client: httpx2.AsyncClient) -> None:
    expected = await items(client)

    header, *found = parse_csv(await export(client, format="csv", formulas="keep"))

    assert header == list(expected[0])
    assert len(found) == len(expected)
    for cells, item in zip(found, expected, strict=True):
        row: dict[str, Any] = dict(zip(item, cells, strict=True))
        row["id"] = int(row["id"])
        row["value"] = None if row["value"] is None else float(row["value"])
        assert [name for name in item if not same(row[name], item[name])] == []


@pytest.mark.usefixtures("filled")
async def test_texts_that_a_spreadsheet_takes_for_formulas_are_guarded_and_numbers_are_not(
    client: httpx2.AsyncClient,
) -> None:
    kept = parse_csv(await export(client, format="csv", formulas="keep"))

    guarded = parse_csv(await export(client, format="csv"))

    texts = {kept[0].index(name) for name in ("source", "source_id", "name", "description")}
    expected = [
        [
            f"'{cell}" if at in texts and cell and cell.startswith(FORMULA_STARTS) else cell
            for at, cell in enumerate(row)
        ]
        for row in kept
    ]
    assert guarded == expected
    assert (
        sum(cell != was for row, old in zip(guarded, kept, strict=True) for cell, was in zip(row, old, strict=True))
        > 30
    )
    assert any(row[4] and row[4].startswith("-") for row in guarded)


async def test_an_infinite_moment_is_the_first_or_the_last(client: httpx2.AsyncClient, sql: asyncpg.Connection) -> None:
    await fill(sql, 1)
    await sql.execute("UPDATE normalized_data SET created_at = '-infinity', updated_at = 'infinity'")

    (line,) = await lines(client, fields="created_at,updated_at")

    assert line == {"created_at": "0001-01-01T00:00:00Z", "updated_at": "9999-12-31T23:59:59.999999Z"}


@pytest.mark.usefixtures("filled")
async def test_a_common_reader_of_csv_reads_it(client: httpx2.AsyncClient) -> None:
    body = await export(client, format="csv", formulas="keep")

    rows = list(csv.DictReader(io.StringIO(body, newline=""), strict=True))

    assert [row["name"] for row in rows] == [item["name"] for item in await items(client)]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("text", TEXTS[1:-1])
async def test_a_hostile_value_is_a_value_and_no_sql(client: httpx2.AsyncClient, text: str) -> None:
    for params in (
        {"search": text},
        {"name": text},
        {"name__in": json.dumps([text, "plain", "\"'\\"])},
        {"source_id__startswith": text, "value__gte": "-1e300", "updated_at__lt": "9999-01-01T00:00:00.5Z"},
        {"source": text},
    ):
        expected = [item["id"] for item in await items(client, **params)]

        found = [line["id"] for line in await lines(client, **params)]

        assert found == expected
        assert expected or "name" not in params


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "params",
    [
        {"source": "csv"},
        {"source": ""},
        {"search": "LINE"},
        {"sort": "-updated_at,id", "value__isnull": "false"},
        {"sort": "value"},
        {"fields": "updated_at,name"},
        {"fields": "value,id,value", "sort": "name"},
        {"fields": "created_at"},
        {"include_deleted": "true"},
        {"include_deleted": "true", "fields": "name", "id__gte": "40"},
    ],
)
async def test_filters_order_and_fields_mean_what_they_mean_for_data(
    client: httpx2.AsyncClient, params: dict[str, str]
) -> None:
    expected = await items(client, **params)

    found = await lines(client, **params)
    header, *cells = parse_csv(await export(client, format="csv", formulas="keep", **params))

    assert found == expected != []
    assert header == list(expected[0])
    assert len(cells) == len(expected)
    if "include_deleted" in params:
        assert {row[-1] for row in cells} == {None, "2025-01-01T00:00:00Z"}


@pytest.mark.usefixtures("filled")
async def test_an_export_without_rows_is_a_header_line_or_nothing(client: httpx2.AsyncClient) -> None:
    assert await export(client, format="csv", source="nobody", fields="id,name") == "id,name\n"
    assert await export(client, format="ndjson", source="nobody") == ""


@pytest.mark.usefixtures("filled")
async def test_the_headers_say_what_it_is_and_how_old(client: httpx2.AsyncClient) -> None:
    table = await client.get("/data/export?format=csv")
    objects = await client.get("/data/export?format=ndjson&source=csv")
    too_old = await client.get("/data/export?format=ndjson&max_staleness=60")

    assert table.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert objects.headers["content-type"] == "application/x-ndjson"
    assert table.headers["content-disposition"] == 'attachment; filename="data.csv"'
    assert objects.headers["content-disposition"] == 'attachment; filename="data.ndjson"'
    assert {table.headers["cache-control"], objects.headers["cache-control"]} == {"no-store"}
    assert table.headers["x-data-as-of"] == objects.headers["x-data-as-of"] == "2026-01-01T00:00:00Z"
    assert "content-length" not in table.headers
    assert too_old.status_code == 503


@pytest.mark.parametrize(
    "query",
    [
        "",
        "format=xlsx",
        "format=csv&formulas=maybe",
        "format=csv&source=%00",
        "format=csv&search=" + "a" * 201,
        "format=csv&sort=nothing",
        "format=csv&fields=content_hash",
        "format=csv&value__gte=x",
        "format=csv&page=1",
        "format=csv&cursor=1",
    ],
)
async def test_bad_input_is_a_problem(client: httpx2.AsyncClient, query: str) -> None:
    response = await client.get(f"/data/export?{query}")

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.usefixtures("filled")
async def test_trouble_before_the_first_byte_is_a_problem(client: httpx2.AsyncClient, sql: asyncpg.Connection) -> None:
    await sql.execute("ALTER TABLE normalized_data RENAME TO elsewhere")

    response = await client.get("/data/export?format=csv")

    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"]
    assert "content-disposition" not in response.headers


async def test_without_a_database_it_says_so(resources: Resources) -> None:
    resources.database = Database("postgresql://u:secret@127.0.0.1:1/x")
    async with api_client(resources) as client:
        response = await client.get("/data/export?format=csv")

    assert response.status_code == 503
    assert "secret" not in response.text


async def fill(sql: asyncpg.Connection, rows: int) -> None:
    """Rows of a kilobyte and more."""
    await sql.execute(
        "INSERT INTO normalized_data (id, raw_id, run_id, source, source_id, name, value, description, content_hash)"
        " SELECT n, 0, 0, 'csv', n, repeat('name ', 100), n, repeat('text ', 100), '' FROM generate_series(1, $1) n",
        rows,
    )


class Taker:
    """Takes chunks, and waits a little for each."""

    def __init__(self, *, seconds: float = 0.0) -> None:
        self.chunks: list[bytes] = []
        self._seconds = seconds

    async def __call__(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        await asyncio.sleep(self._seconds)


async def test_chunks_are_large_and_end_with_a_line(sql: asyncpg.Connection, database: Database) -> None:
    await fill(sql, 5_000)
    taker = Taker()

    rows = await export_rows(database, DataQuery(), taker, to="ndjson")

    assert rows == 5_000
    assert {chunk[-1:] for chunk in taker.chunks} == {b"\n"}
    assert all(CHUNK_BYTES <= len(chunk) <= 4 * CHUNK_BYTES for chunk in taker.chunks[:-1])
    assert [json.loads(line)["id"] for line in b"".join(taker.chunks).splitlines()] == list(range(1, 5_001))


async def test_no_time_limit_of_connection_or_database_cuts_an_export(dsn: str, sql: asyncpg.Connection) -> None:
    await fill(sql, 20_000)
    await sql.execute(f"ALTER DATABASE {await sql.fetchval('SELECT current_database()')} SET statement_timeout = 300")
    database = Database(dsn, command_timeout_seconds=0.5)
    taker = Taker(seconds=0.01)

    try:
        async with asyncio.timeout(30):
            assert await export_rows(database, DataQuery(), taker, to="csv") == 20_000
    finally:
        await database.close()

    assert len(taker.chunks) * 0.01 > 1


async def test_all_rows_are_of_one_moment(sql: asyncpg.Connection, database: Database) -> None:
    await fill(sql, 20_000)
    seen: list[bytes] = []

    async def take(chunk: bytes) -> None:
        if not seen:
            await sql.execute("UPDATE normalized_data SET name = 'later', deleted_at = now() WHERE id % 2 = 0")
            await sql.execute("DELETE FROM normalized_data WHERE id % 3 = 0")
        seen.append(chunk)

    assert await export_rows(database, DataQuery(), take, to="csv") == 20_000
    assert b"later" not in b"".join(seen)


async def test_an_export_takes_no_connection_of_the_pool(sql: asyncpg.Connection, database: Database) -> None:
    await fill(sql, 500)
    taken: list[int] = []

    async def take(_chunk: bytes) -> None:
        taken.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]

    await export_rows(database, DataQuery(), take, to="csv")

    assert set(taken) == {0}


async def copies(sql: asyncpg.Connection) -> int:
    found: int = await sql.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND query LIKE 'COPY%'"
    )
    return found


async def test_an_export_that_is_given_up_leaves_nothing_behind(sql: asyncpg.Connection, database: Database) -> None:
    await fill(sql, 40_000)
    never, taking = asyncio.Event(), asyncio.Event()

    async def take(_chunk: bytes) -> None:
        taking.set()
        await never.wait()

    exporting = asyncio.create_task(export_rows(database, DataQuery(), take, to="csv"))
    await taking.wait()
    during = await copies(sql)
    exporting.cancel()
    async with asyncio.timeout(4):
        await asyncio.wait({exporting})
        while await copies(sql):
            await asyncio.sleep(0.01)

    assert during == 1
    assert exporting.cancelled()


async def test_what_the_taker_raises_is_not_taken_for_trouble_with_the_database(
    sql: asyncpg.Connection, database: Database
) -> None:
    await fill(sql, 500)

    async def take(_chunk: bytes) -> None:
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError, match="nobody reads"):
        await export_rows(database, DataQuery(), take, to="csv")


def test_moments_here_have_every_length_of_a_fraction() -> None:
    assert {len(moment.isoformat()) for moment in MOMENTS} == {25, 32}
    assert all(moment + timedelta(0) == moment for moment in MOMENTS)
