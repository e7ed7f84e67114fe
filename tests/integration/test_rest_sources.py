"""REST source files: what the server is asked, how its pages are walked, what its answers mean."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.resources import Resources
from tests.source_files import SourceFiles, resource
from tests.source_server import Reply, Seen, SourceServer

RECORDS = [{"id": n, "title": f"t{n}"} for n in range(1, 8)]
SIZE = 3
Script = Callable[[Seen], Reply]
LATER = 'type = "cursor", cursor_path = "next", cursor_param = "after"'


@pytest.fixture
def sources(resources: Resources, tmp_path: Path, source_server: SourceServer) -> SourceFiles:
    return SourceFiles(resources, tmp_path / "sources", source_server.url)


async def keys_of(sql: asyncpg.Connection) -> list[str]:
    return [row[0] for row in await sql.fetch("SELECT source_id FROM normalized_data ORDER BY source, source_id")]


def part(begin: int) -> list[dict[str, Any]]:
    return RECORDS[begin : begin + SIZE]


def following(begin: int) -> str | None:
    return str(begin + SIZE) if begin + SIZE < len(RECORDS) else None


def everything(_: Seen) -> Reply:
    return Reply(RECORDS)


# Requests


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('json = { query = "{{ posts }}", deep = { n = [1, true] } }', "application/json"),
        ('data = { grant = "a b&c", n = 1, yes = true }', "application/x-www-form-urlencoded"),
    ],
)
async def test_a_post_carries_the_body_of_the_file(
    sources: SourceFiles, source_server: SourceServer, body: str, kind: str
) -> None:
    source_server.put_script("/things", everything)
    sources.rest(resource(f'method = "POST"\n{body}'))

    report = await sources.run()

    (seen,) = source_server.requests("/things")
    assert (report.status, seen.method, seen.headers["Content-Type"]) == ("succeeded", "POST", kind)
    if kind == "application/json":
        assert json.loads(seen.body) == {"query": "{ posts }", "deep": {"n": [1, True]}}
    else:
        assert seen.body == b"grant=a+b%26c&n=1&yes=true"


async def test_params_may_be_lists_and_any_scalar(sources: SourceFiles, source_server: SourceServer) -> None:
    source_server.put_script("/things", everything)
    sources.rest(resource('params = { tag = ["a b", "ü&"], n = 1, half = 0.5, yes = true, brace = "{{x}}" }'))

    await sources.run()

    assert source_server.seen[0].pairs == (
        ("tag", "a b"),
        ("tag", "ü&"),
        ("n", "1"),
        ("half", "0.5"),
        ("yes", "true"),
        ("brace", "{x}"),
    )


async def test_a_query_in_the_path_stands_beside_the_params(sources: SourceFiles, source_server: SourceServer) -> None:
    source_server.put_script("/v2/things", everything)
    sources.rest(resource("params = { b = 2 }", path="/things?a=1"), client=f'base_url = "{source_server.url}/v2/"')

    await sources.run()

    assert [(seen.path, seen.pairs) for seen in source_server.seen] == [("/v2/things", (("a", "1"), ("b", "2")))]


async def test_headers_hold_secrets_and_an_endpoints_own_win(
    sources: SourceFiles, source_server: SourceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_SECRET_TENANT", "blue")
    source_server.put_script("/things", everything)
    sources.rest(
        resource('headers = { X-Version = "2" }'),
        client='headers = { X-Tenant = "id={secrets.TENANT}", X-Version = "1" }',
    )

    await sources.run()

    headers = source_server.seen[0].headers
    assert (headers["X-Tenant"], headers["X-Version"]) == ("id=blue", "2")


@pytest.mark.parametrize("header", ["accept", "Accept"])
async def test_a_header_is_sent_once_however_it_is_spelled(
    sources: SourceFiles, source_server: SourceServer, header: str
) -> None:
    source_server.put_script("/things", everything)
    sources.rest(resource(), client=f'headers = {{ {header} = "application/vnd.x+json" }}')

    await sources.run()

    sent = [value for name, value in source_server.seen[0].header_pairs if name.lower() == "accept"]
    assert sent == ["application/vnd.x+json"]


@pytest.mark.parametrize(
    ("auth", "where", "value"),
    [
        ('type = "bearer", token = "{secrets.KEY}"', "Authorization", "Bearer s3cret"),
        ('type = "api_key", name = "X-Key", api_key = "{secrets.KEY}"', "X-Key", "s3cret"),
        ('type = "api_key", name = "k", api_key = "{secrets.KEY}", location = "cookie"', "Cookie", "k=s3cret"),
        pytest.param('type = "api_key", name = "k", api_key = "{secrets.KEY}", location = "query"', "?k", "s3cret"),
        ('type = "http_basic", username = "u", password = "{secrets.KEY}"', "Authorization", "Basic dTpzM2NyZXQ="),
    ],
)
async def test_every_page_carries_the_credentials_once(
    sources: SourceFiles,
    source_server: SourceServer,
    monkeypatch: pytest.MonkeyPatch,
    auth: str,
    where: str,
    value: str,
) -> None:
    def echoing(seen: Seen) -> Reply:
        begin = int(seen.query.get("from", 0))
        # As Django REST framework does: the request's own query comes back in the link
        query = "&".join([f"{k}={v}" for k, v in seen.pairs if k != "from"] + [f"from={begin + SIZE}"])
        return Reply({"results": part(begin), "next": f"/things?{query}" if following(begin) else None})

    monkeypatch.setenv("ETL_SECRET_KEY", "s3cret")
    source_server.put_script("/things", echoing)
    sources.rest(resource('paginator = { type = "json_link" }'), client=f"auth = {{ {auth} }}")

    report = await sources.run()

    assert (report.status, report.counts.extracted) == ("succeeded", 7)
    for seen in source_server.seen:
        sent = [v for k, v in (*seen.header_pairs, *((f"?{k}", v) for k, v in seen.pairs)) if k == where]
        assert sent == [value]


# Walks


def by_page(seen: Seen, *, first: int = 1) -> Reply:
    return Reply(part((int(seen.query["page"]) - first) * SIZE))


def by_offset(seen: Seen) -> Reply:
    return Reply({"items": RECORDS[int(seen.query["offset"]) :][: int(seen.query["limit"])], "total": 7})


def by_cursor(seen: Seen) -> Reply:
    begin = int(seen.query.get("after", 0))
    return Reply({"items": part(begin), "next": following(begin)})


def by_body_cursor(seen: Seen) -> Reply:
    begin = int(json.loads(seen.body).get("page", {}).get("after", 0))
    return Reply({"items": part(begin), "next": following(begin)})


def by_header_cursor(seen: Seen) -> Reply:
    begin = int(seen.query.get("cursor", 0))
    return Reply(part(begin), headers={"X-Next": following(begin) or ""})


def by_json_link(seen: Seen) -> Reply:
    begin = int(seen.query.get("from", 0))
    return Reply({"items": part(begin), "links": {"next": f"?from={begin + SIZE}" if following(begin) else None}})


def by_header_link(seen: Seen) -> Reply:
    begin = int(seen.query.get("from", 0))
    prev = '</things?from=0>; rel="prev"'
    link = f'{prev}, </things?from={begin + SIZE}>; rel="next"' if following(begin) else prev
    return Reply(part(begin), headers={"Link": link})


def by_key(seen: Seen) -> Reply:
    begin = int(seen.query.get("starting_after", 0))
    return Reply({"items": part(begin), "has_more": following(begin) is not None})


@pytest.mark.parametrize(
    ("script", "paginator"),
    [
        (everything, 'type = "single_page"'),
        (by_json_link, 'type = "auto"'),
        (by_header_link, 'type = "auto"'),
        (everything, 'type = "auto"'),
        (by_page, 'type = "page_number"'),
        (lambda seen: by_page(seen, first=0), 'type = "page_number", base_page = 0, limit_param = "n", limit = 3'),
        (by_page, 'type = "page_number", maximum_page = 3, stop_after_empty_page = false'),
        (by_offset, 'type = "offset", limit = 2'),
        (by_offset, 'type = "offset", limit = 3, total_path = "total"'),
        (by_cursor, LATER),
        (by_header_cursor, 'type = "header_cursor", cursor_key = "X-Next"'),
        (by_json_link, 'type = "json_link", next_url_path = "links.next"'),
        (by_header_link, 'type = "header_link"'),
        (by_key, 'type = "keyset"'),
        (by_key, 'type = "keyset", has_more_path = "has_more"'),
    ],
)
async def test_each_paginator_brings_exactly_the_servers_rows(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection, script: Script, paginator: str
) -> None:
    source_server.put_script("/things", script)
    sources.rest(resource(f"paginator = {{ {paginator} }}"))

    report = await sources.run()

    assert (report.status, report.error_message, report.counts.extracted) == ("succeeded", None, 7)
    assert await keys_of(sql) == [str(n) for n in range(1, 8)]


async def test_a_cursor_may_travel_in_the_body(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_script("/things", by_body_cursor)
    sources.rest(
        resource(
            'method = "POST"\njson = { q = "x", page = { size = 3 } }\n'
            'paginator = { type = "cursor", cursor_path = "next", cursor_body_path = "page.after" }'
        )
    )

    await sources.run()

    assert [json.loads(seen.body)["page"] for seen in source_server.seen] == [
        {"size": 3},
        {"size": 3, "after": "3"},
        {"size": 3, "after": "6"},
    ]
    assert len(await keys_of(sql)) == 7


def past_the_end(script: Script, *, status: int = 200, body: Any = None) -> Script:
    """What a script answers, and beyond its last page this."""

    def answer(seen: Seen) -> Reply:
        beyond = int(seen.query.get("page", 0)) > 3 or int(seen.query.get("offset", 0)) >= 7
        return Reply(body, status=status) if beyond else script(seen)

    return answer


@pytest.mark.parametrize(
    ("script", "paginator"),
    [
        pytest.param(past_the_end(by_page, body=part(6)), 'type = "page_number"', id="the last page for ever"),
        pytest.param(past_the_end(by_page, status=404), 'type = "page_number"', id="404"),
        pytest.param(past_the_end(by_offset, status=404), 'type = "offset", limit = 7', id="404 by offset"),
        pytest.param(everything, 'type = "page_number"', id="page number ignored"),
        pytest.param(
            everything, 'type = "page_number", limit = 3, limit_param = "n"', id="page number and size ignored"
        ),
        pytest.param(everything, 'type = "offset", limit = 7', id="offset ignored"),
        pytest.param(
            lambda seen: Reply({"at": seen.at, "items": part(min(int(seen.query["page"]) - 1, 2) * SIZE)}),
            'type = "page_number", max_pages = 20',
            id="the last page for ever, around it another time each time",
        ),
        pytest.param(
            lambda _: Reply(RECORDS, headers={"Link": ""}),
            'type = "page_number", follow_links = true',
            id="empty Link",
        ),
        pytest.param(lambda _: Reply(RECORDS, headers={"Link": ""}), 'type = "header_link"', id="empty Link alone"),
    ],
)
async def test_a_server_that_does_not_say_where_it_ends_is_read_once(
    sources: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection, script: Script, paginator: str
) -> None:
    source_server.put_script("/things", script)
    sources.rest(resource(f"paginator = {{ {paginator} }}"))

    report = await sources.run()

    assert (report.status, report.error_message, report.counts.extracted) == ("succeeded", None, 7)
    assert len(await keys_of(sql)) == 7
    assert len(source_server.seen) < 12


async def test_a_first_page_that_is_not_there_is_an_error(sources: SourceFiles, source_server: SourceServer) -> None:
    sources.rest(resource('paginator = { type = "page_number" }'))

    report = await sources.run()

    assert (report.status, report.error_class) == ("failed", "config_error")


@pytest.mark.parametrize(
    ("script", "paginator"),
    [
        pytest.param(
            lambda seen: Reply(
                {
                    "items": RECORDS[:2] if seen.query.get("after") == "a" else RECORDS[2:4],
                    "next": "b" if seen.query.get("after") == "a" else "a",
                }
            ),
            LATER,
            id="cursors a, b, a",
        ),
        pytest.param(lambda seen: Reply({"items": RECORDS, "next": str(seen.at)}), LATER, id="a new cursor each time"),
        pytest.param(
            lambda _: Reply({"items": RECORDS, "next": "/things"}), 'type = "json_link"', id="a link to itself"
        ),
        pytest.param(everything, 'type = "keyset"', id="starting_after ignored"),
        pytest.param(
            lambda _: Reply(RECORDS, headers={"X-Next": "same"}),
            'type = "header_cursor", cursor_key = "X-Next"',
            id="the same header cursor",
        ),
    ],
)
async def test_a_walk_in_a_circle_is_an_error_and_ends(
    sources: SourceFiles, source_server: SourceServer, script: Script, paginator: str
) -> None:
    source_server.put_script("/things", script)
    sources.rest(resource(f"paginator = {{ {paginator}, max_pages = 50 }}"))

    report = await sources.run()

    assert (report.status, report.error_class) == ("partial", "data_error")
    assert "max_pages" not in str(report.error_message)
    assert len(source_server.seen) <= 3


@pytest.mark.parametrize(
    "rel",
    [
        "rel=next",
        'title="a, b"; rel="next"',
        pytest.param('rel="next last"'),
        pytest.param('rel="Next"'),
        'REL="next"',
    ],
)
async def test_a_link_is_understood_however_it_is_written(
    sources: SourceFiles, source_server: SourceServer, rel: str
) -> None:
    def linked(seen: Seen) -> Reply:
        begin = int(seen.query.get("from", 0))
        return Reply(part(begin), headers={"Link": f"</things?from={begin + SIZE}>; {rel}"} if following(begin) else {})

    source_server.put_script("/things", linked)
    sources.rest(resource('paginator = { type = "header_link" }'))

    assert (await sources.run()).counts.extracted == 7
