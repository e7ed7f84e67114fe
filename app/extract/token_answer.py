"""What a token endpoint answers (RFC 6749 §5). No I/O; no message holds a secret."""

import json
import math
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from app.errors import SourceRefusedError

HEADER_VALUE: Final = re.compile(r"(?! )[\x20-\x7e\xa0-\xff]+(?<! )"), "latin-1 text without line ends or outer spaces"
_ERROR_CODE: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
# RFC 6749 §5.2: these say nothing about the refresh token
_NOT_THE_TOKEN: Final = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope"})


class Token(NamedTuple):
    access: str
    lifetime_seconds: float
    refresh: str


class TokenRefusedError(SourceRefusedError):
    about_token = False
    """Perhaps another refresh token is accepted."""


def parse_token(status: int, body: bytes, *, what: str, hidden: Iterable[str], default_seconds: float) -> Token:
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    fields: dict[str, Any] = answer if isinstance(answer, dict) else {}
    access, kind, code = fields.get("access_token"), fields.get("token_type", "bearer"), fields.get("error")
    if code is not None or not 200 <= status < 300:
        named = isinstance(code, str) and _ERROR_CODE.fullmatch(code) and not any(secret in code for secret in hidden)
        error = TokenRefusedError(f"{what}, {code if named else 'unnamed error'}; check client.auth", status=status)
        error.about_token = code not in _NOT_THE_TOKEN if named else status in {400, 401}
        raise error
    usable = isinstance(access, str) and HEADER_VALUE[0].fullmatch(access)
    if not usable or not isinstance(kind, str) or kind.lower() != "bearer":
        found = "no usable access_token of type Bearer" if fields else "no JSON object"
        raise TokenRefusedError(f"{what}, {found}; check client.auth.access_token_url", status=status)
    refresh = fields.get("refresh_token")
    seconds = _seconds(fields.get("expires_in"), default_seconds)
    return Token(str(access), seconds, refresh if isinstance(refresh, str) else "")


def _seconds(value: Any, default: float) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return default
    return min(seconds, 366 * 86_400) if 0 < seconds < math.inf else default
