"""
The same cutting, where stretches of a file that are known from the last pass are not cut.

A stretch ends after a line whose CRC-32 ends in zero bits, and not before it
has so many lines, so an insertion moves no border but the next few. It counts only when it begins and ends between
two records; what a text that begins there means does not depend on what was
before it, so a known one means what it meant.
"""

import hashlib
import json
import re
import sys
from array import array
from collections.abc import Iterator
from dataclasses import asdict
from itertools import accumulate
from typing import Any, Final, NamedTuple, Self
from zlib import crc32

from app.extract.csv_cutter import CsvCutter, Slice
from app.extract.csv_text import split_lines
from app.records import Fingerprints, Records, Stretch, StretchRules

VERSION: Final = 1
"""One more when the cutting changes in a way that gives other records."""

LEAST_BITS: Final = 3
"""16 lines, most often 9 to 32: with one row in a hundred changed, 80 % are in stretches without a change."""

MAX_BITS: Final = 16

USUAL_STRETCHES: Final = 65_536
"""Of a large file: more lines make longer stretches."""

MAX_TAIL_CHARACTERS: Final = 1024 * 1024
"""Without the end of a stretch in so much, it is cut without one."""

_SENTINEL: Final = "x"
_ENDS: Final = [bytes(not byte & ((1 << bits) - 1) for byte in range(256)) for bits in range(9)]
"""By number of bits: 1 for a low byte that ends in as many zero bits."""
_LINE_END: Final = re.compile("\r\n|\n|\r")


def bits_for(lines: float) -> int:
    """How many zero bits make so many lines USUAL_STRETCHES or fewer."""
    bits = LEAST_BITS
    while lines / 2 ** (bits + 1) > USUAL_STRETCHES and bits < MAX_BITS:
        bits += 1
    return bits


class _Lines(NamedTuple):
    """Whole lines of a text, and where stretches end."""

    lines: list[bytes]
    """Without their ends."""
    checksums: "array[int]"
    stops: list[int]
    """Index of the line after each stretch."""
    end: bytes
    tail: int
    """Characters after the last of them."""


class StretchCutter(CsvCutter):
    """
    A CsvCutter that skips the stretches it is told of, and tells which there are.

    Args:
        basis: what else the meaning of a record depends on: mapping and so on.
        known: of the last complete pass.
        size_bytes: of the body; None when nobody knows.
    """

    def __init__(
        self, *, basis: str = "", known: Fingerprints | None = None, size_bytes: int | None = None, **given: Any
    ) -> None:
        super().__init__(**given)
        self._basis = basis
        self._given = known
        self._size_bytes = size_bytes
        self._known: Fingerprints | None = None
        self._rules: StretchRules | None = None
        self._stretches: list[Stretch] = []

    def going_on(self, *, first_line: int, **found: Any) -> Self:
        more = {"basis": self._basis, "known": self._given, "size_bytes": self._size_bytes}
        return super().going_on(first_line=first_line, **more, **found)

    def feed(self, part: bytes, *, final: bool = False) -> Slice:
        self._stretches = []
        cut = super().feed(part, final=final)
        return Slice(cut.records, cut.body, cut.next_line, self._stretches, self._rules)

    def _cut_text(self, *, final: bool) -> tuple[Records, int]:
        begin = 0
        if self._cuts_with is None:
            lines = split_lines(self._text)
            head = self._take_head(lines, final=final)
            self._line += head
            begin = sum(map(len, lines[:head]))
            if self._cuts_with is None:
                return Records(), begin
        whole = self._text
        self._text = whole[begin:]
        try:
            if self._rules is None:
                self._settle_rules(whole[:begin])
            records, consumed = self._cut_stretches(final=final)
        finally:
            self._text = whole
        return records, begin + consumed

    def _settle_rules(self, head: str) -> None:
        """Find out how to cut stretches, as soon as a line has ended."""
        assert self.dialect is not None
        known = self._given
        end = next((end for end in ("\r\n", "\n", "\r") if head.endswith(end)), known.rules.line_end if known else None)
        end = end or _first_line_end(self._text)
        if end is None:
            return
        meaning = [VERSION, self._basis, self.header, asdict(self.dialect), self._decoder.encoding, end]
        basis = hashlib.blake2b(json.dumps(meaning).encode(), digest_size=12).hexdigest()
        bits = known.rules.bits if known else bits_for(self._expected_lines(end))
        spans_lines = known.rules.spans_lines if known else self._spans_lines()
        self._rules = StretchRules(basis, bits, end, spans_lines)
        self._known = known if known and known.rules == self._rules else None

    def _spans_lines(self) -> bool:
        lines = split_lines(self._text)
        return self._grammar is not None and sum(1 for _ in self._grammar.rows(lines)) < len(lines)

    def _expected_lines(self, line_end: str) -> float:
        characters = len(self._text)
        return (self._size_bytes or 0) * self._text.count(line_end) / characters if characters else 0.0

    def _cut_stretches(self, *, final: bool) -> tuple[Records, int]:
        text, given = self._text, self._split(final=final)
        if given is None:
            return super()._cut_text(final=final)
        records, taken = Records(), 0
        run: list[tuple[int, bytes]] = []  # what is to be cut: where each stretch stops, and its fingerprint
        run_begin = begin = 0
        broken = False
        for stop in given.stops:
            data = given.end.join(given.lines[begin:stop])
            fingerprint = hashlib.blake2b(data, digest_size=16).digest()
            if self._is_known(fingerprint, given.checksums, begin, stop):
                text_of_run = _text_of(given.lines[run_begin:begin], given.end)
                size = self._cut_run(text_of_run, run_begin, run, records)
                taken += size
                if size < len(text_of_run):
                    broken = True
                    break  # a quote is open here: what looks known may stand inside it
                taken += self._pass_by(fingerprint, data + given.end, given.checksums[begin:stop])
                run, run_begin = [], stop
            else:
                run.append((stop, fingerprint))
            begin = stop
        else:
            taken += self._cut_run(text[taken : len(text) - given.tail], run_begin, run, records)
        if final or broken:
            self._text = text[taken:]
            more, size = super()._cut_text(final=final)
            _extend(records, more)
            taken += size
        return records, taken

    def _split(self, *, final: bool) -> _Lines | None:
        """The lines of the text; None where no stretch ends in it, and it is not to be held back."""
        if self._rules is None:
            return None
        end = self._rules.line_end.encode()
        lines = self._text.encode("utf-8", "surrogateescape").split(end)
        rest = lines.pop()
        if end == b"\r" and lines and self._text.endswith("\r"):
            rest = lines.pop() + end  # it may be half of a CRLF
        checksums = array("I", map(crc32, lines))
        stops = list(_stops(checksums, self._rules.bits))
        if end == b"\r":
            following = [*lines, rest]
            stops = [stop for stop in stops if not following[stop].startswith(b"\n")]  # within a CRLF
        if self._rules.spans_lines:
            quote = (self.dialect.quote_char or "" if self.dialect else "").encode()
            quotes = list(accumulate(line.count(quote) for line in lines))
            stops = [stop for stop in stops if not quotes[stop - 1] & 1]
        if not stops and (final or len(self._text) > MAX_TAIL_CHARACTERS):
            return None
        tail = len(self._text) if not stops else self._length_of([*lines[stops[-1] :], rest], end)
        return _Lines(lines, checksums, stops, end, tail)

    def _length_of(self, lines: list[bytes], end: bytes) -> int:
        return len(end.join(lines).decode("utf-8", "surrogateescape"))

    def _is_known(self, fingerprint: bytes, checksums: "array[int]", begin: int, stop: int) -> bool:
        known = self._known
        if known is None or fingerprint not in known.stretches:
            return False
        return not known.stale or known.stale.isdisjoint(checksums[begin:stop])

    def _pass_by(self, fingerprint: bytes, data: bytes, checksums: "array[int]") -> int:
        """Let a known stretch pass; how many characters it takes up."""
        assert self._known is not None
        records = self._known.stretches[fingerprint]
        self._stretches.append(Stretch(fingerprint, records, self._line, self._line, data, checksums))
        self._line += data.count(b"\n")
        if b"\r" in data:
            self._line += data.count(b"\r") - data.count(b"\r\n")
        return len(data) if data.isascii() else len(data.decode("utf-8", "surrogateescape"))

    def _cut_run(self, text: str, begin: int, run: list[tuple[int, bytes]], records: Records) -> int:
        """
        Cut stretches that are not known; how many characters of them gave records.

        Args:
            begin: the first of their lines.
        """
        if not run:
            return 0
        assert self._rules is not None
        # One character more, and the last line is known to be complete
        self._text = text + _SENTINEL
        cut, size = super()._cut_text(final=False)
        _extend(records, cut)
        end, lines = self._rules.line_end, run[-1][0] - begin
        # Records that are as many as lines are the lines, unless there are lines of another kind
        plain = size == len(text) and len(cut) == lines
        if (plain and end == "\n" and "\r" not in text) or end.join(cut.payloads) + end == text[:size]:
            self._stretches += _stretches(cut, begin, run, None if plain else end)
        return size


def _text_of(lines: list[bytes], end: bytes) -> str:
    """Whole lines as text."""
    return b"".join([end.join(lines), end]).decode("utf-8", "surrogateescape") if lines else ""


def _stops(checksums: "array[int]", bits: int) -> Iterator[int]:
    """Indexes of the lines after those at which stretches end."""
    low = array("I", checksums)
    if sys.byteorder == "big":
        low.byteswap()
    ends = low.tobytes()[:: low.itemsize].translate(_ENDS[min(bits, 8)])
    least, mask = 1 << bits, (1 << bits) - 1
    at = ends.find(1, least - 1)
    while at >= 0:
        if bits <= 8 or not checksums[at] & mask:
            yield at + 1
            at += least - 1
        at = ends.find(1, at + 1)


def _stretches(cut: Records, begin: int, run: list[tuple[int, bytes]], line_end: str | None) -> Iterator[Stretch]:
    """
    Those of a run that begin and end between two records.

    Args:
        begin: the line of the first record.
        line_end: None where each record is one line.
    """
    record_at: dict[int, int] | range = range(len(cut) + 1)
    if line_end is not None:
        heights = (payload.count(line_end) + 1 for payload in cut.payloads)
        record_at = {line: at for at, line in enumerate(accumulate(heights, initial=0))}
    before = 0
    for stop, fingerprint in run:
        after = stop - begin
        if before in record_at and after in record_at:
            first, following = record_at[before], record_at[after]
            yield Stretch(fingerprint, following - first, cut.positions[first], cut.positions[following - 1])
        before = after


def _first_line_end(text: str) -> str | None:
    found = _LINE_END.search(text)
    return found[0] if found and found.end() < len(text) else None


def _extend(records: Records, more: Records) -> None:
    records.faults |= {len(records) + at: fault for at, fault in more.faults.items()}
    records.payloads += more.payloads
    records.positions += more.positions
    records.fields += more.fields
