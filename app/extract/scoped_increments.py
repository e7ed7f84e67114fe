"""The increments of one pass: one for all of it, or one for each partition or parent. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from app.extract.increments import Increment, Progress
from app.extract.scopes import Scope
from app.sources.rest import Incremental

MAX_SCOPES: Final = 10_000
"""Partitions or parents whose values are kept one by one; the others share one, where it is a time."""


@dataclass(slots=True)
class Increments:
    """
    Args:
        state: as the checkpoint holds it.
        scoped: each scope has a key and a value of its own.
        resumed: this pass began in an earlier run.
        strict: see `Increment`.
    """

    spec: Incremental
    state: Mapping[str, Any]
    now: datetime
    scoped: bool
    resumed: bool
    strict: bool = False
    current: Increment = field(init=False)
    """Of the scope that is being walked."""
    _values: dict[str, str] = field(init=False)
    _met: set[str] = field(default_factory=set)
    _shared: Progress = field(init=False)
    """Of all scopes that have no value of their own; before there were such values, of all scopes."""

    def __post_init__(self) -> None:
        self._values = dict(self.state.get("cursor_values", {}))
        self._shared = Progress(self.state.get("cursor_value"), self.state.get("pending_shared_value"))
        self.current = Increment(self.spec, Progress.of(self.state), self.now, self.strict)
        if self.scoped:
            self.current.ordered = False

    @property
    def future(self) -> str | None:
        """A value that lies in the future: there is nothing to read, and a wrong clock to be told about."""
        starts = [Increment(self.spec, Progress(one), self.now) for one in {self._shared.value, *self._values.values()}]
        return next((str(one.start) for one in starts if one.begins_in_the_future), None)

    def values_of(self, key: str) -> Mapping[str, str]:
        """What the placeholders of a scope stand for."""
        return (
            Increment(self.spec, Progress(self._value_of(key)), self.now).values if self.scoped else self.current.values
        )

    def begin(self, scope: Scope, *, goes_on: bool) -> None:
        """
        A scope is walked from now on.

        Args:
            goes_on: in the middle, where an earlier run ended.
        """
        if not self.scoped:
            return
        pending = self.state.get("pending_cursor_value") if goes_on else None
        self.current = Increment(self.spec, Progress(self._value_of(scope.key), pending), self.now, self.strict)

    def state_after(self, scope: Scope | None, *, complete: bool, last: bool) -> dict[str, Any]:
        """
        What the checkpoint may hold once the pages so far are committed.

        Args:
            scope: the one being walked; None where there was none at all.
            complete: the walk of this scope ends with these pages.
            last: the pass does.
        """
        if not self.scoped:
            window_end = scope.window_end if scope and complete else None
            return self.current.progress_after(last=last, window_end=window_end).state
        pending = None
        if scope is not None:
            progress = self.current.progress_after(last=complete)
            pending = progress.pending
            if complete:
                self._met.add(scope.key)
            self._keep(scope.key, progress.value, complete=complete)
        if last:
            self._end_pass()
        kept = {
            "cursor_values": dict(self._values),
            "cursor_value": self._shared.value,
            "pending_cursor_value": pending,
            "pending_shared_value": self._shared.pending,
        }
        return {name: value for name, value in kept.items() if value}

    def _value_of(self, key: str) -> str | None:
        # Once a pass is complete nothing is shared, unless there are too many: a new scope begins at initial_value
        return self._values.get(key, self._shared.value)

    def _keep(self, key: str, value: str | None, *, complete: bool) -> None:
        if value is None:
            return
        if key in self._values or len(self._values) < MAX_SCOPES:
            self._values[key] = value
        elif complete and self.spec.cursor_type == "datetime":
            # Only times, which are cut off where the run began, mean the same in two scopes
            newest = max(filter(None, (value, self._shared.pending)), key=datetime.fromisoformat)
            self._shared = Progress(self._shared.value, newest)

    def _end_pass(self) -> None:
        self._shared = Progress(self._shared.pending)
        if not self.resumed:
            self._values = {key: value for key, value in self._values.items() if key in self._met}
