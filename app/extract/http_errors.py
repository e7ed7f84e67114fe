"""aiohttp's errors → ours, and URLs fit for messages."""

import re
from types import TracebackType
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiohttp

from app.errors import SourceError, SourceRefusedError, SourceUnavailableError

_SECRET_PARAM: Final = re.compile(r"key|token|secret|passw|auth|sig|session|credential|code", re.IGNORECASE)


class source_errors:  # noqa: N801 -- reads as the statement it is: `with source_errors(url):`
    """aiohttp's errors → ours, the URL attached without its secrets."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, SourceError) or not isinstance(error, Exception):
            return
        what = f"GET {redact(self._url)}"
        if isinstance(error, aiohttp.TooManyRedirects):
            raise SourceRefusedError(f"{what}: more than 5 redirects") from error
        if isinstance(error, aiohttp.InvalidURL | aiohttp.RedirectClientError):
            raise SourceRefusedError(f"{what}: not a URL that can be asked, or leads to one that cannot") from error
        if isinstance(error, TimeoutError):
            raise SourceUnavailableError(f"{what}: timed out ({_timeout_reason(error)})") from error
        if isinstance(error, aiohttp.ClientPayloadError):
            raise SourceUnavailableError(f"{what}: the body was cut or its encoding is broken") from error
        if isinstance(error, aiohttp.ClientError | OSError):
            raise SourceUnavailableError(f"{what}: {_plain(error)}") from error


def _timeout_reason(error: TimeoutError) -> str:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection"
    if isinstance(error, aiohttp.SocketTimeoutError):
        return "silence; HTTP_READ_TIMEOUT_SECONDS"
    return "not complete in time; HTTP_TOTAL_TIMEOUT_SECONDS"


def _plain(error: BaseException) -> str:
    # The str() of an error of a response holds the whole URL, secrets included
    plain = error.message if isinstance(error, aiohttp.ClientResponseError) else getattr(error, "os_error", error)
    text = str(plain)
    return re.sub(r"://[^/@\s]*@", "://", text or type(error).__name__)[:200]


def redact(url: str) -> str:
    """A URL fit for logs and messages: no user, no password, no value of a parameter that sounds secret."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(unreadable URL)"
    query = [
        (name, "***" if sounds_secret(name) else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return urlunsplit((parts.scheme, host, parts.path, urlencode(query, safe="*"), ""))


def excerpt(body: bytes) -> str | None:
    """The beginning of what an answer says, in one line; None when it says nothing. It may hold secrets."""
    words = " ".join(body[:4000].decode("utf-8", "replace").split())
    return "".join(character for character in words if character.isprintable()) or None


def sounds_secret(name: str) -> bool:
    """Whether a parameter or header of this name may hold a credential."""
    return _SECRET_PARAM.search(name) is not None
