"""Compressed bytes → the file inside, part by part: no more than a megabyte at once, however small the input."""

import struct
import zlib
from asyncio import sleep
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

from app.errors import ConfigError, SourceMalformedError, SourceUnavailableError
from app.sources.csv_format import Compression

SLICE_BYTES: Final = 1024 * 1024
"""The most that is inflated before someone takes it."""

_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_MARKS: Final[tuple[tuple[bytes, Compression], ...]] = ((_GZIP, "gzip"), (_ZIP, "zip"), (_ZSTD, "zstd"))


async def decompressed(
    parts: AsyncIterator[bytes], compression: Compression, *, max_bytes: int, what: str
) -> AsyncGenerator[bytes, None]:
    """
    The body as it was before compression.

    Args:
        compression: "auto" decides by the first bytes; "none" passes all through.
        max_bytes: of the result.
        what: names the body in messages; without secrets.

    Raises:
        SourceMalformedError: not what it should be, damaged, or too large.
        SourceUnavailableError: it ends in the middle.
        ConfigError: zstd, and the package for it is not installed.
    """
    body = _Input(parts, what)
    found = compression_of(await body.peek(4)) if compression == "auto" else compression
    readers = {"gzip": _gunzipped, "zip": _unzipped, "zstd": _unzstd}
    size = 0
    async for data in readers.get(found, _Input.rest)(body):
        size += len(data)
        if size > max_bytes:
            raise SourceMalformedError(f"{what}: more than {max_bytes} bytes after decompression ({found})")
        if data:
            yield data


class _Input:
    """The parts as one run of bytes that can be looked ahead into."""

    def __init__(self, parts: AsyncIterator[bytes], what: str) -> None:
        self.what = what
        self.offset = 0
        """Bytes taken; where a message says that something is wrong."""
        self._parts = parts
        self._held = b""
        self._at = 0

    @property
    def held(self) -> int:
        """Bytes that are there without asking for more."""
        return len(self._held) - self._at

    async def more(self) -> bool:
        """Hold one part more; False at the end."""
        async for part in self._parts:
            if part:
                self._held, self._at = self._held[self._at :] + part, 0
                return True
        return False

    async def peek(self, size: int) -> bytes:
        """The next bytes, left where they are; fewer than asked for at the end."""
        while self.held < size and await self.more():
            pass
        return self._held[self._at : self._at + size]

    async def take(self, size: int) -> bytes:
        """
        Exactly so many bytes.

        Raises:
            SourceUnavailableError: there are fewer.
        """
        if len(await self.peek(size)) < size:
            raise self.cut()
        return self.taken(size)

    async def some(self, most: int = SLICE_BYTES) -> bytes:
        """What is there, at least one byte, except at the end."""
        if not self.held:
            await self.more()
        return self.taken(min(most, self.held))

    def taken(self, size: int) -> bytes:
        data = self._held[self._at : self._at + size]
        self._at += size
        self.offset += size
        return data

    def give_back(self, size: int) -> None:
        """The last bytes taken, as if they had not been."""
        self._at -= size
        self.offset -= size

    async def rest(self) -> AsyncIterator[bytes]:
        while data := await self.some():
            yield data

    def cut(self) -> SourceUnavailableError:
        size = self.offset + self.held
        return SourceUnavailableError(f"{self.what}: the compressed body is cut: it ends after {size} bytes")

    def damaged(self, why: object) -> SourceMalformedError:
        return SourceMalformedError(f"{self.what}: the compressed body is damaged near byte {self.offset}: {why}")

    def unfit(self, why: str) -> SourceMalformedError:
        return SourceMalformedError(f"{self.what}: {why}")


def compression_of(start: bytes) -> Compression:
    """By the first four bytes of a body."""
    return next((found for mark, found in _MARKS if start.startswith(mark)), "none")


async def _gunzipped(body: _Input) -> AsyncIterator[bytes]:
    """All members of a gzip file (RFC 1952 §2.2), and zeros after them as tar and tapes write them."""
    if not (await body.peek(2)).startswith(_GZIP):
        raise body.unfit("is not gzip")
    while True:
        async for data in _inflated(body, zlib.MAX_WBITS | 16):
            yield data
        while (start := await body.peek(1)) == b"\x00":
            zeros = await body.some()
            body.give_back(len(zeros.lstrip(b"\x00")))
        if not start:
            return
        if (await body.peek(2)) != _GZIP:
            raise body.damaged("something follows that is not gzip")


async def _inflated(body: _Input, window_bits: int) -> AsyncIterator[bytes]:
    """One deflate stream; what follows it stays in `body`."""
    inflater = zlib.decompressobj(window_bits)
    while not inflater.eof:
        data = inflater.unconsumed_tail or await body.some()
        try:
            inflated = inflater.decompress(data, SLICE_BYTES)
        except zlib.error as error:
            raise body.damaged(error) from error
        if not data and not inflated and not inflater.eof:
            raise body.cut()
        yield inflated
        await sleep(0)  # a bomb must not stop everything else, even where its output is thrown away
    body.give_back(len(inflater.unused_data))


_LOCAL_HEADER: Final = struct.Struct("<4sHHHHHLLLHH")
_CENTRAL: Final = b"PK\x01\x02"
_END: Final = b"PK\x05\x06"
_IS_ENCRYPTED: Final = 0x1
_HAS_DESCRIPTOR: Final = 0x8
_UNKNOWN_SIZE: Final = 0xFFFFFFFF


async def _unzipped(body: _Input) -> AsyncIterator[bytes]:
    """The only file of a ZIP archive (APPNOTE 6.3.10), read from its local headers: the directory comes last."""
    name = ""
    while (mark := await body.peek(4)) == _ZIP:
        member = _Member(body, await body.take(_LOCAL_HEADER.size))
        await member.read_names()
        if not member.is_file:
            async for _ in member.contents():
                pass
            continue
        if name:
            raise body.unfit(f"the ZIP archive holds more than one file: {name!r}, {member.name!r}; expected one")
        name = member.name
        async for data in member.contents():
            yield data
    if mark not in (_CENTRAL, _END):
        raise body.damaged("not a ZIP header") if len(mark) == 4 else body.cut()
    tail = b""
    async for data in body.rest():
        tail = (tail + data)[-(65_535 + 22) :]  # the longest comment, and the record itself
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little"):
        raise body.cut()
    if not name:
        raise body.unfit("the ZIP archive holds no file")


class _Member:
    """One member of a ZIP archive, from its local header on."""

    def __init__(self, body: _Input, header: bytes) -> None:
        self._body = body
        _, _, self._flags, self._method, _, _, self._crc, self._packed, self._size, *self._lengths = (
            _LOCAL_HEADER.unpack(header)
        )
        self.name = ""

    @property
    def is_file(self) -> bool:
        return not self.name.endswith("/") and not self.name.startswith("__MACOSX/")

    async def read_names(self) -> None:
        name = await self._body.take(self._lengths[0])
        extra = await self._body.take(self._lengths[1])
        self.name = name.decode("utf-8", "replace")
        while len(extra) >= 4:
            kind, size = struct.unpack_from("<HH", extra)
            if kind == 1 and size >= 16 and self._packed == _UNKNOWN_SIZE:
                self._size, self._packed = struct.unpack_from("<QQ", extra, 4)
            extra = extra[4 + size :]

    async def contents(self) -> AsyncIterator[bytes]:
        if self._flags & _IS_ENCRYPTED:
            raise self._body.unfit(f"{self.name!r} in the ZIP archive is encrypted")
        if self._method == 8:
            packed = _inflated(self._body, -zlib.MAX_WBITS)
        elif self._method == 0 and self._flags & _HAS_DESCRIPTOR and not self.name.endswith("/"):
            raise self._body.unfit(
                f"{self.name!r} is stored in the ZIP archive without its size before it, which cannot be read as a "
                "stream; write the archive with deflate, or without a data descriptor"
            )
        elif self._method == 0:
            packed = self._stored()
        else:
            raise self._body.unfit(f"{self.name!r} in the ZIP archive is packed by method {self._method}; not deflate")
        crc = size = 0
        async for data in packed:
            crc = zlib.crc32(data, crc)
            size += len(data)
            yield data
        if self._flags & _HAS_DESCRIPTOR:
            await self._read_descriptor(crc, size)
        elif (crc, size & _UNKNOWN_SIZE) != (self._crc, self._size & _UNKNOWN_SIZE):
            raise self._body.damaged(f"{self.name!r} does not have the size and checksum that its header says")

    async def _stored(self) -> AsyncIterator[bytes]:
        left = self._packed
        while left:
            if not (data := await self._body.some(min(left, SLICE_BYTES))):
                raise self._body.cut()
            left -= len(data)
            yield data

    async def _read_descriptor(self, crc: int, size: int) -> None:
        """Checksum and two sizes: with or without a mark before them, of 4 or, in ZIP64, 8 bytes each."""
        start = await self._body.peek(28)
        for mark in (b"PK\x07\x08", b""):
            for sizes, width in (("<LLL", _UNKNOWN_SIZE), ("<LQQ", 2**64 - 1)):
                layout = struct.Struct(sizes)
                end = len(mark) + layout.size
                if start.startswith(mark) and start[end : end + 2] == b"PK":
                    found_crc, _, found_size = layout.unpack_from(start, len(mark))
                    if (found_crc, found_size) == (crc, size & width):
                        self._body.taken(end)
                        return
        if len(start) < 28:
            raise self._body.cut()
        raise self._body.damaged(f"{self.name!r} does not have the size and checksum that follow it")


_SKIPPABLE: Final = range(0x184D2A50, 0x184D2A60)


async def _unzstd(body: _Input) -> AsyncIterator[bytes]:
    """
    All frames of a zstd file (RFC 8878 §3.1), block by block.

    A block holds at most 128 KB, and the blocks say where a frame ends: the
    package would inflate whatever it is given at once, and keeps silent about
    a body that is cut.
    """
    try:
        import zstandard  # noqa: PLC0415 - an extra that most do without
    except ImportError as error:
        raise ConfigError(f"{body.what} is compressed with zstd; run: pip install 'etl-river[zstd]'") from error
    if not await body.peek(1):
        raise body.cut()
    while mark := await body.peek(4):
        magic = int.from_bytes(await body.take(4), "little")
        if magic in _SKIPPABLE:
            left = int.from_bytes(await body.take(4), "little")
            while left:
                left -= len(await body.take(min(left, SLICE_BYTES)))
            continue
        if mark != _ZSTD:
            raise body.damaged("not a zstd frame")
        try:
            async for data in _frame(body, zstandard.ZstdDecompressor().decompressobj()):
                yield data
        except zstandard.ZstdError as error:
            raise body.damaged(error) from error


async def _frame(body: _Input, inflater: Any) -> AsyncIterator[bytes]:
    descriptor = (await body.take(1))[0]
    is_single, has_checksum = descriptor & 0x20, descriptor & 0x04
    size_bytes = (1 if is_single else 0, 2, 4, 8)[descriptor >> 6]
    rest = await body.take((0 if is_single else 1) + (0, 1, 2, 4)[descriptor & 3] + size_bytes)
    yield inflater.decompress(_ZSTD + bytes([descriptor]) + rest)
    is_last = 0
    while not is_last:
        start = await body.take(3)
        header = int.from_bytes(start, "little")
        is_last, kind, size = header & 1, header >> 1 & 3, header >> 3
        yield inflater.decompress(start + await body.take(1 if kind == 1 else size))
        await sleep(0)
    if has_checksum:
        yield inflater.decompress(await body.take(4))
