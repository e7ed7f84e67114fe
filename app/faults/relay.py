"""
A relay between a process and its sources: it numbers the pages asked for, and does what is to go wrong there.

The process opens each connection to the relay and says in a first line for whom it is (`https://host:443`);
`app.extract.relayed` does that where `FAULT_RELAY` is set. From there on it is HTTP/1.1 in plain, one request
a connection, whatever the source speaks.
"""

import asyncio
import random
import signal
import ssl
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from app.faults.http import HEAD_BYTES, Head, read_parts, reordered
from app.faults.listener import Listener
from app.faults.plans import Action, Edge, Fault, SourceAction

HELD_BYTES: Final = 1024 * 1024
"""Of a body; of a larger one the rest passes as it comes, and it is neither reordered nor repeated."""
KEPT_PAGES: Final = 64
SLOW_SECONDS: Final = 3.0
SLOW_PARTS: Final = 30
_NO_BODY: Final = frozenset({204, 304})
_MANNERS: Final[tuple[SourceAction, ...]] = ("cut_body", "slow")
_CONTENTS: Final[tuple[SourceAction, ...]] = ("dup_page", "reorder")


@dataclass(slots=True)
class _Exchange:
    """One request, and its answer as far as it is held."""

    number: int
    path: str
    asked: Head
    head: Head = field(default_factory=lambda: Head("", ()))
    begin: bytes = b""
    rest: AsyncIterator[bytes] | None = None
    """What follows; None: `begin` is all."""


class Relay(Listener):
    """
    Listens on 127.0.0.1 while its block runs; `url` is what FAULT_RELAY is to be.

    Args:
        faults: each happens once, the first time that its page is asked for and it can happen there; without
            any the relay only counts.
        pages: addresses that have their numbers already, in this order.
        seed: of the order into which records are brought.
    """

    def __init__(self, faults: Iterable[Fault] = (), *, pages: Sequence[str] = (), seed: int = 1) -> None:
        super().__init__(limit=HEAD_BYTES)
        self.struck: list[Fault] = []
        self.able: defaultdict[SourceAction, list[int]] = defaultdict(list)
        """Pages at which an action can happen, as far as they were seen."""
        self.asked: Counter[str] = Counter()
        """How often each address was asked for."""
        self._pending = list(faults)
        self._numbers = {address: number for number, address in enumerate(pages, 1)}
        self._seed = seed
        self._kept: dict[int, _Exchange] = {}
        """The last whole answers, by their page."""
        self._tls = ssl.create_default_context()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pages(self) -> list[str]:
        """Addresses, in the order in which they were first asked: `GET https://host/path?query`."""
        return sorted(self._numbers, key=self._numbers.__getitem__)

    def plan(self, faults: Iterable[Fault]) -> None:
        """From now on these, instead of what has not happened yet."""
        self._pending = list(faults)

    async def serve(self, reader: asyncio.StreamReader, process: asyncio.StreamWriter) -> None:
        origin = (await reader.readline()).decode("latin-1").strip()
        asked = await Head.read(reader)
        body = b"".join([part async for part in read_parts(asked, reader, has_body=bool(asked.length))])
        method, target, *_ = asked.line.split(" ")
        # What is posted is part of the address: some sources page by it
        address = f"{method} {origin}{target}" + (f" {body.decode('latin-1')}" if body else "")
        number = self._number_of(address)
        self.asked[address] += 1
        exchange = _Exchange(number, f"{method} {origin}{target.partition('?')[0]}", asked)
        if self._strike(number, "kill", edge="asked"):
            self.send_signal(signal.SIGKILL)
            return
        if self._strike(number, "http_500"):
            process.write(
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 7\r\nConnection: close\r\n\r\nplanned"
            )
            await process.drain()
            return
        source = await self._ask(exchange, origin, body)
        try:
            await self._answer(exchange, process)
        finally:
            source.close()

    def _number_of(self, address: str) -> int:
        """Of an address met for the first time: that of the next page still to come which differs only in values."""
        if address not in self._numbers:
            kin = (known for known in self._numbers if known not in self.asked and _form(known) == _form(address))
            # Tokens of pages may be made anew for each walk
            stands_for = next(kin, None)
            self._numbers[address] = self._numbers.pop(stands_for) if stands_for else len(self._numbers) + 1
        return self._numbers[address]

    async def _ask(self, exchange: _Exchange, origin: str, body: bytes) -> asyncio.StreamWriter:
        parts = urlsplit(origin)
        is_tls = parts.scheme == "https"
        answers, source = await asyncio.open_connection(
            parts.hostname, parts.port or (443 if is_tls else 80), ssl=self._tls if is_tls else None, limit=HEAD_BYTES
        )
        try:
            source.write(exchange.asked.plus("Connection", "close").encode() + body)
            await source.drain()
            exchange.head = await Head.read(answers)
            while 100 <= exchange.head.status < 200:
                exchange.head = await Head.read(answers)
            has_body = exchange.head.status not in _NO_BODY and not exchange.asked.line.startswith("HEAD ")
            stream = read_parts(exchange.head, answers, has_body=has_body)
            async for part in stream:
                exchange.begin += part
                if len(exchange.begin) >= HELD_BYTES:
                    exchange.rest = stream
                    break
        except BaseException:
            source.close()
            raise
        return source

    async def _answer(self, exchange: _Exchange, process: asyncio.StreamWriter) -> None:
        number, is_whole = exchange.number, exchange.rest is None and exchange.head.status == 200
        before = self._page_before(exchange) if is_whole else None
        changed = reordered(exchange.head, exchange.begin, self._shuffler(number)) if is_whole else None
        # Without a length or chunks nobody can tell a cut from the end
        shows_cuts = exchange.rest is None or exchange.head.length is not None or exchange.head.is_chunked
        able: dict[SourceAction, bool] = {
            "http_500": True,
            "cut_body": len(exchange.begin) > 1 and shows_cuts,
            "slow": len(exchange.begin) > 1,
            "dup_page": before is not None,
            "reorder": changed is not None,
        }
        for action in (action for action, can in able.items() if can and number not in self.able[action]):
            self.able[action].append(number)
        # How it comes, and then what: of an answer that is cut nothing shall be lost but the answer
        killed = self._strike(number, "kill", edge="answered") is not None
        manner = self._strike(number, *(action for action in _MANNERS if able[action]))
        content = None
        if manner != "cut_body" and not killed:
            content = self._strike(number, *(action for action in _CONTENTS if able[action]))
        if content == "dup_page":
            assert before is not None
            exchange.head, exchange.begin = before.head.without("etag", "last-modified"), before.begin
        elif content == "reorder":
            assert changed is not None
            exchange.head, exchange.begin = changed
        await self._send(exchange, process, manner, half=killed or manner == "cut_body")
        if killed:
            self.send_signal(signal.SIGKILL)

    async def _send(
        self, exchange: _Exchange, process: asyncio.StreamWriter, manner: Action | None, *, half: bool
    ) -> None:
        head, begin, length = exchange.head.plus("Connection", "close"), exchange.begin, exchange.head.length
        if exchange.rest is None and exchange.head.status not in _NO_BODY and begin:
            length = len(begin)
            head = head.without("transfer-encoding").plus("Content-Length", str(length))
        process.write(head.encode())
        is_chunked, left = head.is_chunked, None
        if half:
            left = (length or len(begin)) // 2
        sent = 0
        async for part in _parts(exchange, slowly=manner == "slow"):
            kept = part if left is None else part[: left - sent]
            process.write(b"%x\r\n%s\r\n" % (len(kept), kept) if is_chunked else kept)
            await process.drain()
            sent += len(kept)
            if left is not None and sent >= left:
                return  # closed by the caller, after what was written
        if is_chunked:
            process.write(b"0\r\n\r\n")
        await process.drain()

    def _page_before(self, exchange: _Exchange) -> _Exchange | None:
        """The one of the same path whose number is next below; what is asked about is kept as well."""
        same = [kept for kept in self._kept.values() if kept.path == exchange.path and kept.number < exchange.number]
        self._kept.pop(exchange.number, None)
        self._kept[exchange.number] = replace(exchange)  # what is sent may be something else
        if len(self._kept) > KEPT_PAGES:
            del self._kept[next(iter(self._kept))]
        return max(same, key=lambda kept: kept.number, default=None)

    def _strike(self, number: int, *actions: Action, edge: Edge = "page") -> Action | None:
        """The first of what is planned for this page that can happen now."""
        for fault in self._pending:
            if (fault.edge, fault.number) == (edge, number) and fault.action in actions:
                self._pending.remove(fault)
                self.struck.append(fault)
                return fault.action
        return None

    def _shuffler(self, number: int) -> random.Random:
        return random.Random(f"{self._seed} {number}")  # noqa: S311 -- repeatable, that is its point


async def _parts(exchange: _Exchange, *, slowly: bool) -> AsyncIterator[bytes]:
    size = -(-len(exchange.begin) // SLOW_PARTS) if slowly else len(exchange.begin)
    for at in range(0, len(exchange.begin), max(1, size)):
        if slowly:
            await asyncio.sleep(SLOW_SECONDS / SLOW_PARTS)
        yield exchange.begin[at : at + size]
    if exchange.rest is not None:
        async for part in exchange.rest:
            yield part


def _form(address: str) -> tuple[str, list[str]]:
    """An address without the values in its query, and without what is posted."""
    method, url, *_ = address.split(" ")
    path, _, query = url.partition("?")
    return f"{method} {path}", [name for name, _ in parse_qsl(query, keep_blank_values=True)]
