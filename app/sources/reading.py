"""A TOML file, or the same tree from elsewhere → a source table, or an error that says what, where and what to do."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from app.errors import ConfigError
from app.sources.advice import ADAPTER, explain
from app.sources.tables import AnySource
from app.sources.words import translate

_NAME: Final = re.compile(r"""^[ \t]*name[ \t]*=[ \t]*["']([\w-]+)["']""", re.MULTILINE)
"""Above the first table of a file that is no TOML."""


def read_source_file(path: Path) -> AnySource:
    """
    Raises:
        ConfigError: one line for each fault, with file and key.
    """
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except ValueError as error:  # tomllib's own, or of a number with more digits than Python takes
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: its tables are too deep") from None
    return read_source(tree, where=str(path))


def read_name(path: Path) -> str | None:
    """The name that a file gives its source, be the rest of it as wrong as it may; None: it cannot be told."""
    try:
        text = path.read_text("utf-8", errors="replace")
        name = tomllib.loads(text).get("name")
    except OSError:
        return None
    except (ValueError, RecursionError):
        found = _NAME.search(text.partition("\n[")[0])
        name = found and found[1]
    return name if isinstance(name, str) else None


def read_source(tree: dict[str, Any], *, where: str, hints: list[str] | None = None) -> AnySource:
    """
    Args:
        where: names the tree in errors.
        hints: gets a line for each word of another tool that was understood.

    Raises:
        ConfigError: one line for each fault.
    """
    try:
        own = translate(tree, hints=hints)
        tree = _with_defaults(own)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{where}: its tables are too deep") from None
    try:
        source = ADAPTER.validate_python(tree)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # Faulty resources leave none, which is then told as well
        told = [item for item in found if item["type"] != "too_short"] or found
        lines = dict.fromkeys(explain(item, tree) for item in told)
        raise ConfigError("\n".join(f"{where}: {line}" for line in lines)) from None
    source.note_inherited([list(_inherited(own.get("resource_defaults", {}), item)) for item in own["resources"]])
    return source


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a source file, for editors."""
    schema = ADAPTER.json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "A source of etl-river"
    for table in ("RestSource", "CsvSource", "RssSource", "WebhookSource"):
        resource = schema["$defs"][table]["properties"]["resources"]["items"]["$ref"].rpartition("/")[2]
        defaults = {**schema["$defs"][resource], "required": [], "title": "Defaults of its resources"}
        schema["$defs"][table]["properties"]["resource_defaults"] = defaults
    return schema


def _with_defaults(tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise ValueError("expected a table")  # noqa: TRY004 -- what is wrong is the file, not the program
    defaults = tree.get("resource_defaults", {})
    if not isinstance(defaults, dict):
        raise ValueError("resource_defaults: expected a table")  # noqa: TRY004 -- as above
    rest = {key: value for key, value in tree.items() if key != "resource_defaults"}
    resources = rest.get("resources")
    if isinstance(resources, list):
        rest["resources"] = [_merged(defaults, item) if isinstance(item, dict) else item for item in resources]
    return rest


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Table by table; a table with another `type` is another thing and replaces the first whole."""
    merged = dict(under)
    for key, value in over.items():
        merged[key] = _merged(under[key], value) if _are_one_table(under.get(key), value) else value
    return merged


def _inherited(under: dict[str, Any], over: dict[str, Any]) -> Iterator[str]:
    """The dotted keys that `_merged` takes from `under`; a whole table as its own key."""
    for key, below in under.items():
        if key not in over:
            yield key
        elif _are_one_table(below, over[key]):
            yield from (f"{key}.{inner}" for inner in _inherited(below, over[key]))


def _are_one_table(below: Any, value: Any) -> bool:
    return isinstance(below, dict) and isinstance(value, dict) and value.get("type") in {None, below.get("type")}
