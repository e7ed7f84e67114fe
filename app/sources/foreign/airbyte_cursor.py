"""A manifest's incremental_sync → `endpoint.incremental`."""

import re
from datetime import UTC, date, datetime
from typing import Any, Final

from app.sources.foreign.airbyte_parts import Context
from app.sources.foreign.components import Component
from app.sources.foreign.conversion import CannotSayError
from app.sources.foreign.templates import only

START: Final = "{incremental.start_value}"
END: Final = "{incremental.end_value}"
_FORMATS: Final = {
    "%s": "unix",
    "%ms": "unix_ms",
    "%Y-%m-%d": "date",
    "%Y-%m-%dT%H:%M:%SZ": "iso8601",
    "%Y-%m-%dT%H:%M:%S%z": "iso8601",
}
_OURS_ALONE: Final = re.compile(r"%(_ms|epoch_microseconds|s_as_float|ms|s)")
_READ_ANYWAY: Final = re.compile(r"%s|%Y-%m-%d([T ]%H:%M(:%S(\.%f)?)?(Z|%z|\+00:00)?)?")
"""Times in records that are understood whatever the format is in which they are sent."""
_CALENDAR: Final = {"P1M": "P30D", "P3M": "P90D", "P6M": "P180D", "P1Y": "P365D", "P2Y": "P730D", "P10Y": "P3650D"}


def take_cursor(context: Context, component: Component) -> None:
    """
    Raises:
        CannotSayError: the request names a time that cannot be told.
    """
    if not component.has("incremental_sync"):
        return
    sync = component.child("incremental_sync")
    if sync.type == "IncrementingCountCursor":
        _take_count(context, sync)
    elif sync.type in {"DatetimeBasedCursor", ""}:
        _take_times(context, sync)
    else:
        # Where the request names its times, they mean nothing, and refuse the stream
        context.lose(sync, f"{sync.type}: every run reads everything; unchanged rows are not written")


def _take_count(context: Context, sync: Component) -> None:
    said: dict[str, Any] = {"cursor_path": context.text(sync.get("cursor_field"), sync, "cursor_field")}
    said["cursor_type"] = "integer"
    if str(sync.get("start_value", "")).lstrip("-").isdecimal():
        said["initial_value"] = int(sync.get("start_value"))
    if not sync.has("start_value_option"):
        context.lose(sync, "the API is not asked by it: every run reads everything; unchanged rows are not written")
        return
    context.inject(sync.child("start_value_option"), START)
    context.increment = said


def _take_times(context: Context, sync: Component) -> None:
    names = (str(sync.get("partition_field_start", "start_time")), str(sync.get("partition_field_end", "end_time")))
    if sync.get("is_client_side_incremental"):
        context.lose(sync, "the API is not asked by it: every run reads everything; unchanged rows are not written")
        return
    said: dict[str, Any] = {"cursor_path": context.text(sync.get("cursor_field"), sync, "cursor_field")}
    form = _format(sync)
    if form != "iso8601":
        said["cursor_format"] = form
    initial = _moment(context, sync, "start_datetime")
    if initial is not None:
        said["initial_value"] = initial
    end = _moment(context, sync, "end_datetime", now_is_none=True)
    if end is not None:
        said["end_value"] = end
    _take_durations(context, sync, said)
    if sync.get("is_data_feed"):
        said["row_order"] = "desc"
    if sync.has("start_time_option"):
        context.inject(sync.child("start_time_option"), START)
    if sync.has("end_time_option"):
        context.inject(sync.child("end_time_option"), END)
    context.interval |= {"start_time": START, "end_time": END, names[0]: START, names[1]: END}
    context.increment = said


def _format(sync: Component) -> str:
    sent = str(sync.get("datetime_format", "%Y-%m-%dT%H:%M:%SZ"))
    read = [str(one) for one in sync.get("cursor_datetime_formats", [])]
    form = _FORMATS.get(sent, sent)
    if "{{" in sent or (form == sent and _OURS_ALONE.search(sent)):
        raise CannotSayError(sync.at("datetime_format"), f"{sent} is no format that a source file can say")
    others = [one for one in read if _FORMATS.get(one, one) != form and not _READ_ANYWAY.fullmatch(one)]
    if read and len(others) == len(read):
        raise CannotSayError(
            sync.at("cursor_datetime_formats"),
            f"records write times as {read[0]}, and {sent} is sent: one format can be said",
        )
    return form


def _moment(context: Context, sync: Component, name: str, *, now_is_none: bool = False) -> Any:
    """A time that stands in the manifest; None, and a word about it, where it is an input or computed."""
    given = sync.get(name)
    if given is None:
        return None
    component = sync.child(name) if isinstance(given, dict) else sync
    text = str(component.get("datetime", "") if isinstance(given, dict) else given)
    if "{{" in text:
        expression = only(text)
        if expression is None or expression.root not in {"config", "parameters"}:
            if now_is_none and re.search(r"\bnow_utc\(\)|\btoday", text):
                return None
            context.lose(component, f"{name} is computed ({text[:80]}); say endpoint.incremental.initial_value")
            return None
        try:
            text = context.text(text, component, "datetime")
        except CannotSayError:
            key = "initial_value" if name == "start_datetime" else "end_value"
            if name == "start_datetime" or not now_is_none:
                context.lose(
                    component, f"an input of the connector ({expression.dotted}); say endpoint.incremental.{key}"
                )
            return None
    moment = _parsed(text)
    if moment is None:
        context.lose(component, f"{text!r} is no time in ISO 8601; say endpoint.incremental.initial_value")
    return moment


def _parsed(text: str) -> datetime | date | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    # Airbyte takes times without an offset for UTC
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _take_durations(context: Context, sync: Component, said: dict[str, Any]) -> None:
    if sync.has("lookback_window"):
        text = _duration(context, sync, "lookback_window")
        if text is not None and text not in {"P0D", "PT0S"}:
            said["lookback_window"] = text
    if not sync.has("step"):
        return
    text = _duration(context, sync, "step")
    if text is not None and "initial_value" not in said:
        context.lose(sync, f"step {text}: windows need a beginning; say initial_value and step")
    elif text is not None:
        said["step"] = text


def _duration(context: Context, sync: Component, name: str) -> str | None:
    try:
        text = context.text(sync.get(name), sync, name).strip()
    except CannotSayError as error:
        context.lose(sync, f"{name}: {error.reason}")
        return None
    if text in _CALENDAR:
        context.stream.notes.append(
            f"{name} {text} is said as {_CALENDAR[text]}: months and years have no fixed length"
        )
        return _CALENDAR[text]
    if re.search(r"^P[^T]*[YM]", text):
        context.lose(sync, f"{name} {text}: months and years have no fixed length; say it in days")
        return None
    return text
