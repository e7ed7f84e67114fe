"""The four worked examples of the format, run as written against servers that behave so: only the host differs."""

import base64
import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.resources import Resources
from tests.source_files import EXAMPLE_A, EXAMPLE_B, EXAMPLE_C, EXAMPLE_D, SourceFiles
from tests.source_server import Reply, Seen, SourceServer

LOCAL = "allow_private_networks = true\n"
ROWS = "SELECT source, count(*) FILTER (WHERE deleted_at IS NULL) FROM normalized_data GROUP BY 1 ORDER BY 1"


@pytest.fixture
def files(resources: Resources, source_server: SourceServer, tmp_path: Path) -> SourceFiles:
    return SourceFiles(resources, tmp_path / "sources", source_server.url)


def at(text: str, server: SourceServer, host: str) -> str:
    """The example, asking the server in place of the host it names."""
    assert host in text
    return text.replace(host, server.url).replace("[client]\n", f"[client]\n{LOCAL}", 1)


async def test_a_an_api_in_pages_whose_deletes_are_found_by_snapshot(
    files: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    posts = [{"id": n, "userId": n % 10, "title": f"post {n}", "body": "text"} for n in range(1, 101)]
    users = [
        {"id": n, "name": f"user {n}", "email": "e@x.org", "company": {"name": "C"}, "address": {"city": "Y"}}
        for n in range(1, 11)
    ]
    source_server.put_pages("/posts", posts, etags=True)
    source_server.put("/users", json.dumps(users).encode(), content_type="application/json", etag='"users"')
    files.write(at(EXAMPLE_A, source_server, "https://jsonplaceholder.typicode.com"), name="a")

    first = await files.run_all("jsonplaceholder")
    second = await files.run_all("jsonplaceholder")
    source_server.put_pages("/posts", [post for post in posts if post["id"] != 42], etags=True)
    missed = await files.run_all("jsonplaceholder")
    deleted = await files.run_all("jsonplaceholder")

    assert [tuple(row) for row in await sql.fetch(ROWS)] == [
        ("jsonplaceholder.posts", 99),
        ("jsonplaceholder.users", 10),
    ]
    assert {report.counts.inserted for report in first.values()} == {100, 10}
    assert {report.outcome for report in second.values()} == {"not_modified"}
    assert missed["jsonplaceholder.posts"].counts.vanished == 0
    assert deleted["jsonplaceholder.posts"].counts.vanished == 1
    assert all(report.status == "succeeded" for tick in (first, second, missed, deleted) for report in tick.values())
    described = "SELECT description FROM normalized_data WHERE source LIKE '%users' LIMIT 1"
    assert await sql.fetchval(described) == "e@x.org, C, Y"


async def test_b_an_incremental_api_behind_a_cursor_and_a_token(
    files: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    contacts: list[dict[str, Any]] = [
        {
            "id": n,
            "full_name": None if n % 3 else f"name {n}",
            "email": f"{n}@x.org",
            "lifetime_value": "N/A" if n % 7 == 0 else f"{n}.50",
            "created_at": "2024-01-01T00:00:00Z",
            "updated_at": (begin + timedelta(hours=n)).isoformat(),
            "is_deleted": False,
        }
        for n in range(350)
    ]

    def crm(seen: Seen) -> Reply:
        if seen.headers.get("Authorization") != "Bearer crm-secret":
            return Reply({"message": "who are you?"}, status=401)
        since = datetime.fromisoformat(seen.query["updated_since"])
        found = sorted(
            (one for one in contacts if datetime.fromisoformat(one["updated_at"]) >= since),
            key=lambda one: datetime.fromisoformat(one["updated_at"]),
        )
        start, limit = int(seen.query.get("cursor", 0)), int(seen.query["limit"])
        more = start + limit < len(found)
        meta = {"next_cursor": str(start + limit) if more else None, "has_more": more}
        return Reply({"data": found[start : start + limit], "meta": meta})

    source_server.put_script("/v2/contacts", crm)
    files.write(at(EXAMPLE_B, source_server, "https://api.example.com"), name="b")
    monkeypatch.setenv("ETL_SECRET_CRM_TOKEN", "crm-secret")

    first = await files.run("crm")
    contacts[7] |= {"full_name": "changed", "updated_at": (begin + timedelta(hours=400)).isoformat()}
    contacts[8] |= {"is_deleted": True, "updated_at": (begin + timedelta(hours=401)).isoformat()}
    second = await files.run("crm")

    assert (first.status, first.counts.inserted, first.traffic.requests) == ("succeeded", 350, 4)
    # 349 is read again: the start is inclusive
    assert (second.status, second.counts.extracted) == ("succeeded", 3)
    assert (second.counts.updated, second.counts.deleted, second.counts.unchanged) == (1, 1, 1)
    row = await sql.fetchrow("SELECT name, value FROM normalized_data WHERE source_id = '7'")
    assert tuple(row or ()) == ("changed", None)
    assert await sql.fetchval("SELECT count(*) FROM normalized_data WHERE deleted_at IS NULL") == 349


async def test_c_issues_and_the_comments_of_each(
    files: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    issues = [
        {
            "id": 1000 + n,
            "number": n,
            "title": f"issue {n}",
            "comments": 2,
            "body": None,
            "created_at": "2024-05-01T00:00:00Z",
            "updated_at": (datetime(2024, 5, 1, tzinfo=UTC) + timedelta(minutes=10 * n)).isoformat(),
        }
        for n in range(1, 151)
    ]

    def github(seen: Seen) -> Reply:
        assert seen.headers["X-GitHub-Api-Version"] == "2022-11-28"
        assert seen.headers["Authorization"] == "Bearer gh-secret"
        found = [one for one in issues if str(one["updated_at"]) >= seen.query["since"].replace("Z", "+00:00")]
        page, size = int(seen.query.get("page", 1)), int(seen.query["per_page"])
        rest = "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in seen.query.items() if name != "page")
        link = f'<{source_server.url}{seen.path}?{rest}&page={page + 1}>; rel="next"'
        headers = {"Link": link} if page * size < len(found) else {}
        return Reply(found[(page - 1) * size : page * size], headers=headers)

    def comments(seen: Seen) -> Reply:
        number = int(seen.path.split("/")[-2])
        moment = "2024-06-01T00:00:00Z"
        return Reply(
            [
                {
                    "id": number * 10 + k,
                    "user": {"login": f"u{k}"},
                    "body": "b",
                    "created_at": moment,
                    "updated_at": moment,
                }
                for k in (0, 1)
            ]
        )

    source_server.put_script("/repos/acme/widgets/issues", github)
    for n in range(1, 151):
        source_server.put_script(f"/repos/acme/widgets/issues/{n}/comments", comments)
    files.write(at(EXAMPLE_C, source_server, "https://api.github.com"), name="c")
    monkeypatch.setenv("ETL_SECRET_GITHUB_TOKEN", "gh-secret")

    first = await files.run_all("github")
    second = await files.run_all("github")

    assert [tuple(row) for row in await sql.fetch(ROWS)] == [("github.issue_comments", 300), ("github.issues", 150)]
    assert {report.status for report in first.values()} == {"succeeded"}
    assert second["github.issues"].counts.extracted == 1
    assert {report.counts.written for report in second.values()} == {0}


async def test_d_a_price_list_of_another_time_and_place(
    files: SourceFiles, source_server: SourceServer, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def price_list(numbers: range) -> bytes:
        lines = ["Preisliste", "Stand: gestern", "sku;warehouse;Bezeichnung;Beschreibung;Preis;Stand"]
        lines += [f'{n:05d};A;"Tür; {n}";;1.{n % 900 + 100},50;29.03.2026 14:30' for n in numbers]
        lines[7] = "zu;viele;Felder;in;dieser;Zeile;hier"
        return gzip.compress("\r\n".join([*lines, ""]).encode("cp1252"))

    body = b""

    def files_server(seen: Seen) -> Reply:
        expected = "Basic " + base64.b64encode(b"feed:feed-secret").decode()
        return Reply(body) if seen.headers.get("Authorization") == expected else Reply(b"", status=401)

    source_server.put_script("/export/prices.csv.gz", files_server)
    files.write(at(EXAMPLE_D, source_server, "https://files.example.com"), name="d")
    monkeypatch.setenv("ETL_SECRET_FEED_PASSWORD", "feed-secret")

    body = price_list(range(2000))
    first = await files.run("price_list")
    again = await files.run("price_list")
    body = price_list(range(900))
    dropped = await files.run("price_list")

    assert (first.status, first.counts.inserted, first.counts.rejected) == ("succeeded", 1999, 1)
    assert (again.counts.written, again.counts.unchanged) == (0, 1999)
    assert (dropped.status, dropped.counts.vanished) == ("suspect", 0)
    row = await sql.fetchrow("SELECT name, value, updated_at::text FROM normalized_data WHERE source_id = '00007:A'")
    assert tuple(row or ()) == ("Tür; 7", 1107.5, "2026-03-29 12:30:00+00")
