"""What comes from a source: records, pages, and where a walk stands."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple


def is_storable(text: str) -> bool:
    """Whether PostgreSQL's text can hold it: no U+0000, no lone surrogate."""
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Rejection(NamedTuple):
    """Why a record could not be normalized. A value, never an exception."""

    code: str
    field: str | None
    detail: str


class Note(NamedTuple):
    """What was coerced while normalizing: the value given could not be kept as it was."""

    field: str
    code: str
    given: str
    """The value as received, at most 100 characters of it."""


NOT_JSON: Final = Rejection("not_json", None, "it is no JSON, or nested too deeply to be read")


@dataclass(slots=True)
class Records:
    """Records cut from a page, column by column: a million of them cost no million objects."""

    payloads: list[str] = field(default_factory=list)
    """Exactly what was received; a lone surrogate U+DC80..U+DCFF stands for a byte that is not UTF-8."""
    positions: list[int] = field(default_factory=list)
    """From 1: the record's line in the file, or its number within the page."""
    fields: list[Any] = field(default_factory=list)
    """What the payload parsed to; None where it did not."""
    faults: dict[int, Rejection] = field(default_factory=dict)
    """By index: why a payload cannot be used as it is."""
    filtered: set[int] = field(default_factory=set)
    """Indexes of records that are kept, and not loaded."""

    def __len__(self) -> int:
        return len(self.payloads)

    def append(self, payload: str, position: int, fields: Any, fault: Rejection | None) -> None:
        if fault is not None:
            self.faults[len(self.payloads)] = fault
        self.payloads.append(payload)
        self.positions.append(position)
        self.fields.append(fields)

    def drop(self, unwanted: set[int]) -> None:
        """Forget records, as if they had not come."""
        kept = [at for at in range(len(self.payloads)) if at not in unwanted]
        self.faults = {new: self.faults[old] for new, old in enumerate(kept) if old in self.faults}
        self.filtered = {new for new, old in enumerate(kept) if old in self.filtered}
        self.payloads = [self.payloads[at] for at in kept]
        self.positions = [self.positions[at] for at in kept]
        self.fields = [self.fields[at] for at in kept]

    def part(self, start: int, end: int) -> "Records":
        faults = {at - start: fault for at, fault in self.faults.items() if start <= at < end}
        filtered = {at - start for at in self.filtered if start <= at < end}
        return Records(self.payloads[start:end], self.positions[start:end], self.fields[start:end], faults, filtered)


class StretchRules(NamedTuple):
    """How a pass cuts a file into stretches; fingerprints of other rules say nothing about it."""

    basis: str
    """Hash of all that decides what the bytes of a stretch become: header, dialect, encoding, mapping."""
    bits: int
    """A stretch has at least 2**bits lines and ends with one whose CRC-32 ends in so many zero bits."""
    line_end: str
    spans_lines: bool
    """Quoted line ends are usual in it, so a stretch ends only where as many quotes are closed as opened."""


class Stretch(NamedTuple):
    """Some records of a file, one after the other, that begin and end with a line."""

    fingerprint: bytes
    """BLAKE2b, 16 bytes, of its text in UTF-8 without the last line end."""
    records: int
    first: int
    """Line at which its first record begins."""
    last: int
    """Line at which its last record begins."""
    skipped: bytes | None = None
    """The text, if its records were not cut because they are known; else they are among the page's."""
    checksums: Sequence[int] = ()
    """CRC-32 of the lines of what was skipped."""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The stretches of a complete pass whose records were all in the table as they are, once it ended."""

    rules: StretchRules
    stretches: Mapping[bytes, int]
    """Fingerprint → number of records."""
    stale: frozenset[int] = frozenset()
    """CRC-32 of lines that begin a record which was changed during that pass: a stretch with one may be overtaken."""


ReadFingerprints = Callable[[], Awaitable[Fingerprints | None]]
"""Those of the last complete pass; None where there are none that may be trusted."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a pass over a resource goes on; the default is the beginning."""

    page: int = 0
    """Pages completed in this pass."""
    position: int = 0
    """Records (of an API) or lines (of a file) consumed in this pass."""
    page_token: str | None = None
    """The request that fetches the next page; None asks for the first."""
    byte_offset: int = 0
    """Bytes of the decompressed body consumed in this pass."""
    prefix_hash: str | None = None
    """Of those bytes: a pass goes on only in the same body."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What makes the next request for one body conditional (RFC 9110 §8.8)."""

    etag: str | None = None
    last_modified: str | None = None
    next_token: str | None = None
    """For a page of a walk: the request that followed it."""
    size_bytes: int = 0
    """Received for the body that they describe; 0: nobody counted."""

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)


@dataclass(frozen=True, slots=True)
class Page:
    """One response of an API, or one slice of a file."""

    number: int
    """From 1, within the pass."""
    records: Records
    after: Cursor
    """Where to go on once this page is committed."""
    last: bool = False
    """The pass is complete with this page."""
    partial: bool = False
    """More records of the same response follow: nothing but records and bytes counts yet."""
    bounded: bool = False
    """The last page, because the paginator was told to stop here: there may be more at the source."""
    doubt: str | None = None
    """The walk ends with this page, and something says that there is more at the source."""
    not_modified: bool = False
    """The source said that nothing changed; there are no records."""
    body_bytes: int = 0
    validators: Mapping[str, Validators] = field(default_factory=dict)
    """By page token ('' for the first): to be saved with the data they describe, and not before."""
    state: Mapping[str, Any] | None = None
    """What else the checkpoint holds once this page is committed; None: what it held before."""
    findings: tuple[Mapping[str, Any], ...] = ()
    """What was noticed while reading it."""
    stretches: Sequence[Stretch] = ()
    """Of a file: the skipped ones, and those that were cut and have a fingerprint, in their order."""
    stretch_rules: StretchRules | None = None
    """None as long as the head of the file is not read, and where no fingerprints are kept."""
    input: Mapping[str, Any] = field(default_factory=dict)
    """Header, dialect, encoding: what a reader of the payloads needs, once a run."""
