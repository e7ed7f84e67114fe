"""One event is one line, and no line holds a secret."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from app.observability.logs import configure_logs

Lines = Callable[[Callable[[Any], object]], list[str]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What is written to stderr by what is logged: `lines(lambda log: log.info("x"))`."""
    handlers, level = logging.root.handlers, logging.root.level

    def written(tell: Callable[[Any], object]) -> list[str]:
        configure_logs(level="debug", style="json")
        tell(structlog.get_logger())
        return capsys.readouterr().err.splitlines()

    yield written
    logging.root.handlers = handlers
    logging.root.setLevel(level)


@pytest.mark.parametrize("value", ["a\r\nb", "\x1b[31mred", '{"event": "forged"}', "\u2028", "\x00"])
def test_no_value_breaks_its_line(value: str, lines: Lines) -> None:
    (line,) = lines(lambda log: log.info("request", path=value))

    assert json.loads(line)["path"] == value
    assert "\x1b" not in line


def test_when_how_grave_and_what_come_first(lines: Lines) -> None:
    (line,) = lines(lambda log: log.warning("retry", attempt=1))

    assert list(json.loads(line)) == ["timestamp", "level", "event", "attempt"]


def test_fields_with_a_secret_name_are_masked(lines: Lines) -> None:
    (line,) = lines(lambda log: log.info("x", token="hunter2", password="hunter2", headers={"a": "hunter2"}))

    assert "hunter2" not in line


def test_foreign_records_are_events_too(lines: Lines) -> None:
    (line,) = lines(lambda _: logging.getLogger("uvicorn.error").warning("it is %s", "late"))

    assert json.loads(line)["event"] == "it is late"


def test_a_traceback_shows_no_local_variable(lines: Lines) -> None:
    def fail(token: str) -> None:
        raise ValueError("broken") from KeyError(len(token))

    def tell(log: Any) -> None:
        try:
            fail("hunter2")
        except ValueError:
            log.exception("request_broke")

    (line,) = lines(tell)

    assert "broken" in line
    assert "hunter2" not in line
