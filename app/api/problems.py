"""Errors as `application/problem+json` (RFC 9457). No stranger gets a traceback, and none gets a bare 500."""

import asyncio
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.api.schemas import ProblemDetail
from app.errors import ConfigError, EtlError, StoreError, StoreUnavailableError

log = structlog.get_logger()


class ProblemError(Exception):
    """
    Something the client should read.

    Args:
        detail: what is wrong and what to do about it.
        more: further members of the problem object.
    """

    def __init__(self, status: HTTPStatus, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.more = more


def problem_responses(**meanings: str) -> dict[int | str, dict[str, Any]]:
    """
    For a route's `responses`: which problems it may answer with, and what they mean.

    Args:
        meanings: by status, as in `_503="No database."`.
    """
    schema = ProblemDetail.model_json_schema()
    return {
        int(status.removeprefix("_")): {
            "description": meaning,
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status, meaning in meanings.items()
    }


def problem_response(status: int, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **more,
    }
    return JSONResponse(body, int(status), headers=headers, media_type="application/problem+json")


def install_problem_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(EtlError, _on_expected)
    app.add_exception_handler(asyncio.TimeoutError, _on_timeout)
    app.add_exception_handler(Exception, _on_bug)


def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(error.status, error.detail, **error.more)


def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [{"where": ".".join(map(str, item["loc"])), "fault": item["msg"]} for item in error.errors()]
    detail = "; ".join(f"{item['where']}: {item['fault']}" for item in errors)
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def _on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem_response(error.status_code, str(error.detail), headers=dict(error.headers or {}))


def _on_expected(_request: Request, error: Exception) -> Response:
    """The message of a store error may quote our own statements: it goes to the log, not to the client."""
    if isinstance(error, StoreUnavailableError | ConfigError):
        log.warning("request_without_database", reason=str(error))
        return _unavailable("the database cannot be reached now; /readyz says when it can")
    assert isinstance(error, StoreError | EtlError)
    log.error("request_failed", error_class=error.error_class, error=str(error))
    return _unavailable("the database could not answer; try again")


def _on_timeout(_request: Request, _error: Exception) -> Response:
    return _unavailable("the database took too long to answer; ask for less, or try again")


def _on_bug(request: Request, error: Exception) -> Response:
    log.error("request_broke", path=request.url.path, exc_info=error)
    return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, "a bug of ours; the log has the traceback")


def _unavailable(detail: str) -> JSONResponse:
    return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "5"})
