"""Connections that lead to a fault relay (`app.faults.relay`) instead of to the source."""

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.tracing import Trace


class RelayedConnector(aiohttp.TCPConnector):
    """
    Each connection goes to the relay, and says first for whom it is.

    URLs, the Host field, links and redirects stay those of the source: every connection of a session is made
    here, so none of them leads past the relay. TLS is the relay's to speak. Addresses are not checked, for the
    relay resolves them: one more reason why FAULT_RELAY is refused where others are served.

    Args:
        relay: `http://127.0.0.1:PORT`.
    """

    def __init__(self, relay: str) -> None:
        super().__init__()
        parts = urlsplit(relay)
        self._host, self._port = parts.hostname or "", parts.port or 0

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list["Trace"],  # noqa: ARG002 -- aiohttp's own signature
        timeout: aiohttp.ClientTimeout,  # noqa: ARG002, ASYNC109
    ) -> "ResponseHandler":
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(self._factory, self._host, self._port)
        transport.write(f"{req.url.scheme}://{req.url.raw_authority}\n".encode())
        return protocol
