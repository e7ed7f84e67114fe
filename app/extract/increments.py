"""What changed since: the value to ask from, and the largest value seen. No I/O."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import jmespath

from app.clock import in_utc
from app.errors import OrderError, SourceMalformedError
from app.records import Records
from app.sources.rest import Incremental

SAFETY_SECONDS: Final = 1.0
"""A checkpoint stays this far behind the start of its run: what commits late at the source is not passed by."""

Value = datetime | int | str


@dataclass(frozen=True, slots=True)
class Progress:
    """What a checkpoint holds of an increment."""

    value: str | None = None
    """Asked from by the next pass; None: from the beginning."""
    pending: str | None = None
    """The largest value of a pass that is not complete."""

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Progress":
        return cls(state.get("cursor_value"), state.get("pending_cursor_value"))

    @property
    def state(self) -> dict[str, Any]:
        held = {"cursor_value": self.value, "pending_cursor_value": self.pending}
        return {key: value for key, value in held.items() if value is not None}


@dataclass(slots=True)
class Increment:
    """
    One pass over an incremental endpoint.

    Args:
        progress: as the checkpoint stands.
        now: when the run began.
        strict: records before `initial_value` are left out, as those from `end_value` on always are.
    """

    spec: Incremental
    progress: Progress
    now: datetime
    strict: bool = False
    left_out: int = field(init=False, default=0)
    """Records that a source sent although they are not in the range."""
    _largest: Value | None = field(init=False, default=None)
    _newest_read: Value | None = field(init=False, default=None)
    ordered: bool = field(init=False)
    """Every page may move the checkpoint."""
    in_order: bool = field(init=False)
    """So far they come as `row_order` says."""
    _find: Callable[[Any], Any] = field(init=False)

    def __post_init__(self) -> None:
        self.ordered = self.spec.row_order == "asc"
        self.in_order = self.spec.row_order is not None
        self._largest = None if self.progress.pending is None else self._stored(self.progress.pending)
        self._find = jmespath.compile(self.spec.cursor_path).search

    @property
    def start(self) -> Value | None:
        """Inclusive; the checkpoint less the lookback window, never before `initial_value`."""
        initial = self._given(self.spec.initial_value)
        if self.progress.value is None:
            return initial
        value = self._stored(self.progress.value)
        if isinstance(value, datetime) and self.spec.lookback_window:
            earliest = datetime.min.replace(tzinfo=UTC)
            value -= min(timedelta(seconds=self.spec.lookback_window), value - earliest)
            if isinstance(initial, datetime):
                value = max(value, initial)
        return value

    @property
    def end(self) -> Value | None:
        """Exclusive; None when there is none."""
        return self._given(self.spec.end_value)

    @property
    def begins_in_the_future(self) -> bool:
        """Then there is nothing to read, and a wrong clock or a wrong value to be told about."""
        start = self.start
        return isinstance(start, datetime) and start > self.now

    @property
    def values(self) -> dict[str, str]:
        """What the placeholders stand for, as the source writes it; a value that is not there is missing."""
        both = {"start_value": self.start, "end_value": self.end}
        return {f"incremental.{name}": self.write(value) for name, value in both.items() if value is not None}

    @property
    def has_passed_range(self) -> bool:
        """The source sends what was read last in the order of its values, and no later record can be in the range."""
        newest, end, initial = self._newest_read, self.end, self._given(self.spec.initial_value)
        if newest is None or not self.in_order:
            return False
        if self.spec.row_order == "asc":
            return end is not None and newest >= end  # type: ignore[operator]
        return self.strict and initial is not None and newest < initial  # type: ignore[operator]

    @property
    def is_without_values(self) -> bool:
        """No record had one, and it is not said that this is right."""
        return self._newest_read is None and self.spec.on_cursor_value_missing == "include"

    def read(self, records: Records) -> None:
        """
        Look at the records of a page.

        Raises:
            SourceMalformedError: a value is missing and `on_cursor_value_missing` is raise.
        """
        start, end = self.start, self.end
        begin = self._given(self.spec.initial_value) if self.strict else None
        outside: set[int] = set()
        for at, fields in enumerate(records.fields):
            if fields is None:
                continue
            value = self._parsed(self._find(fields))
            if value is None:
                self._missing(records, at)
                continue
            self._note_order(value)
            if (end is not None and value >= end) or (begin is not None and value < begin):  # type: ignore[operator]
                outside.add(at)
                continue
            if self.spec.range_start == "open" and start is not None and value <= start:  # type: ignore[operator]
                records.filtered.add(at)
            if self._largest is None or value > self._largest:  # type: ignore[operator]
                self._largest = value
        if outside:
            self.left_out += len(outside)
            records.drop(outside)

    def _note_order(self, value: Value) -> None:
        if self._newest_read is not None and value != self._newest_read:
            rises: bool = value > self._newest_read  # type: ignore[operator]
            self.ordered &= rises
            self.in_order &= rises == (self.spec.row_order == "asc")
        self._newest_read = value

    def progress_after(self, *, last: bool, window_end: datetime | None = None) -> Progress:
        """
        What the checkpoint may hold once the pages so far are committed.

        Args:
            last: the pass is complete.
            window_end: a window is complete that ends here.
        """
        if window_end is not None:
            self.progress = Progress(self._furthest(_store(self._capped(window_end))))
            return self.progress
        largest = None if self._largest is None else self._capped(self._largest)
        if largest is None:
            return Progress(self.progress.value)
        written = _store(largest)
        if last or self.ordered:
            return Progress(self._furthest(written))
        return Progress(self.progress.value, written)

    def write(self, value: Value) -> str:
        """A value as the source wants it."""
        if not isinstance(value, datetime):
            return str(value)
        style = self.spec.cursor_format
        if style == "unix":
            return str(int(value.timestamp()))
        if style == "unix_ms":
            return str(int(value.timestamp() * 1000))
        if style == "date":
            return value.date().isoformat()
        if style == "iso8601":
            return value.isoformat().replace("+00:00", "Z")
        return value.strftime(style)

    def _furthest(self, written: str) -> str:
        """A checkpoint never goes back."""
        if self.progress.value is None:
            return written
        return max(written, self.progress.value, key=self._stored)

    def _capped(self, value: Value) -> Value:
        if isinstance(value, datetime):
            return min(value, self.now - timedelta(seconds=SAFETY_SECONDS))
        return value

    def _missing(self, records: Records, at: int) -> None:
        if self.spec.on_cursor_value_missing == "raise":
            raise SourceMalformedError(
                f"record {records.positions[at]} has no {self.spec.cursor_type} at "
                f"incremental.cursor_path {self.spec.cursor_path}"
            )
        if self.spec.on_cursor_value_missing == "exclude":
            records.filtered.add(at)

    def _parsed(self, given: Any) -> Value | None:
        """None for a value that is missing or of another type."""
        kind = self.spec.cursor_type
        if given is None or isinstance(given, bool):
            return None
        if kind == "string":
            return str(given) if isinstance(given, str | int) else None
        if kind == "integer":
            try:
                return int(given)
            except (TypeError, ValueError, OverflowError):
                return None
        return self._moment(given)

    def _given(self, value: Any) -> Value | None:
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        return self._parsed(value)

    def _stored(self, text: str) -> Value:
        return _read_stored(self.spec, text)

    def _moment(self, given: Any) -> datetime | None:
        """As it is sent; else ISO 8601 or seconds since 1970: records may write times otherwise than requests do."""
        style = self.spec.cursor_format
        is_text = isinstance(given, str)
        for read in (_READERS.get(style, _of_pattern), _of_iso8601, _of_seconds) if is_text else (_of_number,):
            try:
                moment = read(given, style)
            except (TypeError, ValueError, OverflowError, OSError):
                continue
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        return None


def _of_iso8601(text: str, _style: str) -> datetime:
    return datetime.fromisoformat(text)


def _of_number(number: float, style: str) -> datetime:
    return datetime.fromtimestamp(number / 1000 if style == "unix_ms" else number, UTC)


def _of_unix(text: str, style: str) -> datetime:
    return _of_number(float(text), style)


def _of_seconds(text: str, _style: str) -> datetime:
    # From 1973 on: a year, or a day without hyphens, is none
    if not re.fullmatch(r"\d{9,10}(\.\d+)?", text, re.ASCII):
        raise ValueError("no seconds since 1970")
    return _of_number(float(text), "unix")


def _of_pattern(text: str, style: str) -> datetime:
    return datetime.strptime(text, style)  # noqa: DTZ007 -- the caller says UTC


_READERS: Final[Mapping[str, Callable[[str, str], datetime]]] = {
    "iso8601": _of_iso8601,
    "date": _of_iso8601,
    "unix": _of_unix,
    "unix_ms": _of_unix,
}


def read_value(spec: Incremental, text: str) -> str:
    """
    A value of the cursor as somebody writes it, as a checkpoint holds it.

    Times are ISO 8601, in UTC where they have no offset, whatever the source's own format is.

    Raises:
        OrderError: it is no value of the cursor's type.
    """
    if spec.cursor_type == "datetime":
        try:
            return _store(in_utc(datetime.fromisoformat(text)))
        except ValueError:
            raise OrderError(f"{text!r} is no time; write 2026-01-31 or 2026-01-31T12:00:00Z") from None
    if spec.cursor_type == "integer" and not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise OrderError(f"{text!r} is no integer, and incremental.cursor_type is integer")
    if not text:
        raise OrderError("an empty text is no value of a cursor")
    return text


def is_before(spec: Incremental, value: str, other: str) -> bool:
    """Of two values as a checkpoint holds them."""
    first, second = (_read_stored(spec, one) for one in (value, other))
    return first < second  # type: ignore[operator]


def _read_stored(spec: Incremental, text: str) -> Value:
    if spec.cursor_type == "datetime":
        return datetime.fromisoformat(text)
    return int(text) if spec.cursor_type == "integer" else text


def _store(value: Value) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
