"""/data?value__gte=…&sort=…&fields=…&count=…: against the same rows, filtered and sorted here."""

import itertools
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest

from app.api.data_page import DataPage
from app.db import data, data_query
from tests.conftest import Tick
from tests.source_server import SourceServer

NAMES = ["Ada", "ada", "Ünter_100%", "back\\slash", "", "quote'\"", "river"]


def moment(n: int) -> datetime:
    return datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=n // 3, microseconds=n % 2)


def row(n: int) -> dict[str, Any]:
    return {
        "source_id": str(n),
        "name": NAMES[n % len(NAMES)],
        "value": None if n % 5 == 0 else (n % 8) / 4 - 0.5,
        "description": None if n % 3 == 0 else f"note {n % 4}",
        "updated_at": moment(n),
    }


ROWS = [row(n) for n in range(60)]


@pytest.fixture
async def filled(sql: asyncpg.Connection) -> None:
    await sql.executemany(
        "INSERT INTO normalized_data (id, raw_id, run_id, source, source_id, name, value, description, updated_at,"
        " content_hash) VALUES ($1, 0, 0, $2, $3, $4, $5, $6, $7, '')",
        [(n + 1, "csv" if n % 2 else "api", *item.values()) for n, item in enumerate(ROWS)],
    )
    await sql.execute(
        "INSERT INTO etl_checkpoint (source, resource, row_count, succeeded_at) VALUES ('api', 'a', 30, now()),"
        " ('csv', 'c', 30, now())"
    )


async def ids(client: httpx2.AsyncClient, query: str) -> list[int]:
    """Source ids of all rows that match, page after page by cursor; no row comes twice."""
    found: list[str] = []
    params = dict(httpx2.QueryParams(query)) | {"page_size": "7"}
    while True:
        response = await client.get("/data", params=params)
        assert response.status_code == 200, response.text
        page = response.json()
        assert page["total_is"] == "exact"
        found += [item["source_id"] for item in page["data"]]
        if not page["has_more"]:
            assert len(found) == page["total"]
            assert len(set(found)) == len(found)
            return [int(key) for key in found]
        params["cursor"] = page["next_cursor"]


def of(test: Callable[[dict[str, Any]], bool]) -> set[int]:
    return {n for n, item in enumerate(ROWS) if test(item)}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("value__gte=0.5", of(lambda r: r["value"] is not None and r["value"] >= 0.5)),
        ("value__lt=0&value__gt=-0.5", of(lambda r: r["value"] is not None and -0.5 < r["value"] < 0)),
        ("value=0.25", of(lambda r: r["value"] == 0.25)),
        ("value__not=0.25", of(lambda r: r["value"] not in {None, 0.25})),
        ("value__in=0.25,-0.25", of(lambda r: r["value"] in {0.25, -0.25})),
        ("value__isnull=true", of(lambda r: r["value"] is None)),
        ("description__isnull=0", of(lambda r: r["description"] is not None)),
        ("name=ada", of(lambda r: r["name"] == "ada")),
        ("name=", of(lambda r: r["name"] == "")),
        ("name__contains=ADA", of(lambda r: r["name"].lower() == "ada")),
        ("name__contains=_100%25", of(lambda r: "_100%" in r["name"])),
        ("name__contains=%5C", of(lambda r: "\\" in r["name"])),
        ("name__startswith=r", of(lambda r: r["name"] == "river")),
        ("name__endswith=%22", of(lambda r: r["name"].endswith('"'))),
        ('name__in=["quote\'\\"","river"]', of(lambda r: r["name"] in {"quote'\"", "river"})),
        ("source_id__in=3,4,99", {3, 4}),
        ("source_id__in=[]", set()),
        ("source__not=api", set(range(1, 60, 2))),
        ("source=csv&id__lte=10", {1, 3, 5, 7, 9}),
        ("updated_at__gte=2025-01-01T00:05:00.000001Z", of(lambda r: r["updated_at"] >= moment(15))),
        ("updated_at__lt=2025-01-01T02:05:00%2B02:00", of(lambda r: r["updated_at"] < moment(16) - timedelta(0, 0, 0))),
        ("search=note 1&value__isnull=false", of(lambda r: r["description"] == "note 1" and r["value"] is not None)),
        ("name__gt=s", of(lambda r: r["name"] > "s")),
    ],
)
async def test_filters_find_what_they_say(client: httpx2.AsyncClient, query: str, expected: set[int]) -> None:
    assert set(await ids(client, query)) == expected


def by(column: str, *, descending: bool) -> Callable[[int], tuple[Any, ...]]:
    """Python's order that PostgreSQL's is: ascending nulls last, descending first."""

    def key(n: int) -> tuple[Any, ...]:
        value = ROWS[n][column]
        if isinstance(value, datetime):
            value = value.timestamp()
        if isinstance(value, str):
            value = tuple(-ord(c) if descending else ord(c) for c in value) + ((1,) if descending else (-1,))
            return (0, value)
        return (value is None) != descending, 0 if value is None else -value if descending else value

    return key


SORTS = [
    (f"{'-' if down1 else ''}{one},{'-' if down2 else ''}{two}", [(one, down1), (two, down2)])
    for one, two in [("value", "updated_at"), ("name", "value"), ("updated_at", "name")]
    for down1, down2 in itertools.product((False, True), repeat=2)
]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("sort", "columns"), SORTS)
async def test_any_order_is_walked_to_its_end(
    client: httpx2.AsyncClient, sort: str, columns: list[tuple[str, bool]]
) -> None:
    keys = [by(name, descending=down) for name, down in columns]

    found = await ids(client, f"sort={sort}")

    assert found == sorted(range(60), key=lambda n: (*(key(n) for key in keys), n % 2, n))


@pytest.mark.usefixtures("filled")
async def test_pages_by_number_are_those_of_the_cursor_in_any_order(client: httpx2.AsyncClient) -> None:
    walked = await ids(client, "sort=-value,name&source=csv")

    pages = [(await client.get(f"/data?sort=-value,name&source=csv&page_size=7&page={n}")).json() for n in range(1, 7)]

    assert [int(item["source_id"]) for page in pages for item in page["data"]] == walked


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("source", ["", "&source=csv"])
async def test_pages_by_number_are_the_same_in_whatever_order_they_are_read(
    client: httpx2.AsyncClient, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setattr(data_query, "NEAR_ROWS", 9)
    walked = await ids(client, source.removeprefix("&"))
    numbers = [n for n in range(1, 13) for _ in range(3)]
    random.Random(1).shuffle(numbers)

    for at, number in enumerate(numbers):
        if at == 20:  # anchors of before are worth nothing now
            await sql.execute("UPDATE normalized_data SET deleted_at = now() WHERE source_id = '3'")
            await sql.execute(
                "UPDATE etl_checkpoint SET row_count = row_count - 1, data_version = gen_random_uuid()"
                " WHERE source = 'csv'"
            )
            walked.remove(3)
        query = f"/data?page={number}&page_size=5&_={at}{source}"
        page = (await client.get(query)).json()
        assert [int(item["source_id"]) for item in page["data"]] == walked[(number - 1) * 5 : number * 5]
        assert page["has_more"] == (number * 5 < len(walked))


@pytest.mark.parametrize("character", ["x", "水", "🌊", "\x01"])
async def test_rows_with_the_longest_texts_are_walked_over_by_what_each_page_says(
    client: httpx2.AsyncClient, sql: asyncpg.Connection, character: str
) -> None:
    await sql.execute(
        "INSERT INTO normalized_data (id, raw_id, run_id, source, source_id, name, content_hash)"
        " SELECT n, 0, 0, 's', n || repeat($1, 1999), repeat($1, 2000), '' FROM generate_series(1, 5) AS n",
        character,
    )
    await sql.execute("INSERT INTO etl_checkpoint (source, resource, row_count) VALUES ('s', 's', 5)")
    query, walked = {"sort": "name,source_id", "page_size": "2"}, list[int]()
    target: str | None = str(httpx2.URL("/data", params=query))
    while target is not None:
        response = await client.get(target)
        assert response.status_code == 200, response.text
        page = response.json()
        walked += [item["id"] for item in page["data"]]
        if page["next_cursor"] is not None:
            assert (await client.get("/data", params={**query, "cursor": page["next_cursor"]})).status_code == 200
        target = response.links["next"]["url"] if page["has_more"] else None

    assert walked == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("filled")
async def test_a_link_by_number_after_pages_of_another_size_skips_no_row(
    client: httpx2.AsyncClient, sql: asyncpg.Connection
) -> None:
    """The 20th name is too long for a cursor; the pages before had five rows, the page that ends there has ten."""
    await sql.execute("UPDATE normalized_data SET name = lpad(source_id, 2, '0')")
    await sql.execute("UPDATE normalized_data SET name = rpad(name, 3000, 'x') WHERE source_id = '19'")
    ten = (await client.get("/data?sort=name&page_size=5&page=2")).json()["next_cursor"]

    last = await client.get("/data", params={"sort": "name", "page_size": "10", "cursor": ten})
    following = await client.get(last.links["next"]["url"])

    assert [int(item["source_id"]) for item in last.json()["data"]] == list(range(10, 20))
    assert (last.json()["page"], last.json()["next_cursor"]) == (2, None)
    assert [int(item["source_id"]) for item in following.json()["data"]] == list(range(20, 30))
    assert following.json()["page"] == 3


@pytest.fixture
async def with_deleted(filled: None, sql: asyncpg.Connection) -> set[int]:
    """Every seventh row is deleted."""
    gone = set(range(0, 60, 7))
    await sql.execute(
        "UPDATE normalized_data SET deleted_at = '2025-06-01T00:00:00Z' WHERE source_id = ANY($1)", [*map(str, gone)]
    )
    await sql.execute(
        "UPDATE etl_checkpoint AS c SET data_version = gen_random_uuid(), row_count = (SELECT count(*) FROM"
        " normalized_data AS n WHERE n.source = c.source AND deleted_at IS NULL)"
    )
    return gone


@pytest.mark.parametrize("query", ["", "source=csv", "value__gte=0", "sort=-value,name", "search=note"])
async def test_deleted_rows_are_shown_to_who_asks_for_them_and_marked(
    client: httpx2.AsyncClient, with_deleted: set[int], query: str
) -> None:
    there = set(await ids(client, query))
    every = set(await ids(client, f"{query}&include_deleted=true"))

    page = (await client.get(f"/data?{query}&include_deleted=true&page_size=100")).json()

    assert there == every - with_deleted
    assert every & with_deleted
    assert page["total"] == len(every) == len(page["data"])
    marks = {int(item["source_id"]): item["deleted_at"] for item in page["data"]}
    assert marks == {key: "2025-06-01T00:00:00Z" if key in with_deleted else None for key in every}
    assert page == json.loads(DataPage.model_validate(page).model_dump_json())


async def test_pages_with_deleted_rows_reach_beyond_the_number_of_those_served(
    client: httpx2.AsyncClient, with_deleted: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "FEW_ROWS", 5)
    pages = [(await client.get(f"/data?include_deleted=true&page_size=10&page={n}")).json() for n in range(1, 9)]

    assert [len(page["data"]) for page in pages] == [10] * 6 + [0, 0]
    assert {page["total"] for page in pages} == {60}
    beyond = (await client.get("/data?include_deleted=true&count=estimated&page=99999999999999999999")).json()
    assert beyond["data"] == []


async def test_what_marks_deleted_rows_is_left_out_of_no_selection_and_of_every_other_answer(
    client: httpx2.AsyncClient, with_deleted: set[int]
) -> None:
    chosen = (await client.get("/data?include_deleted=true&fields=name,id&page_size=1")).json()["data"][0]
    plain = (await client.get("/data?include_deleted=false&page_size=1")).json()["data"][0]

    assert list(chosen) == ["name", "id", "deleted_at"]
    assert "deleted_at" not in plain


async def test_a_cursor_without_deleted_rows_is_none_with_them(
    client: httpx2.AsyncClient, with_deleted: set[int]
) -> None:
    cursor = (await client.get("/data?page_size=5")).json()["next_cursor"]

    assert (await client.get(f"/data?include_deleted=true&cursor={cursor}")).status_code == 409


@pytest.mark.usefixtures("filled")
async def test_only_the_fields_asked_for_are_sent_in_the_order_asked(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/data?fields=value,id,value&page_size=2")).json()

    assert [list(item) for item in page["data"]] == [["value", "id"], ["value", "id"]]
    assert page["total"] == 60


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("query", "where", "fault"),
    [
        ("valu__gte=3", "query.valu__gte", "no such parameter; there are: count, cursor"),
        ("value__like=3", "query.value__like", "of value there are: value, value__not"),
        ("sorce=api", "query.sorce", "no such parameter"),
        ("value__gte=abc", "query.value__gte", "valid number"),
        ("value__gte=nan", "query.value__gte", ""),
        ("value__gte=1e999", "query.value__gte", ""),
        ("id=9223372036854775808", "query.id", "less than or equal to 9223372036854775807"),
        ("id__in=1,x", "query.id__in", "valid integer"),
        ("updated_at__gte=2025-01-01", "query.updated_at__gte", "with its offset"),
        ("updated_at__gte=2025-01-01T00:00:00", "query.updated_at__gte", "with its offset"),
        ("updated_at__gte=0001-01-01T00:00:00%2B14:00", "query.updated_at__gte", "out of range"),
        ("updated_at__gte=20260101", "query.updated_at__gte", "write a time with its offset"),
        ("value__isnull=maybe", "query.value__isnull", "true or false"),
        ("name__contains=%00", "query.name__contains", ""),
        ("source_id__in=" + ",".join(map(str, range(101))), "query.source_id__in", "101 values; at most 100"),
        ("description__in=" + "x" * 2001, "query.description__in", "2001 characters; at most 2000"),
        ("&".join(f"id__not={n}" for n in range(101)), "query.filters", "101 conditions; at most 100"),
        ("sort=description", "query.sort", "up to four columns"),
        ("sort=id;drop table", "query.sort", "up to four columns"),
        ("fields=secret", "query.fields", "columns, separated by commas: id"),
        ("count=all", "query.count", "'exact', 'estimated' or 'none'"),
    ],
)
async def test_what_cannot_be_asked_is_said(client: httpx2.AsyncClient, query: str, where: str, fault: str) -> None:
    response = await client.get(f"/data?{query}")

    assert response.status_code == 422
    assert response.json()["errors"][0]["where"] == where
    assert fault in response.json()["errors"][0]["fault"]


@pytest.mark.usefixtures("filled")
async def test_a_parameter_that_begins_with_an_underscore_is_left_to_its_sender(client: httpx2.AsyncClient) -> None:
    cursor = (await client.get("/data?page_size=1&_=1")).json()["next_cursor"]
    assert (await client.get(f"/data?page_size=1&_=2&cursor={cursor}")).status_code == 200
    assert (await client.get("/data?_=1732400000&page_size=1")).json()["total"] == 60


@pytest.mark.usefixtures("filled")
async def test_a_count_is_exact_estimated_or_left_out(client: httpx2.AsyncClient, sql: asyncpg.Connection) -> None:
    await sql.execute("ANALYZE normalized_data")

    told = {}
    for count in ("exact", "estimated", "none"):
        page = (await client.get(f"/data?value__gte=0&page_size=3&count={count}")).json()
        told[count] = (page["total_is"], page["total"])
        assert len(page["data"]) == 3

    there = len(of(lambda r: r["value"] is not None and r["value"] >= 0))
    assert told["exact"] == ("exact", there)
    assert told["estimated"][0] == "estimated"
    assert told["estimated"][1] == pytest.approx(there, rel=0.5)
    assert told["none"] == ("not_counted", None)
    # What is known without counting is told all the same
    assert (await client.get("/data?count=none&page_size=3")).json()["total"] == 60


@pytest.mark.usefixtures("filled")
async def test_a_count_that_takes_too_long_says_how_many_there_are_at_least(
    client: httpx2.AsyncClient, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "COUNT_SECONDS", 0.001)
    await sql.execute(
        "INSERT INTO normalized_data (id, raw_id, run_id, source, source_id, name, content_hash)"
        " SELECT n, 0, 0, 'api', 'x' || n, repeat('needle', 30), '' FROM generate_series(1000, 60000) AS n"
    )

    page = (await client.get("/data?search=eedl&page=2&page_size=10")).json()

    assert (page["total_is"], page["total"]) == ("at_least", 21)
    assert len(page["data"]) == 10


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("query", ["page_size=100", "page_size=3&page=20", "search=note&page_size=5", "source=nobody"])
async def test_the_bytes_are_what_the_model_would_write(client: httpx2.AsyncClient, query: str) -> None:
    response = await client.get(f"/data?{query}")

    page = DataPage.model_validate(response.json())
    written = json.loads(page.model_dump_json())

    assert response.json() == written
    assert list(response.json()) == list(DataPage.model_fields)


@pytest.mark.parametrize("order", ["created_at", "-created_at", "updated_at", "-updated_at", "value", "-value"])
async def test_every_row_is_walked_over_once_whatever_its_extremes(
    client: httpx2.AsyncClient, sql: asyncpg.Connection, order: str
) -> None:
    """The first and the last moment there are, which the driver takes for infinities; the largest numbers."""
    await sql.execute("""
        INSERT INTO normalized_data
            (id, raw_id, run_id, source, source_id, name, value, created_at, updated_at, content_hash)
        SELECT n, 0, 0, 's', n::text, '', CASE WHEN n % 2 = 0 THEN 1.75e308 END,
            timestamptz '0001-01-01 00:00:00+00', timestamptz '9999-12-31 23:59:59.999999+00', ''
        FROM generate_series(1, 25) AS n""")
    walked: list[int] = []
    query = f"/data?sort={order}&page_size=10"
    cursor = ""
    while cursor is not None and len(walked) <= 25:
        page = (await client.get(f"{query}&cursor={cursor}" if cursor else query)).json()
        walked += [item["id"] for item in page["data"]]
        cursor = page["next_cursor"]

    assert sorted(walked) == list(range(1, 26))
    for condition in (
        "created_at=0001-01-01T00:00:00Z",
        "created_at__lte=0001-01-01T00:00:00Z",
        "updated_at__gte=9999-12-31T23:59:59.999999Z",
    ):
        assert (await client.get(f"/data?{condition}")).json()["total"] == 25
    assert (await client.get("/data?value__lte=1.7976931348623157e308")).json()["total"] == 12


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("page", [10**6, 10**20])
async def test_a_page_beyond_the_end_does_not_count_the_rows_before_it(client: httpx2.AsyncClient, page: int) -> None:
    response = await client.get(f"/data?search=note&count=estimated&page={page}")

    assert response.status_code == 200
    assert response.json()["total"] <= 100


async def test_extremes_are_written_as_the_model_writes_them(
    client: httpx2.AsyncClient, sql: asyncpg.Connection
) -> None:
    extremes = [1e308, -1e308, 5e-324, -0.0, 0.1, 1e22, 123456789012345680.0, None]
    moments = [
        datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC, microsecond=1),
        moment(1),
        moment(0),
    ]
    await sql.executemany(
        "INSERT INTO normalized_data (id, raw_id, run_id, source, source_id, name, value, updated_at, content_hash)"
        " VALUES ($1, 0, 0, 's', $1::bigint::text, $2, $3, $4, '')",
        [(n, "\u2028\U0001f30a\x7f", value, moments[n % 4]) for n, value in enumerate(extremes)],
    )

    response = await client.get("/data?page_size=100")

    assert response.json() == json.loads(DataPage.model_validate(response.json()).model_dump_json())
    assert [item["value"] for item in response.json()["data"]] == extremes
    assert response.json()["data"][0]["updated_at"] == "0001-01-01T00:00:01Z"
    assert response.json()["data"][1]["updated_at"] == "9999-12-31T23:59:59.000001Z"


@pytest.mark.usefixtures("filled")
async def test_rows_of_a_real_run_can_be_filtered(
    client: httpx2.AsyncClient, tick: Tick, source_server: SourceServer
) -> None:
    source_server.put("/items.csv", b"id,name,value\nnew,River,7.5\n")
    await tick()

    page = (await client.get("/data?value__gt=7&name__startswith=riv")).json()

    assert [item["source_id"] for item in page["data"]] == ["new"]
