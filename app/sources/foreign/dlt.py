"""
dlt's `rest_api` configurations → our tables: most words are the same.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from app.sources.address import slug
from app.sources.foreign.conversion import CannotSayError, Converted, Lost, Stream
from app.sources.foreign.dlt_client import paginator, take_auth
from app.sources.foreign.dlt_values import jmespath_of_jsonpath, plain, text_of, unknown_in
from app.sources.foreign.literals import Input, Made, Unknown

_ENDPOINT: Final = {
    "path",
    "method",
    "params",
    "json",
    "data",
    "paginator",
    "data_selector",
    "response_actions",
    "incremental",
    "headers",
}
_WITHOUT_MEANING: Final = {
    "columns", "max_table_nesting", "table_name", "table_format", "file_format", "parallelized", "schema_contract",
    "include_from_parent", "references", "merge_key", "hints", "nested_hints", "name", "description",
}  # fmt: skip
_DISPOSITIONS: Final = {"append", "replace", "merge"}


def is_configuration(tree: Any) -> bool:
    return isinstance(tree, Mapping) and isinstance(tree.get("client"), Mapping) and "resources" in tree


def convert_configuration(tree: Mapping[str, Any], *, name: str, config: Mapping[str, str]) -> Converted:
    """
    Args:
        config: values for what the configuration leaves to its caller.
    """
    whole = Converted(slug(name), {"name": slug(name), "type": "rest_api"})
    client: dict[str, Any] = {}
    with whole.refusing("client"):
        client = _client(tree["client"], whole, config)
    if not client:
        return whole
    whole.tree["client"] = client
    defaults = tree.get("resource_defaults") or {}
    given_resources = tree.get("resources")
    for number, item in enumerate(given_resources if isinstance(given_resources, list) else ()):
        path = f"resources[{number}]"
        given = {"name": item} if isinstance(item, str) else item
        named = str(given.get("name") or number) if isinstance(given, Mapping) else f"{number}"
        with whole.refusing(named):
            if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
                raise CannotSayError(path, f"is made by a program: {_shown(item)}")
            whole.streams.append(_stream(_merged(defaults, given), path, config))
    if not isinstance(given_resources, list):
        whole.lost.append(Lost("resources", f"are made by a program: {_shown(given_resources)}"))
    _drop_orphans(whole)
    return whole


def _client(given: Mapping[str, Any], whole: Converted, config: Mapping[str, str]) -> dict[str, Any]:
    base = text_of(given.get("base_url"), "client.base_url", config)
    if not re.match(r"https?://[^/?#\s]+", base):
        raise CannotSayError("client.base_url", f"{base!r} is no URL")
    client: dict[str, Any] = {"base_url": base}
    headers = given.get("headers")
    if isinstance(headers, Mapping):
        client["headers"] = {
            key: text_of(value, f"client.headers.{key}", config, secrets=True) for key, value in headers.items()
        }
    elif headers is not None:
        raise CannotSayError("client.headers", f"are made by a program: {_shown(headers)}")
    if given.get("auth") is not None:
        take_auth(client, given["auth"], config)
    if given.get("paginator") is not None:
        client["paginator"] = paginator(given["paginator"], "client.paginator", config)
    whole.lost += [
        Lost(f"client.{key}", "has no counterpart here")
        for key in given
        if key not in {"base_url", "headers", "auth", "paginator"}
    ]
    return client


def _stream(given: Mapping[str, Any], path: str, config: Mapping[str, str]) -> Stream:
    stream = Stream(str(given["name"]), {"name": slug(str(given["name"]))})
    resource = stream.resource
    if "primary_key" in given:
        resource["primary_key"] = plain(given["primary_key"], f"{path}.primary_key", config)
    else:
        stream.notes.append("no primary key: `id` is taken; say primary_key where it is another")
    _take_disposition(stream, given.get("write_disposition"), path)
    if given.get("selected") is False:
        resource["selected"] = False
    for step in given.get("processing_steps") or []:
        kind = next(iter(step), "") if isinstance(step, Mapping) else ""
        if kind == "filter":
            raise CannotSayError(f"{path}.processing_steps", f"a filter that is a function: {_shown(step)}")
        stream.lost.append(Lost(f"{path}.processing_steps", f"{kind}: records are kept as received; say it in mapping"))
    endpoint = given.get("endpoint", {})
    endpoint = {"path": endpoint} if isinstance(endpoint, str) else endpoint
    if not isinstance(endpoint, Mapping):
        raise CannotSayError(f"{path}.endpoint", f"is made by a program: {_shown(endpoint)}")
    resource["endpoint"] = _endpoint(stream, {"path": stream.name, **endpoint}, f"{path}.endpoint", config)
    known = {"primary_key", "write_disposition", "selected", "processing_steps", "endpoint", "name"}
    stream.lost += [
        Lost(f"{path}.{key}", "has no meaning here" if key in _WITHOUT_MEANING else "has no counterpart here")
        for key in given
        if key not in known
    ]
    return stream


def _take_disposition(stream: Stream, given: Any, path: str) -> None:
    strategy = given.get("strategy") if isinstance(given, Mapping) else None
    said = given.get("disposition") if isinstance(given, Mapping) else given
    if said is None:
        return
    if isinstance(said, Unknown | Input | Made) or said not in _DISPOSITIONS:
        raise CannotSayError(f"{path}.write_disposition", f"{_shown(said)} is no disposition here")
    if strategy not in {None, "upsert", "delete-insert", "truncate-and-insert", "insert-from-staging"}:
        stream.lost.append(Lost(f"{path}.write_disposition", f"strategy {_shown(strategy)}: rows hold what is current"))
    stream.resource["write_disposition"] = said


def _endpoint(stream: Stream, given: Mapping[str, Any], path: str, config: Mapping[str, str]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    where = text_of(given["path"], f"{path}.path", config, braces=True)
    said["path"], sent = _take_params(stream, said, where, given.get("params") or {}, f"{path}.params", config)
    increment = given.get("incremental")
    if isinstance(increment, Mapping) and _take_incremental(stream, said, increment, f"{path}.incremental"):
        for key, placeholder in (("start_param", "start_value"), ("end_param", "end_value")):
            if increment.get(key):
                sent[str(increment[key])] = f"{{incremental.{placeholder}}}"
    if sent:
        said["params"] = sent
    _take_rest(stream, said, given, path, config)
    return said


def _take_params(
    stream: Stream, said: dict[str, Any], where: str, params: Any, path: str, config: Mapping[str, str]
) -> tuple[str, dict[str, Any]]:
    """The path with a parent's fields in it, and the parameters."""
    if not isinstance(params, Mapping):
        raise CannotSayError(path, f"are made by a program: {_shown(params)}")
    sent: dict[str, Any] = {}
    for name, value in params.items():
        kind = value.get("type") if isinstance(value, Mapping) else None
        if kind == "resolve":
            placeholder = f"{{resources.{slug(str(value.get('resource')))}.{value.get('field')}}}"
            inside = f"{{{name}}}"
            if inside in where:
                where = where.replace(inside, placeholder)
            else:
                sent[name] = placeholder
        elif kind == "incremental":
            if _take_incremental(stream, said, value, f"{path}.{name}"):
                sent[name] = "{incremental.start_value}"
        elif value is not None:
            sent[name] = plain(value, f"{path}.{name}", config, braces=True)
    return where, sent


def _take_rest(
    stream: Stream, said: dict[str, Any], given: Mapping[str, Any], path: str, config: Mapping[str, str]
) -> None:
    for key in ("json", "data", "headers"):
        if given.get(key) is not None:
            said[key] = plain(given[key], f"{path}.{key}", config, braces=True, secrets=key == "headers")
    method = given.get("method")
    if method is not None and str(plain(method, f"{path}.method", config)).upper() != "GET":
        said["method"] = str(method).upper()
    elif "json" in said or "data" in said:
        raise CannotSayError(f"{path}.json", "a body with GET; here it needs POST")
    if given.get("data_selector") is not None:
        said["data_selector"] = jmespath_of_jsonpath(given["data_selector"], f"{path}.data_selector")
    if given.get("paginator") is not None:
        said["paginator"] = paginator(given["paginator"], f"{path}.paginator", config)
    actions = [_action(stream, item, f"{path}.response_actions") for item in given.get("response_actions") or []]
    if told := [action for action in actions if action]:
        said["response_actions"] = told
    stream.lost += [Lost(f"{path}.{key}", "has no counterpart here") for key in given if key not in _ENDPOINT]


def _action(stream: Stream, given: Any, path: str) -> dict[str, Any] | None:
    if isinstance(given, Mapping) and given.get("action") == "ignore" and not unknown_in(given):
        return {key: given[key] for key in ("status_code", "content", "action") if given.get(key) is not None}
    stream.lost.append(Lost(path, f"a function, or an action that there is not: {_shown(given)}"))
    return None


def _take_incremental(stream: Stream, said: dict[str, Any], given: Mapping[str, Any], path: str) -> bool:
    """Whether the API can be asked by it; where not, everything is read each time."""
    if {"convert", "transform"} & set(given):
        raise CannotSayError(path, "a value that a function converts before it is sent")
    cursor = given.get("cursor_path")
    initial, end = given.get("initial_value"), given.get("end_value")
    if not isinstance(cursor, str):
        raise CannotSayError(f"{path}.cursor_path", f"is computed: {_shown(cursor)}")
    if not isinstance(initial, str | int) or isinstance(initial, bool):
        stream.lost.append(
            Lost(path, f"initial_value {_shown(initial)} says no type of cursor: everything is read each time")
        )
        return False
    increment: dict[str, Any] = {"cursor_path": jmespath_of_jsonpath(cursor, f"{path}.cursor_path")}
    moment = _moment(initial)
    if moment is None:
        # As dlt has it: the text of the record is compared, and sent
        increment["cursor_type"] = "integer" if isinstance(initial, int) else "string"
    increment["initial_value"] = moment or initial
    if isinstance(end, str | int) and not isinstance(end, bool):
        increment["end_value"] = (_moment(end) if moment else None) or end
    names = ("row_order", "range_start", "on_cursor_value_missing")
    increment |= {key: given[key] for key in names if isinstance(given.get(key), str)}
    if given.get("lag") and moment is not None and isinstance(given["lag"], int | float):
        increment["lookback_window"] = f"PT{given['lag']}S"
    elif given.get("lag"):
        stream.lost.append(Lost(f"{path}.lag", "has no unit for a cursor of this type; say lookback_window"))
    said["incremental"] = increment
    return True


def _moment(text: Any) -> datetime | None:
    """A time with an offset: others are compared as text."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


def _merged(under: Any, over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under) if isinstance(under, Mapping) else {}
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _drop_orphans(whole: Converted) -> None:
    while True:
        names = {stream.resource["name"] for stream in whole.streams}
        orphans = [
            (stream, parent)
            for stream in whole.streams
            for parent in re.findall(r"\{resources\.([\w-]+)\.", str(stream.resource))
            if parent not in names
        ]
        if not orphans:
            return
        for stream, parent in orphans:
            if stream in whole.streams:
                whole.streams.remove(stream)
                with whole.refusing(stream.name):
                    raise CannotSayError(f"{stream.name}.endpoint", f"its parent {parent} was refused, or is not there")


def _shown(value: Any) -> str:
    if isinstance(value, Unknown):
        return f"{value.text} (line {value.line})"
    if isinstance(value, Input | Made):
        return value.name if isinstance(value, Input) else f"{value.kind}(…)"
    return str(value)[:100]
