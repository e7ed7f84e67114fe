"""A replay is killed with real signals, shown by the command line, and started over HTTP."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.processes import run, serving, start
from tests.source_server import SourceServer

ROWS = 60_000
CSV = b"id,name,price\n" + b"".join(b'%d,"row\n%d",%d.25\n' % (n, n, n) for n in range(ROWS))
OPERATOR = {"Authorization": "Bearer operate"}
WRONG = """
SELECT count(*) FROM etl_runs
WHERE extracted <> inserted + updated + unchanged + filtered + duplicate + rejected + deleted + outdated
"""


@pytest.fixture
def environment(dsn: str, source_server: SourceServer, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "sources").mkdir()
    source_server.put("/items.csv", b"id\n1\n")
    source_server.put("/posts", b"[]", content_type="application/json")
    return {
        "DATABASE_URL": dsn,
        "SOURCES_DIR": str(tmp_path / "sources"),
        "API_HOST": source_server.url,
        "CSV_URL": f"{source_server.url}/items.csv",
        "OPERATOR_TOKEN": "operate",
    }


def describe(environment: dict[str, str], server: SourceServer, value: str = "") -> None:
    Path(environment["SOURCES_DIR"], "s.toml").write_text(
        'name = "s"\ntype = "csv"\nclient = { allow_private_networks = true }\n'
        f'[[resources]]\nname = "rows"\nfile = {{ url = "{server.url}/f.csv" }}\nmapping = {{ name = "name"{value} }}\n'
    )


async def kill_when(sql: asyncpg.Connection, condition: str, *command: str, **environment: str) -> None:
    """SIGKILL a command as soon as a query finds something."""
    process = await start(sys.executable, "-m", "app", *command, **environment)
    async with asyncio.timeout(30):
        while not await sql.fetchval(condition):
            assert process.returncode is None
            await asyncio.sleep(0.002)
    process.kill()
    await process.communicate()


async def test_a_run_and_a_replay_that_are_killed_go_on_and_nothing_is_lost(
    environment: dict[str, str], source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put("/f.csv", CSV, etag='"1"')
    describe(environment, source_server)
    begun = "SELECT batch_seq > 1 FROM etl_checkpoint WHERE kind = 'cursor'"
    await kill_when(sql, begun, "run", "s", **environment)
    # The header is there with the first rows, though the run was never closed
    assert json.loads(await sql.fetchval("SELECT input FROM etl_runs"))["header"] == ["id", "name", "price"]
    assert (await run("run", "s", **environment))[0] == 0
    requests = len(source_server.requests("/f.csv"))
    raw = await sql.fetchval("SELECT md5(string_agg(r.payload, '|' ORDER BY id)) FROM raw_csv_data AS r")

    describe(environment, source_server, ', value = "price"')
    await kill_when(sql, "SELECT count(*) FROM etl_checkpoint WHERE kind = 'replay'", "replay", "s", **environment)
    half = await sql.fetchval("SELECT count(value) FROM normalized_data")
    code, output = await run("run", "s", "--json", **environment)

    assert code == 0
    assert 0 < half < ROWS
    assert json.loads(output[output.index('{"tick_id') :])["runs"][0]["outcome"] == "not_modified"
    assert len(source_server.requests("/f.csv")) == requests + 1
    statuses = await sql.fetch("SELECT trigger, status, extracted FROM etl_runs ORDER BY id")
    assert [tuple(row) for row in statuses][2:] == [
        ("replay", "crashed", half),
        ("replay", "succeeded", ROWS - half),
        ("command", "succeeded", 0),
    ]
    assert "and the same replay does the rest" in await sql.fetchval("SELECT error_message FROM etl_runs WHERE id = 3")
    assert await sql.fetchval("SELECT count(*) FROM normalized_data WHERE value = source_id::float + 0.25") == ROWS
    assert await sql.fetchval(WRONG) == 0
    assert await sql.fetchval("SELECT md5(string_agg(r.payload, '|' ORDER BY id)) FROM raw_csv_data AS r") == raw


async def test_the_command_line_previews_and_replays(
    environment: dict[str, str], source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put("/f.csv", b"id,name,price\n1,a,1.5\n2,b,2.5\n3,too,many,cells\n")
    describe(environment, source_server)
    await run("run", "s", **environment)
    describe(environment, source_server, ', value = "price"')

    shown = await run("replay", "s", "--dry-run", "--source-id", "2", "--source-id", "1", **environment)
    as_json = await run("replay", "s", "--dry-run", "--json", **environment)
    done = await run("replay", "s", **environment)
    described = json.loads(as_json[1][as_json[1].index('{"s"') :])["s"]

    assert shown[0] == 0
    assert "s: 2 raw rows: 2 changed\n  changed 1 (raw row" in shown[1]
    assert "    value: null → 1.5" in shown[1]
    assert (described["rows"], described["changed"], described["unchanged"]) == (3, 2, 1)
    assert described["samples"]["unchanged"][0]["before"]["rejection"]["code"] == "ragged_row"
    assert (done[0], "s: 3 raw rows: 1 unchanged, 2 changed\n  run 2: succeeded in" in done[1]) == (0, True)
    assert await sql.fetchval("SELECT sum(value) FROM normalized_data") == 4
    describe(environment, source_server, ', value = "cost"')
    codes = [
        (await run(*arguments, **environment))[0]
        for arguments in (
            ("replay", "s"),
            ("replay", "s", "--dry-run"),
            ("replay", "nothing"),
            ("replay", "s", "--since", "x"),
            ("rejects", "nothing"),
            ("runs", "list", "--source", "nothing"),
        )
    ]
    assert codes == [2] * 6
    runs = await sql.fetchval("SELECT count(*) FROM etl_runs")
    code, told = await run("replay", "s", "--fingerprint", "0123456789ab", **environment)
    assert (code, "s: nothing is rejected for reason 0123456789ab" in told) == (2, True)
    assert await sql.fetchval("SELECT count(*) FROM etl_runs") == runs
    assert await run("lineage", "s", "9", "--json", **environment) == (1, "s has no row 9\nnull\n")


async def test_a_replay_is_previewed_and_started_over_http(
    environment: dict[str, str], source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    import httpx2

    source_server.put("/f.csv", b"id,name,price\n1,a,1.5\n2,b,2.5\n")
    describe(environment, source_server)
    await run("run", "s", **environment)
    describe(environment, source_server, ', value = "price"')
    # Its scheduler would replay by itself
    await sql.execute("UPDATE etl_checkpoint SET lease_expires_at = now() + interval '1 hour', holder = 'another:1:77'")
    await sql.execute("SELECT pg_advisory_lock(77)")

    async with serving("serve", **environment) as service, httpx2.AsyncClient(base_url=service.url) as client:

        async def post(query: str, headers: dict[str, str] = OPERATOR, name: str = "s") -> Any:
            return await client.post(f"/sources/{name}/replay{query}", headers=headers)

        refused = [(await post("", headers={})).status_code, (await post("", name="nothing")).status_code]
        wrong = [(await post(query)).status_code for query in ("?since=x", "?run=0", "?source_id=%00")]
        preview = (await post("?dry_run=true&source_id=2&source_id=3")).json()
        locked = await post("")
        await sql.execute("UPDATE etl_checkpoint SET lease_expires_at = NULL, holder = NULL")
        started = await post("")
        async with asyncio.timeout(15):
            while (run_now := (await client.get(started.headers["Location"])).json())["status"] == "running":
                await asyncio.sleep(0.02)

    assert (refused, wrong) == ([401, 404], [422, 422, 422])
    assert [(one["source"], one["rows"], one["changed"]) for one in preview] == [("s", 1, 1)]
    assert preview[0]["samples"]["changed"][0]["after"]["value"] == 2.5
    assert (locked.status_code, locked.json()["running"]) == (409, {"s": None})
    assert started.status_code == 202
    assert (run_now["trigger"], run_now["status"], run_now["updated"]) == ("replay", "succeeded", 2)
