"""`GET /data`: pages of normalized records."""

from collections.abc import Iterable
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Depends, Request

from app.api.columns import objects
from app.api.data_page import DataPage
from app.api.data_parameters import DataRequest, DataRequestDep, described_parameters
from app.api.data_reader import DataRead, DataReader, source_behind
from app.api.etags import etag_of
from app.api.headers import PAGE_HEADERS, validated_responses
from app.api.paging import PageCursor, decode_cursor, encode_cursor
from app.api.problems import problem_responses
from app.api.read_cache import Answer, CachedRoute, Page, PageResponse, Rows
from app.db.data_query import SERVED, DataQuery, Order, total_order
from app.operations.questions import FILTERS, read_order

router = APIRouter(tags=["data"], route_class=CachedRoute)

_COLUMNS: Final = {name: at for at, name in enumerate(SERVED)}
_MAX_OFFSET: Final = 2**62


async def get_data_reader(request: Request) -> DataReader:
    reader: DataReader = request.app.state.data_reader
    return reader


@router.get(
    "/data",
    response_model=DataPage,
    responses=validated_responses(PAGE_HEADERS)
    | problem_responses(
        _409="The cursor was made with other filters, or another search or sort.",
        _422="A parameter is wrong.",
        _503="The database cannot be reached or took too long, or the data are older than asked.",
    ),
    openapi_extra={"parameters": described_parameters()},
)
async def get_data(
    request: Request, asked: DataRequestDep, reader: Annotated[DataReader, Depends(get_data_reader)]
) -> PageResponse:
    """
    Normalized records in the order (source, id), or as `sort` says.

    `X-Data-As-Of` is when the least fresh of the sources that the answer covers was last brought up to date,
    `X-Source-Lag-Seconds` how long ago that is. `ETag` changes with the answer's bytes: sent back as
    `If-None-Match`, it brings a 304 while they are the same.
    """
    parameters = asked.parameters
    order = total_order(read_order(parameters.sort))
    made_for = _made_for(asked)
    after = decode_cursor(parameters.cursor, order=order, made_for=made_for) if parameters.cursor else None
    size = parameters.page_size
    seen = after.seen if after else (parameters.page - 1) * size
    query = DataQuery(
        source=parameters.source or None,
        search=parameters.search or None,
        filters=asked.filters,
        include_deleted=parameters.include_deleted,
        order=order,
        limit=size,
        offset=None if after or not seen else min(seen, _MAX_OFFSET),
        after=after.values if after else None,
    )
    number = seen // size + 1
    found = await reader.read(query, count=parameters.count, seen=seen)
    rows, has_more = found.rows[:size], len(found.rows) > size
    seen += len(rows)
    cursor = encode_cursor(PageCursor(seen, _values(rows[-1], order)), made_for=made_for) if has_more else None
    data = objects(rows, query, parameters.fields)
    rest = {
        "page": orjson.Fragment(str(number)),  # which may have more digits than 64 bits hold
        "page_size": size,
        "has_more": has_more,
        "next_cursor": cursor,
        "total_is": found.total_is,
    }
    # Written in parts, for the rows may stay when the total does not
    before = b'{"data":%b,"total":' % orjson.dumps(data, option=orjson.OPT_UTC_Z)
    after_total = b",%b" % orjson.dumps(rest)[1:]
    written = b"%b%b%b" % (before, orjson.dumps(found.total), after_total)
    answer = Answer(
        body=written,
        etag=etag_of(written),
        version=found.version.mark(query.source).version,
        source=query.source,
        max_staleness=parameters.max_staleness,
        link=_link(request.scope["path"], asked.given, cursor, seen // size + 1) if has_more else None,
        rows=_outliving_total(found, query, before=len(before), after=len(after_total)),
    )
    return PageResponse(Page(answer, found.version))


def _outliving_total(found: DataRead, query: DataQuery, *, before: int, after: int) -> Rows | None:
    """None: a total that changes may come with rows that do."""
    until = source_behind(query, found.rows)
    version = None if until is None else found.version.until(until, of=None)
    return None if until is None or version is None else Rows(before, after, until, version)


def _made_for(asked: DataRequest) -> tuple[str | bool | None, ...]:
    """What a cursor has in common with the next one."""
    parameters = asked.parameters
    filters = [f"{name}={value}" for name, value in asked.given if name in FILTERS]
    rows = parameters.source or None, parameters.search or None, parameters.include_deleted
    return *rows, parameters.sort, *sorted(filters)


def _values(row: Any, order: Iterable[Order]) -> tuple[Any, ...]:
    return tuple(row[_COLUMNS[item.column]] for item in order)


def _link(path: str, given: Iterable[tuple[str, str]], cursor: str | None, number: int) -> str:
    """
    RFC 8288, to the next page.

    Args:
        number: of the page with the next row, in pages of the size asked for: where pages of other sizes came before
            it, it may begin with rows already seen, and skips none.
    """
    others = [(name, value) for name, value in given if name not in {"page", "cursor"}]
    others.append(("cursor", cursor) if cursor else ("page", str(number)))
    return f'<{path}?{urlencode(others)}>; rel="next"'
