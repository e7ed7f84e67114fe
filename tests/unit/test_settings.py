"""A wrong setting is one line that names it, its fault and a right example."""

import re
from pathlib import Path

import pytest

from app.errors import ConfigError
from app.settings import load_settings, variables
from app.sources.catalog import endpoint, open_catalog

EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://user:hunter2@host/db"),
        ("DATABASE_URL", "postgresql://user:hunter2@host:port/db"),
        ("DATABASE_POOL_MIN_SIZE", "0"),
        ("DATABASE_POOL_MIN_SIZE", "21"),
        ("API_HOST", "ftp://user:hunter2@host"),
        ("API_HOST", "jsonplaceholder"),
        ("CSV_URL", "gopher://user:hunter2@host/x.csv"),
        ("ETL_INTERVAL", "soon"),
        ("ETL_INTERVAL", "0"),
        ("ETL_INTERVAL", "nan"),
        ("PORT", "65536"),
        ("LOG_LEVEL", "loud"),
        ("CORS_ORIGINS", "example.com"),
        ("HTTP_MAX_ATTEMPTS", "many"),
    ],
)
def test_a_wrong_value_is_one_line_with_a_right_example(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError) as raised:
        load_settings()

    line = str(raised.value)
    assert re.fullmatch(rf"{name}.*; for example {name}=\S+", line)
    assert "hunter2" not in line


def test_two_wrong_values_are_two_lines_when_they_are_of_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("CORS_ORIGINS", "y")

    with pytest.raises(ConfigError) as raised:
        load_settings()

    assert len(str(raised.value).splitlines()) == 2


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_a_plain_database_url_is_taken(scheme: str) -> None:
    settings = load_settings(DATABASE_URL=f"{scheme}://u:p@h:5/d?sslmode=require")

    assert settings.database.url is not None
    assert settings.database.url.get_secret_value() == "postgresql://u:p@h:5/d?sslmode=require"


def test_dotenv_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PORT=8001\nETL_INTERVAL=60\n")
    monkeypatch.setenv("PORT", "8002")

    settings = load_settings()

    assert (settings.server.port, settings.schedule.interval_seconds) == (8002, 60)


def test_a_dotenv_that_is_no_text_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=\xff\xfe")

    with pytest.raises(ConfigError, match=r"\.env"):
        load_settings()


def test_an_empty_value_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "")
    monkeypatch.setenv("PORT", "")

    settings = load_settings()

    assert (settings.sources.api_key, settings.server.port) == (None, 8000)


def test_no_secret_is_shown() -> None:
    settings = load_settings(DATABASE_URL="postgresql://u:hunter2@h/d", API_KEY="hunter2")

    assert "hunter2" not in f"{settings.database!r} {settings.sources!r}"


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(ConfigError, match="PROT"):
        load_settings(PROT=8000)


def test_the_example_names_every_variable_and_no_other() -> None:
    named = re.findall(r"^#?\s?([A-Z][A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE)

    assert sorted(named) == sorted(variables())


def test_the_example_is_a_right_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(EXAMPLE.read_text())

    assert vars(load_settings().http) == vars(load_settings(HTTP_MAX_ATTEMPTS=4).http)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("http://h", "http://h/posts"),
        ("http://h/", "http://h/posts"),
        ("http://h:1/items", "http://h:1/items"),
        ("http://h/a/b/?c=d", "http://h/a/b/?c=d"),
        ("http://h?c=d", "http://h/posts?c=d"),
    ],
)
def test_posts_is_appended_only_where_there_is_no_path(host: str, url: str) -> None:
    assert endpoint(host) == url


def test_the_catalogue_says_what_there_is() -> None:
    with pytest.raises(ConfigError, match="unknown source feed; there are: api, csv"):
        open_catalog(load_settings()).select(["feed"])


@pytest.mark.parametrize(
    ("given", "names"), [("none", []), ("api", ["api"]), ("csv, api", ["csv", "api"]), ("", ["api", "csv"])]
)
def test_the_built_in_sources_can_be_left_out(given: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILT_IN_SOURCES", given)

    assert [spec.name for spec in open_catalog(load_settings())] == names
