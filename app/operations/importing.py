"""Another tool's file → source files of ours, each read by our own reader before it is written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from app.clock import utc_now
from app.errors import ConfigError
from app.extract.addresses import is_public
from app.sources.address import slug
from app.sources.foreign.airbyte import convert_manifest, is_manifest
from app.sources.foreign.components import MAX_PARTS
from app.sources.foreign.conversion import CannotSayError, Converted, Lost, Refused, Stream
from app.sources.foreign.dlt import convert_configuration, is_configuration
from app.sources.foreign.literals import configurations
from app.sources.reading import read_source
from app.sources.writing import write_source

MAX_BYTES: Final = 16 * 1024 * 1024
"""Of another tool's file."""
_GENERIC: Final = {"manifest", "config", "pipeline", "source", "rest_api_pipeline", "connector", "__init__", "main"}


@dataclass(slots=True)
class Import:
    name: str
    text: str | None
    """The file; None where no stream is left."""
    streams: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    """Names that the file refers to."""


def import_file(path: Path, *, name: str | None, config: Mapping[str, str]) -> list[Import]:
    """
    Args:
        name: of the source; made of the file's name, or its folder's, when omitted.
        config: inputs that stand in the file as they are.

    Raises:
        ConfigError: the file cannot be read, or is none that we know.
    """
    name = slug(name or _name_of(path))
    found: list[Converted] = []
    for number, tree in enumerate(_trees(path)):
        numbered = name if number == 0 else f"{name}_{number + 1}"
        try:
            if is_manifest(tree):
                found += convert_manifest(tree, name=numbered, config=config)
            else:
                found.append(convert_configuration(tree, name=numbered, config=config))
        except CannotSayError as error:
            raise ConfigError(f"{path}: {error.path}: {error.reason}") from None
        except RecursionError:
            raise ConfigError(f"{path}: is nested too deep") from None
    return [_written(one, path) for one in found]


def _name_of(path: Path) -> str:
    stem = path.stem if path.stem.lower() not in _GENERIC else path.absolute().parent.name
    for ending in ("_pipeline", "-pipeline", "_source"):
        stem = stem.removesuffix(ending)
    return stem.removeprefix("source-").removeprefix("source_")


def _trees(path: Path) -> list[Any]:
    """The manifest or the configurations that a file holds."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: is larger than {MAX_BYTES} bytes, as no configuration is")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if path.suffix == ".py":
        return _of_python(text, path)
    tree = _of_json(text, path) if path.suffix == ".json" else _of_yaml(text, path)
    if not is_manifest(tree) and not is_configuration(tree):
        raise ConfigError(
            f"{path}: is neither a manifest of Airbyte (check and streams) nor a configuration of dlt's rest_api "
            "(client and resources)"
        )
    return [tree]


def _of_python(text: str, path: Path) -> list[Any]:
    try:
        found = [tree for _, tree in configurations(text)]
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is no Python that can be read: {error}") from None
    if not found:
        raise ConfigError(f"{path}: holds no dictionary with client and resources, as dlt's rest_api has")
    return [tree for tree in found if is_configuration(tree)] or [_unreadable(path)]


def _unreadable(path: Path) -> Any:
    raise ConfigError(f"{path}: its configuration is made by a program, and cannot be read without running it")


def _of_json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None


def _of_yaml(text: str, path: Path) -> Any:
    try:
        import yaml  # type: ignore[import-untyped]  # noqa: PLC0415 -- an extra: only who imports YAML has it
    except ImportError:
        raise ConfigError(f"{path}: to read YAML, install the extra: pip install 'etl-river[yaml]'") from None
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    _check_size(tree, path)
    return tree


def _check_size(tree: Any, path: Path) -> None:
    """A few lines with aliases of aliases unfold to more than any memory holds."""
    parts = 0
    waiting = [tree]
    while waiting:
        at = waiting.pop()
        parts += 1
        if parts > MAX_PARTS:
            raise ConfigError(f"{path}: has more than {MAX_PARTS} parts, its aliases unfolded; no configuration has")
        waiting += at.values() if isinstance(at, dict) else at if isinstance(at, list) else ()


def _written(found: Converted, path: Path) -> Import:
    """The text, without streams that our own reader refuses."""
    kept: list[Stream] = []
    client = found.tree.get("client", {})
    host = urlsplit(client.get("base_url", "")).hostname or ""
    if host == "localhost" or _is_private_address(host):
        client["allow_private_networks"] = True
    for stream in found.streams:
        try:
            read_source({**found.tree, "resources": _with_parents(found, stream)}, where=stream.name)
            kept.append(stream)
        except ConfigError as error:
            found.refused.append(Refused(stream.name, stream.name, _plain(str(error), stream.name)))
    kept = _without_orphans(found, kept)
    lost = [*found.lost, *(lost for stream in kept for lost in stream.lost)]
    done = Import(found.name, None, [one.name for one in kept], found.refused, lost)
    if not kept:
        return done
    tree = {**found.tree, "resources": [stream.resource for stream in kept]}
    tree = {key: tree[key] for key in ("name", "type", "client", "rate_limit", "resources") if key in tree}
    comments = {
        "": [f"Converted from {path.name} by `etl sources import` on {utc_now():%Y-%m-%d}."],
        **{f"resources.{number}": _about(stream) for number, stream in enumerate(kept)},
        "*": [f"NOT CONVERTED: {one.name}: {one.path}: {one.reason}" for one in found.refused],
    }
    comments[""] += [f"left out: {one.path}: {one.reason}" for one in found.lost]
    if "allow_private_networks" in tree.get("client", {}):
        comments["client.allow_private_networks"] = ["its host has an address that is not public"]
    done.text = write_source(tree, comments)
    done.secrets = _secrets(tree)
    return done


def _is_private_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False  # a name, which may lead anywhere
    return not is_public(host)


def _about(stream: Stream) -> list[str]:
    lines = [*stream.notes, *(f"left out: {one.path}: {one.reason}" for one in stream.lost)]
    if "mapping" not in stream.resource:
        lines.append("Say which fields are name, value, description, created_at, updated_at: [resources.mapping]")
    return lines


def _with_parents(found: Converted, stream: Stream) -> list[dict[str, Any]]:
    """The stream, and those that it is asked for, up to the first: alone it would be refused for want of them."""
    needed = [stream.resource]
    for resource in needed:
        text = json.dumps(resource, default=str)
        needed += [
            one.resource
            for one in found.streams
            if f"{{resources.{one.resource['name']}." in text and one.resource not in needed
        ]
    return needed


def _without_orphans(found: Converted, kept: list[Stream]) -> list[Stream]:
    while True:
        names = {stream.resource["name"] for stream in kept}
        orphans = [
            stream for stream in kept if any(parent["name"] not in names for parent in _with_parents(found, stream))
        ]
        if not orphans:
            return kept
        found.refused += [Refused(one.name, one.name, "its parent was refused") for one in orphans]
        kept = [stream for stream in kept if stream not in orphans]


def _plain(error: str, name: str) -> str:
    return "; ".join(line.removeprefix(f"{name}: ") for line in error.splitlines())


def _secrets(tree: Mapping[str, Any]) -> list[str]:
    text = json.dumps(tree, default=str)
    return sorted({part.partition("}")[0] for part in text.split("{secrets.")[1:]})
