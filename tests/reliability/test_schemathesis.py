"""The API as its description says: Schemathesis with all its checks, against the service as a process."""

import asyncio
import re
import sys
from pathlib import Path

import httpx2
import pytest

from tests.processes import serving
from tests.source_server import SourceServer

CONFIGURATION = Path(__file__).parent / "schemathesis.toml"
CHANGED = re.compile(r"(\d+) generated, (\d+) passed")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("tokens", "sent", "examples", "phases", "seed"),
    [
        ({"OPERATOR_TOKEN": "operate"}, "operate", 1, "coverage", 1),
        *(
            pytest.param(tokens, sent, 50, "examples,coverage,fuzzing,stateful", seed, marks=pytest.mark.long)
            for seed in range(1, 6)
            for tokens, sent in (
                ({"OPERATOR_TOKEN": "operate"}, "operate"),
                ({"OPERATOR_TOKEN": "operate", "READ_TOKEN": "look"}, "look"),
                ({}, None),
            )
        ),
    ],
)
async def test_no_check_fails(
    *,
    tokens: dict[str, str],
    sent: str | None,
    examples: int,
    phases: str,
    seed: int,
    dsn: str,
    source_server: SourceServer,
    tmp_path: Path,
) -> None:
    environment = {
        "DATABASE_URL": dsn,
        "API_HOST": source_server.put_pages("/posts", [{"id": n, "title": f"post {n}"} for n in range(50)]),
        "CSV_URL": source_server.put("/items.csv", b"id,name,value\n1,one,1\n2,two,many\n"),
        **tokens,
    }
    async with serving("serve", **environment) as service:
        async with asyncio.timeout(30):
            while (await service.get("/health"))["etl_status"] != "success":
                await asyncio.sleep(0.1)
        # Where no token is configured none would help, and the answer is 403; one check knows only 401
        header = (
            ["--header", f"Authorization: Bearer {sent}"] if sent else ["--exclude-checks", "missing_required_header"]
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("--config-file", str(CONFIGURATION), "run", f"{service.url}/openapi.json", "--checks", "all"),
            *("--seed", str(seed), "--max-examples", str(examples), "--phases", phases, "--no-shrink"),
            *("--continue-on-failure", "--request-timeout", "30", *header),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
        )
        output = (await process.communicate())[0].decode()
        async with httpx2.AsyncClient() as client:
            described = (await client.get(f"{service.url}/openapi.json")).json()["paths"]

    assert process.returncode == 0, output
    told = CHANGED.search(output)
    assert told is not None, output
    assert int(told[1]) == int(told[2]) > 20 * len(described)
    print(f"seed {seed}, token {sent}: {told[0]}")
