"""
A JSON body → the body parsed, and its records, each with exactly the characters received.

Where the records are is said by `data_selector`, or found out from the first
body: a known name, or the only list of objects there is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from json import decoder
from typing import Any, Final

import jmespath
from jmespath.exceptions import JMESPathError

from app.errors import ConfigError, SourceMalformedError
from app.extract.json_lines import LINES, cut_lines, is_lines
from app.extract.json_records import add_record, check_end, cut_array, decode, glimpse, json_errors, scan, skip
from app.records import Records

ARRAY: Final = "[]"
"""JMESPath for a body that is an array of records, and nothing else."""
WHOLE: Final = "@"
"""JMESPath for the body itself: an array of records, or one record."""

_NAMES: Final = ("data", "items", "results", "records", "entries", "rows", "values", "list", "content", "objects")
PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
"""A dotted path, which leads to one place."""


@dataclass(frozen=True, slots=True)
class Cut:
    body: Any
    """Parsed, the records in it."""
    records: Records
    selector: str
    """Where the records were."""
    evidence: str | None = None
    """How that was found out; None when it was given."""


def cut_body(body: bytes, selector: str | None, *, what: str) -> Cut:
    """
    Parse a body and cut its records.

    Args:
        selector: JMESPath to the records; None to find out.
        what: names the request in errors.

    Raises:
        SourceMalformedError: not JSON (RFC 8259), whole; or no records where they should be.
        ConfigError: the selector makes new values instead of choosing records.
    """
    text = decode(body)
    begin = skip(text, 0)
    opening = text[begin : begin + 1]
    if selector == LINES or (selector is None and opening == "{" and is_lines(text, begin)):
        records = cut_lines(text)
        evidence = None if selector else "each line is a JSON value of its own"
        return Cut(records.fields, records, LINES, evidence)
    if opening != "[" and (opening != "{" or selector == ARRAY):
        raise SourceMalformedError(f"{what}: expected a JSON array of records, got {glimpse(text)}")
    evidence = None
    with json_errors(text, what=what):
        if opening == "[" and selector in {None, WHOLE, ARRAY}:
            records, end = cut_array(text, begin)
            check_end(text, end)
            return Cut(records.fields, records, selector or ARRAY, None if selector else "the body is an array")
        if selector is not None and opening == "{" and PLAIN.fullmatch(selector):
            tree, end, found = _along(text, begin, selector.split("."))
            check_end(text, end)
            if found is None:
                raise SourceMalformedError(f"{what}: {nothing_at(selector, tree)}")
            return Cut(tree, found, selector)
        tree, end = scan(text, begin)
        check_end(text, end)
        if selector is None:
            selector, evidence = find_out(tree, what=what)
        return Cut(tree, _chosen(text, begin, tree, selector, what=what), selector, evidence)


def _along(text: str, at: int, path: list[str]) -> tuple[Any, int, Records | None]:
    """
    Parse the object at `at`; what stands at the path is cut as records.

    Returns:
        The object, where it ends, and the records; None when the path leads nowhere.
    """
    tree: dict[str, Any] = {}
    found: Records | None = None
    at = skip(text, at + 1)
    while text[at : at + 1] != "}":
        key, begin = at_key(text, at)
        opening = text[begin : begin + 1]
        if key == path[0] and len(path) > 1 and opening == "{":
            tree[key], end, found = _along(text, begin, path[1:])
        elif key == path[0] and len(path) == 1 and opening == "[":
            found, end = cut_array(text, begin)
            tree[key] = found.fields
        else:
            tree[key], end = scan(text, begin)
            if key == path[0]:
                found = _alone(text[begin:end], tree[key]) if len(path) == 1 else None
        at = after_member(text, end)
    return tree, at + 1, found


def _alone(payload: str, value: Any) -> Records:
    """A single object is one record, null is none."""
    records = Records()
    if value is not None:
        add_record(records, payload, value)
    return records


def at_key(text: str, at: int) -> tuple[str, int]:
    """A member's key, and where its value begins."""
    if text[at : at + 1] != '"':
        raise ValueError(f"expected a key in double quotes at character {at}")
    key, at = decoder.scanstring(text, at + 1)  # type: ignore[attr-defined]  # what JSONDecoder itself uses
    at = skip(text, at)
    if text[at : at + 1] != ":":
        raise ValueError(f"expected ':' at character {at}")
    return key, skip(text, at + 1)


def after_member(text: str, at: int) -> int:
    """Where the next key begins, or the closing brace stands."""
    at = skip(text, at)
    mark = text[at : at + 1]
    if mark == "}":
        return at
    if mark != ",":
        raise ValueError(f"expected ',' or '}}' at character {at}")
    at = skip(text, at + 1)
    if text[at : at + 1] == "}":
        raise ValueError(f"expected a key at character {at}")
    return at


def _chosen(text: str, begin: int, tree: Any, selector: str, *, what: str) -> Records:
    """The records that any JMESPath chooses: the very values of the body, or it is refused."""
    try:
        found = jmespath.search(selector, tree)
    except JMESPathError as error:
        raise ConfigError(f"data_selector: {selector} is no JMESPath: {error}") from None
    if found is None:
        raise SourceMalformedError(f"{what}: {nothing_at(selector, tree)}")
    values = found if isinstance(found, list) else [found]
    spans = dict(_spans(text, begin, tree))
    records = Records()
    for value in values:
        if id(value) not in spans:
            raise ConfigError(
                f"data_selector: {selector} makes new values; it must choose objects that stand in the body, "
                "so that they can be kept as received"
            )
        start, end = spans[id(value)]
        add_record(records, text[start:end], value)
    return records


def _spans(text: str, at: int, value: Any) -> Iterator[tuple[int, tuple[int, int]]]:
    """Each object of a tree, by identity, with where it stands."""
    if isinstance(value, dict):
        yield id(value), (at, scan(text, at)[1])
        places: dict[str, int] = {}
        at = skip(text, at + 1)
        while text[at : at + 1] != "}":
            key, begin = at_key(text, at)
            places[key] = begin  # of a key that comes twice the last counts, as for the parser
            at = after_member(text, scan(text, begin)[1])
        for key, begin in places.items():
            yield from _spans(text, begin, value[key])
    elif isinstance(value, list):
        at = skip(text, at + 1)
        for item in value:
            yield from _spans(text, at, item)
            at = skip(text, skip(text, scan(text, at)[1]) + 1)


def find_out(tree: Any, *, what: str) -> tuple[str, str]:
    """
    Where the records of a first body are, and why there.

    Raises:
        SourceMalformedError: it could be in several places, or in none.
    """
    lists = dict(record_lists(tree))
    if len(lists) == 1:
        path = next(iter(lists))
        return path, f"{path} is the only list of objects in the body"
    for name in _NAMES:
        for path in lists:
            if path.rpartition(".")[2] == name:
                return path, f"{path}, of {', '.join(lists)}: the usual name"
    if lists:
        raise SourceMalformedError(
            f"{what}: records may be at {', '.join(lists)}; say which with endpoint.data_selector"
        )
    if isinstance(tree, dict) and any(tree.get(name) == [] for name in _NAMES):
        return next(name for name in _NAMES if tree.get(name) == []), "an empty list with a usual name"
    return WHOLE, "no list of objects in the body: it is one record itself"


def rank(path: str | None) -> int:
    """The lower, the more usual the name of a list of records; None and unusual names come last."""
    name = (path or "").rpartition(".")[2]
    return _NAMES.index(name) if name in _NAMES else len(_NAMES)


def record_lists(tree: Any, path: str = "", depth: int = 3) -> Iterator[tuple[str, list[Any]]]:
    """The lists of objects in a body, each with its dotted path."""
    if not isinstance(tree, dict) or depth == 0:
        return
    for key, value in tree.items():
        here = f"{path}.{key}" if path else key
        if (
            isinstance(value, list)
            and value
            and all(isinstance(item, dict) for item in value)
            and PLAIN.fullmatch(here)
        ):
            yield here, value
        yield from record_lists(value, here, depth - 1)


def nothing_at(selector: str, tree: Any) -> str:
    keys = f"has the keys {', '.join(list(tree)[:20])}" if isinstance(tree, dict) else "is an array"
    return f"there is nothing at data_selector {selector}; the body {keys}"
