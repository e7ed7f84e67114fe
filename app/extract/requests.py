"""A resource's endpoint → the request of its first page, with its placeholders filled."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import orjson

from app.extract.auth import OutgoingRequest
from app.extract.page_request import Given, PageRequest, Params
from app.extract.scopes import Scope
from app.records import Validators
from app.sources.resource import ResourceSpec
from app.sources.tables import RestResource
from app.sources.values import fill, placeholders


def build_request(spec: ResourceSpec, scope: Scope) -> PageRequest:
    """
    Args:
        scope: has the values of the placeholders; a parameter whose placeholder has none is left out.
    """
    request = _build(spec, scope, scope.values)
    # Built once more with other values: what is the same in both is what the file says itself
    other = _build(spec, scope, {name: f"{value}\0" for name, value in scope.values.items()})
    return replace(request, given=Given.shared(request, other))


def _build(spec: ResourceSpec, scope: Scope, values: Mapping[str, str]) -> PageRequest:
    assert isinstance(spec.table, RestResource)
    endpoint = spec.table.endpoint
    path = fill(endpoint.path, lambda name: quote(values.get(name, ""), safe=""))
    url = path if path.startswith(("http://", "https://")) else _joined(spec.client.base_url or "", path)
    parts = urlsplit(url)
    params: list[tuple[str, str]] = parse_qsl(parts.query, keep_blank_values=True)
    for name, given in {**endpoint.params, **scope.params}.items():
        for value in given if isinstance(given, tuple) else (given,):
            text = _filled(value, values)
            if text is not None:
                params.append((name, text))
    form: Params | None = None
    if endpoint.data is not None:
        form = tuple(
            (name, text) for name, value in endpoint.data.items() if (text := _filled(value, values)) is not None
        )
    return PageRequest(
        url=urlunsplit(parts._replace(query="", fragment="")),
        params=tuple(params),
        json=_filled_tree(endpoint.json_body, values),
        form=form,
        method=endpoint.method,
    )


def outgoing_request(
    request: PageRequest, *, headers: Mapping[str, str], validators: Validators | None
) -> OutgoingRequest:
    """
    Args:
        headers: of the source.
        validators: make it conditional.
    """
    headers = dict(headers)
    if "accept" not in map(str.lower, headers):
        headers["Accept"] = "application/json, text/csv;q=0.9, */*;q=0.1"
    if validators is not None and validators.etag:
        headers["If-None-Match"] = validators.etag
    if validators is not None and validators.last_modified:
        headers["If-Modified-Since"] = validators.last_modified
    body: bytes | None = None
    if request.json is not None:
        body = orjson.dumps(request.json)
        add_type(headers, "application/json")
    elif request.form is not None:
        body = urlencode(request.form).encode()
        add_type(headers, "application/x-www-form-urlencoded")
    return OutgoingRequest(request.method, request.url, request.params, headers, body)


def add_type(headers: dict[str, str], content_type: str) -> None:
    """Say what a body is, unless the headers say it."""
    if "content-type" not in map(str.lower, headers):
        headers["Content-Type"] = content_type


def _joined(base: str, path: str) -> str:
    """Below the base, whatever slashes stand between them."""
    return f"{base.rstrip('/')}/{path.lstrip('/')}" if path else base


def _filled(value: object, values: Mapping[str, str]) -> str | None:
    if not isinstance(value, str):
        return json.dumps(value) if isinstance(value, bool) else str(value)
    if any(name not in values for name in placeholders(value)):
        return None
    return fill(value, values.__getitem__)


def _filled_tree(tree: Any, values: Mapping[str, str]) -> Any:
    if isinstance(tree, dict):
        filled = {key: _filled_tree(value, values) for key, value in tree.items()}
        return {key: value for key, value in filled.items() if value is not None or tree[key] is None}
    if isinstance(tree, list):
        return [_filled_tree(item, values) for item in tree]
    return _filled(tree, values) if isinstance(tree, str) else tree
