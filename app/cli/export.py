"""`etl export`: the rows as CSV or as NDJSON, to a file or down a pipe."""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, BinaryIO, cast, get_args

import typer

from app.cli.process import run_async
from app.db.data_query import DataQuery
from app.db.exports import ExportFormat, export_rows
from app.errors import ConfigError
from app.resources import open_ready
from app.settings import Settings, load_settings


def export(
    format: Annotated[str, typer.Option("--format", help="csv or ndjson.")],  # noqa: A002
    source: Annotated[str | None, typer.Option("--source", help="Only of this resource; all by default.")] = None,
    search: Annotated[
        str | None, typer.Option("--search", help="Only with this in name or description, in any case.")
    ] = None,
    keep_formulas: Annotated[
        bool, typer.Option("--keep-formulas", help="CSV: no apostrophe before what a spreadsheet takes for a formula.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write, whole or not at all; else standard output.")
    ] = None,
) -> int:
    """Write all rows, as `GET /data/export` does."""
    if format not in get_args(ExportFormat):
        raise typer.BadParameter(f"--format is one of {', '.join(get_args(ExportFormat))}")
    chosen, settings = cast("ExportFormat", format), load_settings()
    query = DataQuery(source=source or None, search=search or None)
    guard = not keep_formulas
    if output is not None:
        _export_to_file(settings, query, chosen, guard, output)
        return 0
    try:
        run_async(_export(settings, query, chosen, guard, sys.stdout.buffer), settings, quiet=True)
    except BrokenPipeError:
        # Who reads has enough; Python itself would complain at its end that the rest cannot be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _export_to_file(settings: Settings, query: DataQuery, to: ExportFormat, guard: bool, path: Path) -> None:
    """
    Raises:
        ConfigError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            run_async(_export(settings, query, to, guard, file), settings, quiet=True)
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"--output {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink()


async def _export(settings: Settings, query: DataQuery, to: ExportFormat, guard: bool, file: BinaryIO) -> None:
    async def write(chunk: bytes) -> None:
        await asyncio.to_thread(file.write, chunk)

    async with open_ready(settings) as resources:
        await export_rows(resources.database, query, write, to=to, guard=guard)
    file.flush()
