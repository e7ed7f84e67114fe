"""What the documents name exists and works; what exists is named."""

import ast
import re
from pathlib import Path

import asyncpg
import pytest

from app.cli import database
from app.cli.main import cli
from app.main import create_app
from app.records import Counts
from app.settings import load_settings, variables
from tests.conftest import Tick
from tests.processes import ROOT
from tests.source_server import SourceServer

README = (ROOT / "README.md").read_text()
LOGS = (ROOT / "docs" / "logs.md").read_text()
SCHEMA = (ROOT / "docs" / "schema.md").read_text()

SQL = [
    statement.strip()
    for block in re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
    for statement in re.sub(r"^--.*$", "", block, flags=re.MULTILINE).split(";")
    if statement.strip()
]


def test_the_readme_names_every_setting_and_no_other() -> None:
    table = README.split("## Configuration")[1].split("## Commands")[0]
    named = set(re.findall(r"`([A-Z][A-Z_]+[A-Z])`", table))

    assert named == set(variables())


def test_the_readme_names_every_command_and_no_other() -> None:
    names = {command.name for command in cli.registered_commands} | {group.name for group in cli.registered_groups}
    below = {("db", command.callback.__name__) for command in database.cli.registered_commands if command.callback}
    named = {tuple(words.split()) for words in re.findall(r"`etl ([a-z]+(?: (?:upgrade|downgrade|current))?)", README)}

    assert {name for name, *_ in named} == names
    assert below <= named


def test_the_readme_names_every_route_and_no_other() -> None:
    app = create_app(load_settings())
    table = README.split("## API")[1].split("## Docker")[0]
    named = set(re.findall(r"`(?:GET|POST) (/[\w{}/]+(?:\.\w+)?)", table))

    assert named == set(app.openapi()["paths"]) | {"/docs", "/openapi.json"}


@pytest.mark.parametrize("statement", SQL)
async def test_the_sql_of_the_readme_works(
    statement: str, tick: Tick, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.put_pages("/posts", [{"id": 1}])
    source_server.put("/items.csv", b"id,value\n1,1\n2,not a number\n3,too,many\n")
    await tick()

    assert await sql.fetch(statement)


def test_there_is_sql_in_the_readme() -> None:
    assert len(SQL) >= 6


def events_in_the_code() -> set[str]:
    """The first argument of every call `log.<level>("…")`."""
    found: set[str] = set()
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            is_log = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
                and node.func.attr in {"debug", "info", "warning", "error", "exception", "log"}
            )
            if is_log:
                assert isinstance(node, ast.Call)
                found |= {
                    constant.value
                    for argument in node.args
                    for constant in ast.walk(argument)
                    if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
                }
    return found


def test_every_log_event_is_documented_and_no_other() -> None:
    rows = [line.split("|")[1] for line in LOGS.splitlines() if line.startswith("| `")]
    documented = {event for row in rows for event in re.findall(r"`(\w+)`", row)}

    assert documented == events_in_the_code()


async def test_every_column_is_documented(sql: asyncpg.Connection) -> None:
    columns = await sql.fetch(
        "SELECT DISTINCT column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name <> 'alembic_version'"
    )

    missing = [row["column_name"] for row in columns if f"`{row['column_name']}`" not in SCHEMA]
    assert missing == []


def test_the_balance_in_the_readme_is_the_one_in_the_code() -> None:
    sentence = re.search(r"`extracted = ([\w\s+]+)`", README)
    assert sentence is not None
    terms = [term.strip() for term in sentence.group(1).replace("\n", " ").split("+")]

    one_each = Counts(**dict.fromkeys(terms, 1), extracted=len(terms))
    assert one_each.balanced


def test_files_that_the_documents_link_to_are_there() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / Path(target)).exists()
    ]

    assert broken == []
