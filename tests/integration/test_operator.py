"""What only the operator may do over HTTP, and what a stored token gives away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx2
import pytest

from app.db.engine import Database
from app.db.tokens import StoredToken
from app.main import create_app
from app.settings import load_settings
from tests.source_server import SourceServer

TOKEN = "a-long-random-text"
LIBRARY = """
name = "library"
type = "rest_api"
client = {{ base_url = "{url}", allow_private_networks = true }}
[[resources]]
name = "books"
primary_key = "id"
endpoint = {{ path = "books" }}
mapping = {{ name = "title", value = "price" }}
"""


@asynccontextmanager
async def service(dsn: str, server: SourceServer, token: str | None) -> AsyncIterator[httpx2.AsyncClient]:
    Path("sources").mkdir()
    Path("sources/library.toml").write_text(LIBRARY.format(url=server.url))
    server.put("/books", b'[{"id": 1, "title": "A", "price": "n/a"}, {"title": "no key"}]')
    server.put("/posts", b"[]")
    app = create_app(load_settings(DATABASE_URL=dsn, API_HOST=server.url, OPERATOR_TOKEN=token))
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.mark.parametrize(
    ("configured", "sent", "status"),
    [
        (None, None, 403),
        (None, TOKEN, 403),
        (TOKEN, None, 401),
        (TOKEN, "wrong", 401),
        (TOKEN, "wr\xf6ng", 401),
        (TOKEN, TOKEN, 200),
    ],
)
async def test_only_the_operator_may_look_at_a_source(
    dsn: str, source_server: SourceServer, configured: str | None, sent: str | None, status: int
) -> None:
    async with service(dsn, source_server, configured) as client:
        headers: dict[bytes, bytes] = {} if sent is None else {b"Authorization": f"Bearer {sent}".encode("latin-1")}
        for method, path in (("POST", "check"), ("POST", "preview"), ("GET", "config")):
            answer = await client.request(method, f"/sources/library/{path}", headers=headers)
            assert answer.status_code == status, answer.text
            if status != 200:
                assert answer.headers["content-type"] == "application/problem+json"
        assert ("www-authenticate" in answer.headers) == (status == 401)


async def test_check_and_preview_say_what_would_become_of_the_records(
    dsn: str, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with service(dsn, source_server, TOKEN) as client:
        listed = (await client.get("/sources")).json()
        check = (await client.post("/sources/library/check", headers=headers)).json()[0]
        first, second = (await client.post("/sources/library/preview", headers=headers)).json()
        unknown = await client.post("/sources/nobody/check", headers=headers)
        schema = (await client.get("/sources/schema")).json()
        (config,) = (await client.get("/sources/library/config?resolved=true", headers=headers)).json()

    assert {"library", "api", "csv"} == {item["name"] for item in listed}
    assert (check["ok"], check["records"], check["coerced"], check["rejected"]) == (True, 2, 1, {"missing_key": 1})
    assert check["found"]["data_selector"] == "[]"
    assert (first["row"]["name"], first["row"]["value"], first["notes"][0]["given"]) == ("A", None, "n/a")
    assert (second["becomes"], second["rejection"]["code"]) == ("rejected", "missing_key")
    assert unknown.status_code == 404
    assert config["client"]["allow_private_networks"] == {"value": True, "origin": "file"}
    assert config["client"]["conditional_requests"] == {"value": True, "origin": "default"}
    assert schema["$schema"].startswith("https://json-schema.org/")


async def test_a_stored_token_is_read_with_its_own_secrets_only(database: Database, sql: asyncpg.Connection) -> None:
    mine = StoredToken(database, "crm", key_material="client\nfirst")
    assert await mine.load() is None

    await mine.save("rotated-1")
    await mine.save("rotated-2")

    assert await mine.load() == "rotated-2"
    assert await StoredToken(database, "crm", key_material="client\nother").load() is None
    assert await StoredToken(database, "erp", key_material="client\nfirst").load() is None
    assert b"rotated" not in await sql.fetchval("SELECT secret FROM etl_checkpoint WHERE kind = 'auth'")
