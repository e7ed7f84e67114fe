"""Errors as `application/problem+json` (RFC 9457). No stranger gets a traceback, and none gets a bare 500."""

import asyncio
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.errors import EtlError, QuestionError, StoreError, StoreUnavailableError
from app.operations.patterns import MEANINGS

log = structlog.get_logger()

PROBLEM_REF: Final = "#/components/schemas/ProblemDetail"


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
    return {
        int(status.removeprefix("_")): {
            "description": meaning,
            "content": {"application/problem+json": {"schema": {"$ref": PROBLEM_REF}}},
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
    app.add_exception_handler(QuestionError, _on_question)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(EtlError, _on_expected)
    app.add_exception_handler(asyncio.TimeoutError, _on_timeout)
    app.add_exception_handler(Exception, _on_bug)


def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(error.status, error.detail, **error.more)


def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [{"where": ".".join(map(str, item["loc"])), "fault": _fault(item)} for item in error.errors()]
    return _invalid(errors)


def _on_question(_request: Request, error: Exception) -> Response:
    assert isinstance(error, QuestionError)
    return _invalid([{"where": f"query.{error.name}", "fault": error.fault}])


def _invalid(errors: list[dict[str, str]]) -> Response:
    detail = "; ".join(f"{item['where']}: {item['fault']}" for item in errors)
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def _fault(item: Mapping[str, Any]) -> str:
    pattern = item.get("ctx", {}).get("pattern")
    return MEANINGS.get(pattern, str(item["msg"]))


def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (allowed := _methods(request)):
        # The router names the methods of the first route that has the path; there may be others
        headers["Allow"] = ", ".join(allowed)
        detail = f"{request.method} is not for {request.url.path}; there is {headers['Allow']}"
        return problem_response(error.status_code, detail, headers=headers)
    return problem_response(error.status_code, str(error.detail), headers=headers)


def _methods(request: Request) -> list[str]:
    """
    What may be done with a path, as the description says; empty for what it does not describe.

    It names no HEAD, which would say all of GET again: there is one wherever there is GET.
    """
    given = request.url.path
    paths: dict[str, Any] = request.app.openapi()["paths"]
    found = [path for path in paths if path == given]
    found = found or [path for path in paths if re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", path), given)]
    methods = {method.upper() for path in found for method in paths[path]}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def _on_expected(_request: Request, error: Exception) -> Response:
    """The message of a store error may quote our own statements: it goes to the log, its reason to the client."""
    if isinstance(error, StoreUnavailableError):
        log.warning("request_without_database", reason=str(error))
        return _unavailable(f"{error.reason}; /readyz says when it can be used again")
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
