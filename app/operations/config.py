"""`config`: a source as it is understood, and where each value is from. Secrets stay references."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import to_jsonable_python

from app.extract.http_errors import redact, sounds_secret
from app.extract.retry import RetryPolicy
from app.extract.rss_feed import MAX_FEED_BYTES
from app.settings import Settings
from app.settings.base import Group
from app.sources.resource import Origin, ResourceSpec
from app.sources.tables import CsvResource, RssResource
from app.sources.values import Spec, placeholders

ADDRESSES: Final = {
    ("client", "base_url"),
    ("auth", "access_token_url"),
    ("endpoint", "path"),
    ("file", "url"),
    ("feed", "url"),
}
"""Keys, each below its table, whose value is a URL, which may hold a credential."""


@dataclass(frozen=True, slots=True)
class Value:
    value: Any
    origin: Origin


def understood(spec: ResourceSpec) -> dict[str, Any]:
    """A resource as its file says it, defaults and all."""
    parts = {key: _hidden(spec, (key,), _plain(table)) for key, table in _tables(spec).items()}
    return {"name": spec.name, "where": spec.where, **parts}


def resolved(spec: ResourceSpec, settings: Settings) -> dict[str, Any]:
    """
    The same with `{"value": …, "origin": …}` for each value.

    Where the file says nothing and a setting decides, the setting's value stands.
    """
    tree: dict[str, Any] = {"name": spec.name, "where": spec.where}
    for path, value in values(spec, settings):
        *tables, last = path
        at = tree
        for key in tables:
            at = at.setdefault(key, {})
        at[last] = {"value": value.value, "origin": value.origin}
    return tree


def values(spec: ResourceSpec, settings: Settings) -> Iterator[tuple[tuple[str, ...], Value]]:
    """Each value of a resource, by its path."""
    decided = dict(_settled(spec, settings))
    for name, table in _tables(spec).items():
        if table is None and not any(path[0] == name for path in decided):
            yield (name,), Value(None, "default")
        for path, value in _each(table, (name,), spec.origins):
            shown = decided.pop(path, value) if value.value is None else value
            decided.pop(path, None)
            yield path, Value(_hidden(spec, path, shown.value), shown.origin)
        for path in [path for path in decided if path[0] == name]:
            yield path, decided.pop(path)


def _tables(spec: ResourceSpec) -> dict[str, Spec | None]:
    return {
        "schedule": spec.schedule,
        "client": spec.client,
        "rate_limit": spec.rate_limit,
        "retry": spec.retry,
        "resource": spec.table,
    }


def _each(table: Any, path: tuple[str, ...], origins: Mapping[str, Origin]) -> Iterator[tuple[tuple[str, ...], Value]]:
    if table is None:
        return
    for name, known in type(table).model_fields.items():
        here = (*path, known.alias or name)
        value = getattr(table, name)
        if isinstance(value, Spec):
            yield from _each(value, here, origins)
        elif isinstance(value, dict) and value:
            for key in value:
                yield (*here, key), Value(_plain(value[key]), _origin((*here, key), origins))
        else:
            said = name in table.model_fields_set
            yield here, Value(_plain(value), _origin(here, origins) if said else "default")


def _origin(path: tuple[str, ...], origins: Mapping[str, Origin]) -> Origin:
    """Of a value that was given: by the longest key above it that is known."""
    above = (".".join(path[:length]) for length in range(len(path), 0, -1))
    return next((origins[key] for key in above if key in origins), "file")


def _settled(spec: ResourceSpec, settings: Settings) -> Iterator[tuple[tuple[str, ...], Value]]:
    """What settings decide where the file is silent."""
    is_file = isinstance(spec.table, CsvResource)
    http = settings.http
    total = "total_timeout_seconds" if spec.body_url is None else "file_timeout_seconds"
    yield ("client", "timeout", "connect"), _setting(http, "connect_timeout_seconds")
    yield ("client", "timeout", "read"), _setting(http, "read_timeout_seconds")
    yield ("client", "timeout", "total"), _setting(http, total)
    most = _setting(http, "max_file_bytes" if is_file else "max_page_bytes")
    if isinstance(spec.table, RssResource) and most.value > MAX_FEED_BYTES:
        most = Value(MAX_FEED_BYTES, "default")
    yield ("client", "max_response_bytes"), most
    if spec.schedule.cron is None:
        yield ("schedule", "interval"), _setting(settings.schedule, "interval_seconds")
    if spec.retry is None:
        yield ("retry", "max_attempts"), _setting(http, "max_attempts")
        yield ("retry", "max_elapsed"), _setting(http, "max_elapsed_seconds")
        policy = RetryPolicy()
        for name, value in {
            "backoff_factor": policy.backoff_factor_seconds,
            "max_delay": policy.max_delay_seconds,
            "jitter": policy.jitter,
            "status_codes": sorted(policy.status_codes, key=str),
            "respect_retry_after": policy.respect_retry_after,
            "max_retry_after": policy.max_retry_after_seconds,
        }.items():
            yield ("retry", name), Value(value, "default")


def _setting(group: Group, name: str) -> Value:
    return Value(getattr(group, name), "env" if name in group.model_fields_set else "default")


def _plain(value: Any) -> Any:
    return to_jsonable_python(value, by_alias=True)


def _hidden(spec: ResourceSpec, path: tuple[str, ...], value: Any) -> Any:
    """Without what may be a credential, though it was written in clear."""
    if isinstance(value, list):
        return [_hidden(spec, path, item) for item in value]
    if isinstance(value, dict):
        return {key: _hidden(spec, (*path, key), item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    if path[-2:] in ADDRESSES and ("***" in (shown := redact(value)) or "@" in value):
        return shown
    if set(path) & {"params", "headers", "data"} and sounds_secret(path[-1]) and not any(placeholders(value)):
        return "***"
    return spec.secrets.hide(value)
