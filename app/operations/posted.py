"""`check` and `preview` of a source that is no file yet. Nothing is stored."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from app.errors import SourceUnavailableError
from app.extract.http import Fetcher
from app.operations import sources
from app.settings import Settings
from app.sources.resource import ResourceSpec, Secrets

LOOK_SECONDS: Final = 60.0
"""For all resources together, whatever patience the tree asks for."""


async def check(
    specs: Sequence[ResourceSpec], settings: Settings, *, seconds: float = LOOK_SECONDS
) -> list[dict[str, Any]]:
    """
    The fields of each resource's `Check`.

    Raises:
        SourceUnavailableError: it took too long.
    """
    return await _look(specs, settings, rows=None, seconds=seconds)


async def preview(
    specs: Sequence[ResourceSpec], settings: Settings, *, rows: int, seconds: float = LOOK_SECONDS
) -> list[dict[str, Any]]:
    """
    The fields of each `PreviewRow`, and `source`.

    Raises:
        EtlError: see `sources.preview`; or it took too long.
    """
    return await _look(specs, settings, rows=rows, seconds=seconds)


async def _look(
    specs: Sequence[ResourceSpec], settings: Settings, *, rows: int | None, seconds: float
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    try:
        # A fetcher of its own: no limit, breaker or token of the sources that run
        async with asyncio.timeout(seconds), Fetcher(settings.http) as fetcher:
            for spec in specs:
                if rows is None:
                    found.append(asdict(await sources.check(spec, fetcher, among=specs)))
                else:
                    shown = await sources.preview(spec, fetcher, limit=rows, among=specs)
                    found += [{"source": spec.name, **asdict(row)} for row in shown]
    except TimeoutError:
        raise SourceUnavailableError(f"the source did not answer within {seconds:g} s") from None
    # A server may repeat what it was sent, and would so show a secret to who only named it
    return [_hidden(item, specs[0].secrets) for item in found]


def _hidden(value: Any, secrets: Secrets) -> Any:
    if isinstance(value, str):
        return secrets.hide(value)
    if isinstance(value, dict):
        return {secrets.hide(key): _hidden(item, secrets) for key, item in value.items()}
    return [_hidden(item, secrets) for item in value] if isinstance(value, list | tuple) else value
