"""One source file is broken by an edit: the others, and everything that needs no file, go on."""

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest

from tests.processes import run, serving
from tests.source_server import SourceServer

BROKEN = 'name = "t"\ntype = "csv"\n[[resources]\n'


def describe(folder: Path, name: str, url: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.toml").write_text(
        f'name = "{name}"\ntype = "csv"\nclient = {{ allow_private_networks = true }}\n'
        f'[[resources]]\nname = "rows"\nfile = {{ url = "{url}/{name}.csv" }}\nmapping = {{ value = "value" }}\n'
    )


@pytest.fixture
async def environment(dsn: str, source_server: SourceServer, tmp_path: Path) -> dict[str, str]:
    """Two sources were run; then the file of one was broken."""
    folder = tmp_path / "sources"
    environment = {"DATABASE_URL": dsn, "SOURCES_DIR": str(folder), "BUILT_IN_SOURCES": "none"}
    for name in ("s", "t"):
        source_server.put(f"/{name}.csv", b"id,value\n1,1\n2,2,2\n")
        describe(folder, name, source_server.url)
    assert (await run("run", **environment))[0] == 0
    (folder / "t.toml").write_text(BROKEN)
    return environment


async def test_a_run_of_all_runs_the_others_and_says_that_a_file_is_wrong(environment: dict[str, str]) -> None:
    code, output = await run("run", "--json", **environment)
    named, told = await run("run", "s", **environment)
    refused, reason = await run("run", "t", **environment)

    result = json.loads(output[output.index('{"tick_id') :])
    assert (code, [one["source"] for one in result["runs"]]) == (2, ["s"])
    assert list(result["wrong_files"]) == [str(Path(environment["SOURCES_DIR"], "t.toml"))]
    assert (named, '"event":"source_file_wrong"' in told.replace(": ", ":")) == (0, True)
    assert (refused, "t.toml: not valid TOML" in reason) == (2, True)


async def test_what_needs_no_file_works_and_names_the_wrong_one(
    environment: dict[str, str], sql: asyncpg.Connection
) -> None:
    done = {
        words: await run(*words.split(), **environment)
        for words in ("runs list", "runs list --source t", "rejects", "rejects t", "lineage t 1", "checkpoint show s")
    }

    assert {words: code for words, (code, _) in done.items()} == dict.fromkeys(done, 0)
    assert all("t.toml: not valid TOML" in output for _, output in done.values())
    assert await sql.fetchval("SELECT count(*) FROM normalized_data WHERE source = 't' AND deleted_at IS NULL") == 1


async def test_sources_list_and_check_show_it_with_its_error(environment: dict[str, str]) -> None:
    listed, shown = await run("sources", "list", **environment)
    checked, report = await run("sources", "check", "--json", **environment)
    alone, _ = await run("sources", "check", "s", **environment)

    assert (listed, "t  wrong     " in shown, "t.toml: not valid TOML" in shown) == (0, True, True)
    assert (checked, alone) == (2, 0)
    found = json.loads(report[report.index('[{"name') :])
    assert [(one["name"], one["ok"], one["error_class"]) for one in found] == [
        ("s", True, None),
        ("t", False, "config_error"),
    ]


async def test_the_service_runs_the_others_and_is_degraded(
    environment: dict[str, str], sql: asyncpg.Connection
) -> None:
    async with serving("serve", **environment) as service:
        async with asyncio.timeout(30):
            while await sql.fetchval("SELECT count(*) FROM etl_runs WHERE status = 'succeeded'") < 3:
                await asyncio.sleep(0.05)
        health = await service.get("/health")
        sources = await service.get("/sources")
        rows = await service.get("/data?source=t")

    assert (health["status"], [one["name"] for one in health["wrong_files"]]) == ("degraded", ["t"])
    assert "t.toml: not valid TOML" in health["wrong_files"][0]["reason"]
    assert [(one["name"], one["error"] is None) for one in sources] == [("s", True), ("t", False)]
    assert sources[1]["last_success_at"] is not None
    assert rows["total"] == 1


async def test_a_proof_of_every_source_is_refused(environment: dict[str, str]) -> None:
    code, output = await run("prove", **environment)

    assert (code, "t.toml: not valid TOML" in output) == (2, True)
