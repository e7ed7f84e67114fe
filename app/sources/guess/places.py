"""Where the records of a body may be that has no list of objects under a plain name. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.sources.json_paths import members, path_of

MAX_DEPTH: Final = 3
FEWEST: Final = 3
"""Objects that are alike before they are taken for records, and the object around them for a table by key."""
_ERROR: Final = frozenset({"error", "errors", "error_description", "error_message", "error_code"})
_WITH_ERRORS: Final = _ERROR | {
    "code", "message", "msg", "status", "status_code", "statuscode", "success", "ok", "detail", "details", "reason",
    "type", "title", "request_id", "requestid", "timestamp", "path", "documentation_url",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    selector: str
    """JMESPath."""
    evidence: str


def find_place(tree: Mapping[str, Any]) -> Place | None:
    """The one list of objects with an odd name; else objects that are alike, by key; else the object called data."""
    odd = [keys for keys, value in members(tree, MAX_DEPTH) if _is_list(value)]
    if len(odd) == 1:
        path = path_of(odd[0])
        return Place(path, f"{path} is the only list of objects in the body")
    for path, value in _tables(tree):
        return Place(f"{path}.*" if path else "*", f"{len(value)} objects that are alike, by key{_at(path)}")
    if isinstance(tree.get("data"), Mapping) and tree["data"]:
        return Place("data", "data is one record")
    return None


def is_error(tree: Mapping[str, Any]) -> bool:
    """Whether a body speaks of an error, and of nothing else."""
    names = {key.lower(): value for key, value in tree.items()}
    fails = any(names.get(name) for name in _ERROR) or names.get("success") is False or names.get("ok") is False
    return fails and names.keys() <= _WITH_ERRORS


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _tables(tree: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(tree, Mapping) or len(above) >= MAX_DEPTH:
        return
    if len(tree) >= FEWEST and all(isinstance(value, Mapping) and value for value in tree.values()):
        fields = [set(value) for value in tree.values()]
        if 2 * len(set.intersection(*fields)) > len(set.union(*fields)):
            yield path_of(above), tree
            return
    for key, value in tree.items():
        yield from _tables(value, (*above, key))


def _at(path: str) -> str:
    return f" of {path}" if path else ""
