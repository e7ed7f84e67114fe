"""The delimiter of a CSV text, where nobody said it. No I/O."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

from app.extract.csv_text import split_lines
from app.records import Rejection
from app.sources.csv_format import CsvFormat

SAMPLE_CHARACTERS: Final = 64 * 1024
SAMPLE_RECORDS: Final = 100

DelimiterEvidence = Literal["declared", "detected", "default"]

_CANDIDATES: Final = ",;\t|:^"
_DEFAULT: Final = ","
_DECIMAL_COMMA: Final = re.compile(r"\d,\d")
_TIME_OF_DAY: Final = re.compile(r"\d:\d")


BARE_QUOTE: Final = Rejection(
    "bare_quote", None, "a quote inside a field that is not quoted, or text after a closing quote"
)
UNCLOSED_QUOTE: Final = Rejection(
    "unclosed_quote", None, "a quote is opened here that is not closed where its field ends"
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How fields are told apart; what the csv module needs to know."""

    delimiter: str = _DEFAULT
    quote_char: str | None = '"'
    """None: no quoting at all."""
    escape_char: str | None = None
    double_quote: bool = True
    evidence: DelimiterEvidence = "default"
    """How the delimiter was found; the rest is as given."""

    def options(self) -> dict[str, Any]:
        """Arguments of `csv.reader`."""
        return {
            "delimiter": self.delimiter,
            "quotechar": self.quote_char,
            "escapechar": self.escape_char,
            "doublequote": self.double_quote,
            "quoting": csv.QUOTE_MINIMAL if self.quote_char else csv.QUOTE_NONE,
        }


def sniff(text_sample: str, format: CsvFormat) -> Dialect:  # noqa: A002 - the name it has in a source file
    """
    The dialect as far as it is given, with the delimiter that the records agree on.

    A delimiter must stand in the first record and in most others, equally
    often; quoted ones do not count. Where none does, the file has one column
    and the delimiter is a comma.

    Args:
        text_sample: the beginning of the text; a last line that is cut does
            little harm.
    """
    given = Dialect(
        delimiter=format.delimiter or _DEFAULT,
        quote_char=format.quote_char or None,
        escape_char=format.escape_char,
        double_quote=format.double_quote,
        evidence="declared" if format.delimiter else "default",
    )
    if format.delimiter:
        return given
    lines = _record_lines(text_sample[:SAMPLE_CHARACTERS], format)
    names = format.header_definition if isinstance(format.header_definition, tuple) else None
    taken = {given.quote_char, given.escape_char, format.comment}
    scores = {
        delimiter: _score(_widths(lines, {**given.options(), "delimiter": delimiter}), names)
        for delimiter in _CANDIDATES
        if delimiter not in taken
    }
    sample = "".join(lines[:SAMPLE_RECORDS])
    if 2 * len(_DECIMAL_COMMA.findall(sample)) > sample.count(","):
        scores[","] = _scaled(scores.get(",", (0.0, 0)), 0.9)  # 1,5;2,5 has two fields
    scores[":"] = _scaled(scores.get(":", (0.0, 0)), 0.6)  # a URL has one, too
    if 2 * len(_TIME_OF_DAY.findall(sample)) >= sample.count(":"):
        scores[":"] = (0.0, 0)
    best = max(scores, key=lambda delimiter: scores[delimiter])
    if not scores[best][0]:
        return given
    return Dialect(best, given.quote_char, given.escape_char, given.double_quote, "detected")


def _record_lines(text: str, format: CsvFormat) -> list[str]:  # noqa: A002 - as above
    lines = split_lines(text)[format.skip_rows_before_header :]
    if format.comment:
        lines = [line for line in lines if not line.startswith(format.comment)]
    return lines


def _widths(lines: list[str], options: dict[str, Any]) -> list[int]:
    return [len(row) for row in islice(_rows(lines, options), SAMPLE_RECORDS)]


def _rows(lines: list[str], options: dict[str, Any]) -> Iterator[list[str]]:
    try:
        yield from (row for row in csv.reader(lines, **options) if row)
    except csv.Error:
        return  # a field beyond all bounds: what was read before counts


def _score(widths: list[int], names: Sequence[str] | None) -> tuple[float, int]:
    """How many records agree with one another and with the first; then how many fields they have."""
    if not widths or widths[0] < 2 or (names is not None and len(names) == 1):
        return 0.0, 0
    width, count = Counter(widths).most_common(1)[0]
    if width < 2:
        return 0.0, 0
    agrees = width == widths[0] and (names is None or len(names) == width)
    return count / len(widths) * (1.0 if agrees else 0.7), width


def _scaled(score: tuple[float, int], factor: float) -> tuple[float, int]:
    return score[0] * factor, score[1]


class Grammar:
    """What a record of a dialect looks like."""

    def __init__(self, dialect: Dialect) -> None:
        self.options = dialect.options()
        self.quote = dialect.quote_char
        self._strict = self._lenient = None
        if dialect.quote_char:
            self._strict = _pattern(dialect, bare_quotes=False) if dialect.escape_char else _quick_pattern(dialect)
            self._lenient = _pattern(dialect, bare_quotes=True)

    def rows(self, lines: Iterable[str]) -> Iterator[list[str]]:
        return csv.reader(lines, **self.options)

    def is_sound(self, record: str) -> bool:
        """Whether every quote in it encloses a field or is escaped. `record` is without its line end."""
        return self._strict is None or self._strict.fullmatch(record) is not None

    def are_sound(self, text: str, begin: int, end: int) -> bool:
        """
        The same of all records between two places of a text, each on one line, at once.

        False may also mean that it takes a look at each. One by one, a quarter of the
        lines with quotes made the whole cutter a fifth slower.
        """
        if self._strict is None or text.find(self.quote or "", begin, end) < 0:
            return True
        return self._strict.fullmatch(text, begin, end) is not None

    def is_closed(self, record: str) -> bool:
        """Whether every quote that begins a field ends one; quotes elsewhere are let pass."""
        return self._lenient is None or self._lenient.fullmatch(record) is not None

    def is_open(self, lines: list[str]) -> bool:
        """Whether the record goes on after these lines: then one more line makes no further row."""
        return bool(lines) and len(list(self.rows([*lines, "\n"]))) == len(list(self.rows(lines)))


def _quick_pattern(dialect: Dialect) -> re.Pattern[str]:
    """As `_pattern` without escapes: from quote to quote, each at the border of its field."""
    quote, delimiter = re.escape(dialect.quote_char or ""), re.escape(dialect.delimiter)
    doubled = f"|{quote}{quote}" if dialect.double_quote else ""
    border = f"[^{delimiter}\\r\\n]"
    quoted = f"(?<!{border}){quote}(?>(?:[^{quote}]++{doubled})*){quote}(?!{border})"
    return re.compile(f"[^{quote}]*+(?>(?:{quoted}[^{quote}]*+)*)")


def _pattern(dialect: Dialect, *, bare_quotes: bool) -> re.Pattern[str]:
    quote, delimiter = re.escape(dialect.quote_char or ""), re.escape(dialect.delimiter)
    escape = re.escape(dialect.escape_char) if dialect.escape_char else ""
    escaped = f"|{escape}." if escape else ""
    doubled = f"|{quote}{quote}" if dialect.double_quote else ""
    # Nothing is gone back on: a megabyte of quotes is read once. Atomic groups, because the possessive quantifiers of
    # Python 3.11.0 to 3.11.4 match groups wrongly (cpython#106052)
    quoted = f"{quote}(?>(?:[^{quote}{escape}]++{doubled}{escaped})*){quote}"
    plain = f"(?>(?:[^{'' if bare_quotes else quote}{delimiter}{escape}\r\n]++{escaped})*)"
    field = f"(?:{quoted}|(?!{quote}){plain})"
    return re.compile(f"{field}(?>(?:{delimiter}{field})*)", re.DOTALL)


class LineFeed:
    """Lines for the csv module, without the comments between records."""

    def __init__(self, lines: list[str], at: int, comment: str | None) -> None:
        self._lines = lines
        self._comment = comment
        self.begin = self.at = at
        self.between_records = True

    def __iter__(self) -> "LineFeed":
        return self

    def __next__(self) -> str:
        if self.between_records:
            while self._comment and self.at < len(self._lines) and self._lines[self.at].startswith(self._comment):
                self.at += 1
            self.begin = self.at
            self.between_records = False
        if self.at >= len(self._lines):
            raise StopIteration
        self.at += 1
        return self._lines[self.at - 1]


def column_names(row: Sequence[str]) -> list[str]:
    """Names to tell columns apart: a blank one is `column_N` (from 1), a repeated one gets `_2`, `_3`, …"""
    names: list[str] = []
    for at, text in enumerate(row, start=1):
        # What no database can hold stands in no row that is loaded, but would in the header of the run
        clean = text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        name = given = clean if clean.strip() else f"column_{at}"
        number = 2
        while name in names or (name != text and name in row):
            name = f"{given}_{number}"
            number += 1
        names.append(name)
    return names
