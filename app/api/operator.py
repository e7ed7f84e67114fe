"""
Who may do what over HTTP, by bearer token; no address is trusted for being local.

Reading what is served is open, and closed as soon as READ_TOKEN is set. Raw
records are shown to whoever sends READ_TOKEN or OPERATOR_TOKEN, and changes
are the operator's. Where neither is configured, nobody may.
"""

import hashlib
import hmac
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from app.api.deps import ResourcesDep
from app.api.problems import ProblemError, problem_responses

_bearer = HTTPBearer(auto_error=False, description="OPERATOR_TOKEN, or READ_TOKEN for reading")
_Given = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


async def require_operator(resources: ResourcesDep, given: _Given) -> None:
    """
    Raises:
        ProblemError: 403 when no token is configured or it is only for reading, 401 for a wrong or a missing one.
    """
    server = resources.settings.server
    if server.operator_token is None:
        raise ProblemError(HTTPStatus.FORBIDDEN, "no operator token is configured: set OPERATOR_TOKEN, and send it")
    if _is_one_of(given, server.operator_token):
        return
    if _is_one_of(given, server.read_token):
        raise ProblemError(HTTPStatus.FORBIDDEN, "READ_TOKEN is for reading; this needs OPERATOR_TOKEN")
    raise _unauthorized("OPERATOR_TOKEN")


async def require_inspector(resources: ResourcesDep, given: _Given) -> None:
    """The same for what shows raw records: READ_TOKEN will do, too."""
    server = resources.settings.server
    if server.operator_token is None and server.read_token is None:
        raise ProblemError(
            HTTPStatus.FORBIDDEN, "no token is configured: set OPERATOR_TOKEN or READ_TOKEN, and send it"
        )
    if not _is_one_of(given, server.operator_token, server.read_token):
        raise _unauthorized("OPERATOR_TOKEN or READ_TOKEN")


async def require_reader(resources: ResourcesDep, given: _Given) -> None:
    """The same for what is served; open while READ_TOKEN is unset."""
    server = resources.settings.server
    if server.read_token is not None and not _is_one_of(given, server.operator_token, server.read_token):
        raise _unauthorized("READ_TOKEN")


def _is_one_of(given: HTTPAuthorizationCredentials | None, *expected: SecretStr | None) -> bool:
    # Of their hashes, so that neither length nor time tells anything
    sent = _digest(given.credentials if given else "")
    return any(token is not None and hmac.compare_digest(sent, _expected(token)) for token in expected)


def _expected(token: SecretStr) -> bytes:
    """The configured one may itself be kept as `sha256:` and the hash in hexadecimal digits."""
    kind, _, digits = token.get_secret_value().partition(":")
    return bytes.fromhex(digits) if kind == "sha256" else _digest(token.get_secret_value())


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _unauthorized(name: str) -> ProblemError:
    return ProblemError(HTTPStatus.UNAUTHORIZED, f"send {name} as bearer token", headers={"WWW-Authenticate": "Bearer"})


Operator = Depends(require_operator)
Inspector = Depends(require_inspector)
Reader = Depends(require_reader)
LOCKED = problem_responses(
    _401="The token is missing or wrong.",
    _403="No token is configured, or it is only for reading.",
    _404="Not there, or disabled.",
)
"""What such a route may answer instead."""
