"""`etl sources init`: what a few questions find out makes a file that works as it was written."""

import gzip
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.errors import SourceError, SourceRefusedError
from app.operations.draft import Draft
from app.operations.init import draft_source
from app.resources import Resources
from app.settings import Settings
from tests.processes import run
from tests.source_files import SourceFiles
from tests.source_server import Reply, Seen, SourceServer

RECORDS = [{"id": number, "title": f"Thing {number}", "price": number + 0.5} for number in range(1, 58)]
SIZE = 10

Query = Mapping[str, str]


def page(number: int) -> list[dict[str, Any]]:
    """Pages count from 1."""
    return RECORDS[(number - 1) * SIZE : number * SIZE] if number > 0 else []


def by_link(seen: Seen) -> Reply:
    at = int(seen.query.get("at", 1))
    link = {"Link": f'</api?at={at + 1}>; rel="next"'} if at < 6 else {}
    return Reply({"data": page(at)}, headers=link)


def by_next_url(seen: Seen) -> Reply:
    at = int(seen.query.get("at", 1))
    return Reply({"results": page(at), "next": f"/api?at={at + 1}" if at < 6 else None})


def by_cursor(seen: Seen) -> Reply:
    at = int(seen.query.get("cursor", "c1")[1:])
    more = at < 6
    return Reply({"items": page(at), "meta": {"next_cursor": f"c{at + 1}" if more else None, "has_more": more}})


def by_token(seen: Seen) -> Reply:
    at = int(seen.query.get("pageToken", "1"))
    return Reply({"items": page(at), **({"nextPageToken": str(at + 1)} if at < 6 else {})})


def by_page(seen: Seen) -> Reply:
    at = int(seen.query.get("page", 1))
    return Reply({"data": page(at), "page": at, "total_pages": 6})


def by_page_from_0(seen: Seen) -> Reply:
    return Reply(page(int(seen.query.get("page", 0)) + 1))


def by_offset(seen: Seen) -> Reply:
    offset, limit = int(seen.query.get("offset", 0)), int(seen.query.get("limit", SIZE))
    return Reply({"rows": RECORDS[offset : offset + limit], "total": len(RECORDS), "offset": offset, "limit": limit})


def by_skip(seen: Seen) -> Reply:
    skip = int(seen.query.get("skip", 0))
    return Reply(RECORDS[skip : skip + SIZE])


def by_odata(seen: Seen) -> Reply:
    skip, top = int(seen.query.get("$skip", 0)), int(seen.query.get("$top", SIZE))
    return Reply({"@odata.count": len(RECORDS), "value": RECORDS[skip : skip + top]})


def by_deep_cursor(seen: Seen) -> Reply:
    """GraphQL's way: a cursor with every page, and apart from it whether there is more."""
    at = int(seen.query.get("after", "c0")[1:])
    told = {"endCursor": f"c{at + SIZE}", "hasNextPage": at + SIZE < len(RECORDS)}
    return Reply({"data": {"things": {"nodes": RECORDS[at : at + SIZE], "pageInfo": told}}})


def by_deep_url(seen: Seen) -> Reply:
    at = int(seen.query.get("at", 1))
    return Reply({"payload": {"rows": page(at), "paging": {"nextUrl": f"/api?at={at + 1}" if at < 6 else None}}})


def by_list_of_links(seen: Seen) -> Reply:
    at = int(seen.query.get("at", 1))
    following = [{"rel": "next", "href": f"?at={at + 1}"}] if at < 6 else []
    return Reply({"items": page(at), "links": [{"rel": "self", "href": "/api"}, *following]})


def by_last_id(seen: Seen) -> Reply:
    after = int(seen.query.get("since_id", 0))
    return Reply({"things": RECORDS[after : after + SIZE]})


def by_key(seen: Seen) -> Reply:
    after = int(seen.query.get("starting_after", 0))
    return Reply({"data": RECORDS[after : after + SIZE], "has_more": after + SIZE < len(RECORDS)})


def by_header(seen: Seen) -> Reply:
    at = int(seen.query.get("page", 1))
    return Reply(page(at), headers={"X-Next-Page": str(at + 1)} if at < 6 else {})


def one_by_one(seen: Seen) -> Reply:
    offset = int(seen.query.get("offset", 0))
    return Reply({"data": RECORDS[offset : offset + int(seen.query.get("limit", 1))]})


def whole(_seen: Seen) -> Reply:
    return Reply(RECORDS)


def whole_by_key(_seen: Seen) -> Reply:
    return Reply({"things": {f"t-{record['id']}": record for record in RECORDS}})


def whole_with_an_odd_name(_seen: Seen) -> Reply:
    return Reply({"my-things": RECORDS, "took": 3})


def whole_that_filters(seen: Seen) -> Reply:
    """A parameter that it does not know is a filter, which nothing fulfils."""
    return Reply([record for record in RECORDS if all(str(record.get(key)) == at for key, at in seen.query.items())])


def whole_that_is_strict(seen: Seen) -> Reply:
    return Reply({"error": "unknown parameter"}, status=400) if seen.query else Reply(RECORDS)


SHAPES: dict[Callable[[Seen], Reply], dict[str, Any]] = {
    by_link: {"type": "header_link"},
    by_next_url: {"type": "json_link"},
    by_cursor: {
        "type": "cursor", "cursor_path": "meta.next_cursor", "cursor_param": "cursor", "has_more_path": "meta.has_more",
    },
    by_token: {"type": "cursor", "cursor_path": "nextPageToken", "cursor_param": "pageToken"},
    by_page: {"type": "page_number", "page_param": "page"},
    by_page_from_0: {"type": "page_number", "page_param": "page", "base_page": 0},
    by_offset: {"type": "offset", "limit": 10},
    by_skip: {"type": "offset", "limit": 10, "offset_param": "skip"},
    by_odata: {"type": "offset", "limit": 10, "offset_param": "$skip", "limit_param": "$top"},
    by_deep_cursor: {
        "type": "cursor", "cursor_path": "data.things.pageInfo.endCursor", "cursor_param": "after",
        "has_more_path": "data.things.pageInfo.hasNextPage",
    },
    by_deep_url: {"type": "json_link", "next_url_path": "payload.paging.nextUrl"},
    by_list_of_links: {"type": "json_link", "next_url_path": "links[?rel=='next'] | [0].href"},
    by_last_id: {"type": "keyset", "cursor_path": "id", "cursor_param": "since_id"},
    one_by_one: {"type": "offset", "limit": 1},
    by_key: {
        "type": "keyset", "cursor_path": "id", "cursor_param": "starting_after", "has_more_path": "has_more",
    },
    by_header: {"type": "header_cursor", "cursor_key": "X-Next-Page", "cursor_param": "page"},
    whole: {"type": "single_page"},
    whole_by_key: {"type": "single_page"},
    whole_with_an_odd_name: {"type": "single_page"},
    whole_that_filters: {"type": "single_page"},
    whole_that_is_strict: {"type": "single_page"},
}  # fmt: skip


@pytest.fixture
def files(resources: Resources, tmp_path: Path, source_server: SourceServer) -> SourceFiles:
    return SourceFiles(resources, tmp_path / "sources", source_server.url)


async def drafted(url: str, settings: Settings, **given: Any) -> tuple[Draft, dict[str, Any]]:
    """The draft, and the tree that its text holds."""
    draft = await draft_source(url, settings, **given)
    return draft, tomllib.loads(draft.text())


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
async def test_a_way_to_page_is_proven_and_brings_every_row(
    shape: Callable[[Seen], Reply], source_server: SourceServer, settings: Settings, files: SourceFiles
) -> None:
    draft, tree = await drafted(source_server.put_script("/api", shape), settings, name="s")
    assert draft.missing == []
    assert draft.requests <= 12
    files.write(draft.text())

    report = await files.run()

    assert {**SHAPES[shape], **tree["resources"][0]["endpoint"]["paginator"]} == SHAPES[shape]
    assert tree["resources"][0]["primary_key"] == "id"
    assert tree["resources"][0]["mapping"] == {"name": "title", "value": "price"}
    assert (report.status, report.counts.inserted) == ("succeeded", len(RECORDS))


async def test_what_is_new_with_each_request_is_no_page(source_server: SourceServer, settings: Settings) -> None:
    url = source_server.put_script("/api", lambda seen: Reply([{"id": f"{seen.at}-{at}"} for at in range(3)]))

    _, tree = await drafted(url, settings)

    assert tree["resources"][0]["endpoint"]["paginator"] == {"type": "single_page"}


@pytest.mark.parametrize(
    ("body", "key", "selector", "said"),
    [
        ({"company": {"id": 2}, "id": 1}, "id", None, ""),
        ({"data": {"id": 1, "name": "a"}, "took": 3}, "id", "data", ""),
        ({"active": True, "url": "", "method": "GET", "args": {"id": 3}}, "method", None, "may change"),
        ({"id": 1, "orders": [{"id": 5}, {"id": 6}]}, "id", "orders", 'say data_selector = "@"'),
    ],
)
async def test_one_record_is_known_by_a_field_of_its_own(
    body: dict[str, Any], key: str, selector: str | None, said: str, source_server: SourceServer, settings: Settings
) -> None:
    draft, tree = await drafted(source_server.put_script("/me", lambda _seen: Reply(body)), settings)

    resource = tree["resources"][0]
    assert resource["endpoint"]["paginator"] == {"type": "single_page"}
    assert (resource["primary_key"], resource["endpoint"].get("data_selector")) == (key, selector)
    assert said in " ".join(draft.missing)


MODIFIED = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}


@pytest.mark.parametrize(
    ("path", "length", "headers", "is_doubted"),
    [("/api", 50, {}, True), ("/api", 51, {}, False), ("/a.json", 50, MODIFIED, False), ("/a.json", 50, {}, True)],
)
async def test_an_answer_as_long_as_a_page_is_doubted(
    path: str,
    length: int,
    headers: dict[str, str],
    is_doubted: bool,
    source_server: SourceServer,
    settings: Settings,
) -> None:
    url = source_server.put_script(path, lambda _seen: Reply({"events": RECORDS[:length]}, headers=headers))

    draft, tree = await drafted(url, settings)

    assert [line.partition(":")[0] for line in draft.missing] == ["whether there is more"] * is_doubted
    assert ("# deletes" in draft.text()) is not is_doubted
    assert tree["resources"][0]["endpoint"]["paginator"] == {"type": "single_page"}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply({"error": "invalid key", "code": 12}), r"speaks of an error \(error, code\)"),
        (Reply({"message": "no", "success": False}), r"speaks of an error"),
        (Reply({}, status=401), "--auth-secret NAME, or --header"),
        (Reply({}, status=405), 'endpoint.method = "POST"'),
    ],
)
async def test_a_refusal_says_what_to_do(
    reply: Reply, said: str, source_server: SourceServer, settings: Settings
) -> None:
    with pytest.raises(SourceRefusedError, match=said):
        await draft_source(source_server.put_script("/api", lambda _seen: reply), settings)


async def test_a_way_to_the_rest_that_is_not_found_is_said(source_server: SourceServer, settings: Settings) -> None:
    url = source_server.put_script("/api", lambda _seen: Reply({"data": page(1), "total": len(RECORDS)}))

    draft, tree = await drafted(url, settings)

    assert "57" in draft.missing[0]
    assert "NOT FOUND: how pages follow one another" in draft.text()
    assert "paginator" not in tree["resources"][0]["endpoint"]


async def test_the_number_of_questions_is_bounded(source_server: SourceServer, settings: Settings) -> None:
    def enticing(seen: Seen) -> Reply:
        names = ("next_cursor", "next_token", "bookmark", "scroll_id", "after", "next_page_token", "continuation")
        return Reply({"data": page(1), **{name: f"{name}-{len(seen.query)}" for name in names}, "has_more": True})

    draft, _ = await drafted(source_server.put_script("/api", enticing), settings)

    assert draft.requests == len(source_server.requests("/api")) == 12
    assert draft.missing


async def test_validators_limits_and_cursors_are_told(source_server: SourceServer, settings: Settings) -> None:
    records = [{"id": at, "updated_at": f"2026-01-{at:02}T00:00:00Z", "state": None} for at in range(1, 10)]
    headers = {"ETag": '"1"', "X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "59", "X-RateLimit-Reset": "40"}
    url = source_server.put_script(
        "/api/v2/orders", lambda _seen: Reply({"data": records, "total": 9}, headers=headers)
    )

    draft, tree = await drafted(url, settings)

    assert tree["rate_limit"] == {"requests": 60, "per": "PT1M"}
    assert tree["client"]["base_url"] == f"{source_server.url}/api/v2"
    assert (tree["name"], tree["resources"][0]["mapping"]) == ("orders", {"updated_at": "updated_at"})
    assert "it answers 304 while nothing changes" in draft.text()
    assert "could be a cursor: updated_at, in 100% of the records, ascending" in draft.text()


async def test_a_credential_is_sent_and_never_written(source_server: SourceServer, settings: Settings) -> None:
    def guarded(seen: Seen) -> Reply:
        sent = (seen.headers.get("Authorization"), seen.headers.get("X-Team-Token"), seen.query.get("api_key"))
        return Reply(RECORDS) if sent == ("Bearer s3cr3t", "t3am", None) else Reply({"error": sent}, status=401)

    url = source_server.put_script("/things", guarded)

    draft, tree = await drafted(url, settings, headers=["Authorization: Bearer s3cr3t", "X-Team-Token: t3am"])

    assert tree["client"]["auth"] == {"type": "bearer", "token": "{secrets.THINGS_TOKEN}"}
    assert tree["client"]["headers"] == {"X-Team-Token": "{secrets.THINGS_X_TEAM_TOKEN}"}
    assert "s3cr3t" not in draft.text()
    assert "t3am" not in draft.text()
    assert "s3cr3t" not in repr(draft)


async def test_a_key_in_the_url_is_a_credential_too(source_server: SourceServer, settings: Settings) -> None:
    url = source_server.put_script(
        "/things", lambda seen: Reply(RECORDS if seen.query.get("api_key") == "k3y" else {}, status=200)
    )

    draft, tree = await drafted(f"{url}?api_key=k3y&kind=a%7Bb", settings)

    auth = {"type": "api_key", "name": "api_key", "api_key": "{secrets.THINGS_API_KEY}", "location": "query"}
    assert tree["client"]["auth"] == auth
    assert tree["resources"][0]["endpoint"]["params"] == {"kind": "a{{b"}
    assert "k3y" not in draft.text()


async def test_nothing_private_is_allowed_but_the_host_that_was_named(
    source_server: SourceServer, settings: Settings
) -> None:
    other = source_server.url.replace("127.0.0.1", "localhost")
    url = source_server.put_script(
        "/moved", lambda _seen: Reply({}, status=302, headers={"Location": f"{other}/secret"})
    )
    source_server.put_script("/secret", whole)

    with pytest.raises(SourceError, match="not a public address"):
        await draft_source(url, settings)

    assert source_server.requests("/secret") == []


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"<!doctype html><html>", "text/html", "is a page of HTML"),
        (b"", "application/json", "empty body"),
        (b"\x89PNG\r\n", "image/png", "image/png is neither JSON, CSV"),
        (b'{"data": [', "application/json", "not valid JSON"),
        (b"null", "application/json", "neither a list nor an object; it begins 'null'"),
        (b"Dear all,\nthis is a text, and no table.\nSo, well, it is.\n", "text/plain", "no fields in common"),
    ],
)
async def test_what_is_no_source_is_said_to_be_none(
    body: bytes, content_type: str, said: str, source_server: SourceServer, settings: Settings
) -> None:
    with pytest.raises(SourceError, match=said):
        await draft_source(source_server.put("/x", body, content_type=content_type), settings)


DIALECTS: dict[str, tuple[bytes, dict[str, Any], dict[str, Any]]] = {
    "comma": (b"id,name,price\n1,a,1.5\n2,b,2.5\n", {}, {"name": "name", "value": "price"}),
    "tab": (b"id\tname\tprice\n1\ta\t1.5\n2\tb\t2.5\n", {"delimiter": "\t"}, {"name": "name", "value": "price"}),
    "pipe": (b"id|name|price\n1|a|1.5\n2|b|2.5\n", {"delimiter": "|"}, {"name": "name", "value": "price"}),
    "semicolon": (
        "id;Bezeichnung;Preis;Stand\n1;Öl;1.234,50;02.01.2026\n2;Säge;2,50;14.01.2026\n".encode("windows-1252"),
        {"delimiter": ";", "encoding": "cp1252"},
        {
            "name": "Bezeichnung",
            "value": {"path": "Preis", "decimal": ",", "thousands": "."},
            "updated_at": {"path": "Stand", "type": "date", "format": "%d.%m.%Y"},
        },
    ),
    "preamble": (
        b"Report of today\n\nid,name,amount\n1,a,3\n2,b,n/a\n",
        {"skip_rows_before_header": 1},  # the blank line is no record anyway
        {"name": "name", "value": {"path": "amount", "null_values": ["n/a"]}},
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_a_csv_file_of_any_dialect_loads_as_it_was_drafted(
    dialect: str, packed: bool, source_server: SourceServer, settings: Settings, files: SourceFiles
) -> None:
    body, said, mapping = DIALECTS[dialect]
    name = "/prices.csv.gz" if packed else "/prices.csv"
    url = source_server.put(name, gzip.compress(body) if packed else body)
    draft, tree = await drafted(url, settings, name="s")
    files.write(draft.text())

    report = await files.run()

    resource = tree["resources"][0]
    assert resource.get("format", {}) == said
    assert resource["mapping"] == mapping
    assert resource["primary_key"] == "id"
    assert (report.status, report.counts.inserted, report.counts.rejected) == ("succeeded", 2, 0)
    assert draft.requests == 1


async def test_a_repeated_id_is_no_key_and_is_told(source_server: SourceServer, settings: Settings) -> None:
    url = source_server.put("/stock.csv", b"id,warehouse,amount\n1,a,5\n1,b,6\n2,a,7\n2,b,7\n")

    draft, tree = await drafted(url, settings)

    assert tree["resources"][0]["primary_key"] == ["id", "warehouse"]
    assert "id is no key: repeated in 2 of 4 records" in draft.text()


async def test_times_without_an_offset_are_not_guessed(source_server: SourceServer, settings: Settings) -> None:
    url = source_server.put("/stock.csv", b"id,created\n1,2026-01-01 10:00\n2,2026-01-02 10:00\n")

    draft, tree = await drafted(url, settings)

    assert "mapping" not in tree["resources"][0]
    assert "created (by its name) is not mapped: its times have no offset" in draft.text()


async def test_a_feed_is_known_by_its_root(source_server: SourceServer, settings: Settings) -> None:
    atom = b'<?xml version="1.0"?>\n<!-- made by hand -->\n<feed xmlns="http://www.w3.org/2005/Atom"></feed>'
    url = source_server.put("/history.atom", atom, content_type="text/xml")

    _, tree = await drafted(url, settings)

    assert (tree["type"], tree["name"]) == ("rss", "history")
    assert tree["resources"][0]["feed"] == {"url": url}
    assert tree["resources"][0]["mapping"]["created_at"] == {"coalesce": ["published", "updated"], "type": "datetime"}


async def test_the_command_writes_checks_and_says_what_is_next(source_server: SourceServer, tmp_path: Path) -> None:
    url = source_server.put_script("/v1/books", by_page)
    path = tmp_path / "sources" / "books.toml"

    code, output = await run("sources", "init", url)
    again, refused = await run("sources", "init", url)
    forced, _ = await run("sources", "init", url, "--force")

    assert (code, forced) == (0, 0), output
    assert "books: ok, 10 records on the first page, more may follow" in output
    assert output.rstrip().endswith("next:\n  etl run books")
    assert (again, "is there already" in refused) == (2, True)
    assert [file.name for file in path.parent.iterdir()] == ["books.toml"]


async def test_a_path_that_was_typed_is_read_and_then_asked_for(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "stock.csv").write_text("id,name\n1,a\n2,b\n")

    code, output = await run("sources", "init", "export/stock.csv")

    assert (code, "stock: ok, 2 records" in output) == (0, True), output
    assert output.rstrip().endswith(f"next:\n  export FILE_ROOTS={tmp_path / 'export'}\n  etl run stock")


async def test_the_command_fails_as_others_do(source_server: SourceServer, tmp_path: Path) -> None:
    source_server.put_script("/none", lambda _seen: Reply({}, status=404))
    source_server.put_script("/empty", lambda _seen: Reply({"data": []}))
    (tmp_path / "local.csv").write_text("colour,size\nred,1\nred,1\n")

    missing, said = await run("sources", "init", f"{source_server.url}/none")
    unusable, told = await run("sources", "init", "local.csv", "--output", "local.toml")
    wrong, _ = await run("sources", "init", "ftp://example.com/x")
    empty, shown = await run("sources", "init", f"{source_server.url}/empty", "--output", "empty.toml")

    assert (missing, "HTTP 404" in said) == (1, True)
    assert not (tmp_path / "sources").exists()
    assert (unusable, "not found: a primary key" in told) == (2, True)
    assert "edit local.toml" in told
    assert wrong == 2
    assert (empty, "the first answer has no record" in shown, "edit empty.toml" in shown) == (2, True, True)
