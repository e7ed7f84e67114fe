"""How the texts of a field are to be read: as which number, as which time. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

NULLS: Final = frozenset({"n/a", "na", "null", "none", "nil", "-", "--", "?", "nan", "#n/a", "\\n"})
"""Texts, in lower case, that files write for: no value."""
MOST_NULLS: Final = 0.5
"""Share of a column that may be such texts."""

_PLAIN: Final = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*")
_COMMA: Final = re.compile(r"\s*[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?\s*")
_POINT: Final = re.compile(r"\s*[+-]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?\s*")
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?")
_RFC2822: Final = re.compile(r"([A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2} \d{4} .*")
_CLOCKS: Final = ("", " %H:%M", " %H:%M:%S")
_DAYS: Final = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%Y%m%d")


@dataclass(frozen=True, slots=True)
class Form:
    options: dict[str, Any] = field(default_factory=dict)
    """Keys of a mapping, beside its path."""
    missing: str | None = None
    """What nobody can tell from the values: such a field is proposed, and not mapped."""
    note: str | None = None


def number_form(values: Sequence[Any]) -> Form | None:
    """
    How numbers are written, in JSON or as text; None where they are none.

    Args:
        values: those that are there.
    """
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        rest = [value for value in values if not isinstance(value, str)]
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in rest):
            return None
    nulls = sorted({text for text in texts if text.strip().lower() in NULLS})
    told = [text for text in texts if text not in nulls]
    if not values or len(texts) - len(told) > MOST_NULLS * len(values):
        return None
    form = _marks(told)
    if form is None:
        return None
    return Form({**form.options, **({"null_values": nulls} if nulls else {})}, form.missing)


def _marks(texts: Sequence[str]) -> Form | None:
    if all(map(_PLAIN.fullmatch, texts)):
        return Form()
    comma, point = all(map(_COMMA.fullmatch, texts)), all(map(_POINT.fullmatch, texts))
    if comma and point:
        return Form(missing="`1,234` may be one and a bit or a thousand: say decimal, or thousands")
    if comma:
        marks = {"decimal": ","} | ({"thousands": "."} if any("." in text for text in texts) else {})
        return Form(marks)
    return Form({"thousands": ","}) if point else None


def time_form(values: Sequence[Any]) -> Form | None:
    """
    How moments are written: ISO 8601, RFC 2822, seconds or milliseconds since 1970, or a pattern of strptime.

    Args:
        values: those that are there.
    """
    if not values:
        return None
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return _since_1970(list(map(float, values)))
    if not all(isinstance(value, str) for value in values):
        return None
    texts = [value.strip() for value in values]
    if all(text.isdecimal() and len(text) in {10, 13} for text in texts):
        return _since_1970(list(map(float, texts)))
    if all(map(_ISO.fullmatch, texts)):
        return _iso8601(texts)
    if all(map(_RFC2822.fullmatch, texts)) and all(map(_is_rfc2822, texts)):
        return Form({"type": "datetime", "format": "rfc2822"})
    return _strptime(texts)


def _since_1970(numbers: Sequence[float]) -> Form | None:
    # 1990 to 2100: other numbers of that size are rare in fields with the name of a time
    lowest, highest = 631_152_000, 4_102_444_800
    for name, factor in (("unix", 1), ("unix_ms", 1000)):
        if all(lowest * factor <= number <= highest * factor for number in numbers):
            return Form({"type": "datetime", "format": name})
    return None


def _iso8601(texts: Sequence[str]) -> Form | None:
    try:
        moments = list(map(datetime.fromisoformat, texts))
    except ValueError:
        return None
    if all(len(text) == 10 for text in texts):
        return Form({"type": "date"}, note="a day without an hour: midnight in UTC")
    if any(moment.tzinfo is None for moment in moments):
        return Form({"type": "datetime"}, missing="its times have no offset: say whose clock they are from, timezone")
    return Form({"type": "datetime"})


def _strptime(texts: Sequence[str]) -> Form | None:
    fitting = [
        f"{day}{clock}" for clock in _CLOCKS for day in _DAYS if all(_fits(text, f"{day}{clock}") for text in texts)
    ]
    if not fitting:
        return None
    if len(fitting) > 1:
        return Form({"type": "datetime"}, missing=f"its format may be {' or '.join(fitting)}: say format")
    form = fitting[0]
    if "%H" in form:
        options = {"type": "datetime", "format": form}
        return Form(options, missing="its times have no offset: say whose clock they are from, timezone")
    return Form({"type": "date", "format": form}, note="a day without an hour: midnight in UTC")


def _fits(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return False
    # strptime takes 1.1.24 for the year 24, and %Y%m%d any seven digits
    return form != "%Y%m%d" or (len(text) == 8 and "19" <= text[:2] <= "20")


def _is_rfc2822(text: str) -> bool:
    try:
        parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return False
    return True
