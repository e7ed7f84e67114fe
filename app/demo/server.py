"""A small API and a CSV file over HTTP, so that `etl demo` extracts for real and works offline."""

import hashlib
import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import structlog

log = structlog.get_logger()

DATA: Final = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class SampleSources:
    api_url: str
    """`/posts` is to be appended."""
    csv_url: str


@contextmanager
def sample_sources(*, port: int = 0) -> Iterator[SampleSources]:
    """Serve the samples on 127.0.0.1 while the block runs; port 0 picks one."""
    server = _Server(("127.0.0.1", port), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield SampleSources(api_url=url, csv_url=f"{url}/products.csv")
    finally:
        server.shutdown()
        thread.join()
        server.hang_up()
        server.server_close()


class _Server(ThreadingHTTPServer):
    """Leaves nothing behind: closing it waits for the connections' threads, and `hang_up` makes that short."""

    daemon_threads = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def hang_up(self) -> None:
        """Read no more from anybody; an answer under way is still sent."""
        for connection in list(self._connections):
            with suppress(OSError):  # it was closed meanwhile
                connection.shutdown(socket.SHUT_RD)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 -- the base class passes them
        # In the base class a traceback on stderr; a client that went away is no news
        log.debug("demo_request", status=None, error=repr(sys.exception()))


class _Handler(BaseHTTPRequestHandler):
    """`/posts?_page=&_limit=` with a Link header, as json-server 0.17 has it; `/products.csv`; ETags on both."""

    protocol_version = "HTTP/1.1"
    timeout = 5  # seconds; an idle connection must not keep its thread for ever
    wbufsize = -1  # head and body in one write: in two, Nagle and a delayed ACK cost 40 ms a request

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/posts":
            self._answer_posts(parse_qs(query))
        elif path == "/products.csv":
            self._answer_file("products.csv", {"Content-Type": "text/csv; charset=utf-8"})
        elif path == "/":
            self._answer_json(200, {"posts": "/posts?_page=1&_limit=10", "products": "/products.csv"})
        else:
            self._answer_json(404, {"error": f"no such path: {path}"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer_posts(self, query: dict[str, list[str]]) -> None:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if "_page" not in query and "_limit" not in query:
            self._answer_file("posts.json", headers)
            return
        # One record a line: a page is cut from the file's own bytes
        records = [line.strip().rstrip(b",") for line in (DATA / "posts.json").read_bytes().splitlines()[1:-1]]
        page, limit = _positive(query, "_page", default=1), _positive(query, "_limit", default=10)
        headers |= {"X-Total-Count": str(len(records)), "Link": self._links(page, limit, len(records))}
        records = records[(page - 1) * limit : page * limit]
        self._answer(200, b"[\n" + b",\n".join(records) + b"\n]" if records else b"[]", headers)

    def _links(self, page: int, limit: int, total: int) -> str:
        """Of the pages around `page`; empty, as json-server has it, past the end or when all fits on one."""
        last = -(-total // limit)
        if page > last or last == 1:
            return ""
        pages = {"first": 1, "prev": page - 1, "next": page + 1, "last": last}
        host = self.headers.get("Host", "127.0.0.1")
        return ", ".join(
            f'<http://{host}/posts?_page={number}&_limit={limit}>; rel="{relation}"'
            for relation, number in pages.items()
            if 1 <= number <= last
        )

    def _answer_file(self, name: str, headers: dict[str, str]) -> None:
        file = DATA / name
        self._answer(200, file.read_bytes(), headers | {"Last-Modified": formatdate(file.stat().st_mtime, usegmt=True)})

    def _answer_json(self, status: int, body: object) -> None:
        self._answer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        if status == 200:
            headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            if self._is_known(headers["ETag"]):
                status, body = 304, b""
                del headers["Content-Type"]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        log.debug("demo_request", method=self.command, path=self.path.partition("?")[0], status=status)

    def _is_known(self, etag: str) -> bool:
        # RFC 9110 §13.1.2: a list, compared weakly, or `*`
        known = [tag.strip().removeprefix("W/") for tag in self.headers.get("If-None-Match", "").split(",")]
        return etag in known or "*" in known

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name it has in the base class
        """Nothing: `demo_request` says it."""


def _positive(query: dict[str, list[str]], name: str, *, default: int) -> int:
    """As json-server reads it: what is not a number from 1 up is the default."""
    text = query.get(name, [""])[-1]
    return (int(text) or default) if re.fullmatch("[0-9]{1,9}", text) else default
