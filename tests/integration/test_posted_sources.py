"""`POST /sources/check` and `/sources/preview`: a tree that is no file yet, and what it may not do."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from app.errors import SourceUnavailableError
from app.main import create_app
from app.operations import posted
from app.settings import load_settings
from app.sources.catalog import open_catalog
from app.sources.posted import read_posted
from tests.source_server import Fault, SourceServer

HEADERS = {"Authorization": "Bearer operate"}
CRM = """
name = "crm"
type = "rest_api"
resources = [{{ name = "contacts", primary_key = "id", endpoint = {{ path = "contacts" }} }}]
[client]
base_url = "{url}"
allow_private_networks = true
auth = {{ type = "bearer", token = "{{secrets.CRM}}" }}
"""


@pytest.fixture
async def app(dsn: str, source_server: SourceServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FastAPI]:
    """A service with one source of its own, `crm`, which asks the server with a secret."""
    monkeypatch.setenv("ETL_SECRET_CRM", "s3cret")
    monkeypatch.setenv("ETL_SECRET_OTHER", "0ther")
    Path("sources").mkdir()
    Path("sources/crm.toml").write_text(CRM.format(url=source_server.url))
    app = create_app(
        load_settings(DATABASE_URL=dsn, BUILT_IN_SOURCES="none", OPERATOR_TOKEN="operate", READ_TOKEN="look")
    )
    source_server.put_json("/contacts", lambda _: [{"id": 1}])
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://etl", headers=HEADERS) as client:
        yield client


def tree(url: str, *, path: str = "books", **client: Any) -> dict[str, Any]:
    return {
        "name": "library",
        "type": "rest_api",
        "client": {"base_url": url, "allow_private_networks": True, **client},
        "resource_defaults": {"primary_key": "id"},
        "resources": [
            {"name": "books", "endpoint": {"path": path}, "mapping": {"name": "title", "value": "price"}},
        ],
    }


def books(_query: dict[str, str]) -> Any:
    return [{"id": 1, "title": "A", "price": "n/a"}, {"title": "no key"}]


async def test_a_posted_tree_is_looked_at_and_nothing_of_it_stays(
    client: httpx2.AsyncClient, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_json("/books", books)
    given = tree(source_server.url)
    given["rate_limit"] = {"requests": 100, "bucket": "shared"}

    (report,) = (await client.post("/sources/check", json=given)).json()
    first, second = (await client.post("/sources/preview?rows=2", json=given)).json()

    assert (report["name"], report["ok"], report["records"]) == ("library", True, 2)
    assert report["rejected"] == {"missing_key": 1}
    assert (first["source"], first["row"]["name"], first["notes"][0]["given"]) == ("library", "A", "n/a")
    assert (second["becomes"], second["rejection"]["code"]) == ("rejected", "missing_key")
    assert {item["name"] for item in (await client.get("/sources")).json()} == {"crm"}
    assert [path.name for path in Path("sources").iterdir()] == ["crm.toml"]
    assert not await sql.fetch("SELECT source FROM etl_checkpoint WHERE source <> 'crm'")
    assert not await sql.fetch("SELECT source FROM etl_runs WHERE source <> 'crm'")
    assert not await sql.fetch("SELECT source FROM raw_api_data WHERE source <> 'crm'")


@pytest.mark.parametrize(("token", "status"), [("operate", 200), ("look", 403), ("wrong", 401)])
@pytest.mark.parametrize("verb", ["check", "preview"])
async def test_only_the_operator_may_post_a_tree(
    client: httpx2.AsyncClient, source_server: SourceServer, verb: str, token: str, status: int
) -> None:
    source_server.put_json("/books", books)

    answer = await client.post(
        f"/sources/{verb}", json=tree(source_server.url), headers={"Authorization": f"Bearer {token}"}
    )

    assert answer.status_code == status, answer.text
    assert bool(source_server.requests("/books")) == (status == 200)


async def test_a_child_is_asked_for_with_its_parents_first_record(
    client: httpx2.AsyncClient, source_server: SourceServer
) -> None:
    source_server.put_json("/books", books)
    source_server.put_json("/books/1/notes", lambda _: [{"id": 7}])
    given = tree(source_server.url)
    given["resources"].append({"name": "notes", "endpoint": {"path": "books/{resources.books.id}/notes"}})

    reports = (await client.post("/sources/check", json=given)).json()

    assert [(report["name"], report["records"]) for report in reports] == [("library.books", 2), ("library.notes", 1)]


@pytest.mark.parametrize(
    ("changed", "where", "fault"),
    [
        ({"url_base": "https://x.example"}, "url_base", "here client.base_url"),
        ({"resources": []}, "resources", "at least 1"),
        (
            {"client": {"base_url": "https://x.example", "auth": {"type": "bearer", "token": "clear"}}},
            "client.auth.token",
            "holds a literal",
        ),
        ({"resource_defaults": "id"}, "resource_defaults", "expected a table"),
        ({"description": None}, "description", "is null"),
        ({"description": "a\0b"}, "description", "NUL"),
        ({"enabled": False}, "enabled", "nothing to look at"),
    ],
)
async def test_a_fault_names_its_key(
    client: httpx2.AsyncClient, source_server: SourceServer, changed: dict[str, Any], where: str, fault: str
) -> None:
    answer = await client.post("/sources/check", json=tree("https://api.example.com") | changed)

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [item["where"] for item in answer.json()["errors"]] == [where]
    assert fault in answer.json()["errors"][0]["fault"]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 422, "not the JSON of a source"),
        (b"[1]", 422, "expected an object"),
        (b"\xff{}", 422, "not the JSON of a source"),
        (b'{"name": "a", "name": "b"}', 422, "stands there twice"),
        (b'{"name": NaN}', 422, "NaN is no number"),
        (b'{"name": ' + b"9" * 5000 + b"}", 422, "not the JSON of a source"),
        (b'{"description": "\\ud800"}', 422, "half a surrogate pair"),
        (b'{"\\ud800": 1}', 422, "half a surrogate pair"),
        (b'{"a":' * 60 + b"1" + b"}" * 60, 422, "nested more than 32 deep"),
        (b"[" * 100_000, 422, "not the JSON of a source"),
        (b"[" * 100_000 + b"]" * 100_000, 422, "not the JSON of a source"),
        (json.dumps({"description": "x" * 300_000}).encode(), 413, "at most 262144 bytes"),
    ],
)
async def test_what_is_no_tree_is_told(client: httpx2.AsyncClient, body: bytes, status: int, detail: str) -> None:
    answer = await client.post("/sources/preview", content=body)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert detail in answer.json()["detail"]


async def test_a_secret_goes_only_where_a_source_sends_it_already(
    app: FastAPI, client: httpx2.AsyncClient, source_server: SourceServer
) -> None:
    # A source whose address cannot be told vouches for no other such address
    odd = CRM.format(url=source_server.url).replace('"crm"', '"odd"')
    Path("sources/odd.toml").write_text(odd.replace('path = "contacts"', 'path = "a:b"'))
    app.state.resources.catalog = open_catalog(app.state.resources.settings)
    source_server.put("/books", b'[{"id": 1, "title": "you sent s3cret"}]')
    auth = {"type": "bearer", "token": "{secrets.CRM}"}

    lent = await client.post("/sources/preview", json=tree(source_server.url, auth=auth))
    (asked,) = source_server.requests("/books")

    assert asked.headers["Authorization"] == "Bearer s3cret"
    assert lent.json()[0]["row"]["name"] == "you sent ***"
    assert "s3cret" not in lent.text
    async with SourceServer() as elsewhere:
        for url, path in (
            (elsewhere.url, "books"),
            (source_server.url, f"{elsewhere.url}/books"),
            (source_server.url, f"ht{{resources.other.x}}tp{elsewhere.url.removeprefix('http')}/books"),
            (source_server.url.replace("127.0.0.1", "localhost"), "books"),
        ):
            given = tree(url, path=path, auth=auth)
            if "resources." in path:
                given["resources"].append({"name": "other", "endpoint": {"path": "contacts"}})
            answer = await client.post("/sources/check", json=given)
            assert answer.status_code == 422, answer.text
        assert elsewhere.seen == []
    assert len(source_server.requests("/books")) == 1


@pytest.mark.parametrize(
    "client_keys",
    [
        {"headers": {"X-Key": "{secrets.OTHER}"}},
        {"headers": {"X-Key": "{secrets.NOT_THERE}"}},
        {"auth": {"type": "api_key", "name": "X-Key", "api_key": "{secrets.OTHER}"}},
        {"auth": {"type": "http_basic", "username": "{secrets.OTHER}", "password": "{secrets.CRM}"}},
        {
            "auth": {
                "type": "oauth2_client_credentials",
                "access_token_url": "https://x.example/token",
                "client_id": "me",
                "client_secret": "{secrets.CRM}",
            }
        },
    ],
)
async def test_a_secret_that_no_source_sends_there_is_refused_whether_it_exists_or_not(
    client: httpx2.AsyncClient, source_server: SourceServer, client_keys: dict[str, Any]
) -> None:
    answer = await client.post("/sources/check", json=tree(source_server.url, **client_keys))

    assert answer.status_code == 422
    assert "goes only to an address to which a source of this service sends it already" in answer.json()["detail"]
    assert source_server.requests("/books") == []


async def test_a_refresh_token_is_not_used_up_by_a_look(
    client: httpx2.AsyncClient, source_server: SourceServer
) -> None:
    auth = {
        "type": "oauth2_refresh_token",
        "access_token_url": source_server.url + "/token",
        "client_id": "me",
        "refresh_token": "{secrets.CRM}",
    }

    answer = await client.post("/sources/check", json=tree(source_server.url, auth=auth))

    assert answer.status_code == 422
    assert [item["where"] for item in answer.json()["errors"]] == ["client.auth.type"]
    assert source_server.requests("/token") == []


async def test_a_private_address_is_asked_only_where_a_source_may(
    client: httpx2.AsyncClient, source_server: SourceServer
) -> None:
    async with SourceServer() as elsewhere:
        elsewhere.put_json("/books", books)
        refused = await client.post("/sources/preview", json=tree(elsewhere.url))
        without = tree(elsewhere.url)
        without["client"]["allow_private_networks"] = False
        unreachable = await client.post("/sources/preview", json=without)
        assert elsewhere.seen == []

    assert refused.status_code == 422
    assert [item["where"] for item in refused.json()["errors"]] == ["client.allow_private_networks"]
    assert unreachable.status_code == 502
    assert "not a public address" in unreachable.json()["detail"]


async def test_a_redirect_leads_to_no_other_private_host(
    client: httpx2.AsyncClient, source_server: SourceServer
) -> None:
    source_server.put_json("/admin", books)
    target = source_server.url.replace("127.0.0.1", "localhost") + "/admin"
    source_server.fault("/books", Fault(status=302, headers={"Location": target}))

    answer = await client.post("/sources/preview", json=tree(source_server.url))

    assert answer.status_code == 502, answer.text
    assert "not a public address" in answer.json()["detail"]
    assert source_server.requests("/admin") == []


def of_file(url: str) -> dict[str, Any]:
    return {"name": "list", "type": "csv", "resources": [{"name": "rows", "primary_key": "id", "file": {"url": url}}]}


@pytest.mark.parametrize(
    "url",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "../outside.csv",
        "link.csv",
        "~root/x.csv",
        "~nobody-of-that-name/x.csv",
    ],
)
async def test_a_file_elsewhere_is_not_read(client: httpx2.AsyncClient, url: str) -> None:
    Path("outside.csv").write_text("id,name\n1,secret\n")
    Path("sources/link.csv").symlink_to(Path("outside.csv").absolute())

    answer = await client.post("/sources/preview", json=of_file(url))

    assert answer.status_code == 422, answer.text
    assert [item["where"] for item in answer.json()["errors"]] == ["rows.file.url"]


async def test_a_file_is_read_where_the_source_file_would_be(client: httpx2.AsyncClient) -> None:
    Path("sources/list.csv").write_text("id,name\n1,A\n")

    (row,) = (await client.post("/sources/preview", json=of_file("list.csv"))).json()

    assert (row["source"], row["source_id"], row["raw"], row["becomes"]) == ("list", "1", "1,A", "loaded")


async def test_a_look_ends_whatever_patience_the_tree_asks_for(app: FastAPI, source_server: SourceServer) -> None:
    given = tree(source_server.url, timeout={"read": 3600, "total": 3600})
    resources = app.state.resources
    specs = read_posted(json.dumps(given).encode(), catalog=resources.catalog, settings=resources.settings)
    source_server.fault("/books", Fault(hang=True))

    with pytest.raises(SourceUnavailableError, match=r"did not answer within 0\.3 s"):
        await posted.check(specs, resources.settings, seconds=0.3)
