"""The description of the API, brought in line with what it answers: errors are problems, and reading may be open."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.problems import PROBLEM_REF, problem_responses
from app.api.schemas import ProblemDetail

_FRAMEWORKS_OWN: Final = ("HTTPValidationError", "ValidationError")
_NO_DATABASE: Final = frozenset({"/livez"})


def describe(app: FastAPI, *, reading_is_closed: bool) -> None:
    """
    Make `/openapi.json` say what the service does.

    Args:
        reading_is_closed: a token is needed for what is open otherwise.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            tree = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            for path, operations in tree["paths"].items():
                for operation in operations.values():
                    _mend(operation, closed=reading_is_closed, needs_database=path not in _NO_DATABASE)
            schemas = tree["components"]["schemas"]
            for name in _FRAMEWORKS_OWN:
                schemas.pop(name, None)
            schemas[PROBLEM_REF.rpartition("/")[2]] = ProblemDetail.model_json_schema()
            app.openapi_schema = tree
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _mend(operation: dict[str, Any], *, closed: bool, needs_database: bool) -> None:
    responses: dict[str, Any] = operation["responses"]
    needs_token = "401" in responses
    added: dict[int | str, dict[str, Any]] = {}
    if "422" in responses:
        said = responses["422"]["description"]
        wrong = "A parameter is wrong." if said == "Validation Error" else said
        responses.pop("422")
        added |= problem_responses(_422=wrong)
    if "requestBody" in operation:
        added |= problem_responses(_400="The body cannot be read.")
    if needs_database:
        added |= problem_responses(_503="The database cannot be reached, or took too long.")
    if not needs_token and "security" in operation:
        if closed:
            added |= problem_responses(_401="READ_TOKEN is missing or wrong.")
        else:
            operation.pop("security")
    for status, response in added.items():
        responses.setdefault(str(status), response)
