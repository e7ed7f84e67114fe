"""`POST /sources/check` and `/sources/preview`: a source that is no file yet, as JSON."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request

from app.api.deps import ResourcesDep
from app.api.operator import LOCKED, Operator
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import CheckReport, PreviewedRow
from app.errors import ConfigError, EtlError
from app.operations import posted
from app.operations.numbers import IN_DIGITS
from app.sources.posted import POSTED, read_posted
from app.sources.resource import ResourceSpec

router = APIRouter(prefix="/sources", tags=["sources"])

MAX_TREE_BYTES: Final = 256 * 1024
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "The tree of a source file; its schema is `/sources/schema`.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
_RESPONSES: Final = LOCKED | problem_responses(
    _413="Larger than a source file is.",
    _422="No source; each fault names its key.",
    _502="The source did not deliver.",
)


async def read_tree(request: Request, resources: ResourcesDep) -> list[ResourceSpec]:
    """
    Raises:
        ProblemError: 413 for too much, 422 for what is no source.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_TREE_BYTES:
            raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a source has at most {MAX_TREE_BYTES} bytes")
    try:
        return read_posted(bytes(body), catalog=resources.catalog, settings=resources.settings)
    except ConfigError as error:
        raise _unfit(error) from error


Posted = Annotated[list[ResourceSpec], Depends(read_tree)]


@router.post("/check", dependencies=[Operator], responses=_RESPONSES, openapi_extra=_BODY)
async def check_posted(specs: Posted, resources: ResourcesDep) -> list[CheckReport]:
    """Ask a source that is no file yet for its first page, and look at it; nothing is stored."""
    try:
        return [CheckReport(**report) for report in await posted.check(specs, resources.settings)]
    except EtlError as error:
        raise _undelivered(error, specs) from error


@router.post("/preview", dependencies=[Operator], responses=_RESPONSES, openapi_extra=_BODY)
async def preview_posted(
    specs: Posted, resources: ResourcesDep, rows: Annotated[int, Query(ge=1, le=100), IN_DIGITS] = 5
) -> list[PreviewedRow]:
    """The first records of a source that is no file yet, as received and as they would be loaded; nothing is stored."""
    try:
        return [PreviewedRow(**row) for row in await posted.preview(specs, resources.settings, rows=rows)]
    except EtlError as error:
        raise _undelivered(error, specs) from error


def _unfit(error: ConfigError) -> ProblemError:
    faults = [line.removeprefix(f"{POSTED}: ") for line in str(error).splitlines()]
    # A key holds no ": ", what is wrong with it may
    errors = [dict(zip(("where", "fault"), line.split(": ", 1), strict=False)) for line in faults]
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(faults), errors=errors)


def _undelivered(error: EtlError, specs: list[ResourceSpec]) -> ProblemError:
    detail = specs[0].secrets.hide(str(error))
    if isinstance(error, ConfigError):
        return _unfit(ConfigError(detail))
    return ProblemError(HTTPStatus.BAD_GATEWAY, detail)
