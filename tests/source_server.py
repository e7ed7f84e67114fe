"""
A source to extract from: real HTTP on loopback, scripted to misbehave.

`tests/integration/test_source_server.py` proves it before anything trusts it.
"""

import asyncio
import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from app.clock import monotonic


@dataclass(frozen=True, slots=True)
class Seen:
    """One request, as the server saw it."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float
    method: str = "GET"
    body: bytes = b""
    pairs: tuple[tuple[str, str], ...] = ()
    """The query, names that come twice included."""
    header_pairs: tuple[tuple[str, str], ...] = ()
    """The same of the headers."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer made for one request: `json` is encoded, bytes are sent as they are."""

    json: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """What one request gets instead of its answer."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = "application/json"
    hang: bool = False
    """Accept, and never answer."""
    cut_after: int | None = None
    """Send that many bytes of the real body, then drop the connection."""
    pause_seconds: float = 0.0
    """Before it is dropped: what was sent can be read."""
    bytes_per_second: int | None = None
    """Send the real body that slowly."""
    gate: asyncio.Event | None = None
    """Answer as usual, once this is set."""


class SourceServer:
    """
    Bodies by path, with faults queued before them.

        server.put("/items.csv", b"id\\n1\\n", etag='"v1"')
        server.put_pages("/posts", records)
        server.fault("/posts", Fault(status=500), Fault(hang=True))
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._answers: dict[str, Callable[[web.Request], tuple[bytes, dict[str, str]]]] = {}
        self._scripts: dict[str, Callable[[Seen], Reply]] = {}
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._stopping = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        await self._runner.cleanup()

    def put(self, path: str, body: bytes, *, content_type: str = "text/csv", **headers: str) -> str:
        """Serve a body; `etag` and `last_modified` become validators. The URL."""
        sent = {name.replace("_", "-").title().replace("Etag", "ETag"): value for name, value in headers.items()}
        self._answers[path] = lambda _request: (body, {"Content-Type": content_type, **sent})
        return self.url + path

    def put_pages(self, path: str, records: Sequence[Any] | bytes, *, etags: bool = False, links: bool = True) -> str:
        """Serve JSON records by `_page` and `_limit`, as json-server does. The URL."""

        def answer(request: web.Request) -> tuple[bytes, dict[str, str]]:
            assert not isinstance(records, bytes)
            page, limit = int(request.query.get("_page", 1)), int(request.query.get("_limit", 10))
            last = max(1, -(-len(records) // limit))
            body = json.dumps(list(records[(page - 1) * limit : page * limit])).encode()
            headers = {"Content-Type": "application/json"}
            if etags:
                headers["ETag"] = f'"{hashlib.sha1(body).hexdigest()}"'
            if links:
                following = request.url.update_query(_page=page + 1)
                headers["Link"] = f'<{following}>; rel="next"' if page < last else ""
            return body, headers

        self._answers[path] = answer
        return self.url + path

    def put_json(self, path: str, answer: Callable[[dict[str, str]], Any], **headers: str) -> None:
        """Serve what a function makes of the query."""
        sent = {name.replace("_", "-").title(): value for name, value in headers.items()}

        def encoded(request: web.Request) -> tuple[bytes, dict[str, str]]:
            return json.dumps(answer(dict(request.query))).encode(), {"Content-Type": "application/json", **sent}

        self._answers[path] = encoded

    def put_script(self, path: str, script: Callable[[Seen], Reply]) -> str:
        """Serve what a function makes of the whole request, its status included. The URL."""
        self._scripts[path] = script
        return self.url + path

    def fault(self, path: str, *faults: Fault) -> None:
        """Queue faults: each spoils one request to the path."""
        self._faults[path].extend(faults)

    def forget_faults(self, path: str) -> None:
        """Those that no request has met."""
        self._faults[path].clear()

    def requests(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        sent = await request.read()
        seen = Seen(
            request.path,
            dict(request.query),
            dict(request.headers),
            monotonic(),
            request.method,
            sent,
            tuple(request.query.items()),
            tuple(request.headers.items()),
        )
        self.seen.append(seen)
        queue = self._faults[request.path]
        fault = queue.popleft() if queue else Fault()
        if fault.gate is not None:
            await fault.gate.wait()
        if fault.hang:
            await self._stopping.wait()
        if fault.status is not None:
            return web.Response(
                status=fault.status,
                headers={"Content-Type": fault.content_type, **fault.headers},
                body=fault.body,
            )
        if request.path in self._scripts:
            return _scripted(request, self._scripts[request.path](seen))
        if request.path not in self._answers:
            return web.Response(status=404, text="no such path")
        body, headers = self._answers[request.path](request)
        if "ETag" in headers and request.headers.get("If-None-Match") == headers["ETag"]:
            # As Express sends it: what describes the body is left out, the rest is not
            kept: dict[str, str] = {name: headers[name] for name in ("ETag", "Link") if name in headers}
            return web.Response(status=304, headers=kept)
        if "Last-Modified" in headers and request.headers.get("If-Modified-Since") == headers["Last-Modified"]:
            return web.Response(status=304)
        return await self._send(request, body, headers, fault)

    async def _send(
        self, request: web.Request, body: bytes, headers: dict[str, str], fault: Fault
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={**headers, "Content-Length": str(len(body))})
        await response.prepare(request)
        if fault.cut_after is not None:
            await response.write(body[: fault.cut_after])
            await asyncio.sleep(fault.pause_seconds)
            assert request.transport is not None
            request.transport.close()
            return response
        if fault.bytes_per_second is not None:
            for at in range(len(body)):
                await response.write(body[at : at + 1])
                await asyncio.sleep(1 / fault.bytes_per_second)
            return response
        await response.write(body)
        await response.write_eof()
        return response


def _scripted(request: web.Request, reply: Reply) -> web.Response:
    headers = {"Content-Type": "application/json", **reply.headers}
    if "ETag" in headers and request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers={**reply.headers})
    body = reply.json if isinstance(reply.json, bytes) else json.dumps(reply.json).encode()
    return web.Response(status=reply.status, headers=headers, body=body)
