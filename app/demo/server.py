"""A small API and a CSV file over HTTP, so that `etl demo` extracts for real and works offline."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

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
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield SampleSources(api_url=url, csv_url=f"{url}/products.csv")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """`/posts?_page=&_limit=` with a Link header, as json-server 0.17 has it; `/products.csv`; ETags on both."""

    protocol_version = "HTTP/1.1"
    timeout = 5  # seconds; an idle connection must not keep its thread for ever

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/posts":
            self._answer_posts()
        elif path == "/products.csv":
            self._answer(200, (DATA / "products.csv").read_bytes(), {"Content-Type": "text/csv; charset=utf-8"})
        elif path == "/":
            self._answer_json(200, {"posts": "/posts?_page=1&_limit=10", "products": "/products.csv"})
        else:
            self._answer_json(404, {"error": f"no such path: {path}"})

    do_HEAD = do_GET

    def _answer_posts(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        # One record a line: a page is cut from the file's own bytes
        records = [line.strip().rstrip(b",") for line in (DATA / "posts.json").read_bytes().splitlines()[1:-1]]
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if "_page" in query or "_limit" in query:
            page, limit = _positive(query, "_page", 1), _positive(query, "_limit", 10)
            headers |= {"X-Total-Count": str(len(records)), "Link": self._links(page, limit, len(records))}
            records = records[(page - 1) * limit : page * limit]
        self._answer(200, b"[\n" + b",\n".join(records) + b"\n]", headers)

    def _links(self, page: int, limit: int, total: int) -> str:
        last = -(-total // limit)
        pages = {"first": 1, "prev": page - 1, "next": page + 1, "last": last}
        if page > last:
            return ""
        host = self.headers.get("Host", "127.0.0.1")
        return ", ".join(
            f'<http://{host}/posts?_page={number}&_limit={limit}>; rel="{relation}"'
            for relation, number in pages.items()
            if 1 <= number <= last
        )

    def _answer_json(self, status: int, body: object) -> None:
        self._answer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        if status == 200 and self.headers.get("If-None-Match") == etag:
            status, body, headers = 304, b"", {}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status in {200, 304}:
            self.send_header("ETag", etag)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        log.debug("demo_request", method=self.command, path=urlsplit(self.path).path, status=status)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name it has in the base class
        """Nothing: `demo_request` says it."""


def _positive(query: dict[str, list[str]], name: str, default: int) -> int:
    text = query.get(name, [""])[-1]
    return max(1, int(text)) if text.isascii() and text.isdigit() else default
