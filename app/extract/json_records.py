"""A JSON array → its records, each with exactly the characters received."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from json.scanner import make_scanner
from typing import Any, Final

from app.errors import SourceMalformedError
from app.records import NOT_JSON, Records, Rejection

MAX_DEPTH: Final = 500
"""Levels of nesting in one record. PostgreSQL's own limit depends on its stack; this is far below it."""

_BLANK: Final = re.compile(r"[ \t\n\r]*")


@contextmanager
def json_errors(text: str, *, what: str) -> Iterator[None]:
    """The parser's errors → ours."""
    try:
        yield
    except RecursionError:
        raise SourceMalformedError(f"{what}: a record is nested too deeply to be read") from None
    except (ValueError, StopIteration) as error:
        reason = error if isinstance(error, ValueError) else f"no value at character {error.value} of {len(text)}"
        raise SourceMalformedError(f"{what}: not valid JSON: {reason}") from None


def decode(body: bytes) -> str:
    """A lone surrogate U+DC80..U+DCFF stands for a byte that is not UTF-8."""
    return body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def cut_array(text: str, at: int) -> tuple[Records, int]:
    """
    Cut the array at `at` into records, parsing each as it goes.

    A record is parsed from the very slice that is kept, so `1.10`, duplicate
    keys, escapes and long integers stay in the payload as they came.

    Returns:
        The records, and where the array ends.
    """
    records = Records()
    at = skip(text, at + 1)
    while text[at : at + 1] != "]" or records:
        value, end = scan(text, at)
        add_record(records, text[at:end], value)
        at = skip(text, end)
        mark = text[at : at + 1]
        if mark == "]":
            break
        if mark != ",":
            raise ValueError(f"expected ',' or ']' at character {at}")
        at = skip(text, at + 1)
    return records, at + 1


def check_end(text: str, at: int) -> None:
    if skip(text, at) != len(text):
        raise ValueError(f"more text after its end, at character {at}")


def add_record(records: Records, payload: str, value: Any, *, position: int | None = None) -> None:
    """
    Args:
        position: within the page; None: it is the next.
    """
    fields = value if isinstance(value, dict) else None
    records.append(payload, position or len(records) + 1, fields, _fault(payload, value))


def add_text(records: Records, text: str) -> None:
    """A text that is one record by itself, blanks around it and all; what is no JSON is rejected."""
    try:
        value, end = scan(text, skip(text, 0))
        check_end(text, end)
    except (ValueError, StopIteration, RecursionError):
        records.append(text, len(records) + 1, None, NOT_JSON)
    else:
        add_record(records, text, value)


def _fault(payload: str, value: object) -> Rejection | None:
    if not payload.isascii() and any("\udc80" <= character <= "\udcff" for character in payload):
        return Rejection("invalid_utf8", None, "bytes that are not UTF-8 (RFC 8259 §8.1)")
    if payload.count("[") + payload.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        return Rejection("too_deep", None, f"nested deeper than {MAX_DEPTH} levels")
    if not isinstance(value, dict):
        return Rejection("not_an_object", None, f"expected an object, got {payload[:50]}")
    return None


def _depth(value: object) -> int:
    depth = 0
    level = [value]
    while level:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth


def skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found is not None
    return found.end()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int | str:
    # Python refuses to convert more than 4,300 digits; such a number is kept as text
    return int(digits) if len(digits) <= 4000 else digits


# What JSONDecoder.raw_decode calls; it says where a value ends and slices nothing
scan: Final = make_scanner(
    json.JSONDecoder(parse_constant=_no_constant, parse_int=_integer)  # type: ignore[arg-type]  # typeshed says otherwise
)


def glimpse(text: str) -> str:
    start = text.strip()[:60].encode("ascii", "backslashreplace").decode()
    if not start:
        return "an empty body"
    if start.lower().startswith(("<!doctype", "<html", "<?xml", "<")):
        return f"HTML or XML ({start!r})"
    return repr(start)
