"""As much of HTTP/1.1 as it takes to pass a request on and to know where its answer ends (RFC 9112)."""

import asyncio
import gzip
import json
import random
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Final, Self

HEAD_BYTES: Final = 256 * 1024
PART_BYTES: Final = 16 * 1024
_BLANKS: Final = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """The first line, and the fields as they came."""

    line: str
    fields: tuple[tuple[str, str], ...]

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Self:
        """
        Raises:
            OSError: the connection ended before it, or this is no HTTP.
        """
        try:
            text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionAbortedError("no whole head of a message") from error
        line, *fields = text[:-4].split("\r\n")
        pairs = (field.partition(":") for field in fields)
        return cls(line, tuple((name, value.strip()) for name, _, value in pairs))

    def get(self, name: str) -> str:
        """Lower case; empty where it is not there."""
        return ", ".join(value for field, value in self.fields if field.lower() == name).lower()

    def without(self, *names: str) -> Self:
        return replace(self, fields=tuple(pair for pair in self.fields if pair[0].lower() not in names))

    def plus(self, name: str, value: str) -> Self:
        return replace(self.without(name.lower()), fields=(*self.without(name.lower()).fields, (name, value)))

    def encode(self) -> bytes:
        return "\r\n".join([self.line, *(f"{name}: {value}" for name, value in self.fields), "", ""]).encode("latin-1")

    @property
    def status(self) -> int:
        """Of an answer; 0 where this is none."""
        words = self.line.split(" ", 2)
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0

    @property
    def length(self) -> int | None:
        """None: the message does not say."""
        text = self.get("content-length")
        return int(text) if text.isdigit() and not self.is_chunked else None

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.get("transfer-encoding")


async def read_parts(head: Head, reader: asyncio.StreamReader, *, has_body: bool = True) -> AsyncIterator[bytes]:
    """
    The body, without the frames of its chunks.

    Raises:
        OSError: the connection ended in the middle.
    """
    if not has_body:
        return
    try:
        if head.is_chunked:
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                yield await reader.readexactly(size)
                await reader.readexactly(2)
            return
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise ConnectionAbortedError("a body that was cut") from error
    left = head.length
    while left is None or left > 0:
        part = await reader.read(PART_BYTES if left is None else min(left, PART_BYTES))
        if not part and left is not None:
            raise ConnectionAbortedError("a body that was cut")
        if not part:
            return
        left = None if left is None else left - len(part)
        yield part


def reordered(head: Head, body: bytes, rng: random.Random) -> tuple[Head, bytes] | None:
    """
    A JSON page with its records in another order; None where it has no two different ones, or is no JSON.

    Its records are the longest array of objects in it. What vouched for the body as it was is left out.
    """
    try:
        text = _plain(head, body).decode()
        json.loads(text)  # and nothing after it, as JSON lines have it
        found = [spans for spans in _arrays(text, 0) if len({text[a:b] for a, b in spans}) > 1]
    except (ValueError, OSError, EOFError, zlib.error, RecursionError):
        return None
    if not found:
        return None
    spans = max(found, key=lambda spans: spans[-1][1] - spans[0][0])
    order = spans[:]
    rng.shuffle(order)
    if [text[a:b] for a, b in order] == [text[a:b] for a, b in spans]:
        order.reverse()
    parts, at = [], 0
    for (begin, end), (other_begin, other_end) in zip(spans, order, strict=True):
        parts += [text[at:begin], text[other_begin:other_end]]
        at = end
    return head.without("content-encoding", "etag", "last-modified"), "".join([*parts, text[at:]]).encode()


def _plain(head: Head, body: bytes) -> bytes:
    encoding = head.get("content-encoding")
    if encoding in {"gzip", "x-gzip"}:
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    if encoding not in {"", "identity"}:
        raise ValueError(encoding)
    return body


_decode: Final = json.JSONDecoder().raw_decode


def _arrays(text: str, at: int) -> Iterator[list[tuple[int, int]]]:
    """Of each array of objects, from the outside in, where its elements begin and end."""
    at = _skip(text, at)
    if text[at : at + 1] == "[":
        spans = list(_elements(text, at))
        if all(text[begin] == "{" for begin, _ in spans):
            yield spans
    elif text[at : at + 1] == "{":
        values = list(_elements(text, at))
        for begin, _ in values:
            yield from _arrays(text, begin)


def _elements(text: str, at: int) -> Iterator[tuple[int, int]]:
    """Where the elements of an array, or the values of an object, begin and end."""
    is_object, at = text[at] == "{", _skip(text, at + 1)
    while text[at : at + 1] not in {"]", "}"}:
        if is_object:
            _, at = _decode(text, at)
            at = _skip(text, at)
            at = _skip(text, at + 1)  # the colon
        _, end = _decode(text, at)
        yield at, end
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] not in {"]", "}"}:
            raise ValueError("no JSON")


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _BLANKS:
        at += 1
    return at
