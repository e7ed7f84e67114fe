"""HEAD wherever there is GET, with the same headers (RFC 9110 §9.3.2)."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

_MARK: Final = "etl_river.is_head"


class HeadAsGet:
    """To the routes a HEAD is a GET; it is the server that sends no body, since it knows what was asked of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", _MARK: True}
        await self._app(scope, receive, send)


def is_head(scope: Scope) -> bool:
    """Whether a body would be made for nobody."""
    return _MARK in scope
