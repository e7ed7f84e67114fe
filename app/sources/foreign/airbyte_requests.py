"""A manifest's requester and its pages → our client, endpoint and paginator."""

import re
from collections.abc import Mapping
from typing import Any, Final

from app.sources.foreign.airbyte_auth import authenticated
from app.sources.foreign.airbyte_parts import Context
from app.sources.foreign.components import Component
from app.sources.foreign.conversion import CannotSayError
from app.sources.foreign.templates import Expression, jmespath_of, only, parse, read_expression

_ENDS_BY_ITSELF: Final = re.compile(
    r"last_page_size|last_record|response\s*==\s*\{\}|not response\s*\}\}|response \|\s*length"
)
_NEGATED: Final = re.compile(
    r"\{\{\s*not\s+(response.*?)\s*\}\}|\{\{\s*not\s*\(\s*(response.*?)\s*\)\s*\}\}", re.DOTALL
)
_MISSING: Final = re.compile(
    r"""\{\{\s*(['"])(?P<key>[^'"]+)\1\s+not in\s+(?P<table>response[^'"\s]*(?:['"][^'"]+['"]\])*)"""
    r"""(?:\s+or\s+(?P<same>response\S+)\s*==\s*(?:''|""))?\s*\}\}"""
)
_COMPARED: Final = re.compile(
    r"""\{\{\s*(response.*?)\s*(?:==|is|is not|!=)\s*(?:false|False|none|None|''|""|true|True|\[\])\s*\}\}""", re.DOTALL
)


def take_requester(context: Context, requester: Component, endpoint: dict[str, Any]) -> None:
    if requester.type not in {"HttpRequester", ""}:
        raise requester.refuse()
    base, path = _address(context, requester)
    method = str(requester.get("http_method", "GET")).upper()
    endpoint["path"] = path
    if method != "GET":
        endpoint["method"] = method
    client = {"base_url": base}
    params = _table(context, requester, "request_parameters")
    headers = {
        str(key): context.text(value, requester, f"request_headers.{key}", secrets=True)
        for key, value in _mapping(requester, "request_headers").items()
    }
    auth, more_headers, more_params = authenticated(context, requester.child("authenticator"), params)
    headers |= more_headers
    params = {key: value for key, value in params.items() if key not in more_params}
    if params:
        endpoint["params"] = params
    if headers:
        client |= {"headers": headers}  # type: ignore[dict-item]
    if auth:
        client |= {"auth": auth}  # type: ignore[dict-item]
    context.stream.client = client
    _take_body(context, requester, endpoint, method)


def _address(context: Context, requester: Component) -> tuple[str, str]:
    """
    Raises:
        CannotSayError: a host that depends on an input without a value, or on a partition.
    """
    if requester.has("url") or not requester.has("url_base"):
        url = context.text(requester.get("url", requester.get("url_base", "")), requester, "url")
    else:
        url = context.text(requester.get("url_base"), requester, "url_base")
    path = context.text(requester.get("path", ""), requester, "path").strip()
    found = re.fullmatch(r"\s*(https?://[^/?#{}\s]+)(/[^?#]*)?(\?[^#]*)?\s*", url)
    if found is None:
        raise CannotSayError(requester.at("url_base"), f"{url[:100]!r} is no URL")
    below = (found[2] or "").strip()
    if "{" in below:
        # Placeholders stand in the path alone
        return found[1], f"{below.strip('/')}/{path.lstrip('/')}".strip("/") + (found[3] or "")
    return f"{found[1]}{below.rstrip('/')}", path.lstrip("/") + (found[3] or "")


def _mapping(requester: Component, name: str) -> Mapping[str, Any]:
    given = requester.get(name, {})
    if not isinstance(given, Mapping):
        raise CannotSayError(requester.at(name), "a text instead of a table: it is computed")
    return given


def _table(context: Context, requester: Component, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in _mapping(requester, name).items():
        if isinstance(value, Mapping):
            raise CannotSayError(requester.at(f"{name}.{key}"), "a table within parameters")
        if value is None or value == "":
            continue
        if isinstance(value, list):
            found[str(key)] = [context.text(item, requester, f"{name}.{key}") for item in value]
            continue
        if isinstance(value, bool | int | float):
            found[str(key)] = value
            continue
        found[str(key)] = _param(context, requester, f"{name}.{key}", str(value))
    return found


def _param(context: Context, requester: Component, name: str, value: str) -> str:
    """A parameter; one that is nothing but a secret is told as its reference, for the credentials to take it."""
    expression = only(value)
    if expression is not None and expression.root == "config" and expression.steps[-1] in context.renderer.secret:
        return context.text(value, requester, name, secrets=True)
    return context.text(value, requester, name)


def _take_body(context: Context, requester: Component, endpoint: dict[str, Any], method: str) -> None:
    given = requester.own("request_body_json"), requester.own("request_body_data")
    body = requester.own("request_body")
    if isinstance(body, Mapping):
        kinds = {"RequestBodyJsonObject": 0, "RequestBodyUrlEncodedForm": 1, "RequestBodyPlainText": 1}
        kind = str(body.get("type", ""))
        if kind not in kinds:
            raise CannotSayError(requester.at("request_body"), f"{kind} has no counterpart here")
        given = (body.get("value"), None) if kinds[kind] == 0 else (None, body.get("value"))
    for value, key in zip(given, ("json", "data"), strict=True):
        if not value:
            continue
        if not isinstance(value, Mapping):
            raise CannotSayError(requester.at(f"request_body_{key}"), "a text instead of a table: it is computed")
        if method != "POST":
            raise CannotSayError(requester.at(f"request_body_{key}"), f"a body with {method}; here it needs POST")
        endpoint[key] = context.tree(value, requester, f"request_body_{key}")


def take_paginator(context: Context, retriever: Component, endpoint: dict[str, Any]) -> None:
    """How one page leads to the next; the guards are ours."""
    paginator = retriever.child("paginator")
    if not retriever.has("paginator") or paginator.type == "NoPagination":
        endpoint["paginator"] = {"type": "single_page"}
        return
    if paginator.type not in {"DefaultPaginator", ""}:
        raise paginator.refuse()
    strategy = paginator.child("pagination_strategy")
    size = _page_size(context, strategy)
    kinds = {"PageIncrement": _by_page, "OffsetIncrement": _by_offset, "CursorPagination": _by_cursor}
    if strategy.type not in kinds:
        raise strategy.refuse()
    endpoint["paginator"] = kinds[strategy.type](context, paginator, strategy, size, endpoint)


def _page_size(context: Context, strategy: Component) -> int | None:
    given = strategy.get("page_size")
    if given is None or given == "":
        return None
    text = context.text(given, strategy, "page_size")
    if not text.strip().isdecimal():
        raise CannotSayError(strategy.at("page_size"), f"{text!r} is no whole number")
    return int(text)


def _place(context: Context, option: Component, key: str) -> dict[str, Any]:
    """Where a number of a page, or the size of one, is put: `KEY_param` or `KEY_body_path`."""
    place, name = option.get("inject_into"), option.get("field_name")
    if place == "request_parameter" and name:
        return {f"{key}_param": context.text(name, option, "field_name")}
    if place == "body_json" and (name or option.get("field_path")):
        return {f"{key}_body_path": ".".join(map(str, option.get("field_path") or [name]))}
    raise option.refuse(f"is put into {place or 'the path'}, where this paginator puts nothing")


def _by_page(
    context: Context, paginator: Component, strategy: Component, size: int | None, _endpoint: dict[str, Any]
) -> dict[str, Any]:
    said: dict[str, Any] = {"type": "page_number", **_place(context, paginator.child("page_token_option"), "page")}
    said["base_page"] = int(context.text(strategy.get("start_from_page", 0), strategy, "start_from_page"))
    if size is not None:
        said["limit"] = size
        if paginator.has("page_size_option"):
            said |= _place(context, paginator.child("page_size_option"), "limit")
    return said


def _by_offset(
    context: Context, paginator: Component, strategy: Component, size: int | None, _endpoint: dict[str, Any]
) -> dict[str, Any]:
    if size is None:
        raise CannotSayError(strategy.path, "an offset without a page_size")
    said: dict[str, Any] = {"type": "offset", "limit": size}
    said |= _place(context, paginator.child("page_token_option"), "offset")
    # An empty name: the limit is known, and not sent
    sent = _place(context, paginator.child("page_size_option"), "limit") if paginator.has("page_size_option") else None
    return said | (sent or {"limit_param": ""})


def _by_cursor(
    context: Context, paginator: Component, strategy: Component, size: int | None, endpoint: dict[str, Any]
) -> dict[str, Any]:
    option = paginator.child("page_token_option")
    value = str(strategy.get("cursor_value", ""))
    expression = only(value)
    if expression is None:
        raise CannotSayError(strategy.at("cursor_value"), f"a cursor that is computed: {value[:100]}")
    if size is not None and paginator.has("page_size_option"):
        size_option = paginator.child("page_size_option")
        if size_option.get("inject_into") == "request_parameter":
            name = context.text(size_option.get("field_name"), size_option, "field_name")
            endpoint["params"] = {**endpoint.get("params", {}), name: size}
        else:
            context.inject(size_option, size)
    follows = option.type == "RequestPath" or option.get("inject_into") == "path"
    has_more = _has_more(strategy, expression)
    more = {"has_more_path": has_more} if has_more else {}
    if expression.root == "headers":
        return _by_header(context, expression, option, strategy, follows=follows)
    if expression.root == "last_record":
        place = _place(context, option, "cursor")
        if "cursor_param" not in place:
            raise option.refuse("a key in the body of the request")
        return {"type": "keyset", "cursor_path": jmespath_of(expression.steps), **place, **more}
    if expression.root != "response":
        raise CannotSayError(strategy.at("cursor_value"), f"a cursor that is made of {expression.root}")
    path = jmespath_of(expression.steps)
    if follows:
        return {"type": "json_link", "next_url_path": path}
    return {"type": "cursor", "cursor_path": path, **_place(context, option, "cursor"), **more}


def _by_header(
    context: Context, expression: Expression, option: Component, strategy: Component, *, follows: bool
) -> dict[str, Any]:
    steps = expression.steps
    if follows and steps[0].lower() == "link" and len(steps) > 1:
        return {"type": "header_link", "links_next_key": steps[1]}
    if len(steps) != 1:
        raise CannotSayError(strategy.at("cursor_value"), f"a part of the header {steps[0]}")
    if follows:
        return {"type": "header_cursor", "cursor_key": steps[0]}
    return {"type": "header_cursor", "cursor_key": steps[0], **_place(context, option, "cursor")}


def _has_more(strategy: Component, cursor: Expression) -> str | None:
    """
    Where the body says that there is more, if the end is told by that and not by the cursor's absence.

    Raises:
        CannotSayError: another end.
    """
    given = strategy.get("stop_condition")
    if given is None or str(given).strip().lower() in {"", "false"}:
        return None
    text = str(given).strip()
    if (missing := _MISSING.fullmatch(text)) and cursor.root == "response":
        told = [f"{missing['table']}.{missing['key']}", missing["same"]]
        paths = [read_expression(one) for one in told if one]
        if all(path is not None and path.steps == cursor.steps for path in paths):
            return None  # the cursor itself is missing, or empty
    found = _NEGATED.fullmatch(text) or _COMPARED.fullmatch(text)
    said = next((part for part in found.groups() if part), "") if found else ""
    parts = parse(f"{{{{ {said} }}}}") if said else []
    if len(parts) == 1 and isinstance(parts[0], Expression):
        steps = parts[0].steps
        if cursor.root == "response" and cursor.steps[: len(steps)] == steps:
            return None  # the cursor itself is missing then
        says_end = re.search(r"==\s*(true|True)|is\s+(true|True)|!=\s*(false|False)|is not", text)
        if not says_end and not re.search(r"\[\]|''|\"\"", text):
            return jmespath_of(steps)
    if cursor.root == "headers" and re.search(r"\bheaders\b", text):
        return None
    if _ENDS_BY_ITSELF.search(text):
        return None
    raise CannotSayError(strategy.at("stop_condition"), f"an end that a paginator cannot say: {text[:120]}")
