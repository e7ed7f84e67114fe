"""Compressed bodies come out whole, cut anywhere; what is cut, damaged or a bomb is said plainly."""

import gzip
import io
import random
import struct
import sys
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any
from unittest.mock import Mock

import pytest
import zstandard

from app.errors import ConfigError, SourceMalformedError, SourceUnavailableError
from app.extract.decompress import SLICE_BYTES, decompressed
from app.sources.csv_format import Compression

TEXT = b"".join(b"%d,%x\n" % (number, number * 2_654_435_761) for number in range(20_000))
PARTS = [1 << 20, 1000, 37]


async def parts_of(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


async def slices(
    body: bytes, *, compression: Compression = "auto", part: int = 1 << 20, max_bytes: int = 1 << 40
) -> list[bytes]:
    stream = decompressed(parts_of(body, part), compression, max_bytes=max_bytes, what="http://x/f")
    return [data async for data in stream]


async def whole(body: bytes, **given: Any) -> bytes:
    return b"".join(await slices(body, **given))


def zipped(
    members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED, seekable: bool = True, comment: bytes = b""
) -> bytes:
    file = io.BytesIO()
    if not seekable:
        # So zipfile writes data descriptors, as a server that streams its archive does
        refused = Mock(side_effect=OSError("a pipe"))
        file.seek, file.tell = refused, refused  # type: ignore[method-assign]
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.comment = comment
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def block(kind: int, size: int, data: bytes, *, last: bool = False) -> bytes:
    return (int(last) | kind << 1 | size << 3).to_bytes(3, "little") + data


def _named_gzip() -> bytes:
    file = io.BytesIO()
    with gzip.GzipFile("a.csv", "wb", fileobj=file) as archive:
        archive.write(TEXT)
    return file.getvalue()


def _streamed_zstd() -> bytes:
    writer = zstandard.ZstdCompressor().compressobj()
    return b"".join([writer.compress(TEXT[:70_000]), writer.compress(TEXT[70_000:]), writer.flush()])


def _encrypted() -> bytes:
    body = bytearray(zipped({"a.csv": TEXT}))
    body[6] |= 1
    return bytes(body)


GOOD: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip.compress(TEXT),
    "gzip with a name": _named_gzip,
    "gzip of two members": lambda: gzip.compress(TEXT[:5000]) + gzip.compress(TEXT[5000:]),
    "gzip, an empty member, zeros": lambda: gzip.compress(TEXT) + gzip.compress(b"") + bytes(1500),
    "gzip, zeros between": lambda: gzip.compress(TEXT[:50]) + bytes(512) + gzip.compress(TEXT[50:]),
    "zip": lambda: zipped({"a.csv": TEXT}),
    "zip, stored": lambda: zipped({"a.csv": TEXT}, method=zipfile.ZIP_STORED),
    "zip, streamed": lambda: zipped({"a.csv": TEXT}, seekable=False),
    "zip with what macOS adds": lambda: zipped({"d/": b"", "d/a.csv": TEXT, "__MACOSX/d/._a.csv": b"junk" * 99}),
    "zip with what macOS adds, streamed": lambda: zipped(
        {"__MACOSX/._a.csv": b"junk" * 99, "a.csv": TEXT}, seekable=False
    ),
    "zip with a long comment": lambda: zipped({"a.csv": TEXT}, comment=b"c" * 65_000),
    "zstd": lambda: zstandard.ZstdCompressor().compress(TEXT),
    "zstd with a checksum": lambda: zstandard.ZstdCompressor(write_checksum=True).compress(TEXT),
    "zstd, streamed": _streamed_zstd,
    "zstd of two frames": lambda: (
        zstandard.ZstdCompressor().compress(TEXT[:5000]) + zstandard.ZstdCompressor(level=19).compress(TEXT[5000:])
    ),
    "zstd, a skippable frame": lambda: (
        zstandard.ZstdCompressor().compress(TEXT) + struct.pack("<LL", 0x184D2A53, 700) + bytes(700)
    ),
    "nothing": lambda: TEXT,
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", GOOD)
async def test_what_was_compressed_comes_out_whatever_the_parts(kind: str, part: int) -> None:
    assert await whole(GOOD[kind](), part=part) == TEXT


@pytest.mark.parametrize("kind", [kind for kind in GOOD if kind not in {"nothing", "gzip, zeros between"}])
async def test_a_body_cut_anywhere_is_unavailable_and_never_silently_short(kind: str) -> None:
    body = GOOD[kind]()
    # Between two members or frames a cut cannot be told from the end
    ends = {
        len(gzip.compress(TEXT[:5000])),
        len(gzip.compress(TEXT)),
        len(zstandard.ZstdCompressor().compress(TEXT[:5000])),
        len(zstandard.ZstdCompressor().compress(TEXT)),
        *(range(len(gzip.compress(TEXT)) + 20, len(body)) if "zeros" in kind else ()),
    }
    size = len(body)

    for cut in {4, 5, 12, 30, size - 1, size - 3, size - 9, *random.Random(7).sample(range(4, size), 20)} - ends:
        with pytest.raises(SourceUnavailableError, match=rf"http://x/f: .* cut: it ends after {cut} bytes"):
            await whole(body[:cut])


@pytest.mark.parametrize("kind", ["gzip", "zip", "zip, stored", "zip, streamed", "zstd with a checksum"])
async def test_a_flipped_bit_is_damage(kind: str) -> None:
    body = bytearray(GOOD[kind]())
    body[len(body) // 2] ^= 0x10

    with pytest.raises(SourceMalformedError, match="http://x/f: the compressed body is damaged near byte"):
        await whole(bytes(body))


@pytest.mark.parametrize(
    ("compression", "bomb"),
    [
        ("gzip", lambda: gzip.compress(bytes(64 << 20))),
        ("zip", lambda: zipped({"a.csv": bytes(64 << 20)})),
        ("zstd", lambda: zstandard.ZstdCompressor().compress(bytes(64 << 20))),
    ],
)
async def test_a_bomb_is_inflated_a_megabyte_at_once_and_stopped(
    compression: Compression, bomb: Callable[[], bytes]
) -> None:
    body = bomb()

    with pytest.raises(SourceMalformedError, match="http://x/f: more than 5242880 bytes after decompression"):
        await whole(body, compression=compression, max_bytes=5 << 20)
    assert max(map(len, await slices(body))) <= SLICE_BYTES
    assert sum(map(len, await slices(body))) == 64 << 20


async def test_a_block_of_zstd_is_never_more_than_128_kb() -> None:
    """Four bytes make 128 KB: a slice of input bounds nothing."""
    header = b"\x28\xb5\x2f\xfd" + bytes([0x00, 0x58])
    bomb = header + block(1, 128 << 10, b"x") * 300 + block(0, 0, b"", last=True)

    found = await slices(bomb, part=1 << 20)

    assert max(map(len, found)) == 128 << 10
    assert sum(map(len, found)) == 300 * (128 << 10)


async def test_the_limit_is_of_the_result_and_may_be_reached() -> None:
    assert await whole(gzip.compress(TEXT), max_bytes=len(TEXT)) == TEXT
    with pytest.raises(SourceMalformedError, match="more than"):
        await whole(gzip.compress(TEXT), max_bytes=len(TEXT) - 1)


async def test_no_compression_passes_everything_through() -> None:
    body = gzip.compress(TEXT)

    assert await whole(body, compression="none") == body


async def test_an_empty_body_is_empty() -> None:
    assert await whole(b"") == b""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda: zipped({"a.csv": b"1", "b.csv": b"2"}), "more than one file: 'a.csv', 'b.csv'"),
        (lambda: zipped({"d/": b""}), "holds no file"),
        (lambda: zipped({"a": TEXT}, method=zipfile.ZIP_STORED, seekable=False), "cannot be read as a stream"),
        (lambda: zipped({"a": TEXT}, method=zipfile.ZIP_BZIP2), "packed by method 12"),
        (_encrypted, "'a.csv' in the ZIP archive is encrypted"),
        (lambda: zipped({"a": TEXT})[:-22] + b"\x00" * 22, "cut"),
        (lambda: gzip.compress(TEXT) + b"more", "something follows that is not gzip"),
        (lambda: zstandard.ZstdCompressor().compress(TEXT) + b"more", "not a zstd frame"),
    ],
)
async def test_what_cannot_be_read_says_why(body: Callable[[], bytes], message: str) -> None:
    with pytest.raises((SourceMalformedError, SourceUnavailableError), match=message):
        await whole(body())


@pytest.mark.parametrize("compression", ["gzip", "zip", "zstd"])
async def test_a_body_that_is_not_what_was_declared_is_malformed(compression: Compression) -> None:
    with pytest.raises(SourceMalformedError, match="http://x/f"):
        await whole(b"id,name\n1,a\n", compression=compression)


async def test_zstd_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)

    with pytest.raises(ConfigError, match=r"pip install 'etl-river\[zstd\]'"):
        await whole(GOOD["zstd"]())


async def test_random_bytes_after_a_mark_raise_nothing_unexpected() -> None:
    chance = random.Random(3)
    for mark in (b"\x1f\x8b\x08\x00", b"PK\x03\x04", b"\x28\xb5\x2f\xfd"):
        for _ in range(300):
            body = mark + chance.randbytes(chance.randrange(200))
            try:
                await whole(body, part=50)
            except (SourceMalformedError, SourceUnavailableError):
                continue
            pytest.fail(f"{body!r} was taken for a file")


async def test_a_zip64_header_is_read() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive, archive.open("a", "w", force_zip64=True) as member:
        member.write(TEXT)

    # The extra field after the name; some versions of zipfile write the sizes in both places
    assert struct.unpack_from("<H", file.getvalue(), 31)[0] == 1
    assert await whole(file.getvalue()) == TEXT
    assert zlib.crc32(TEXT) == zipfile.ZipFile(file).getinfo("a").CRC
