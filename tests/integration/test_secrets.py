"""Secrets of source files, planted wherever one can stand: none comes out in logs, runs, checkpoints or errors."""

import base64
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import asyncpg
import pytest

from app.errors import ConfigError
from app.observability.logs import configure_logs
from app.records import RunReport
from app.resources import Resources
from tests.source_files import SourceFiles, resource
from tests.source_server import Fault, Reply, Seen, SourceServer

SECRET = "s3cr/et&Pl+nted="
LITERAL = "L1teralPlanted"
"""Where a file can hold no reference: in a URL."""
FORMS = {SECRET, quote(SECRET, safe=""), quote_plus(SECRET), LITERAL} | {
    base64.b64encode(text.encode()).decode() for text in (SECRET, f"user:{SECRET}", f"id:{SECRET}")
}
RECORDS = [{"id": n, "title": f"t{n}"} for n in range(1, 10)]
CURSOR = 'paginator = { type = "cursor", cursor_path = "next", cursor_param = "after" }'
AUTHS = {
    "none": "",
    "bearer": 'auth = { type = "bearer", token = "{secrets.KEY}" }',
    "header": 'auth = { type = "api_key", name = "X-Odd", api_key = "{secrets.KEY}" }',
    "query": 'auth = { type = "api_key", name = "odd", api_key = "{secrets.KEY}", location = "query" }',
    "basic": 'auth = { type = "http_basic", username = "user", password = "{secrets.KEY}" }',
    "hmac": 'auth = { type = "hmac", secret = "{secrets.KEY}" }',
    "headers": 'headers = { X-Odd = "key={secrets.KEY}" }',
    "oauth2 body": 'auth = { type = "oauth2_client_credentials", access_token_url = "URL/token", client_id = "id", '
    'client_secret = "{secrets.KEY}" }',
    "oauth2 basic": 'auth = { type = "oauth2_client_credentials", access_token_url = "URL/token", client_id = "id", '
    'client_secret = "{secrets.KEY}", client_auth = "basic" }',
    "oauth2 refresh": 'auth = { type = "oauth2_refresh_token", access_token_url = "URL/token", client_id = "id", '
    'refresh_token = "{secrets.KEY}" }',
}


@dataclass
class Plot:
    """A source with a planted secret, and everything that was written anywhere."""

    sources: SourceFiles
    server: SourceServer
    sql: asyncpg.Connection
    read_output: Callable[[], str]
    said: str = ""

    async def run(self, client: str, endpoint: str = CURSOR, *, path: str = "things", name: str = "s") -> RunReport:
        self.sources.rest(resource(endpoint, path=path), client=client.replace("URL", self.server.url), name=name)
        report = await self.sources.run(name)
        self.said += str(report)
        return report

    async def leaks(self) -> list[str]:
        rows = await self.sql.fetch("SELECT r::text FROM etl_runs r UNION ALL SELECT c::text FROM etl_checkpoint c")
        lines = [*self.read_output().splitlines(), *(row[0] for row in rows), self.said]
        found = [line for line in lines if any(form in line for form in FORMS)]
        assert len(lines) > 5
        return found


@pytest.fixture
def plot(
    resources: Resources,
    tmp_path: Path,
    source_server: SourceServer,
    sql: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Plot]:
    handlers, level = logging.root.handlers, logging.root.level
    monkeypatch.setenv("ETL_SECRET_KEY", SECRET)
    # Not capsys: its stderr was found closed once an async test logged to it
    logged = io.StringIO()
    monkeypatch.setattr(sys, "stderr", logged)
    configure_logs(level="debug", style="json")
    logging.root.setLevel(logging.DEBUG)
    # The server of the test, not the service
    monkeypatch.setattr(logging.getLogger("aiohttp.access"), "disabled", True)
    source_server.put_script("/things", paged)
    source_server.put_json("/token", lambda _: {"access_token": "granted", "token_type": "Bearer"})
    sources = SourceFiles(resources, tmp_path / "sources", source_server.url)
    yield Plot(sources, source_server, sql, logged.getvalue)
    logging.root.handlers = handlers
    logging.root.setLevel(level)


def paged(seen: Seen) -> Reply:
    begin = int(seen.query.get("after", 0))
    return Reply({"items": RECORDS[begin : begin + 3], "next": begin + 3 if begin < 6 else None})


def echoing(seen: Seen) -> Reply:
    """A link that holds the request's own query, as Django REST framework's does."""
    begin = int(seen.query.get("from", 0))
    query = "&".join([*(f"{k}={quote(v, safe='')}" for k, v in seen.pairs if k != "from"), f"from={begin + 3}"])
    return Reply({"items": RECORDS[begin : begin + 3], "next": f"/things?{query}" if begin < 6 else None})


@pytest.mark.parametrize("auth", AUTHS)
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([], id="success"),
        pytest.param([Fault(status=401)] * 2, id="401"),
        pytest.param([Fault(), *[Fault(status=500)] * 2], id="500 on page 2"),
        pytest.param([Fault(status=429, headers={"Retry-After": "9000"})], id="429"),
        pytest.param([Fault(cut_after=5)] * 2, id="cut"),
        pytest.param([Fault(status=200, body=b"\xff{")], id="not UTF-8"),
        pytest.param([Fault(status=200, body=b"<html>login</html>", content_type="text/html")], id="html"),
        pytest.param([Fault(status=302, headers={"Location": "/things?after=3"})], id="redirect"),
        pytest.param([Fault(status=302, headers={"Location": "ftp://x/"})], id="redirect to ftp"),
        pytest.param([Fault(status=307, headers={"Location": "http://localhost:1/x"})] * 2, id="redirect to nobody"),
        pytest.param([Fault(status=302, headers={"Location": "/things"})] * 9, id="redirects for ever"),
        pytest.param([Fault(status=200, headers={"Link": "<http://[/>; rel=next"}, body=b"[]")], id="broken link"),
    ],
)
async def test_no_secret_leaves_a_run(plot: Plot, auth: str, faults: list[Fault]) -> None:
    plot.server.fault("/things", *faults)

    report = await plot.run(AUTHS[auth])

    assert report.status in {"succeeded", "partial", "failed"}
    assert await plot.leaks() == []


@pytest.mark.parametrize("auth", AUTHS)
async def test_no_secret_is_told_when_nobody_answers(plot: Plot, auth: str) -> None:
    report = await plot.run(f'base_url = "http://127.0.0.1:1/"\n{AUTHS[auth]}')

    assert report.status == "failed"
    assert await plot.leaks() == []


@pytest.mark.parametrize("auth", ["oauth2 body", "oauth2 basic", "oauth2 refresh"])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=400, body=json.dumps({"error": SECRET}).encode()), id="secret as error code"),
        pytest.param(Fault(status=401, body=SECRET.encode()), id="secret as body"),
        pytest.param(Fault(status=500, body=SECRET.encode()), id="500"),
        pytest.param(Fault(status=200, body=b"{"), id="no JSON"),
        pytest.param(Fault(status=302, headers={"Location": f"http://x/?k={quote(SECRET, safe='')}"}), id="redirect"),
    ],
)
async def test_no_secret_is_told_when_no_token_is_given(plot: Plot, auth: str, fault: Fault) -> None:
    plot.server.fault("/token", fault, fault)

    report = await plot.run(AUTHS[auth])

    assert report.status == "failed"
    assert await plot.leaks() == []


@pytest.mark.parametrize("auth", ["bearer", "query", "headers"])
@pytest.mark.parametrize(
    "status",
    [
        pytest.param(200),
        400,
        401,
        500,
    ],
)
async def test_a_server_that_repeats_the_secret_is_not_quoted(plot: Plot, auth: str, status: int) -> None:
    says = Fault(status=status, body=f"bad key {SECRET}".encode(), headers={"X-Echo": SECRET})
    plot.server.fault("/things", says, says)

    report = await plot.run(AUTHS[auth])

    assert report.status == "failed"
    assert await plot.leaks() == []


async def test_a_link_that_repeats_the_secret_is_not_kept(plot: Plot) -> None:
    plot.server.put_script("/things", echoing)
    plot.server.fault("/things", Fault(), *[Fault(status=500)] * 2)

    report = await plot.run(AUTHS["query"], 'paginator = { type = "json_link" }')

    assert report.status == "partial"
    assert await plot.leaks() == []


async def test_a_redirect_does_not_carry_the_secret_to_another_origin(plot: Plot, resources: Resources) -> None:
    async with SourceServer() as other:
        other.put_json("/elsewhere", lambda _: RECORDS)
        for name, auth in (("a", "bearer"), ("b", "header"), ("c", "query"), ("d", "headers"), ("e", "basic")):
            plot.server.fault("/things", Fault(status=307, headers={"Location": f"{other.url}/elsewhere"}))
            report = await plot.run(AUTHS[auth], name=name)
            assert report.status == "succeeded"

        assert len(other.seen) == 5
        told = [seen for seen in other.seen if any(form in str((seen.headers, seen.pairs)) for form in FORMS)]
        assert told == []
    assert await plot.leaks() == []


@pytest.mark.parametrize("fault", [None, Fault(status=401), Fault(status=500), Fault(status=200, body=b"<html>")])
@pytest.mark.parametrize("name", ["api_key", "access_token"])
async def test_a_literal_in_a_query_is_masked_in_what_is_told(plot: Plot, name: str, fault: Fault | None) -> None:
    if fault is not None:
        plot.server.fault("/things", fault, fault)

    await plot.run("", path=f"things?{name}={LITERAL}")

    assert await plot.leaks() == []


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        (f"things?api_key={LITERAL}", CURSOR),
        (f"things?odd={LITERAL}", CURSOR),
        ("things", f'params = {{ odd = "{LITERAL}" }}\n{CURSOR}'),
        ("things", f'partitions = [{{ odd = "{LITERAL}" }}]\n{CURSOR}'),
        ("things", f'method = "POST"\njson = {{ a = {{ odd = "{LITERAL}" }} }}\n{CURSOR}'),
        ("things", f'method = "POST"\ndata = {{ odd = "{LITERAL}" }}\n{CURSOR}'),
    ],
)
async def test_a_literal_of_a_request_is_not_kept_in_a_checkpoint(plot: Plot, path: str, endpoint: str) -> None:
    plot.server.fault("/things", Fault(), *[Fault(status=500)] * 2)

    report = await plot.run("", endpoint, path=path)

    assert report.status == "partial"
    assert await plot.sql.fetchval("SELECT page_token FROM etl_checkpoint WHERE source = 's'")
    assert await plot.leaks() == []


async def test_a_pass_goes_on_with_the_literal_that_its_checkpoint_does_not_hold(plot: Plot) -> None:
    plot.server.put_script("/things", echoing)
    plot.server.fault("/things", Fault(), *[Fault(status=500)] * 2)
    link = 'paginator = { type = "json_link" }'
    await plot.run("", link, path=f"things?odd={LITERAL}")

    report = await plot.run("", link, path=f"things?odd={LITERAL}")

    assert report.status == "succeeded"
    assert [seen.query.get("odd") for seen in plot.server.seen] == [LITERAL] * 5
    assert await plot.sql.fetchval("SELECT count(*) FROM normalized_data") == 9
    assert await plot.leaks() == []


@pytest.mark.parametrize("where", ["base_url", "path", "redirect", "link"])
async def test_a_password_in_a_url_is_refused_and_not_told(plot: Plot, where: str) -> None:
    url = plot.server.url.replace("://", f"://user:{LITERAL}@") + "/things"
    if where == "redirect":
        plot.server.fault("/things", Fault(status=302, headers={"Location": url}))
    elif where == "link":
        plot.server.put_json("/things", lambda _: {"items": RECORDS, "next": url + "?from=3"})

    report = await plot.run(
        f'base_url = "{url}"' if where == "base_url" else "",
        'paginator = { type = "json_link" }' if where == "link" else CURSOR,
        path={"path": url, "base_url": ""}.get(where, "things"),
    )

    assert report.status in {"failed", "partial"}
    assert await plot.leaks() == []


@pytest.mark.parametrize("fault", [None, Fault(status=401), Fault(status=500), Fault(cut_after=3)])
async def test_a_file_s_url_keeps_its_secrets(plot: Plot, fault: Fault | None) -> None:
    plot.server.put("/rows.csv", b"id,name\n1,a\n2,b\n")
    if fault is not None:
        plot.server.fault("/rows.csv", fault, fault)
    plot.sources.write(
        f"""
name = "s"
type = "csv"
retry = {{ max_attempts = 2, backoff_factor = 0.01 }}
client = {{ allow_private_networks = true, {AUTHS["basic"]} }}
[[resources]]
name = "rows"
file = {{ url = "{plot.server.url}/rows.csv?sig={LITERAL}&X-Amz-Signature={LITERAL}" }}
"""
    )

    plot.said = str(await plot.sources.run())

    assert await plot.leaks() == []


def test_no_fault_of_a_file_quotes_the_secret_it_holds(resources: Resources, tmp_path: Path) -> None:
    sources = SourceFiles(resources, tmp_path / "sources", "http://x")
    holders = [
        f'auth = {{ type = "bearer", token = "{LITERAL}" }}',
        f'auth = {{ type = "api_key", name = "k", api_key = "{LITERAL}", location = "{LITERAL}" }}',
        f'auth = {{ type = "http_basic", username = "u", password = "{LITERAL}" }}',
        f'auth = {{ type = "hmac", secret = "{LITERAL}" }}',
        f'base_url = "ftp://user:{LITERAL}@x/"',
        f'timeout = "{LITERAL}"',
    ]
    for n, holder in enumerate(holders):
        sources.rest(resource(), client=holder, name=f"s{n}")

    with pytest.raises(ConfigError, match="literal") as caught:
        sources.catalog().demand_right()

    assert LITERAL not in str(caught.value)
    assert all(f"s{n}.toml" in str(caught.value) for n in range(len(holders)))
