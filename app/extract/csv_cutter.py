"""Bytes of a CSV file → records, each with its source text. No I/O; memory bounded by one part and one record."""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from app.errors import SourceMalformedError
from app.records import Records, Rejection, is_storable

MAX_RECORD_CHARACTERS: Final = 1024 * 1024
"""A quoted field that is still open after this much is a stray quote, not a field."""

_OTHER_LINE_ENDS: Final = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"

# The largest field the csv module accepts; a record is bounded before it gets there
csv.field_size_limit(2 * MAX_RECORD_CHARACTERS)


@dataclass(frozen=True, slots=True)
class Slice:
    """Whole records, and the bytes of the body that they take up."""

    records: Records
    body: bytes
    next_line: int


class CsvCutter:
    """
    Cuts a UTF-8 body, fed part by part, at record borders (RFC 4180).

    Quoted line ends stay inside their record. A row with the wrong number of
    fields, a NUL or bytes that are not UTF-8 is a record with a `fault`; it
    costs no other row. A record ends with its line; the line end (LF, CRLF or
    CR) is not part of its payload.

    Args:
        first_line: line number at which the body given begins.
        header: None to take it from the first record.
    """

    def __init__(self, *, what: str, first_line: int = 1, header: Sequence[str] | None = None) -> None:
        self._what = what
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text = ""
        self._line = first_line
        self._at_start = first_line == 1
        self.header: list[str] | None = list(header) if header else None

    def feed(self, part: bytes, *, final: bool = False) -> Slice:
        """
        All records that are complete with this part.

        Raises:
            SourceMalformedError: the body is not CSV in UTF-8 at all.
        """
        self._text += self._decoder.decode(part, final=final)
        if self._at_start and self._text:
            self._check_start()
            self._at_start = False
        lines = _lines(self._text)
        records, taken = self._cut(lines, final=final)
        if not is_storable(self._text):
            for at, payload in enumerate(records.payloads):
                if at not in records.faults and (fault := _unstorable(payload)) is not None:
                    records.faults[at] = fault
        consumed = sum(map(len, lines[:taken]))
        body = self._text[:consumed].encode("utf-8", "surrogateescape")
        self._text = self._text[consumed:]
        self._line += taken
        return Slice(records, body, self._line)

    def _check_start(self) -> None:
        start = self._text[:100].lstrip("\ufeff \t\r\n").lower()
        if "\x00" in self._text[:4] or self._text.startswith(("\udcff\udcfe", "\udcfe\udcff")):
            raise SourceMalformedError(f"{self._what}: looks like UTF-16 or binary; a CSV source is UTF-8")
        if start.startswith(("<!doctype", "<html", "<?xml")):
            raise SourceMalformedError(f"{self._what}: expected CSV, got HTML or XML")

    def _cut(self, lines: list[str], *, final: bool) -> tuple[Records, int]:
        """Records, and how many lines they take up."""
        rows = list(csv.reader(lines))
        plain = self.header is not None and len(rows) == len(lines) and all(rows)
        if not plain or (final and _is_open(lines[-1:])):
            return self._cut_over_lines(lines, final=final)
        # Every row is one line. The last may still grow: an open quote, a CRLF cut in two.
        taken = len(rows) if final else len(rows) - 1
        payloads = [line.rstrip("\r\n") for line in lines[:taken]]
        records = Records(payloads, list(range(self._line, self._line + taken)), rows[:taken])
        if set(map(len, records.fields)) - {len(self.header or ())}:
            records.faults = {at: fault for at, row in enumerate(records.fields) if (fault := self._ragged(row))}
        return records, taken

    def _cut_over_lines(self, lines: list[str], *, final: bool) -> tuple[Records, int]:
        """The same, where a record may span lines, a line may be blank, or the header is still to come."""
        records = Records()
        begin = 0
        for row, end, fault in self._rows_over_lines(lines, final=final):
            line, payload = self._line + begin, "".join(lines[begin:end]).rstrip("\r\n")
            begin = end
            if not row:
                continue
            if self.header is None:
                self.header = [row[0].removeprefix("\ufeff"), *row[1:]]
                continue
            records.append(payload, line, row, fault or self._ragged(row))
        return records, begin

    def _rows_over_lines(self, lines: list[str], *, final: bool) -> Iterator[tuple[list[str], int, Rejection | None]]:
        """Rows, each with the index of the line after it, up to the last that is certainly complete."""
        begin = 0
        while begin < len(lines):
            base = begin
            reader = csv.reader(lines[base:])
            for row in reader:
                end = base + reader.line_num
                span = lines[begin:end]
                if end == len(lines) and not final and sum(map(len, span)) <= MAX_RECORD_CHARACTERS:
                    return
                stray = self._stray_quote(span, at_end=end == len(lines))
                if stray is not None:
                    # The quote swallowed its neighbours: this line alone is bad, those are read anew
                    begin += 1
                    yield row[:1], begin, stray
                    break
                begin = end
                yield row, end, None

    def _stray_quote(self, span: list[str], *, at_end: bool) -> Rejection | None:
        over_lines = len(span) > 1 and not _is_well_formed(span)
        if self.header is None or not (over_lines or (at_end and _is_open(span))):
            return None
        return Rejection("unclosed_quote", None, "a quote is opened here that is not closed where its field ends")

    def _ragged(self, row: list[str]) -> Rejection | None:
        assert self.header is not None
        if len(row) == len(self.header):
            return None
        return Rejection("ragged_row", None, f"{len(row)} fields where the header has {len(self.header)}")


def _lines(text: str) -> list[str]:
    """Lines with their ends: LF, CRLF or CR, and nothing else that Unicode calls a line end."""
    if any(end in text for end in _OTHER_LINE_ENDS):
        return list(io.StringIO(text, newline=""))
    return text.splitlines(keepends=True)  # a third faster


def _is_well_formed(lines: list[str]) -> bool:
    try:
        for _ in csv.reader(lines, strict=True):
            pass
    except csv.Error:
        return False
    return True


def _is_open(lines: list[str]) -> bool:
    """Whether a quote is still open at the end: then one more line makes no further row."""
    return bool(lines) and len(list(csv.reader([*lines, "\n"]))) == len(list(csv.reader(lines)))


def _unstorable(payload: str) -> Rejection | None:
    if "\x00" in payload:
        return Rejection("nul_byte", None, f"a NUL byte at character {payload.index(chr(0)) + 1}")
    for at, character in enumerate(payload, start=1):
        if "\udc80" <= character <= "\udcff":
            return Rejection(
                "invalid_utf8", None, f"byte 0x{ord(character) - 0xDC00:02X} at character {at} is not UTF-8"
            )
    return None
