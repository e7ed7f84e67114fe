"""
The walks that make up one pass over an endpoint: one for each parent, partition or window of time.

An endpoint without any of them has a single scope.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import jmespath

from app.errors import ConfigError
from app.extract.increments import Increment
from app.sources.rest import Endpoint, parent_fields

ReadParents = Callable[[str, str], AsyncIterator[tuple[str, Mapping[str, Any]]]]
"""Parent resource and the key to begin with → keys and records of its current rows, in the order of keys."""


@dataclass(frozen=True, slots=True)
class Scope:
    key: str = ""
    """Where a pass goes on: scopes come in an order of their keys that does not change."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What its placeholders stand for."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Sent beside the endpoint's own."""
    window_end: datetime | None = None
    """Exclusive: once the scope is complete, the increment has come this far."""


async def scopes(
    endpoint: Endpoint,
    increment: Increment | None,
    *,
    values_of: Callable[[str], Mapping[str, str]],
    begin: str,
    read_parents: ReadParents | None,
) -> AsyncIterator[tuple[Scope, bool]]:
    """
    The scopes from `begin` on, each with whether it is the last; at least one.

    Args:
        values_of: what the increment's placeholders stand for in the scope with a key.
        begin: the key of the scope to begin with; empty for the first.
    """
    held: Scope | None = None
    async for scope in _all(endpoint, increment, values_of=values_of, begin=begin, read_parents=read_parents):
        if held is not None:
            yield held, False
        held = scope
    if held is not None:
        yield held, True


async def _all(
    endpoint: Endpoint,
    increment: Increment | None,
    *,
    values_of: Callable[[str], Mapping[str, str]],
    begin: str,
    read_parents: ReadParents | None,
) -> AsyncIterator[Scope]:
    if parent_fields(endpoint):
        async for scope in _of_parents(endpoint, values_of, begin=begin, read_parents=read_parents):
            yield scope
        return
    alone: Iterable[Scope] = [Scope(values=values_of(""))]
    if endpoint.partitions:
        alone = [Scope(key := f"{at:06d}", values_of(key), params) for at, params in enumerate(endpoint.partitions)]
    elif increment is not None and (window_seconds := endpoint.window_seconds) is not None:
        alone = _windows(increment, window_seconds)
    for scope in alone:
        if scope.key >= begin:
            yield scope


async def _of_parents(
    endpoint: Endpoint,
    values_of: Callable[[str], Mapping[str, str]],
    *,
    begin: str,
    read_parents: ReadParents | None,
) -> AsyncIterator[Scope]:
    fields = parent_fields(endpoint)
    parent = next(iter(fields.values()))[0]
    if read_parents is None:
        raise ConfigError(f"endpoint.path needs rows of {parent}, and there are none here")
    async for key, record in read_parents(parent, begin):
        found = {name: text for name, (_, path) in fields.items() if (text := _text(record, path)) is not None}
        if len(found) == len(fields):
            yield Scope(key, {**values_of(key), **found})


def _windows(increment: Increment, step_seconds: float) -> Iterator[Scope]:
    """
    They have no key: a window that is complete has moved the increment, and
    one that is not is asked for again, whole, with the end that it then has.
    """
    start, end, step = increment.start, increment.end or increment.now, timedelta(seconds=step_seconds)
    assert isinstance(start, datetime)
    assert isinstance(end, datetime)
    more = True
    while more:
        # Not by adding first: no time follows the year 9999
        until = start + step if end - start > step else end
        values = {"incremental.start_value": increment.write(start), "incremental.end_value": increment.write(until)}
        yield Scope(values=values, window_end=until)
        start, more = until, until < end


def _text(record: Mapping[str, Any], path: str) -> str | None:
    value = jmespath.search(path, record)
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
