"""A source's tree, with what is to be said about its keys → the text of a source file. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

Comments = Mapping[str, Sequence[str]]
"""By dotted path, resources by number (`resources.0.mapping.name`): lines above that key; `PATH.*`: after its table."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f"\\]')
_SHORT: Final[Mapping[str, str]] = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_LINE_BREAKS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]+")
WIDTH: Final = 110
"""Characters of a line, beyond which a list is written item by item."""
SUBTABLES: Final = frozenset({"endpoint", "file", "feed", "format", "mapping", "deletes", "expect", "incremental"})
"""Of a resource and its endpoint, those that get a heading of their own; others are written in a line."""


def write_source(tree: Mapping[str, Any], comments: Comments | None = None) -> str:
    """
    TOML 1.0 of a source's tree, which reads back as the same tree.

    Raises:
        TypeError: a value is none of TOML's.
    """
    said = comments or {}
    lines = _comments(said, "")
    resources = tree.get("resources", ())
    head = {key: value for key, value in tree.items() if not isinstance(value, Mapping) and key != "resources"}
    lines += _pairs(head, "", said)
    for key, table in tree.items():
        if isinstance(table, Mapping):
            lines += _table(table, f"[{_key(key)}]", key, said)
    for number, resource in enumerate(resources):
        lines += _table(resource, "[[resources]]", f"resources.{number}", said, heading="resources")
    if last := _comments(said, "*"):
        lines += ["", *last]
    return "\n".join(lines).strip("\n") + "\n"


def inline(value: Any) -> str:
    """A value in one line, as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, datetime | date):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_key(key)} = {inline(item)}" for key, item in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(inline, value)) + "]"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _table(
    table: Mapping[str, Any], header: str, path: str, said: Comments, *, heading: str | None = None
) -> list[str]:
    below = heading or path
    apart = {key for key, value in table.items() if heading and key in SUBTABLES and isinstance(value, Mapping)}
    lines = ["", *_comments(said, path), header]
    lines += _pairs({key: value for key, value in table.items() if key not in apart}, path, said)
    lines += _comments(said, f"{path}.*")
    for key in table:
        if key in apart:
            name = f"{below}.{key}"
            lines += _table(table[key], f"[{name}]", f"{path}.{key}", said, heading=name)
    return lines


def _pairs(table: Mapping[str, Any], path: str, said: Comments) -> Iterator[str]:
    for key, value in table.items():
        yield from _comments(said, f"{path}.{key}" if path else key)
        text = inline(value)
        if len(text) > WIDTH and isinstance(value, Sequence) and not isinstance(value, str):
            yield f"{_key(key)} = ["
            yield from (f"  {inline(item)}," for item in value)
            yield "]"
        else:
            yield f"{_key(key)} = {text}"


def _comments(said: Comments, path: str) -> list[str]:
    # What a source sent stands in a comment: a line break in it would end the comment
    return [f"# {_LINE_BREAKS.sub(' ', line)}".rstrip() for line in said.get(path, ())]


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    return '"' + _UNSAFE.sub(lambda found: _SHORT.get(found[0], f"\\u{ord(found[0]):04x}"), value) + '"'


def _number(value: float) -> str:
    return repr(value)
