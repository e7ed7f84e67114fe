"""`GET /data/export`: all rows that match, streamed as CSV or NDJSON."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import structlog
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.types import Message, Receive, Scope, Send

from app.api.columns import describe_filters
from app.api.data_parameters import RowParameters
from app.api.deps import ResourcesDep
from app.api.freshness import freshness_headers
from app.api.head import is_head
from app.api.headers import FRESHNESS_HEADERS
from app.api.problems import ProblemError, problem_responses
from app.clock import monotonic
from app.db.data import read_version
from app.db.data_query import DataQuery, total_order
from app.db.exports import ExportFormat, export_rows
from app.errors import StoreError
from app.operations.questions import chosen_columns, read_filters, read_order
from app.resources import Resources

log = structlog.get_logger()

router = APIRouter(tags=["data"])

RETRY_SECONDS: Final = 10
"""What is suggested when as many exports are in progress as may be."""
CONTENT_TYPES: Final[Mapping[ExportFormat, str]] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "ndjson": "application/x-ndjson",
}
_ROWS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The rows. An answer whose last chunk is missing is not all of them.",
        "content": {kind.partition(";")[0]: {"schema": {"type": "string"}} for kind in CONTENT_TYPES.values()},
        "headers": dict(FRESHNESS_HEADERS),
    }
}


class ExportParameters(RowParameters):
    format: ExportFormat = Field(description="CSV with a header line, or a JSON object on each line.")
    formulas: Literal["guard", "keep"] = Field(
        "guard",
        description="CSV: texts that a spreadsheet takes for formulas get an apostrophe before them, or stay.",
    )


class _StalledError(Exception):
    """The client took nothing for EXPORT_STALL_SECONDS."""


class _Body:
    """The answer, begun with the first chunk of its body."""

    def __init__(self, send: Send, start: Message, *, stall_seconds: float) -> None:
        self._send = send
        self._start = start
        self._stall_seconds = stall_seconds
        self.begun = False
        self.bytes = 0

    async def write(self, chunk: bytes) -> None:
        await self._take(chunk, more=True)

    async def end(self) -> None:
        await self._take(b"", more=False)

    async def _take(self, chunk: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(self._stall_seconds):
                if not self.begun:
                    self.begun = True
                    await self._send(self._start)
                await self._send({"type": "http.response.body", "body": chunk, "more_body": more})
        except TimeoutError:
            raise _StalledError(f"the client took nothing for {self._stall_seconds:g} s") from None
        self.bytes += len(chunk)


class ExportResponse(Response):
    """
    Rows, as they come. Once begun, an answer that cannot be completed is cut: its last chunk never comes.

    Args:
        options: of `export_rows`.
    """

    def __init__(self, resources: Resources, query: DataQuery, headers: dict[str, str], **options: Any) -> None:
        # Not of the base class: it would say how long the body is
        self.status_code = 200
        self.background = None
        self.init_headers(headers)
        self._resources = resources
        self._query = query
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turns = self._resources.exports
        start: Message = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if is_head(scope):
            await send(start)
            await send({"type": "http.response.body"})
            return
        if turns.locked():
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self._resources.settings.exports.max_concurrent} exports are in progress, and no more are made at "
                "once (MAX_CONCURRENT_EXPORTS); try again",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        async with turns:
            await self._answer(start, receive, send)

    async def _answer(self, start: Message, receive: Receive, send: Send) -> None:
        limits = self._resources.settings.exports
        body = _Body(send, start, stall_seconds=limits.stall_seconds)
        started_at = monotonic()
        exporting = asyncio.create_task(self._export(body), name="export")
        leaving = asyncio.create_task(_until_left(receive), name="export's client")
        try:
            await asyncio.wait({exporting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            log.warning("export_cut", reason="the service was told to stop", bytes=body.bytes)
            raise
        finally:
            exporting.cancel()
            leaving.cancel()
            await asyncio.wait({exporting, leaving})
        told = {"format": self._options["to"], "bytes": body.bytes, "seconds": round(monotonic() - started_at, 3)}
        if exporting.cancelled():
            log.warning("export_cut", reason="the client left", **told)
        elif (error := exporting.exception()) is None:
            log.info("export_finished", rows=exporting.result(), **told)
        elif body.begun and isinstance(error, StoreError | _StalledError | TimeoutError):
            log.warning("export_cut", reason=str(error), **told)
        else:
            raise error

    async def _export(self, body: _Body) -> int:
        max_seconds = self._resources.settings.exports.max_seconds
        try:
            async with asyncio.timeout(max_seconds):
                rows = await export_rows(self._resources.database, self._query, body.write, **self._options)
                await body.end()
        except TimeoutError:
            raise TimeoutError(f"it took longer than EXPORT_MAX_SECONDS={max_seconds:g}") from None
        return rows


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@router.get(
    "/data/export",
    response_class=Response,
    responses=_ROWS
    | problem_responses(
        _422="A parameter is wrong.",
        _503="The database cannot be reached, as many exports are in progress as may be, "
        "or the data are older than asked.",
    ),
    openapi_extra={"parameters": [describe_filters()]},
)
async def export_data(
    request: Request, asked: Annotated[ExportParameters, Query()], resources: ResourcesDep
) -> Response:
    """
    All rows that match, as they were at one moment, in the order (source, id), or as `sort` says.

    `X-Data-As-Of` is when the least fresh of the sources that it covers was last brought up to date. When the client
    takes nothing for too long, or the database is lost, the connection is closed without the last chunk.
    """
    query = DataQuery(
        source=asked.source or None,
        search=asked.search or None,
        filters=read_filters(request.query_params.multi_items(), others=ExportParameters.model_fields),
        include_deleted=asked.include_deleted,
        order=total_order(read_order(asked.sort)),
    )
    # Read before the rows are, so that they are at least as fresh
    version = await read_version(resources.database)
    headers = freshness_headers(version.as_of(query.source, is_there=resources.catalog.has), asked.max_staleness) | {
        "Content-Type": CONTENT_TYPES[asked.format],
        "Content-Disposition": f'attachment; filename="data.{asked.format}"',
        "Cache-Control": "no-store",
    }
    names = chosen_columns(query, asked.fields)
    return ExportResponse(resources, query, headers, to=asked.format, fields=names, guard=asked.formulas == "guard")
