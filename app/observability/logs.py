"""structlog, wired once: one event a line, JSON for machines, console for a terminal."""

import logging
import sys
from typing import Any, Literal

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# Local variables hold rows, tokens and connection strings
_traceback_without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
_SECRET_FIELDS = frozenset({"token", "password", "secret", "api_key", "authorization", "dsn", "headers", "body"})


def configure_logs(
    *, level: Literal["debug", "info", "warning", "error"], style: Literal["auto", "json", "console"]
) -> None:
    """Send all events to stderr, those of foreign libraries included; stdout is for results."""
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_secrets,
        _headline_first,
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Any] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [
            structlog.processors.ExceptionRenderer(_traceback_without_locals),
            structlog.processors.JSONRenderer(),
        ]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING) if level != "debug" else logging.INFO)


def _without_secrets(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Fields that hold a secret by their name never leave, whoever logs them."""
    for name in event.keys() & _SECRET_FIELDS:
        event[name] = "***"
    return event


def _headline_first(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """When, how grave, what: then the fields."""
    return {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event} | event
