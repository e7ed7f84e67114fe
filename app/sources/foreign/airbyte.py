"""
Airbyte's low-code manifests (declarative sources, version 0.x to 6.x) → our tables.

https://docs.airbyte.com/connector-development/config-based/understanding-the-yaml-file/reference
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from app.sources.address import slug
from app.sources.foreign.airbyte_cursor import take_cursor
from app.sources.foreign.airbyte_limits import rate_limit, take_errors
from app.sources.foreign.airbyte_parts import Context, take_partitions, take_selector
from app.sources.foreign.airbyte_requests import take_paginator, take_requester
from app.sources.foreign.components import Component, follow
from app.sources.foreign.conversion import CannotSayError, Converted, Lost, Stream
from app.sources.foreign.templates import Renderer

# What says nothing about which records come
_SILENT: Final = {
    "type", "name", "$parameters", "primary_key", "retriever", "schema_loader", "incremental_sync",
    "stream_cursor_field", "state_migrations", "schema", "schema_normalization", "transformations",
}  # fmt: skip


def is_manifest(tree: Any) -> bool:
    return isinstance(tree, Mapping) and ("streams" in tree or "dynamic_streams" in tree) and "check" in tree


def convert_manifest(tree: Mapping[str, Any], *, name: str, config: Mapping[str, str]) -> list[Converted]:
    """
    Args:
        name: of the source.
        config: inputs of the connector, by dotted name, that stand in the file as they are.

    Returns:
        A source for each way in which its streams authenticate.
    """
    inputs, secrets, flags = _inputs(tree)
    renderer = Renderer({**inputs, **config}, secrets, flags)
    whole = Converted(slug(name), {"type": "rest_api"})
    streams = _streams(tree, whole, renderer)
    for number, _ in enumerate(tree.get("dynamic_streams") or []):
        whole.lost.append(Lost(f"dynamic_streams[{number}]", "which streams there are is found out while it runs"))
    with whole.refusing("api_budget"):
        if tree.get("api_budget"):
            limit, lost = rate_limit(Component.of(follow(tree["api_budget"], tree), "api_budget"))
            whole.tree |= {"rate_limit": limit} if limit else {}
            whole.lost += lost
    return _by_client(whole, streams)


def _streams(tree: Mapping[str, Any], whole: Converted, renderer: Renderer) -> list[Stream]:
    """Those that can be said; a parent that is no stream of its own becomes one."""
    found: dict[str, Stream] = {}
    waiting = [(item, f"streams[{number}]") for number, item in enumerate(tree.get("streams") or [])]
    listed = len(waiting)
    seen: set[str] = set()
    for number, (item, path) in enumerate(waiting):
        named = _name_of(item, tree) or path
        if named in seen:
            continue
        seen.add(named)
        with whole.refusing(named):
            component = Component.of(follow(item, tree), path)
            if component.type == "StateDelegatingStream":
                component = component.child("full_refresh_stream")
            name = str(component.get("name", named))
            stream = _stream(component, name, renderer)
            found[name] = stream
            if number >= listed:
                stream.notes.append("only a parent in the manifest, and no stream of its own")
            waiting += [(parent, f"{path}.parent") for parent in _parents(component)]
    _drop_orphans(whole, found)
    return list(found.values())


def _name_of(item: Any, tree: Mapping[str, Any]) -> str | None:
    try:
        component = Component.of(follow(item, tree), "")
    except CannotSayError:
        return None
    name = component.get("name")
    return str(name) if name is not None else None


def _parents(component: Component) -> Iterator[Any]:
    for router in component.child("retriever").children("partition_router"):
        for parent in router.children("parent_stream_configs"):
            yield parent.own("stream")


def _drop_orphans(whole: Converted, found: dict[str, Stream]) -> None:
    """A child whose parent was refused, again and again: a child may be a parent."""
    while True:
        names = {slug(name) for name in found}
        orphans = {
            name: parent
            for name, stream in found.items()
            for parent in re.findall(r"\{resources\.([\w-]+)\.", json.dumps(stream.resource, default=str))
            if parent not in names
        }
        if not orphans:
            return
        for name, parent in orphans.items():
            del found[name]
            with whole.refusing(name):
                raise CannotSayError(f"{name}.retriever.partition_router", f"its parent {parent} was refused")


def _stream(component: Component, name: str, renderer: Renderer) -> Stream:
    if component.type not in {"DeclarativeStream", ""}:
        raise component.refuse()
    retriever = component.child("retriever")
    if retriever.type not in {"SimpleRetriever", ""}:
        raise retriever.refuse()
    stream = Stream(name, {"name": slug(name)})
    context = Context(stream, renderer)
    key = _primary_key(component)
    if key:
        stream.resource["primary_key"] = key[0] if len(key) == 1 else key
    endpoint: dict[str, Any] = {}
    take_partitions(context, retriever)
    take_cursor(context, component)
    take_requester(context, retriever.child("requester"), endpoint)
    take_selector(context, retriever, endpoint)
    take_paginator(context, retriever, endpoint)
    take_errors(context, retriever.child("requester"), endpoint)
    context.finish(endpoint)
    stream.resource["endpoint"] = endpoint
    for added in component.children("transformations"):
        _note_transformation(stream, added, key)
    for unknown in set(component.tree) - _SILENT:
        stream.lost.append(Lost(component.at(unknown), "has no counterpart here"))
    fields = _fields(component)
    if fields:
        stream.notes.append(f"its schema has: {', '.join(fields[:60])}{', …' if len(fields) > 60 else ''}")
    if not key:
        stream.notes.append("the manifest has no primary key: `id` is taken; say primary_key where it is another")
    return stream


def _primary_key(component: Component) -> list[str]:
    given = component.get("primary_key", [])
    flat = [given] if isinstance(given, str) else given
    names = [".".join(map(str, item)) if isinstance(item, list) else str(item) for item in flat]
    if any("{{" in name for name in names):
        raise CannotSayError(component.at("primary_key"), "a key that is computed")
    return [name for name in names if name]


def _note_transformation(stream: Stream, added: Component, key: list[str]) -> None:
    fields = [".".join(map(str, item.get("path", []))) for item in added.children("fields")]
    if added.type == "AddFields" and set(fields) & set(key):
        raise CannotSayError(added.path, f"its key {', '.join(key)} is made by a transformation, and is in no record")
    if added.type == "RemoveFields":
        return  # raw rows are kept as received; what is not mapped is in no column
    told = f" ({', '.join(fields)})" if fields else ""
    stream.lost.append(Lost(added.path, f"{added.type}{told}: records are kept as received; say it in mapping"))


def _fields(component: Component) -> list[str]:
    loader = component.child("schema_loader")
    schema = loader.own("schema", {})
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    return list(map(str, properties)) if isinstance(properties, Mapping) else []


def _inputs(tree: Mapping[str, Any]) -> tuple[dict[str, str], frozenset[str], dict[str, bool]]:
    """Defaults of the connector's inputs, the names of those that are secret, and defaults that are true or false."""
    spec = tree.get("spec") or {}
    given = spec.get("connection_specification", {}) if isinstance(spec, Mapping) else {}
    defaults: dict[str, str] = {}
    flags: dict[str, bool] = {}
    secrets: set[str] = set()

    def walk(node: Any, path: tuple[str, ...]) -> None:
        if not isinstance(node, Mapping):
            return
        properties = node.get("properties")
        for name, inner in properties.items() if isinstance(properties, Mapping) else ():
            here = (*path, str(name))
            if isinstance(inner, Mapping):
                if inner.get("airbyte_secret"):
                    secrets.add(str(name))
                default = inner.get("default")
                if isinstance(default, bool):
                    flags[".".join(here)] = default
                elif isinstance(default, str | int):
                    defaults[".".join(here)] = str(default)
                walk(inner, here)
                # Of several ways to configure it, none is chosen here: their defaults exclude one another
                for other in inner.get("oneOf", []) or []:
                    _only_secrets(other, secrets)

    walk(given, ())
    return defaults, frozenset(secrets), flags


def _only_secrets(node: Any, secrets: set[str]) -> None:
    if isinstance(node, Mapping):
        for name, inner in (node.get("properties") or {}).items():
            if isinstance(inner, Mapping) and inner.get("airbyte_secret"):
                secrets.add(str(name))
            _only_secrets(inner, secrets)


def _by_client(whole: Converted, streams: list[Stream]) -> list[Converted]:
    """Streams that authenticate alike make up one source; the largest comes first, and has the name."""
    groups: dict[str, list[Stream]] = {}
    for stream in streams:
        parts = {key: stream.client.get(key) for key in ("auth", "headers")}
        groups.setdefault(json.dumps(parts, sort_keys=True, default=str), []).append(stream)
    found: list[Converted] = []
    for number, group in enumerate(sorted(groups.values(), key=len, reverse=True)):
        name = whole.name if number == 0 else f"{whole.name}_{number + 1}"
        base = Counter(stream.client["base_url"] for stream in group).most_common(1)[0][0]
        client = {"base_url": base} | {key: value for key, value in group[0].client.items() if key != "base_url"}
        for stream in group:
            if stream.client["base_url"] != base:
                endpoint = stream.resource["endpoint"]
                endpoint["path"] = f"{stream.client['base_url'].rstrip('/')}/{endpoint['path'].lstrip('/')}"
        found.append(Converted(name, {"name": name, **whole.tree, "client": client}, group))
    if not found:
        found.append(Converted(whole.name, {"name": whole.name, **whole.tree}))
    found[0].refused, found[0].lost = whole.refused, whole.lost
    return found
