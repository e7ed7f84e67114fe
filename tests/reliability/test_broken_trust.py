"""What must not be trusted: a value that others share, and what a pass knew before the mapping changed."""

import json
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from app.db.invariants import ListedRecord, ListedSource, open_invariants
from tests.processes import run
from tests.proving import Change, broken_build
from tests.source_server import Reply, Seen, SourceServer

TIES_PASSED_BY: tuple[Change, ...] = (
    (
        "extract/increments.py",
        "if (end is not None and value >= end) or",
        "if (start is not None and value <= start) or (end is not None and value >= end) or",
    ),
)
SKIP_TRUSTED: tuple[Change, ...] = (
    (
        "pipeline/checkpoint.py",
        "    hashes = (stored.mapping_hash, stored.pass_mapping_hash)\n",
        "    return None\n    hashes = (stored.mapping_hash, stored.pass_mapping_hash)\n",
    ),
    (
        "pipeline/checkpoint.py",
        "    return checkpoint.mapping_hash not in {None, checkpoint.pass_mapping_hash}\n",
        "    return False\n",
    ),
)
Build = Callable[[tuple[Change, ...]], dict[str, str]]


@pytest.fixture
def build(dsn: str, tmp_path: Path) -> Build:
    """The settings of processes that run the source file `s`; with the code as it is, or with changes in it."""

    def settings(changes: tuple[Change, ...]) -> dict[str, str]:
        path = {"PYTHONPATH": broken_build(tmp_path / "broken", *changes)} if changes else {}
        return {"DATABASE_URL": dsn, "SOURCES_DIR": str(tmp_path), "BUILT_IN_SOURCES": "none", **path}

    return settings


@pytest.mark.long
@pytest.mark.parametrize(("changes", "lost"), [((), 0), (TIES_PASSED_BY, 1)], ids=["as it is", "broken"])
async def test_a_record_with_the_value_of_the_checkpoint_is_not_passed_by(
    changes: tuple[Change, ...], lost: int, build: Build, tmp_path: Path, source_server: SourceServer, dsn: str
) -> None:
    records = [{"id": n, "at": f"2025-01-0{n}T00:00:00Z"} for n in range(1, 6)]

    def since(seen: Seen) -> Reply:
        return Reply([one for one in records if str(one["at"]) >= seen.query.get("since", "")])

    url = source_server.put_script("/things", since)
    (tmp_path / "s.toml").write_text(f"""
name = "s"
type = "rest_api"
client = {{ base_url = "{url.removesuffix("/things")}", allow_private_networks = true }}
[[resources]]
name = "things"
primary_key = "id"
[resources.endpoint]
path = "things"
params = {{ since = "{{incremental.start_value}}" }}
incremental = {{ cursor_path = "at" }}
""")
    settings = build(changes)
    assert (await run("run", "s", **settings))[0] == 0
    records.append({"id": 6, "at": records[-1]["at"]})
    assert (await run("run", "s", **settings))[0] == 0

    listing = [ListedRecord("s", str(one["id"]), None, None) for one in records]
    sources = [ListedSource("s", False, False)]
    async with open_invariants(dsn, sources=sources, listing=listing) as invariants:
        violations = await invariants.violations(["I1 nothing lost"])

    assert sum(len(violation.keys) for violation in violations) == lost


@pytest.mark.long
@pytest.mark.parametrize(("changes", "stale"), [((), 0), (SKIP_TRUSTED, 3_000)], ids=["as it is", "broken"])
async def test_what_a_pass_knew_is_not_trusted_once_the_mapping_changed(
    changes: tuple[Change, ...],
    stale: int,
    build: Build,
    tmp_path: Path,
    source_server: SourceServer,
    sql: asyncpg.Connection,
) -> None:
    body = "id,first,second\n" + "".join(f"{n},a{n},b{n}\n" for n in range(3_000))
    url, settings = source_server.put("/rows.csv", body.encode()), build(changes)
    for name in ("first", "second"):
        (tmp_path / "s.toml").write_text(f"""
name = "s"
type = "csv"
client = {{ allow_private_networks = true }}
[[resources]]
name = "rows"
primary_key = "id"
file = {{ url = {json.dumps(url)} }}
mapping = {{ name = "{name}" }}
""")
        assert (await run("run", "s", **settings))[0] == 0

    assert await sql.fetchval("SELECT count(*) FROM normalized_data WHERE name LIKE 'a%'") == stale
