"""Columns of moments, always in UTC. Pure."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast

from app.errors import ConfigError
from app.normalize.notes import Notes, note
from app.normalize.texts import is_blank

ReadMoment = Callable[[Any], datetime]
"""A value → its moment, naive where it has no offset; ValueError, TypeError or OverflowError when it is none."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def to_moments(
    field: str,
    values: Sequence[object],
    *,
    read: ReadMoment | None = None,
    zone: tzinfo | None = None,
    code: str = "not_a_datetime",
) -> tuple[list[datetime | None], Notes]:
    """
    Moments in UTC. Blank text is no value, without a note.

    A time without an offset is refused unless there is a zone: guessing one
    gives a wrong hour, confidently. One that the zone's clocks showed twice, or
    not at all, is taken with the offset from before the change, and noted.

    Args:
        read: understands a value; ISO 8601 when omitted.
        zone: of times without offset.
        code: of the note on what is not understood.
    """
    if read is None:
        try:
            moments = list(map(datetime.fromisoformat, cast("Sequence[str]", values)))
            if {moment.tzinfo for moment in moments} == {UTC}:
                return cast("list[datetime | None]", moments), {}
        except (ValueError, TypeError):
            pass  # value by value, then
        read = _iso8601
    column: list[datetime | None] = []
    notes: Notes = {}
    for at, value in enumerate(values):
        moment: datetime | None = None
        fault: str | None = None
        try:
            if value is not None:
                moment, fault = _in_utc(read(value), zone)
        except OverflowError:  # year 1 or 9999, moved over the edge by its offset
            fault = "out_of_range"
        except (ValueError, TypeError):
            fault = None if is_blank(value) else code
        if fault is not None:
            notes[at] = note(field, fault, value)
        column.append(moment)
    return column, notes


def _in_utc(moment: datetime, zone: tzinfo | None) -> tuple[datetime | None, str | None]:
    """The moment in UTC, and what is to be said about it."""
    if moment.tzinfo is UTC:
        return moment, None
    if moment.tzinfo is not None:
        return moment.astimezone(UTC), None
    if zone is None:
        return None, "no_offset"
    first, second = moment.replace(tzinfo=zone, fold=0), moment.replace(tzinfo=zone, fold=1)
    # PEP 495: the two differ exactly where the clocks were changed
    fault = None if first.utcoffset() == second.utcoffset() else "ambiguous_time"
    return first.astimezone(UTC), fault


def moment_reader(form: str | None) -> ReadMoment | None:
    """
    Args:
        form: strptime's, iso8601, unix, unix_ms or rfc2822.

    Returns:
        None: ISO 8601, which has a faster way.

    Raises:
        ConfigError: strptime does not understand the format.
    """
    if form in {None, "iso8601"}:
        return None
    if form == "unix":
        return lambda value: _since_epoch(value, "seconds")
    if form == "unix_ms":
        return lambda value: _since_epoch(value, "milliseconds")
    if form == "rfc2822":
        return _rfc2822
    assert form is not None
    _check_format(form)
    return lambda value: _strptime(value, form)


def date_reader(form: str | None, zone: tzinfo | None) -> ReadMoment:
    """
    Midnight, naive, of the day that a value names.

    Args:
        zone: in whose days a value with an offset is counted; its own when None.

    Raises:
        ConfigError: strptime does not understand the format.
    """
    read = moment_reader(form)
    if read is None:
        return _iso8601_date

    def midnight(value: Any) -> datetime:
        moment = read(value)
        if moment.tzinfo is not None and zone is not None:
            moment = moment.astimezone(zone)
        return datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001 -- the caller adds the zone

    return midnight


def _iso8601(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return datetime.fromisoformat(value.strip())


def _iso8601_date(value: Any) -> datetime:
    if not isinstance(value, str):
        raise TypeError
    day = date.fromisoformat(value.strip())
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001 -- the caller adds the zone


def _since_epoch(value: Any, unit: str) -> datetime:
    if isinstance(value, str):
        if "_" in value:
            raise ValueError
        digits = value.strip()
        value = int(digits) if digits.lstrip("+-").isdecimal() else float(digits)
    if isinstance(value, bool):
        raise TypeError
    return _EPOCH + timedelta(**{unit: value})


def _rfc2822(value: Any) -> datetime:
    if not isinstance(value, str):
        raise TypeError
    try:
        moment = parsedate_to_datetime(value)
    except (IndexError, AttributeError) as error:  # its parser stumbles over some texts
        raise ValueError from error
    # RFC 2822 §3.3: -0000 is universal time that says nothing about the sender's zone
    return moment.replace(tzinfo=UTC) if value.rstrip().endswith("-0000") else moment


def _strptime(value: Any, form: str) -> datetime:
    try:
        return datetime.strptime(value, form)  # noqa: DTZ007 -- the caller adds the zone, or refuses
    except ValueError:
        return datetime.strptime(value.strip(), form)  # noqa: DTZ007 -- as above


def _check_format(form: str) -> None:
    others = 'others are "iso8601", "unix", "unix_ms" and "rfc2822"'
    if "%" not in form:
        raise ConfigError(f'format {form!r} has no directives, as strptime\'s "%d.%m.%Y" has; {others}')
    try:
        datetime.strptime(_EPOCH.strftime(form), form)  # noqa: DTZ007 -- only tried
    except ValueError as error:
        raise ConfigError(f"format {form!r} is not understood by strptime: {error}; {others}") from error
