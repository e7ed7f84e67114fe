"""
The house rules: who may import whom, which door faces out, and how large a room may grow.

A failing line names file, line and import. Change the rule here, in the same
commit as its reason, or change the import.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app"

# From the cellar up. A module may import from its own room and from the storeys
# below; rooms that share a storey do not import one another.
STOREYS = (
    {"clock"},
    {"errors", "steps"},
    {"records", "settings", "faults"},
    {"sources", "db", "observability", "embedded"},
    {"extract", "land", "normalize", "load", "watch"},
    {"pipeline"},
    {"resources", "plan"},
    {"scheduler"},
    {"operations", "demo"},
    {"api", "web", "cli"},
    {"main"},
    {"__main__"},
)
STOREY_OF = {room: level for level, rooms in enumerate(STOREYS) for room in rooms}

# The only rooms that may touch each outside world.
DOORS = {
    "sqlalchemy": {"db"},
    "asyncpg": {"db"},
    "alembic": {"db"},
    "aiohttp": {"extract"},
    "aiofiles": {"extract"},
    "anyio": {"extract"},
    "fastapi": {"api", "web", "main"},
    "starlette": {"api", "web", "main"},
    "uvicorn": {"cli"},
    "typer": {"cli"},
    "rich": {"cli"},
    "subprocess": {"embedded"},
    "testcontainers": set[str](),
    "tests": set[str](),
}

MAX_FILE_LINES = 320
MAX_FUNCTION_LINES = 60


def room_of(path: Path) -> str:
    """The first name below `app/`; the whole `app` is the room of its own `__init__`."""
    return path.parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "." * node.level + (node.module or "")
        elif isinstance(node, ast.ImportFrom) and node.module == "app":
            yield from ((node.lineno, f"app.{name.name}") for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def complaints(path: Path, source: str) -> Iterator[str]:
    """
    What a file does against the rules.

    Args:
        path: below `app/`.
    """
    room = room_of(path)
    tree = ast.parse(source)
    if room == "__init__":
        yield from (f"app/{path}:{line}: app/__init__.py imports nothing" for line, _ in imported(tree))
        return
    if room not in STOREY_OF:
        yield f"app/{path}:1: give {room} a storey first"
        return
    for line, name in imported(tree):
        yield from (f"app/{path}:{line}: {fault}" for fault in import_faults(room, name))
    for node in ast.walk(tree):
        if is_environment(node) and room != "settings":
            yield f"app/{path}:{node.lineno}: the environment is read in settings"  # type: ignore[attr-defined]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (size := body_lines(node)) > MAX_FUNCTION_LINES:
            yield f"app/{path}:{node.lineno}: {node.name} has {size} lines; look for the sentence inside"
    if (size := source.count("\n")) > MAX_FILE_LINES:
        yield f"app/{path}:1: {size} lines; split it"


def import_faults(room: str, name: str) -> Iterator[str]:
    head, _, rest = name.partition(".")
    if name.startswith("."):
        yield f"relative import {name}; write app.… in full"
    elif head == "app" and rest:
        other = rest.split(".")[0]
        # `from app import __version__` names no room
        if other != room and not other.startswith("__version") and STOREY_OF.get(other, 99) >= STOREY_OF[room]:
            yield f"{room} must not import {other}"
    elif room not in DOORS.get(head, {room}):
        yield f"{head} is not imported in {room}"


def is_environment(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr in {"environ", "environb", "getenv", "putenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    )


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    assert node.end_lineno is not None
    docstring = ast.get_docstring(node, clean=False)
    return node.end_lineno - node.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)


@pytest.mark.parametrize("path", sorted(APP.rglob("*.py")), ids=lambda path: str(path.relative_to(APP)))
def test_a_file_keeps_the_house_rules(path: Path) -> None:
    assert list(complaints(path.relative_to(APP), path.read_text())) == []


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("records.py", "import os\nfrom app.db import models\n", "app/records.py:2: records must not import db"),
        ("land.py", "from app.normalize.rows import Normalizer", "app/land.py:1: land must not import normalize"),
        ("api/data.py", "import app.cli.main", "app/api/data.py:1: api must not import cli"),
        ("pipeline/run.py", "from app import scheduler", "app/pipeline/run.py:1: pipeline must not import scheduler"),
        ("db/runs.py", "from app import embedded", "app/db/runs.py:1: db must not import embedded"),
        ("api/data.py", "def f():\n    import sqlalchemy.orm", "app/api/data.py:2: sqlalchemy is not imported in api"),
        ("load.py", "import asyncpg", "app/load.py:1: asyncpg is not imported in load"),
        ("scheduler.py", "from aiohttp import web", "app/scheduler.py:1: aiohttp is not imported in scheduler"),
        ("cli/serve.py", "from fastapi import FastAPI", "app/cli/serve.py:1: fastapi is not imported in cli"),
        ("demo/server.py", "import subprocess", "app/demo/server.py:1: subprocess is not imported in demo"),
        ("db/runs.py", "from . import models", "app/db/runs.py:1: relative import .; write app.… in full"),
        ("attic.py", "", "app/attic.py:1: give attic a storey first"),
        ("clock.py", "import os\nx = os.environ['A']", "app/clock.py:2: the environment is read in settings"),
        ("__init__.py", "import os", "app/__init__.py:1: app/__init__.py imports nothing"),
        ("clock.py", "\n" * 321, "app/clock.py:1: 321 lines; split it"),
        (
            "clock.py",
            "def f():\n" + "    x = 1\n" * 60,
            "app/clock.py:1: f has 61 lines; look for the sentence inside",
        ),
    ],
)
def test_a_broken_rule_is_caught(path: str, source: str, complaint: str) -> None:
    assert list(complaints(Path(path), source)) == [complaint]


def test_what_lies_below_may_be_imported() -> None:
    assert (
        list(complaints(Path("api/data.py"), "import fastapi\nfrom app.db import reads\nfrom app.api import deps"))
        == []
    )


def test_importing_the_service_does_nothing() -> None:
    """Settings that cannot be right are not even read."""
    script = "import app.main, app.__main__, app.cli, app.operations.run, threading; print(threading.active_count())"

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": "garbage", "PORT": "garbage"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_the_map_names_every_room() -> None:
    drawn = (APP / "__init__.py").read_text()

    rooms = {room_of(path.relative_to(APP)) for path in APP.rglob("*.py")} - {"__init__"}
    assert [room for room in rooms if room not in drawn] == []
