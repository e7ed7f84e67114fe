"""What is wrong with a source file, told so that it can be mended: Pydantic's errors in the format's own words."""

import difflib
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic_core import ErrorDetails

from app.sources.tables import AnySource, SourceTable
from app.sources.words import ELSEWHERE, TYPES

ADAPTER: Final[TypeAdapter[AnySource]] = TypeAdapter(SourceTable)

_FORMS: Final = {
    "auth": '{ type = "bearer", token = "{secrets.NAME}" }',
    "client": '{ base_url = "https://api.example.com" }',
    "deletes": '{ detect = "snapshot" }',
    "endpoint": '{ path = "items" }',
    "expect": "{ min_rows = 1 }",
    "feed": '{ url = "https://blog.example.com/feed.xml" }',
    "file": '{ url = "items.csv" }',
    "filter": '[{ path = "state", op = "eq", value = "open" }]',
    "format": '{ delimiter = ";" }',
    "incremental": '{ cursor_path = "updated_at" }',
    "mapping": '{ name = "title" }',
    "paginator": '{ type = "page_number" }',
    "params": "{ limit = 100 }",
    "partitions": '[{ state = "open" }]',
    "rate_limit": '{ requests = 5, per = "PT1S" }',
    "response_actions": '[{ status_code = 404, action = "ignore" }]',
    "retry": "{ max_attempts = 5 }",
    "schedule": '{ interval = "PT15M" }',
    "timeout": "{ read = 20 }",
}
"""How a key whose value is a table or a list is written."""
_PATTERNS: Final = {
    "base_url": 'is no URL; for example "https://api.example.com/v1"',
    **dict.fromkeys(
        ("cursor_body_path", "offset_body_path", "page_body_path", "limit_body_path"),
        "is a dotted path of names, for example query.from; a list is put there whole",
    ),
    "name": "holds letters, digits, _ and -, and begins with a letter or _",
}
_TABLE_ERRORS: Final = {"model_type", "model_attributes_type", "dict_type", "dataclass_type"}
_LIST_ERRORS: Final = {"tuple_type", "list_type"}


def explain(item: ErrorDetails, tree: dict[str, Any]) -> str:
    """One line: where, what, and what to write instead."""
    where = _place(item["loc"], tree)
    key = where.rpartition(".")[2]
    kind, text = item["type"], str(item["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return f"{where}: unknown key{_advice(str(item['loc'][-1]), where)}"
    if kind == "missing":
        return f"{where}: is missing"
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _of_type(where, item.get("ctx", {}), missing=kind == "union_tag_not_found")
    if kind == "string_pattern_mismatch":
        return f"{where}: {_PATTERNS.get(key, 'does not match ' + str(item.get('ctx', {}).get('pattern')))}"
    if key == "resources" and kind in _LIST_ERRORS:
        return f"{where}: is a list of tables: write [[resources]], with two brackets"
    if kind in _TABLE_ERRORS | _LIST_ERRORS:
        what = "a table" if kind in _TABLE_ERRORS else "a list"
        return f"{where}: expected {what}{f', for example {key} = {_FORMS[key]}' if key in _FORMS else ''}"
    if kind == "string_too_long" and item.get("ctx", {}).get("max_length") == 1:
        return f'{where}: is one character, for example ";" or "\\t"'
    return f"{where}: {text[:1].lower()}{text[1:]}"


def _of_type(where: str, context: dict[str, Any], *, missing: bool) -> str:
    key = f"{where}{'.' if where else ''}type"
    known = context.get("expected_tags") or context.get("discriminator")
    if missing:
        schema = ADAPTER.json_schema()
        known = known if where else ", ".join(map(repr, schema["discriminator"]["mapping"]))
        return f"{key}: is missing" + (
            f"; there are {known}" if not where else "; `etl sources schema` prints them all"
        )
    given = str(context.get("tag"))
    ours = f"{given} is another tool's name; here {TYPES[given]}" if given in TYPES else f"there is no {given}"
    return f"{key}: {ours}; there are {known}"


def _place(loc: Sequence[int | str], tree: Any) -> str:
    """The dotted path, with resources by their names."""
    parts: list[str] = []
    at: Any = tree
    for step, part in enumerate(loc):
        if isinstance(part, int):
            at = at[part] if isinstance(at, list | tuple) and part < len(at) else None
            parts.append(str(at["name"]) if isinstance(at, dict) and "name" in at else str(part + 1))
        elif isinstance(at, dict) and (part in at or step == len(loc) - 1):
            parts.append(part)
            at = at.get(part)
        # Anything else is Pydantic's own: the tag of a union, the name of a validator
    return ".".join(parts)


def _advice(key: str, where: str) -> str:
    if key in ELSEWHERE:
        return f": {ELSEWHERE[key]}"
    places = _places()
    table = where.split(".")[-2] if "." in where else ""
    here = sorted(
        name for name, tables in places.items() if any(place.split(".")[-2:-1] == [table] for place in tables)
    )
    alike = difflib.get_close_matches(key, [name for name in places if name != key], n=1, cutoff=0.85)
    if alike:
        return f"; did you mean {alike[0]}?"
    if key in places and _without_name(where) in places[key]:
        return " in a source of this type: a rest_api has endpoint, a csv has file and format, an rss has feed"
    if key in places and len(here) > 4:
        return f" here; its place is {' or '.join(sorted(places[key], key=len)[:2])}"
    if table and 0 < len(here) <= 16:
        return f"; {table} has {', '.join(here)}"
    close = difflib.get_close_matches(key, sorted(places), n=1)
    return f"; did you mean {close[0]}?" if close else "; `etl sources schema` prints all keys"


def _without_name(where: str) -> str:
    """The place of a key, without the name of its resource."""
    parts = where.split(".")
    return ".".join(["resources", *parts[2:]] if parts[0] == "resources" else parts)


@cache
def _places() -> dict[str, set[str]]:
    """Each key of the format, with the tables in which it means something."""
    schema = ADAPTER.json_schema()
    found: dict[str, set[str]] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, list):
            for item in node:
                walk(item, path)
        elif isinstance(node, dict):
            if "$ref" in node:
                walk(schema["$defs"][node["$ref"].rpartition("/")[2]], path)
            for below in ("anyOf", "oneOf", "items", "prefixItems"):
                walk(node.get(below), path)
            for key, value in node.get("properties", {}).items():
                here = f"{path}.{key}" if path else key
                if path.startswith("resources.mapping."):
                    here = f"resources.mapping.COLUMN.{key}"
                found.setdefault(key, set()).add(here)
                walk(value, here)

    walk(schema, "")
    return found
