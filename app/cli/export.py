"""`etl export`: the rows as CSV or as NDJSON, to a file or down a pipe."""

import asyncio
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple, cast, get_args

import typer

from app.cli.process import run_async
from app.db.data_query import DataQuery, Filter, total_order
from app.db.exports import ExportFormat, export_rows
from app.errors import ConfigError, QuestionError
from app.operations.patterns import FIELDS, MEANINGS, SORT
from app.operations.questions import chosen_columns, read_filters, read_order
from app.resources import open_ready
from app.settings import Settings, load_settings


def export(
    format: Annotated[str, typer.Option("--format", help="csv or ndjson.")],  # noqa: A002
    *,
    source: Annotated[str | None, typer.Option("--source", help="Only of this resource; all by default.")] = None,
    search: Annotated[
        str | None, typer.Option("--search", help="Only with this in name or description, in any case.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="CONDITION", help="value__gte=3, as a parameter of /data; repeatable."),
    ] = None,
    sort: Annotated[str | None, typer.Option("--sort", help="Columns, - before those that descend: -value,id.")] = None,
    fields: Annotated[str | None, typer.Option("--fields", help="Only these columns: id,name,value.")] = None,
    include_deleted: Annotated[
        bool, typer.Option("--include-deleted", help="Rows that their source deleted, too, marked by deleted_at.")
    ] = False,
    keep_formulas: Annotated[
        bool, typer.Option("--keep-formulas", help="CSV: no apostrophe before what a spreadsheet takes for a formula.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write, whole or not at all; else standard output.")
    ] = None,
) -> int:
    """Write all rows that match, as `GET /data/export` does."""
    if format not in get_args(ExportFormat):
        raise typer.BadParameter(f"--format is one of {', '.join(get_args(ExportFormat))}")
    query = DataQuery(
        source=source or None,
        search=search or None,
        filters=_read_conditions(where or []),
        include_deleted=include_deleted,
        order=total_order(read_order(_of_form("--sort", sort, SORT))),
    )
    names = chosen_columns(query, _of_form("--fields", fields, FIELDS))
    wanted = _Wanted(query, cast("ExportFormat", format), names, guard=not keep_formulas)
    settings = load_settings()
    if output is not None:
        _export_to_file(settings, wanted, output)
        return 0
    try:
        run_async(_export(settings, wanted, sys.stdout.buffer), settings, quiet=True)
    except BrokenPipeError:
        # Who reads has enough; Python itself would complain at its end that the rest cannot be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


class _Wanted(NamedTuple):
    query: DataQuery
    to: ExportFormat
    fields: Sequence[str]
    guard: bool


def _read_conditions(given: Sequence[str]) -> tuple[Filter, ...]:
    """
    Raises:
        BadParameter: there is no such condition, or its value is none.
    """
    pairs = []
    for text in given:
        name, equals, value = text.partition("=")
        # To the API such a name is nobody's, and left to whoever sent it
        if not equals or name.startswith("_"):
            raise typer.BadParameter(f"--where {text}: write a condition as NAME=VALUE, for example value__gte=3")
        pairs.append((name, value))
    try:
        return read_filters(pairs, others=())
    except QuestionError as error:
        raise typer.BadParameter(f"--where {error}") from None


def _of_form(option: str, given: str | None, form: str) -> str | None:
    """
    Raises:
        BadParameter: it does not fit.
    """
    if given is not None and not re.fullmatch(form, given):
        raise typer.BadParameter(f"{option}: {MEANINGS[form]}")
    return given


def _export_to_file(settings: Settings, wanted: _Wanted, path: Path) -> None:
    """
    Raises:
        ConfigError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            run_async(_export(settings, wanted, file), settings, quiet=True)
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"--output {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink()


async def _export(settings: Settings, wanted: _Wanted, file: BinaryIO) -> None:
    async def write(chunk: bytes) -> None:
        await asyncio.to_thread(file.write, chunk)

    async with open_ready(settings) as resources:
        await export_rows(
            resources.database, wanted.query, write, to=wanted.to, fields=wanted.fields, guard=wanted.guard
        )
    file.flush()
