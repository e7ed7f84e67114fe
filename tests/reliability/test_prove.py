"""The proof holds for the code as it is, and fails for code that is broken on purpose."""

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.processes import run, start
from tests.proving import Change, broken_build, prove, violated
from tests.source_server import SourceServer

ROWS = 12_000
CSV = b"id,name,value\n" + b"".join(b"%d,row %d,%d.25\n" % (n, n, n) for n in range(ROWS))

CHECKPOINT_FIRST: tuple[Change, ...] = (
    (
        "pipeline/run.py",
        "checkpoint = await places.move(\n                    session,",
        "checkpoint = await self._move_early(",
    ),
    (
        "pipeline/run.py",
        "    def _show_progress(self",
        """    async def _move_early(self, *given, **named):
        async with self._database.write() as session:
            return await places.move(session, *given, **named)

    def _show_progress(self""",
    ),
)
COUNTERS_FORGOTTEN: tuple[Change, ...] = (
    ("pipeline/run.py", "await runs.add_counts(session, run.run_id, counts)", "pass"),
)
VALIDATORS_EARLY: tuple[Change, ...] = (
    (
        "pipeline/checkpoint.py",
        "    if batch.after is None:\n",
        """    if not batch.last:
        from app.records import Validators
        return replace(checkpoint, cursor=Cursor(), validators={'': Validators(etag='"v1"')})
    if batch.after is None:
""",
    ),
)
A_RECORD_SKIPPED: tuple[Change, ...] = (
    (
        "land.py",
        "    begin = len(landed)\n",
        "    records = records.part(0, len(records) - 1)\n    begin = len(landed)\n",
    ),
)
RAW_LOSES_A_BYTE: tuple[Change, ...] = (
    (
        "db/raw_data.py",
        'if item.name != "notes"}\n',
        'if item.name != "notes"}\n    columns["payload"] = [t[:-1] for t in columns["payload"]]\n',
    ),
)
CUT_IS_TAKEN_FOR_THE_END: tuple[Change, ...] = (
    (
        "extract/http_body.py",
        '            with source_errors(self._url):\n                part = await anext(stream, b"")\n',
        """            try:
                part = await anext(stream, b"")
            except aiohttp.ClientPayloadError:
                return
""",
    ),
)
A_PAGE_AGAIN_IS_THE_END: tuple[Change, ...] = (
    ("extract/rest_api.py", 'and "next" in response.links', 'and "no" in response.links'),
)
PLAN = "http_500@page3; cut_body@page2; kill@after_commit:7; dup_page; reorder; seed=7"


@pytest.fixture
def environment(server_dsn: str, source_server: SourceServer) -> dict[str, Any]:
    posts = [{"id": n, "title": f"post {n}"} for n in range(1, 251)]
    return {
        "DATABASE_URL": server_dsn,
        "API_HOST": source_server.put_pages("/posts", posts).removesuffix("/posts"),
        "CSV_URL": source_server.put("/items.csv", CSV, etag='"v1"'),
        "HTTP_MAX_ATTEMPTS": "1",
    }


async def test_kills_at_the_edges_of_commits_lose_nothing(environment: dict[str, Any]) -> None:
    code, certificate = await prove("--kills", "2", "--seed", "3", **environment)

    assert code == 0, certificate
    assert certificate["result"] == "proven"
    assert certificate["records"] == certificate["rows"] == ROWS + 250
    assert [trial["exit_code"] for trial in certificate["trials"]] == [-9, -9]


async def test_a_kill_in_the_middle_of_an_answer_loses_nothing(environment: dict[str, Any]) -> None:
    code, certificate = await prove("api", "--at", "kill@asked:2", "--at", "kill@answered:2", **environment)

    assert code == 0, certificate
    assert [(trial["fault"], trial["exit_code"]) for trial in certificate["trials"]] == [
        ("kill@asked:2", -9),
        ("kill@answered:2", -9),
    ]
    assert certificate["asked_again"] in (1, 2), "the page that was killed, and what had not been committed before it"


async def test_a_checkpoint_committed_before_its_data_is_caught(environment: dict[str, Any], tmp_path: Path) -> None:
    build = broken_build(tmp_path / "broken", *CHECKPOINT_FIRST)

    # Of two commits, one after the other, one is the checkpoint's and one is its data's
    edges = ("--at", "kill@before_commit:10", "--at", "kill@before_commit:11")
    code, certificate = await prove("csv", *edges, PYTHONPATH=build, **environment)

    assert code == 1, certificate
    assert "I3" in violated(certificate)


@pytest.mark.long
async def test_counters_that_are_not_committed_are_caught(environment: dict[str, Any], tmp_path: Path) -> None:
    build = broken_build(tmp_path / "broken", *COUNTERS_FORGOTTEN)

    code, certificate = await prove("api", "--at", "kill@after_commit:5", PYTHONPATH=build, **environment)

    assert code == 1, certificate
    assert "I4" in violated(certificate)


@pytest.mark.long
async def test_keys_that_somebody_else_wrote_down_must_all_be_there(
    environment: dict[str, Any], tmp_path: Path
) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("".join(f"{n}\n" for n in range(1, 252)))

    code, certificate = await prove("api", "--at", "kill@before_commit:5", "--ids", str(ids), **environment)

    assert code == 1, certificate
    assert violated(certificate) == {"I1", "I3"}
    assert certificate["violations"][0][1][2] == ["api 251 is not here, and the checkpoint is past it"]


async def test_a_proof_needs_a_source_that_answers(environment: dict[str, Any]) -> None:
    code, certificate = await prove("api", **{**environment, "API_HOST": "http://127.0.0.1:1"})

    assert code == 3
    assert certificate["result"] == "inconclusive"
    assert "127.0.0.1" in certificate["reason"]


@pytest.mark.long
async def test_a_proof_that_is_stopped_says_what_it_found(environment: dict[str, Any]) -> None:
    process = await start(sys.executable, "-m", "app", "prove", "api", "--kills", "50", "--json", **environment)
    sql = await asyncpg.connect(environment["DATABASE_URL"])
    async with asyncio.timeout(100):
        while not await sql.fetchval("SELECT count(*) FROM pg_database WHERE datname LIKE 'etl_prove_%\\_3'"):
            await asyncio.sleep(0.1)
    await sql.close()
    process.send_signal(signal.SIGINT)
    output, _ = await process.communicate()

    certificate = json.loads(output.decode().splitlines()[-1])
    assert (process.returncode, certificate["result"]) == (3, "inconclusive")
    assert certificate["reason"].startswith(f"stopped after {len(certificate['trials'])} trials")
    assert len(certificate["trials"]) > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--at", "kill@lunch:1"], "names no fault"),
        (["nobody"], "unknown source"),
        (["--ids", "ids.txt"], "name one"),
    ],
)
async def test_a_wrong_order_is_refused(arguments: list[str], said: str, environment: dict[str, Any]) -> None:
    code, output = await run("prove", *arguments, **environment)

    assert code == 2
    assert said in output


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "source", "invariants"),
    [
        (VALIDATORS_EARLY, "csv", {"I1", "I3", "I8"}),
        (A_RECORD_SKIPPED, "csv", {"I1", "I3"}),
        (RAW_LOSES_A_BYTE, "csv", {"I2"}),
    ],
    ids=["validators early", "a record skipped", "raw loses a byte"],
)
async def test_a_broken_build_is_caught(
    changes: tuple[Change, ...], source: str, invariants: set[str], environment: dict[str, Any], tmp_path: Path
) -> None:
    build = broken_build(tmp_path / "broken", *changes)

    code, certificate = await prove(source, "--kills", "100", seconds=600, PYTHONPATH=build, **environment)

    assert code == 1, certificate
    assert violated(certificate) & invariants


async def test_a_plan_of_faults_on_both_sides_loses_nothing(environment: dict[str, Any]) -> None:
    code, certificate = await prove("api", "--plan", PLAN, **{**environment, "HTTP_MAX_ATTEMPTS": "3"})

    assert code == 0, certificate
    assert certificate["trials"][0]["not_reached"] == []
    assert certificate["trials"][0]["exit_code"] == -9
    assert (certificate["planned"], certificate["seed"]) == (5, 7)
    placed = r"http_500@page3; cut_body@page2; kill@after_commit:7; dup_page@page\d; reorder@page\d; seed=7"
    assert re.fullmatch(placed, certificate["plan"])
    assert certificate["pages"]["page2"] == f"GET {environment['API_HOST']}/posts?_page=2&_limit=100"
    assert certificate["healed"] == []


@pytest.mark.long
async def test_a_cut_body_that_is_taken_for_whole_is_caught(environment: dict[str, Any], tmp_path: Path) -> None:
    build = broken_build(tmp_path / "broken", *CUT_IS_TAKEN_FOR_THE_END)

    code, certificate = await prove("csv", "--at", "cut_body@page1", PYTHONPATH=build, **environment)

    assert code == 1, certificate
    assert {"I1", "I2"} & violated(certificate)


@pytest.mark.long
async def test_a_page_that_comes_again_and_is_taken_for_the_end_is_told(
    environment: dict[str, Any], tmp_path: Path
) -> None:
    build = broken_build(tmp_path / "broken", *A_PAGE_AGAIN_IS_THE_END)

    _, certificate = await prove("api", "--at", "dup_page@page2", PYTHONPATH=build, **environment)

    assert certificate["healed"][0] == "api 101 is nowhere"
