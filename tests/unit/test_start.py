"""What a command does not wait for."""

import subprocess
import sys

import pytest
from typer.main import get_group

from app.cli.main import VERBS, cli, load_verb
from tests.processes import ROOT

HEAVY = ("sqlalchemy", "asyncpg", "aiohttp", "alembic", "fastapi", "uvicorn")


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--version"], 0), (["--help"], 0), (["--nothing"], 2), (["nothing"], 2)]
)
def test_what_needs_no_verb_loads_none(arguments: list[str], code: int) -> None:
    script = (
        "import sys; from app.__main__ import build_app, run_cli; "
        f"code = run_cli({arguments!r}, build_app=build_app); "
        f"print(code, [name for name in {HEAVY!r} if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == f"{code} []"


@pytest.mark.parametrize("name", VERBS)
def test_the_line_of_a_verb_is_the_first_of_its_own_help(name: str) -> None:
    line = get_group(cli).commands[name].get_short_help_str(1000)

    assert line == load_verb(name).get_short_help_str(1000)
