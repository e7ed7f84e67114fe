"""Bytes of a text in whatever encoding → characters, and back to exactly the bytes they came from. No I/O."""

import codecs
import io
import re
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Literal

from app.errors import ConfigError, SourceMalformedError
from app.records import Rejection

SAMPLE_BYTES: Final = 64 * 1024
"""What an encoding is found out from; nothing is given out before that much, or the end, is there."""

Evidence = Literal["bom", "declared", "utf-8", "detected", "fallback"]

_BOMS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16 LE, which begins the same
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE: Final = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_FAMILIES: Final = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
_NO_ENCODINGS: Final = frozenset({"utf-7", "idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"})
"""Python has them, files do not; some decode to what no database can hold."""

# The widest of each family first: of the guesses that fit, it reads the most
_MULTI_BYTE: Final = (
    *("utf_16_le", "utf_16_be", "cp932", "shift_jis", "shift_jis_2004", "shift_jisx0213", "euc_jp", "euc_jis_2004"),
    *("euc_jisx0213", "gb18030", "gbk", "gb2312", "big5", "cp950", "big5hkscs", "cp949", "euc_kr"),
)
_OTHER_LINE_ENDS: Final = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_BLOCK_BYTES: Final = 1024
_NO_LETTER_IN_CP1252: Final = b"\x81\x8d\x8f\x90\x9d\xff"
_BESIDE_LATIN: Final = re.compile(r"(?<=[A-Za-z])[^\x00-\x7f]|[^\x00-\x7f](?=[A-Za-z])")


@dataclass(slots=True)
class _Block:
    """Some bytes fed, the decoder's state before them, and how many characters they gave."""

    state: Any
    data: bytes
    characters: int


class TextDecoder:
    """
    Decodes one body, fed part by part; a byte order mark is not part of the text.

    A byte that does not fit the encoding becomes a lone surrogate U+DC80 to
    U+DCFF, as with `surrogateescape`; one below 0x80 (half a unit of UTF-16)
    becomes its overlong two-byte form in such surrogates, so that it is never
    taken for a delimiter or a line end. Text around it is not touched.

    A stateful encoding (ISO-2022-JP, HZ) can be gone on with where its line
    ends are in the initial state, as their standards ask.

    Args:
        encoding: used as said; None to find it out from the first 64 KB: byte
            order mark, UTF-8, a guess among multi-byte encodings, windows-1252.
        evidence: how `encoding` was found, when an earlier pass did.
        at_start: False in the middle of a body, where no mark is looked for.

    Raises:
        ConfigError: Python knows `encoding`, but not as one of text files.
    """

    def __init__(self, encoding: str | None = None, *, evidence: Evidence | None = None, at_start: bool = True) -> None:
        self._declared = _canonical(encoding) if encoding else None
        self._at_start = at_start
        self.encoding = self._declared or ""
        """Python's name; empty as long as it is not found out."""
        self.evidence: Evidence = evidence or "declared"
        self._held = b""
        self._mark = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._blocks: deque[_Block] = deque()
        self._ended = False

    def feed(self, part: bytes, *, final: bool = False) -> str:
        """The text that is certain with this part; the end of a cut character stays back."""
        if self._decoder is None:
            self._held += part
            if len(self._held) < SAMPLE_BYTES and not final:
                return ""
            part, self._held = self._begin(self._held, final=final), b""
        assert self._decoder is not None
        self._ended = final
        if self.encoding == "utf-8":
            return self._decoder.decode(part, final=final)
        return "".join(self._tracked(part, final=final))

    def taken(self, text: str) -> bytes:
        """
        The bytes of the body that gave this text, its byte order mark included.

        Args:
            text: what follows the text of the last call, without a gap.
        """
        mark, self._mark = (self._mark, b"") if text or self._ended else (b"", self._mark)
        if self.encoding == "utf-8":
            return mark + text.encode("utf-8", "surrogateescape")
        return mark + b"".join(self._bytes_of(len(text)))

    def _begin(self, body: bytes, *, final: bool) -> bytes:
        """Settle the encoding; the bytes that are text."""
        bom, marked = next((found for found in _BOMS if self._at_start and body.startswith(found[0])), (b"", None))
        if self._declared is None:
            found: tuple[str, Evidence] = (marked, "bom") if marked else _detected(body, final=final)
            self.encoding, self.evidence = found
        elif self._declared in _FAMILIES:
            # "utf-16" alone means: the mark says which; without one, as Windows writes it
            family = self._declared.removesuffix("-sig")
            self.encoding = marked if marked and marked.startswith(family) else _FAMILIES[self._declared]
        self._mark = bom if marked == self.encoding else b""
        self._decoder = self._new_decoder()
        return body[len(self._mark) :]

    def _new_decoder(self) -> codecs.IncrementalDecoder:
        escape = "surrogateescape" if self.encoding == "utf-8" else _MARK_UNIT if self.encoding in _WIDE else _MARK_BYTE
        return codecs.getincrementaldecoder(self.encoding)(escape)

    def _tracked(self, part: bytes, *, final: bool) -> list[str]:
        # Encoding the text again would not do: several byte sequences decode to one character
        assert self._decoder is not None
        texts = []
        for at in range(0, len(part), _BLOCK_BYTES):
            state, block = self._decoder.getstate(), part[at : at + _BLOCK_BYTES]
            texts.append(self._decoder.decode(block))
            self._blocks.append(_Block(state, block, len(texts[-1])))
        if final and (rest := self._decoder.decode(b"", final=True)):
            texts.append(rest)
            self._blocks.append(_Block(self._decoder.getstate(), b"", len(rest)))
        return texts

    def _bytes_of(self, characters: int) -> list[bytes]:
        taken = []
        while self._blocks and self._blocks[0].characters < characters:
            block = self._blocks.popleft()
            taken.append(block.data)
            characters -= block.characters
        if characters:
            taken.append(self._head_of(self._blocks[0], characters))
        if self._ended and not any(block.characters for block in self._blocks):
            taken += [block.data for block in self._blocks]
            self._blocks.clear()
        return taken

    def _head_of(self, block: _Block, characters: int) -> bytes:
        """Cut off the fewest bytes of a block that give so many characters: what follows may begin the next one."""
        decoder = self._new_decoder()
        decoder.setstate(block.state)
        at = 0
        got = 0
        while got < characters and at < len(block.data):
            got += len(decoder.decode(block.data[at : at + 1]))
            at += 1
        head, block.data = block.data[:at], block.data[at:]
        block.state, block.characters = decoder.getstate(), block.characters - characters
        return head


def split_lines(text: str) -> list[str]:
    """Lines with their ends: LF, CRLF or CR, and nothing else that Unicode calls a line end."""
    if any(end in text for end in _OTHER_LINE_ENDS):
        return list(io.StringIO(text, newline=""))
    return text.splitlines(keepends=True)  # a third faster


def check_is_text(beginning: str, what: str) -> None:
    """
    Refuse what no CSV file begins with.

    Raises:
        SourceMalformedError: it looks binary, or is HTML or XML.
    """
    start = beginning[:100].lstrip(" \t\r\n").lower()
    if "\x00" in beginning[:4] or beginning.startswith(("PK\x03\x04", "\x1f\udc8b", "\x1f\u2039", "%PDF-")):
        raise SourceMalformedError(f"{what}: looks binary or compressed; expected CSV")
    if start.startswith(("<!doctype", "<html", "<?xml")):
        raise SourceMalformedError(f"{what}: expected CSV, got HTML or XML")


def unstorable(payload: str, encoding: str) -> Rejection | None:
    """Why no database can hold it: a NUL, or a byte that did not decode."""
    if "\x00" in payload:
        return Rejection("nul_byte", None, f"a NUL byte at character {payload.index(chr(0)) + 1}")
    at = next((at for at, character in enumerate(payload, 1) if "\udc80" <= character <= "\udcff"), None)
    if at is None:
        return None
    byte = f"byte 0x{ord(payload[at - 1]) - 0xDC00:02X} at character {at}"
    if encoding == "utf-8":
        return Rejection("invalid_utf8", None, f"{byte} is not UTF-8")
    return Rejection("invalid_encoding", None, f"{byte} is not {encoding}")


def _canonical(encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError as error:
        raise ConfigError(f"encoding {encoding!r}: {error}; for example utf-8, windows-1252 or shift_jis") from error
    name = codecs.lookup(encoding).name
    if name.replace("_", "-") in _NO_ENCODINGS:
        raise ConfigError(f"encoding {encoding!r} is not one of text files; for example utf-8, windows-1252, shift_jis")
    return name


def _detected(body: bytes, *, final: bool) -> tuple[str, Evidence]:
    sample = body[:SAMPLE_BYTES]
    whole = final and len(sample) == len(body)
    if (wide := _by_zeros(sample)) is not None:
        return wide, "detected"
    if _decodes(sample, "utf-8", whole=whole) or _is_damaged_utf8(sample):
        return "utf-8", "utf-8"
    if (guess := _guessed(sample, whole=whole)) is not None:
        return guess, "detected"
    return "cp1252", "fallback"


def _by_zeros(sample: bytes) -> str | None:
    """UTF-16 without a mark: of plain text, every other byte is zero. (That is valid UTF-8, too.)"""
    units = len(sample) // 2
    high, low = sample[1::2].count(0), sample[0::2].count(0)
    if units and high > 0.4 * units and low <= 0.02 * units and _decodes(sample, "utf-16-le", whole=False):
        return "utf-16-le"
    if units and low > 0.4 * units and high <= 0.02 * units and _decodes(sample, "utf-16-be", whole=False):
        return "utf-16-be"
    return None


def _is_damaged_utf8(sample: bytes) -> bool:
    """
    Whether some rows are bad rather than the encoding another: most characters
    beyond ASCII are UTF-8, or most other bytes are letters nowhere (0xFF).
    """
    text = sample.decode("utf-8", "surrogateescape")
    broken = [ord(character) - 0xDC00 for character in text if "\udc80" <= character <= "\udcff"]
    sound = sum(character > "\x7f" for character in text) - len(broken)
    return sound > len(broken) or 2 * sum(byte in _NO_LETTER_IN_CP1252 for byte in broken) >= len(broken)


def _guessed(sample: bytes, *, whole: bool) -> str | None:
    """A multi-byte encoding; among single-byte ones the detector's guesses are unreliable."""
    from charset_normalizer import from_bytes  # noqa: PLC0415 - 70 ms that a UTF-8 file need not wait for

    if not whole:
        # Cut at a line end: half a character would exclude the right encoding
        sample = sample[: sample.rfind(b"\n") + 1] or sample
    best = from_bytes(sample).best()
    if best is None:
        return None
    fitting = {best.encoding, *best.could_be_from_charset}
    name = next((name for name in _MULTI_BYTE if name in fitting), None)
    if name is None or not _decodes(sample, name, whole=whole):
        return None
    text = sample.decode(name, "replace")
    foreign = sum(character > "\x7f" for character in text)
    # "été" reads as an ideograph beside a Latin letter, "©" as a one-byte katakana: Asian words look otherwise
    is_asian = 2 * len(_BESIDE_LATIN.findall(text)) < foreign <= 2 * (len(sample) - len(text)) and foreign > 1
    return codecs.lookup(name).name if is_asian else None


def _decodes(sample: bytes, encoding: str, *, whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample, final=whole)
    except UnicodeDecodeError:
        return False
    return True


def _marked(data: bytes) -> str:
    return "".join(
        chr(0xDC00 + byte) if byte >= 0x80 else chr(0xDCC0 + (byte >> 6)) + chr(0xDC80 + (byte & 0x3F)) for byte in data
    )


def _mark_byte(error: UnicodeError) -> tuple[str, int]:
    """Only the first byte: gb18030 counts a line end after a broken character as part of it."""
    assert isinstance(error, UnicodeDecodeError)
    first, rest = error.object[error.start : error.start + 1], error.object[error.start + 1 : error.end]
    if error.reason == "incomplete multibyte sequence":
        # At the end of the body the codec drops what it is not told to skip
        return _marked(first) + rest.decode("ascii", "surrogateescape"), error.end
    return _marked(first), error.start + 1


def _mark_unit(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _marked(error.object[error.start : error.end]), error.end


_MARK_BYTE: Final = "etl.mark_byte"
_MARK_UNIT: Final = "etl.mark_unit"
codecs.register_error(_MARK_BYTE, _mark_byte)
codecs.register_error(_MARK_UNIT, _mark_unit)
