"""`/docs` comes from files that ship with us, and asks nobody else for anything."""

import hashlib
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import httpx2
import pytest
from fastapi import FastAPI

from app.api.docs import STATIC, mount_docs

OURS = {"VENDORED.md", "swagger-init.js"}


class Named(HTMLParser):
    """What a page names, and what it would run in line."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline_scripts = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.addresses += [
            value for name, value in attrs if name in {"src", "href", "data-openapi-url"} and value is not None
        ]
        self.inline_scripts += tag == "script" and "src" not in named


def application() -> FastAPI:
    app = FastAPI(title="Tea & <cake>", docs_url=None, redoc_url=None)
    mount_docs(app)
    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=application())
    async with httpx2.AsyncClient(transport=transport, base_url="http://etl") as client:
        yield client


async def test_the_page_and_every_file_it_names_come_from_the_service(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    addresses = Named(page.text).addresses

    answers = {address: (await client.get(address)).status_code for address in addresses}

    assert page.status_code == 200
    assert "/openapi.json" in addresses
    assert len(addresses) == 5
    assert set(answers.values()) == {200}


async def test_the_page_names_no_other_host(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")

    assert "//" not in page.text
    assert all(re.match("/[^/]", address) for address in Named(page.text).addresses)


async def test_the_policy_lets_the_page_load_only_from_its_own_host(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))

    assert policy["default-src"] == "'self'"
    assert policy["script-src"] == "'self'"
    assert policy["img-src"] == "'self' data:"
    assert Named(page.text).inline_scripts == 0


async def test_the_title_is_text_and_not_markup(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")

    assert "<title>Tea &amp; &lt;cake&gt; API</title>" in page.text


async def test_behind_a_prefix_every_address_carries_it() -> None:
    transport = httpx2.ASGITransport(app=application(), root_path="/etl")
    async with httpx2.AsyncClient(transport=transport, base_url="http://etl") as client:
        addresses = Named((await client.get("/etl/docs")).text).addresses
        answers = {address: (await client.get(address)).status_code for address in addresses}

    assert all(address.startswith("/etl/") for address in answers)
    assert set(answers.values()) == {200}


async def test_the_page_is_not_part_of_the_schema(client: httpx2.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()

    assert schema["paths"] == {}


def test_the_sums_in_vendored_md_are_those_of_the_files() -> None:
    sums = dict(re.findall(r"^\| (\S+) \| ([0-9a-f]{64}) \|$", (STATIC / "VENDORED.md").read_text(), re.MULTILINE))

    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in STATIC.iterdir()}

    assert sums == {name: digest for name, digest in files.items() if name not in OURS}


@pytest.mark.parametrize("file", ["swagger-ui-bundle.js", "swagger-ui.css"])
def test_no_vendored_file_asks_for_a_source_map(file: str) -> None:
    assert b"sourceMappingURL" not in (STATIC / file).read_bytes()


def test_the_style_sheet_loads_nothing_but_what_it_holds() -> None:
    style = (STATIC / "swagger-ui.css").read_text()

    assert {address[:5] for address in re.findall(r"url\([\"']?(.{5})", style)} == {"data:"}
    assert "@import" not in style


def test_the_schema_is_sent_to_no_validator() -> None:
    assert "validatorUrl: null" in (STATIC / "swagger-init.js").read_text()


@pytest.mark.parametrize("root", ["", "/etl"])
async def test_the_bare_address_leads_there(root: str) -> None:
    transport = httpx2.ASGITransport(app=application(), root_path=root)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get(f"{root}/")

    assert (answer.status_code, answer.headers["location"]) == (307, f"{root}/docs")
