"""`GET /data`: pages of normalized records."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.api.deps import ReadSessionDep
from app.api.freshness import MaxStaleness, tell_freshness
from app.api.paging import MAX_CURSOR_CHARACTERS, PageCursor, decode_cursor, encode_cursor, filter_mark
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import DataPage, Item
from app.db.reads import DataQuery, read_data, read_extent

router = APIRouter(tags=["data"])

Text = Annotated[str | None, Query(max_length=200)]


@router.get(
    "/data",
    responses=problem_responses(
        _422="A parameter is wrong.",
        _503="The database cannot be reached or took too long, or the data are older than asked.",
    ),
)
async def get_data(
    *,
    request: Request,
    response: Response,
    session: ReadSessionDep,
    page: Annotated[int, Query(ge=1, description="From 1; ignored when a cursor is given.")] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 10,
    source: Text = None,
    search: Annotated[
        str | None, Query(max_length=200, description="Substring of name or description, case-insensitive.")
    ] = None,
    cursor: Annotated[
        str | None, Query(max_length=MAX_CURSOR_CHARACTERS, description="`next_cursor` of the page before.")
    ] = None,
    max_staleness: MaxStaleness = None,
) -> DataPage:
    """
    Normalized records in the order (source, id).

    `X-Data-As-Of` is when the least fresh of the sources that the answer covers was last brought up to date,
    `X-Source-Lag-Seconds` how long ago that is.
    """
    _refuse_nul(source=source, search=search)
    source, search = source or None, search or None
    mark = filter_mark(source, search)
    after = decode_cursor(cursor, mark=mark) if cursor else None
    number = after.page if after else page
    query = DataQuery(
        source=source,
        search=search,
        limit=page_size,
        offset=(number - 1) * page_size,
        after=(after.source, after.id) if after else None,
    )
    extent = await read_extent(session, query)
    tell_freshness(response, extent.as_of, max_staleness)
    # Beyond the end there is nothing to look for, however large the number
    rows = await read_data(session, query) if after or query.offset < extent.total else []
    has_more = len(rows) > page_size
    rows = rows[:page_size]
    next_cursor = None
    if has_more:
        next_cursor = encode_cursor(PageCursor(rows[-1].source, rows[-1].id, number + 1), mark=mark)
        url = request.url.include_query_params(cursor=next_cursor).remove_query_params("page")
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return DataPage(
        data=[Item.model_validate(row) for row in rows],
        total=extent.total,
        page=number,
        page_size=page_size,
        has_more=has_more,
        next_cursor=next_cursor,
    )


def _refuse_nul(**given: str | None) -> None:
    for name, text in given.items():
        if text and "\x00" in text:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: a NUL character is in no text we hold")
