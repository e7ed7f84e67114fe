"""
Rows as CSV or as NDJSON, of any number: PostgreSQL writes the bytes, and they go through us as they are.

One COPY is one statement and one snapshot. Its connection is of its own and not of the pool: an export may take
long, and one that is given up is ended with its connection.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal

import asyncpg
from asyncpg.protocol import NO_TIMEOUT
from sqlalchemy import ColumnElement, DateTime, Double, Select, Text, and_, case, cast, func, literal_column
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.sql.compiler import SQLCompiler

from app.db.data_query import MARKED, NULLABLE, DataQuery, select_data
from app.db.engine import Database
from app.db.errors import store_errors

ExportFormat = Literal["csv", "ndjson"]

CHUNK_BYTES: Final = 128 * 1024
"""What is handed on at once, about."""
CLOSE_SECONDS: Final = 5.0
"""For the server to end a COPY that is given up; then its connection is dropped."""

# Whatever role or database say: how long an export may take is its caller's business, no digit is rounded away, and
# it is the work of one process of the server: more of them would sort what an index has in order, at twice the cost
_PREPARE: Final = """
SELECT set_config(name, value, false) FROM pg_settings JOIN (VALUES
    ('statement_timeout', '0'), ('transaction_timeout', '0'), ('max_parallel_workers_per_gather', '0'),
    ('extra_float_digits', '1'), ('bytea_output', 'escape')
) AS wanted (name, value) USING (name)
"""
# JSON text has no control character, so that none of it is quoted or doubled
_OPTIONS: Final[Mapping[ExportFormat, Mapping[str, Any]]] = {
    "csv": {"format": "csv", "header": True},
    "ndjson": {"format": "csv", "quote": "\x01", "delimiter": "\x02"},
}
# OWASP's list, and the full-width forms that some spreadsheets take for the same
_FORMULA_STARTS: Final = "=+-@\t\r\n＝＋－＠"  # noqa: RUF001


async def export_rows(
    database: Database,
    query: DataQuery,
    write: Callable[[bytes], Awaitable[None]],
    *,
    to: ExportFormat,
    fields: Sequence[str] | None = None,
    guard: bool = True,
) -> int:
    """
    Write the rows of a query, in its order, in chunks of whole lines.

    CSV has a header line, NULL as nothing and an empty text as `""`. Times and numbers are those of `/data`.

    Args:
        write: takes one chunk after the other; while it waits, PostgreSQL does.
        fields: of the query's columns; None: all of them.
        guard: in CSV, an apostrophe before texts that a spreadsheet would take for a formula.

    Returns:
        How many rows.

    Raises:
        StoreError: some chunks may have been written.
        Exception: whatever `write` raises.
    """
    connection = await database.open_session_connection()
    chunks = _Chunks(write)
    try:
        with store_errors():
            await connection.execute(_PREPARE)
            cells = _cells(to, fields or tuple(query.columns), guard)
            statement, values = _compile(database, select_data(query).with_only_columns(*cells))
            # The deadline of a command is for answers that are awaited whole
            done = await connection.copy_from_query(
                statement,
                *values,
                output=chunks.take,
                timeout=NO_TIMEOUT,  # type: ignore[arg-type]  # the stubs do not know that it may be given
                **_OPTIONS[to],
            )
        await chunks.flush()
    except _NotTakenError as error:
        raise error.fault from None
    finally:
        # What is still sent is cancelled first; a connection that cannot even be closed is dropped
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=CLOSE_SECONDS)
    return int(done.split()[-1])


class _NotTakenError(Exception):
    """`write` failed: a broken pipe there is no trouble with the database."""

    def __init__(self, fault: OSError) -> None:
        self.fault = fault


class _Chunks:
    """Makes few and large of many and small."""

    def __init__(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._write = write
        self._held: list[bytes] = []
        self._size = 0

    async def take(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        if self._size >= CHUNK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        if not self._held:
            return
        chunk = b"".join(self._held)
        self._held.clear()
        self._size = 0
        try:
            await self._write(chunk)
        except OSError as error:
            raise _NotTakenError(error) from error


def _compile(database: Database, statement: Select[Any]) -> tuple[str, list[Any]]:
    """COPY takes no parameters: PostgreSQL itself quotes the values into the text, which asyncpg asks it for."""
    compiled = statement.compile(dialect=database.engine.dialect, compile_kwargs={"render_postcompile": True})
    assert isinstance(compiled, SQLCompiler)
    values = compiled.construct_params()
    return compiled.string, [values[name] for name in compiled.positiontup or ()]


def _cells(to: ExportFormat, fields: Sequence[str], guard: bool) -> list[ColumnElement[Any]]:
    """What PostgreSQL writes for each row."""
    if to == "csv":
        return [_csv_cell(MARKED[name], guard).label(name) for name in fields]
    pieces: list[ColumnElement[Any]] = []
    before = "{"
    for name in fields:
        pieces += [_constant(f"{before}{json.dumps(name)}:"), _json_value(MARKED[name])]
        before = '",' if _is_moment(MARKED[name]) and name not in NULLABLE else ","
    return [func.concat(*pieces, _constant(before.replace(",", "}")))]


def _csv_cell(column: ColumnElement[Any], guard: bool) -> ColumnElement[Any]:
    if _is_moment(column):
        written = func.substring(_moment(column), _number(2))
        return case((column.is_not(None), written)) if column.key in NULLABLE else written
    if guard and isinstance(column.type, Text):
        starts = [_number(ord(character)) for character in _FORMULA_STARTS]
        return case((func.ascii(column).in_(starts), _constant("'").concat(column)), else_=column)
    return column


def _json_value(column: ColumnElement[Any]) -> ColumnElement[Any]:
    if _is_moment(column):
        if column.key in NULLABLE:
            closed = func.concat(_moment(column), _constant('"'))
            return case((column.is_not(None), closed), else_=_constant("null"))
        return _moment(column)
    if isinstance(column.type, Double):
        written = cast(column, Text)
        return case(
            (column != func.trunc(column), written),
            # Always with a point, so that a column of round numbers is not taken for one of integers
            (func.abs(column) < literal_column("1e15"), func.concat(column, _constant(".0"))),
            (func.abs(column) <= literal_column("1.7976931348623157e308"), written),
            else_=_constant("null"),
        )
    if isinstance(column.type, Text):
        return func.coalesce(func.to_json(column), _constant("null"))
    return column


def _is_moment(column: ColumnElement[Any]) -> bool:
    return isinstance(column.type, DateTime)


def _moment(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """
    As Python's isoformat in UTC with Z, after a quote: `"2025-01-01T00:00:00Z`, or with six digits of a second.

    to_char is exact as well, and takes three times as long: a third of the time of an export. JSON has the T, its
    closing quote becomes the Z. PostgreSQL leaves the last zeros of a fraction away; so where there are any, one
    microsecond more is written, and that digit made a zero.
    """
    utc = func.timezone(literal_column("INTERVAL '0'"), column)
    more = utc + literal_column("INTERVAL '1 microsecond'")

    def written(moment: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.json_send(func.to_json(moment))

    def with_byte(written: ColumnElement[Any], at: int, character: str) -> ColumnElement[Any]:
        return func.set_byte(written, _number(at), _number(ord(character)))

    is_finite = func.isfinite(column)
    return case(
        (and_(_rounded(column, 0) == column, is_finite), with_byte(written(utc), 20, "Z")),
        (_rounded(column, 5) != column, with_byte(written(utc), 27, "Z")),
        (is_finite, with_byte(with_byte(written(more), 26, "0"), 27, "Z")),
        # To the driver, Python's first and last moment are the infinite ones
        (column > _constant("epoch"), func.textsend(_constant('"9999-12-31T23:59:59.999999Z'))),
        else_=func.textsend(_constant('"0001-01-01T00:00:00Z')),
    )


def _rounded(column: ColumnElement[Any], digits: int) -> ColumnElement[Any]:
    return cast(column, TIMESTAMP(timezone=True, precision=digits))


def _number(value: int) -> ColumnElement[Any]:
    return literal_column(str(value))


def _constant(text: str) -> ColumnElement[Any]:
    quoted = text.replace("'", "''")
    return literal_column(f"'{quoted}'", Text)
