"""`etl prove` as a process, with the code as it is or broken on purpose."""

import asyncio
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.processes import ROOT, start

Change = tuple[str, str, str]
"""File below `app/`, what stands there once, and what shall stand there."""


def broken_build(folder: Path, *changes: Change) -> str:
    """A copy of the package with changes in it; what PYTHONPATH is to be."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("app", "migrations"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for path, before, after in changes:
        file = folder / "app" / path
        text = file.read_text()
        assert text.count(before) == 1, f"{path}: {before!r} stands there {text.count(before)} times"
        file.write_text(text.replace(before, after))
    return str(folder)


async def prove(*arguments: str, seconds: float = 110, **environment: str) -> tuple[int, Mapping[str, Any]]:
    """Exit code and certificate."""
    process = await start(sys.executable, "-m", "app", "prove", *arguments, "--json", **environment)
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode is not None
    lines = output.decode().splitlines()
    assert lines, "it said nothing"
    assert lines[-1].startswith("{"), output.decode()
    return process.returncode, json.loads(lines[-1])


def violated(certificate: Mapping[str, Any]) -> set[str]:
    """The invariants that did not hold, by their short names."""
    return {violation[0].split()[0] for _, violation in certificate["violations"]}
