"""A TOML file, or the same tree from elsewhere → a source table, or an error that says what, where and what to do."""

import difflib
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from app.errors import ConfigError
from app.sources.tables import CsvSource, RestSource, SourceTable
from app.sources.words import ELSEWHERE, FREE, NOT_YET, translate

ADAPTER: Final[TypeAdapter[RestSource | CsvSource]] = TypeAdapter(SourceTable)


def read_source_file(path: Path) -> RestSource | CsvSource:
    """
    Raises:
        ConfigError: one line for each fault, with file and key.
    """
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return read_source(tree, where=str(path))


def read_source(tree: dict[str, Any], *, where: str, hints: list[str] | None = None) -> RestSource | CsvSource:
    """
    Args:
        where: names the tree in errors.
        hints: gets a line for each word of another tool that was understood.

    Raises:
        ConfigError: one line for each fault.
    """
    try:
        tree = _with_defaults(translate(tree, hints=hints))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    refused = list(_not_built(tree))
    if refused:
        raise ConfigError("\n".join(f"{where}: {line}" for line in refused))
    try:
        return ADAPTER.validate_python(tree)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # Faulty resources leave none, which is then told as well
        told = [item for item in found if item["type"] != "too_short"] or found
        lines = dict.fromkeys(_line(item, tree) for item in told)
        raise ConfigError("\n".join(f"{where}: {line}" for line in lines)) from None


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a source file, for editors."""
    schema = ADAPTER.json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "A source of etl-river"
    for table in ("RestSource", "CsvSource"):
        resource = schema["$defs"][table]["properties"]["resources"]["items"]["$ref"].rpartition("/")[2]
        defaults = {**schema["$defs"][resource], "required": [], "title": "Defaults of its resources"}
        schema["$defs"][table]["properties"]["resource_defaults"] = defaults
    return schema


def _with_defaults(tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise ValueError("expected a table")  # noqa: TRY004 -- what is wrong is the file, not the program
    defaults = tree.get("resource_defaults", {})
    rest = {key: value for key, value in tree.items() if key != "resource_defaults"}
    resources = rest.get("resources")
    if isinstance(defaults, dict) and isinstance(resources, list):
        rest["resources"] = [_merged(defaults, item) if isinstance(item, dict) else item for item in resources]
    return rest


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Table by table; a table with another `type` is another thing and replaces the first whole."""
    merged = dict(under)
    for key, value in over.items():
        below = under.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and value.get("type") in {None, below.get("type")}:
            merged[key] = _merged(below, value)
        else:
            merged[key] = value
    return merged


def _not_built(tree: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(tree, list):
        for item in tree:
            yield from _not_built(item, path)
    if not isinstance(tree, dict):
        return
    for key, value in tree.items():
        here = ".".join((*path, key))
        for known in (here, f"{here}={value}"):
            if known in NOT_YET:
                yield f"{known.replace('=', ' = ')}: {NOT_YET[known]} is not built yet; leave it out"
        if key not in FREE:
            yield from _not_built(value, (*path, key))


def _line(item: ErrorDetails, tree: dict[str, Any]) -> str:
    where = _place(item["loc"], tree)
    kind, text = item["type"], str(item["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return f"{where}: unknown key{_advice(str(item['loc'][-1]))}"
    if kind == "missing":
        return f"{where}: is missing"
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        context = item.get("ctx", {})
        return f"{where}{'.' if where else ''}type: there are {context.get('expected_tags', 'other types')}"
    if kind == "string_pattern_mismatch":
        return f"{where}: does not match {item.get('ctx', {}).get('pattern')}"
    return f"{where}: {text[:1].lower()}{text[1:]}"


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


def _advice(key: str) -> str:
    if key in ELSEWHERE:
        return f": {ELSEWHERE[key]}"
    places = _places()
    alike = difflib.get_close_matches(key, [known for known in places if known != key], n=1, cutoff=0.85)
    if key in places and not alike:
        return f" here; its place is {' or '.join(sorted(places[key])[:3])}"
    close = alike or difflib.get_close_matches(key, sorted(places), n=1)
    return f"; did you mean {close[0]}?" if close else "; `etl sources schema` prints all keys"


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
                found.setdefault(key, set()).add(here)
                walk(value, here)

    walk(schema, "")
    return found
