"""One line per request: method, path, status, seconds. No query, no header, no body."""

import logging
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.clock import monotonic

log = structlog.get_logger()

PROBES: Final = frozenset({"/livez", "/readyz", "/health"})


class RequestLog:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = monotonic()
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            # Probes come every few seconds, and say nothing while all is well
            is_quiet = status < 400 and scope["path"] in PROBES
            log.log(
                logging.DEBUG if is_quiet else logging.INFO,
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=round(monotonic() - started, 4),
            )
