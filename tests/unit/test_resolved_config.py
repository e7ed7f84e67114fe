"""`etl sources config --resolved`: every value of a source, and where it is from."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import run_cli
from app.operations import config
from app.settings import load_settings
from app.sources.catalog import open_catalog
from tests.source_files import EXAMPLES

LIBRARY = """
name = "library"
type = "rest_api"
[client]
base_url = "https://api.example.com/v1"
headers = { X-Version = "3" }
auth = { type = "bearer", token = "{secrets.LIBRARY}" }
timeout = { read = 7 }
[resource_defaults]
primary_key = "id"
filter = [{ path = "a", op = "exists" }]
[resource_defaults.endpoint]
params = { limit = 50, lang = "en" }
paginator = { type = "page_number", limit = 5 }
[[resources]]
name = "books"
[resources.endpoint]
path = "books"
params = { limit = 10 }
paginator = { type = "offset", limit = 5 }
[[resources]]
name = "authors"
primary_key = "key"
"""


def resolved(name: str, text: str | None = None, **settings: Any) -> dict[str, tuple[Any, str]]:
    """Value and origin, by dotted key."""
    if text is not None:
        Path("sources").mkdir(exist_ok=True)
        Path("sources/s.toml").write_text(text)
    given = load_settings(**settings)
    (spec,) = open_catalog(given).select([name])
    return {".".join(path): (value.value, value.origin) for path, value in config.values(spec, given)}


@pytest.mark.parametrize(
    ("name", "key", "value", "origin"),
    [
        ("library.books", "client.base_url", "https://api.example.com/v1", "file"),
        ("library.books", "client.headers.X-Version", "3", "file"),
        ("library.books", "client.auth.token", "{secrets.LIBRARY}", "file"),
        ("library.books", "client.timeout.read", 7.0, "file"),
        ("library.books", "client.timeout.connect", 5.0, "default"),
        ("library.books", "client.conditional_requests", True, "default"),
        ("library.books", "schedule.cron", None, "default"),
        ("library.books", "rate_limit", None, "default"),
        ("library.books", "retry.jitter", "full", "default"),
        ("library.books", "resource.name", "books", "file"),
        ("library.books", "resource.primary_key", ["id"], "resource_defaults"),
        ("library.books", "resource.filter", [{"path": "a", "op": "exists", "value": None}], "resource_defaults"),
        ("library.books", "resource.endpoint.params.limit", 10, "file"),
        ("library.books", "resource.endpoint.params.lang", "en", "resource_defaults"),
        ("library.books", "resource.endpoint.paginator.type", "offset", "file"),
        ("library.books", "resource.endpoint.paginator.limit", 5, "file"),
        ("library.books", "resource.endpoint.json", None, "default"),
        ("library.authors", "resource.primary_key", ["key"], "file"),
        ("library.authors", "resource.endpoint.path", "", "default"),
        ("library.authors", "resource.endpoint.params.limit", 50, "resource_defaults"),
        ("library.authors", "resource.endpoint.paginator.type", "page_number", "resource_defaults"),
        ("library.authors", "resource.endpoint.paginator.page_param", "page", "default"),
    ],
)
def test_each_value_says_where_it_is_from(name: str, key: str, value: Any, origin: str) -> None:
    assert resolved(name, LIBRARY)[key] == (value, origin)


def test_what_a_setting_decides_is_filled_in_unless_the_file_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_READ_TIMEOUT_SECONDS", "11")
    monkeypatch.setenv("HTTP_CONNECT_TIMEOUT_SECONDS", "3")
    monkeypatch.setenv("HTTP_MAX_ATTEMPTS", "9")
    monkeypatch.setenv("ETL_INTERVAL", "60")
    silent = resolved("library.books", LIBRARY)
    said = resolved("library.books", LIBRARY + "[retry]\nmax_attempts = 2\n[schedule]\ncron = '0 6 * * *'")

    assert silent["client.timeout.read"] == (7.0, "file")
    assert silent["client.timeout.connect"] == (3.0, "env")
    assert silent["retry.max_attempts"] == (9, "env")
    assert silent["schedule.interval"] == (60.0, "env")
    assert said["retry.max_attempts"] == (2, "file")
    assert said["retry.max_elapsed"] == (600.0, "default")
    assert said["schedule.interval"] == (None, "default")


def test_the_built_in_sources_are_from_the_environment_where_it_says_something() -> None:
    plain, given = resolved("api"), resolved("api", API_HOST="https://api.example.com", API_KEY="s3cret-key")
    listed = resolved("csv", CSV_URL="https://files.example.com/x.csv", CSV_ID_COLUMN="sku")

    assert plain["client.base_url"] == ("https://jsonplaceholder.typicode.com", "default")
    assert plain["resource.primary_key"] == (["id"], "file")
    assert given["client.base_url"] == ("https://api.example.com", "env")
    assert given["resource.endpoint.path"] == ("https://api.example.com/posts", "env")
    assert given["client.auth.token"] == ("{secrets.API_KEY}", "env")
    assert listed["resource.file.url"] == ("https://files.example.com/x.csv", "env")
    assert listed["resource.primary_key"] == (["sku"], "env")
    assert listed["client.timeout.total"] == (900.0, "default")


@pytest.mark.parametrize("show", [config.understood, lambda spec: config.resolved(spec, load_settings())])
def test_no_credential_is_shown(show: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also none that was written in clear, where the reader cannot tell that it is one."""
    monkeypatch.setenv("ETL_SECRET_LIBRARY", "s3cret-one")
    monkeypatch.setenv("API_KEY", "s3cret-two")
    monkeypatch.setenv("API_HOST", "https://api.example.com/posts?api_key=s3cret-three")
    text = LIBRARY.replace("lang = ", 'key = "s3cret-four", lang = ').replace('"en"', '"s3cret-one"')
    Path("sources").mkdir()
    Path("sources/s.toml").write_text(text.replace("/v1", "/v1?token=s3cret-five"))

    shown = json.dumps([show(spec) for spec in open_catalog(load_settings())])

    assert "s3cret" not in shown
    assert "{secrets.LIBRARY}" in shown


@pytest.mark.parametrize("example", ["A", "B", "C", "D"])
def test_the_whole_tree_is_there_with_the_values_that_were_understood(example: str) -> None:
    Path("sources").mkdir()
    Path("sources/s.toml").write_text(EXAMPLES[example])
    settings = load_settings()

    def leaves(tree: Any, path: str) -> dict[str, Any]:
        if not isinstance(tree, dict) or not tree:
            return {path: tree}
        return {key: leaf for name, below in tree.items() for key, leaf in leaves(below, f"{path}.{name}").items()}

    for spec in open_catalog(settings):
        understood = leaves({k: v for k, v in config.understood(spec).items() if k not in {"name", "where"}}, "")
        shown = {f".{'.'.join(path)}": value.value for path, value in config.values(spec, settings)}
        missing = [key for key in understood if key not in shown and not any(one.startswith(key) for one in shown)]
        other = [key for key in understood if key in shown and understood[key] not in (None, shown[key])]
        assert (missing, other) == ([], [])


def test_the_command_prints_a_line_for_each_value(capsys: pytest.CaptureFixture[str]) -> None:
    Path("sources").mkdir()
    Path("sources/s.toml").write_text(LIBRARY)

    assert run_cli(["sources", "config", "library.books", "--resolved"], build_app=lambda _: None) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert run_cli(["sources", "config", "library.books", "--resolved", "--json"], build_app=lambda _: None) == 0
    tree = json.loads(capsys.readouterr().out)["library.books"]

    assert lines[0] == ["library.books:", "sources/s.toml"]
    assert ["client.timeout.read", "=", "7.0", "file"] in lines
    assert ["resource.endpoint.params.lang", "=", '"en"', "resource_defaults"] in lines
    assert tree["client"]["timeout"]["read"] == {"value": 7.0, "origin": "file"}
