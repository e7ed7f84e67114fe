"""Values of a dlt configuration → ours: inputs by name, JSONPath as JMESPath, braces as dlt means them."""

import re
from collections.abc import Mapping
from typing import Any, Final

from app.sources.address import secret_name
from app.sources.foreign.conversion import CannotSayError
from app.sources.foreign.literals import Input, Made, Unknown
from app.sources.json_paths import path_step

_OURS: Final = re.compile(r"\{(resources\.[\w-]+\.[\w.]+|incremental\.(?:start_value|end_value))\}")
_DLTS: Final = re.compile(r"\{incremental\.(initial_value|last_value)\}")


def text_of(value: Any, path: str, config: Mapping[str, str], *, secrets: bool = False, braces: bool = False) -> str:
    """
    Args:
        secrets: an input without a value may be given as a secret.
        braces: it may hold dlt's placeholders, which are ours.

    Raises:
        CannotSayError: it is computed, or an input that has no value.
    """
    said = plain(value, path, config, secrets=secrets, braces=braces)
    if not isinstance(said, str | int | float):
        raise CannotSayError(path, f"expected a text, got {type(said).__name__}")
    return str(said)


def plain(value: Any, path: str, config: Mapping[str, str], *, secrets: bool = False, braces: bool = False) -> Any:
    """A tree of what TOML can hold."""
    if isinstance(value, Mapping):
        return {
            str(key): plain(item, f"{path}.{key}", config, secrets=secrets, braces=braces)
            for key, item in value.items()
            if item is not None
        }
    if isinstance(value, list | tuple):
        return [plain(item, path, config, secrets=secrets, braces=braces) for item in value]
    if isinstance(value, Input):
        if value.name in config:
            return config[value.name]
        if secrets:
            return f"{{secrets.{secret_name(value.name)}}}"
        raise CannotSayError(path, f"needs an input: say --config {value.name}=VALUE")
    if isinstance(value, Unknown | Made):
        shown = value.text if isinstance(value, Unknown) else f"{value.kind}(…)"
        raise CannotSayError(path, f"is computed by a program: {shown}")
    if isinstance(value, str) and braces:
        text = _DLTS.sub("{incremental.start_value}", value)
        if "{" in _OURS.sub("", text.replace("{{", "").replace("}}", "")) and "params" in path:
            raise CannotSayError(path, f"a placeholder that means nothing here: {value}")
        return text
    return value


def unknown_in(value: Any) -> bool:
    """Whether any part of it is computed."""
    if isinstance(value, Mapping):
        return any(map(unknown_in, value.values()))
    if isinstance(value, list | tuple):
        return any(map(unknown_in, value))
    return isinstance(value, Unknown | Made | Input)


def jmespath_of_jsonpath(value: Any, path: str) -> str:
    """
    `$.data.items[*]` as JMESPath.

    Raises:
        CannotSayError: a filter, a descent, or a slice.
    """
    if not isinstance(value, str):
        raise CannotSayError(path, "is computed by a program")
    text = value.strip()
    if text in {"$", ""}:
        return "@"
    text = re.sub(r"^\$\.?", "", text)
    if ".." in text or "?" in text or re.search(r"\[[^\]]*[:,][^\]]*\]", text):
        raise CannotSayError(path, f"{value}: a filter, a descent or a slice")
    text = re.sub(r"\[['\"]([^'\"]+)['\"]\]", lambda found: f'."{found[1]}"', text).lstrip(".")
    text = text.removesuffix("[*]")
    text = ".".join(_quoted(part) for part in re.findall(r'"[^"]*"(?:\[[^\]]*\])*|[^.]+', text))
    return text or "[]"


def _quoted(part: str) -> str:
    name, bracket, rest = part.partition("[")
    if not name or name.startswith('"') or name == "*":
        return part
    return f"{path_step(name)}{bracket}{rest}"
