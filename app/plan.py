"""Which resources are due, and when the next one is. No I/O."""

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from app.sources.due import first_due, next_due
from app.sources.resource import ResourceSpec


class Plan:
    """
    One resource is never given out twice at a time; what it missed while it ran is one run.

    Args:
        default_interval_seconds: of sources without a schedule of their own.
    """

    def __init__(self, resources: Iterable[ResourceSpec], *, default_interval_seconds: float) -> None:
        self._resources = {spec.name: spec for spec in resources if not spec.is_pushed}
        self._default_interval_seconds = default_interval_seconds
        self._due: dict[str, datetime] = {}
        self._running: set[str] = set()
        self._rng = random.Random()  # noqa: S311 -- spreads starts, keeps no secret

    def remember(self, last_starts: Mapping[str, datetime], now: datetime) -> None:
        """Go on where an earlier process stopped."""
        for name, spec in self._resources.items():
            self._due[name] = first_due(spec.schedule, last_start=last_starts.get(name), now=now)

    def take_due(self, now: datetime) -> list[ResourceSpec]:
        """What is due and not running; it counts as running until `finished`."""
        taken = []
        for name, spec in self._resources.items():
            due = self._due.setdefault(name, first_due(spec.schedule, last_start=None, now=now))
            if due > now or name in self._running:
                continue
            self._running.add(name)
            self._due[name] = next_due(
                spec.schedule,
                due=due,
                now=now,
                default_interval_seconds=self._default_interval_seconds,
                rng=self._rng,
            )
            taken.append(spec)
        return taken

    def finished(self, specs: Sequence[ResourceSpec], sooner: Mapping[str, float], now: datetime) -> None:
        """
        Args:
            sooner: seconds until a resource is tried again, where that comes before its schedule.
        """
        for spec in specs:
            self._running.discard(spec.name)
            if spec.name in sooner:
                self._due[spec.name] = min(self._due[spec.name], now + timedelta(seconds=sooner[spec.name]))

    def postpone(self, later: Mapping[str, float], now: datetime) -> None:
        """
        Args:
            later: seconds for which a resource is to be left alone.
        """
        for name, seconds in later.items():
            self._due[name] = max(self._due[name], now + timedelta(seconds=seconds))

    def seconds_to_next(self, now: datetime) -> float:
        """Until something that is not running is due; 0 when it is due now."""
        waiting = [due for name, due in self._due.items() if name not in self._running]
        return max(0.0, (min(waiting) - now).total_seconds()) if waiting else float("inf")
