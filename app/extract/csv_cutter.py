"""Bytes of a CSV file → records, each with its source text. No I/O; memory bounded by one part and one record."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from app.errors import SourceMalformedError
from app.extract.csv_text import Evidence, TextDecoder, check_is_text, split_lines, unstorable
from app.extract.dialect import (
    BARE_QUOTE,
    SAMPLE_CHARACTERS,
    UNCLOSED_QUOTE,
    Dialect,
    Grammar,
    LineFeed,
    column_names,
    sniff,
)
from app.records import Records, Rejection, Stretch, StretchRules, is_storable
from app.sources.csv_format import CsvFormat

MAX_RECORD_CHARACTERS: Final = 1024 * 1024
"""A quoted field that is still open after this much is a stray quote, not a field."""

MAX_PENDING_CHARACTERS: Final = 8 * 1024 * 1024
"""A line without an end: not CSV."""

_DEFAULT: Final = CsvFormat()

# The csv module's own bound is met before ours and would be a crash
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True, slots=True)
class Slice:
    """Whole records, and the bytes of the body that they take up."""

    records: Records
    body: bytes
    next_line: int
    stretches: Sequence[Stretch] = ()
    rules: StretchRules | None = None


class _Row(NamedTuple):
    fields: list[str]
    begin: int
    end: int
    """Index of the line after it."""
    fault: Rejection | None


class CsvCutter:
    """
    Cuts a body, fed part by part, at record borders (RFC 4180).

    Quoted line ends stay inside their record. A row with the wrong number of
    fields, a stray quote, a NUL or bytes that are not of the encoding is a
    record with a fault; it costs no other row. A record ends with its line;
    the line end (LF, CRLF or CR) is not part of its payload. Blank lines and
    comments are no records.

    Nothing comes out before the first 64 KB, or the end, went in: encoding and
    delimiter are found out from them.

    Args:
        first_line: line number at which the body given begins.
        header: None to read the head of the file: lines to skip, header.
        format: its `skip_rows_…` count lines of the file, blank ones too.
        dialect, encoding, encoding_evidence: what an earlier cutter found, to
            go on in the middle of the file.
    """

    def __init__(
        self,
        *,
        what: str,
        first_line: int = 1,
        header: Sequence[str] | None = None,
        format: CsvFormat = _DEFAULT,  # noqa: A002 - the name it has in a source file
        dialect: Dialect | None = None,
        encoding: str | None = None,
        encoding_evidence: Evidence | None = None,
    ) -> None:
        self._what = what
        self._format = format
        self._at_start = first_line == 1
        self._decoder = TextDecoder(encoding or format.encoding, evidence=encoding_evidence, at_start=self._at_start)
        self._text = ""
        self._line = first_line
        self._head_done = bool(header)
        self._skip = 0 if self._head_done else format.skip_rows_before_header
        self.dialect = dialect
        """None as long as it is not found out."""
        self._grammar = Grammar(dialect) if dialect else None
        self.header: list[str] | None = list(header) if header else None

    def report(self) -> dict[str, Any]:
        """What a reader of the payloads needs to know; None where it is not found out yet."""
        return {
            "header": self.header,
            "delimiter": self.dialect.delimiter if self.dialect else None,
            "quote_char": self.dialect.quote_char if self.dialect else None,
            "delimiter_evidence": self.dialect.evidence if self.dialect else None,
            "encoding": self._decoder.encoding or None,
            "encoding_evidence": self._decoder.evidence if self._decoder.encoding else None,
        }

    def resumed(self, beginning: bytes, *, first_line: int) -> Self | None:
        """
        A cutter that goes on at `first_line` of the same file; None when its beginning has no header.

        Args:
            beginning: of the body: at least its first 64 KB and its head, or all of it.
        """
        probe = CsvCutter(what=self._what, format=self._format.model_copy(update={"on_bad_row": "reject"}))
        probe.feed(beginning, final=True)
        if probe.header is None:
            return None
        return self.going_on(first_line=first_line, **probe.found())

    def found(self) -> dict[str, Any]:
        """What a cutter that goes on in the middle of the file needs to be given."""
        encoding, evidence = self._decoder.encoding, self._decoder.evidence
        found = {"header": self.header, "dialect": self.dialect}
        return {**found, "encoding": encoding, "encoding_evidence": evidence}

    def going_on(self, *, first_line: int, **found: Any) -> Self:
        """A cutter that goes on at `first_line` of a file in which that was found."""
        return type(self)(what=self._what, first_line=first_line, format=self._format, **found)

    def feed(self, part: bytes, *, final: bool = False) -> Slice:
        """
        All records that are complete with this part.

        Raises:
            SourceMalformedError: the body is not CSV at all, its header cannot
                be read, or a row is bad and `on_bad_row` is "fail".
        """
        self._text += self._decoder.feed(part, final=final)
        if self._at_start and self._text:
            check_is_text(self._text, self._what)
            self._at_start = False
        records, consumed = self._cut_text(final=final)
        if not is_storable(self._text):
            for at, payload in enumerate(records.payloads):
                if at not in records.faults and (fault := unstorable(payload, self._decoder.encoding)) is not None:
                    records.faults[at] = fault
        if records.faults and self._format.on_bad_row == "fail":
            first, fault = min(records.faults.items())
            raise SourceMalformedError(f"{self._what} line {records.positions[first]}: {fault.detail} ({fault.code})")
        body = self._decoder.taken(self._text[:consumed])
        self._text = self._text[consumed:]
        if len(self._text) > MAX_PENDING_CHARACTERS:
            raise SourceMalformedError(f"{self._what} line {self._line}: no end in {len(self._text)} characters")
        return Slice(records, body, self._line)

    def _cut_text(self, *, final: bool) -> tuple[Records, int]:
        """Records of the text held, and how many characters of it they take up."""
        return self._cut_plain(final=final) or self._cut_lines(final=final)

    def _take_head(self, lines: list[str], *, final: bool) -> int:
        """How many lines come before the first record, as far as they are there."""
        if self._cuts_with:
            return 0
        whole = len(lines) if final else len(lines) - 1  # the last may still grow
        at = self._skipped(0, whole)
        if self._skip:
            return at
        if self._grammar is None:
            sample = "".join(lines[at:])
            if not final and len(sample) < SAMPLE_CHARACTERS // 4:
                return at
            self.dialect = sniff(sample, self._format.model_copy(update={"skip_rows_before_header": 0}))
            self._grammar = Grammar(self.dialect)
        if not self._head_done:
            at = self._read_header(lines, at, self._grammar, final=final)
            if self.header is not None:
                self._head_done = True
                self._skip = self._format.skip_rows_after_header
                at = self._skipped(at, whole)
        return at

    def _skipped(self, at: int, whole: int) -> int:
        skipped = max(0, min(self._skip, whole - at))
        self._skip -= skipped
        return at + skipped

    def _read_header(self, lines: list[str], at: int, grammar: Grammar, *, final: bool) -> int:
        """Set the header, if it is there; the index of the line after it."""
        definition = self._format.header_definition
        if isinstance(definition, tuple):
            self.header = list(definition)
            return at
        for row in self._rows_over_lines(lines, at, grammar, final=final):
            if row.fields and definition == "Autogenerated":
                self.header = [f"f{number}" for number in range(len(row.fields))]
                return at
            if row.fault is not None:
                raise SourceMalformedError(
                    f"{self._what} line {self._line + row.begin}: the header: {row.fault.detail}"
                )
            at = row.end
            if row.fields:
                self.header = column_names(row.fields)
                return at
        return len(lines) if final else at

    @property
    def _cuts_with(self) -> Grammar | None:
        """None as long as the head of the file is not read."""
        return self._grammar if self._head_done and not self._skip else None

    def _cut_plain(self, *, final: bool) -> tuple[Records, int] | None:
        """Records, and how many characters they take up, where each is a line that ends with LF; None where not."""
        grammar, text = self._cuts_with, self._text
        if grammar is None or "\r" in text or self._may_have_comments() or (final and not text.endswith("\n")):
            return None
        lines = text.split("\n")
        rows = list(grammar.rows(lines))
        if len(rows) != len(lines):
            return None
        # Read with the others: a quote still open before it would have swallowed it
        rest, _ = lines.pop(), rows.pop()
        if not all(rows):
            return None
        end = len(text) - len(rest)
        records = self._plain_records(lines, rows, grammar, 0, end)
        self._line += len(rows)
        return records, end

    def _cut_lines(self, *, final: bool) -> tuple[Records, int]:
        """The same for any text; what comes before the first record is taken, too."""
        lines = split_lines(self._text)
        head = self._take_head(lines, final=final)
        self._line += head
        begin = sum(map(len, lines[:head]))
        grammar = self._cuts_with
        if grammar is None or head == len(lines):
            return Records(), begin
        lines = lines[head:]
        records, taken = self._cut(lines, grammar, begin, final=final)
        self._line += taken
        return records, begin + sum(map(len, lines[:taken]))

    def _cut(self, lines: list[str], grammar: Grammar, begin: int, *, final: bool) -> tuple[Records, int]:
        """Records, and how many lines they take up; the first line is at `begin` of the text."""
        if self._may_have_comments():
            return self._cut_over_lines(lines, grammar, final=final)
        rows = list(grammar.rows(lines))
        plain = len(rows) == len(lines) and all(rows)
        if not plain or (final and grammar.is_open(lines[-1:])):
            return self._cut_over_lines(lines, grammar, final=final)
        # Every row is one line. The last may still grow: an open quote, a CRLF cut in two.
        taken = len(rows) if final else len(rows) - 1
        payloads = [line.rstrip("\r\n") for line in lines[:taken]]
        end = len(self._text) - (0 if final else len(lines[-1]))
        return self._plain_records(payloads, rows[:taken], grammar, begin, end), taken

    def _may_have_comments(self) -> bool:
        return self._format.comment is not None and self._format.comment in self._text

    def _plain_records(
        self, payloads: list[str], rows: list[list[str]], grammar: Grammar, begin: int, end: int
    ) -> Records:
        """Records of one line each, which are those between two places of the text."""
        records = Records(payloads, list(range(self._line, self._line + len(rows))), rows)
        if set(map(len, rows)) - {len(self.header or ())}:
            records.faults = {at: fault for at, row in enumerate(rows) if (fault := self._ragged(row))}
        if not grammar.are_sound(self._text, begin, end):
            for at, payload in enumerate(payloads):
                if not grammar.is_sound(payload):
                    records.faults[at] = BARE_QUOTE
        return records

    def _cut_over_lines(self, lines: list[str], grammar: Grammar, *, final: bool) -> tuple[Records, int]:
        """The same, where a record may span lines, or a line may be blank or a comment."""
        records = Records()
        taken = 0
        for row in self._rows_over_lines(lines, 0, grammar, final=final):
            taken = row.end
            if row.fields:
                payload = "".join(lines[row.begin : row.end]).rstrip("\r\n")
                fault = row.fault
                if fault is None and not grammar.is_sound(payload):
                    fault = BARE_QUOTE
                records.append(payload, self._line + row.begin, row.fields, fault or self._ragged(row.fields))
        return records, len(lines) if final else taken

    def _rows_over_lines(self, lines: list[str], at: int, grammar: Grammar, *, final: bool) -> Iterator[_Row]:
        """Rows, the blank ones too, up to the last that is certainly complete."""
        while at < len(lines):
            given = LineFeed(lines, at, self._format.comment)
            for row in grammar.rows(given):
                begin, end = given.begin, given.at
                span = lines[begin:end]
                is_last = end == len(lines)
                if is_last and not final and (len(span) == 1 or sum(map(len, span)) <= MAX_RECORD_CHARACTERS):
                    return
                if (len(span) > 1 and not grammar.is_closed("".join(span).rstrip("\r\n"))) or (
                    is_last and grammar.is_open(span)
                ):
                    # The quote swallowed its neighbours: this line alone is bad, those are read anew
                    at = begin + 1
                    yield _Row(row[:1], begin, at, UNCLOSED_QUOTE)
                    break
                if is_last and not final:
                    return
                at = end
                yield _Row(row, begin, end, None)
                given.between_records = True
            else:
                return

    def _ragged(self, row: list[str]) -> Rejection | None:
        assert self.header is not None
        if len(row) == len(self.header):
            return None
        return Rejection("ragged_row", None, f"{len(row)} fields where the header has {len(self.header)}")
