"""Who may operate: whoever sends OPERATOR_TOKEN. Reading needs no token; no address is trusted for being local."""

import hashlib
import hmac
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.deps import ResourcesDep
from app.api.problems import ProblemError, problem_responses

_bearer = HTTPBearer(auto_error=False, description="OPERATOR_TOKEN")


def require_operator(
    resources: ResourcesDep, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> None:
    """
    Raises:
        ProblemError: 403 when no token is configured, 401 for a wrong or a missing one.
    """
    expected = resources.settings.server.operator_token
    if expected is None:
        raise ProblemError(HTTPStatus.FORBIDDEN, "no operator token is configured: set OPERATOR_TOKEN, and send it")
    # Of their hashes, so that neither length nor time tells anything
    sent = given.credentials if given else ""
    digests = [
        hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (sent, expected.get_secret_value())
    ]
    if not hmac.compare_digest(*digests):
        raise ProblemError(
            HTTPStatus.UNAUTHORIZED, "send OPERATOR_TOKEN as bearer token", headers={"WWW-Authenticate": "Bearer"}
        )


Operator = Depends(require_operator)
LOCKED = problem_responses(
    _401="The operator's token is missing or wrong.", _403="No operator's token is configured.", _404="No such source."
)
"""What a route of the operator's may answer instead."""
