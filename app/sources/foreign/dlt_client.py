"""dlt's credentials and paginators, as tables or as objects → ours."""

from collections.abc import Mapping
from typing import Any, Final

from app.sources.foreign.conversion import CannotSayError
from app.sources.foreign.dlt_values import jmespath_of_jsonpath, plain, text_of
from app.sources.foreign.literals import Input, Made, Unknown

_AUTH_OBJECTS: Final = {
    "BearerTokenAuth": ("bearer", ("token",)),
    "APIKeyAuth": ("api_key", ("name", "api_key", "location")),
    "HttpBasicAuth": ("http_basic", ("username", "password")),
    "OAuth2ClientCredentials": (
        "oauth2_client_credentials",
        ("access_token_url", "client_id", "client_secret", "access_token_request_data", "default_token_expiration"),
    ),
}
_PAGINATOR_OBJECTS: Final = {
    "SinglePagePaginator": ("single_page", ()),
    "HeaderLinkPaginator": ("header_link", ("links_next_key",)),
    "JSONLinkPaginator": ("json_link", ("next_url_path",)),
    "JSONResponsePaginator": ("json_link", ("next_url_path",)),
    "OffsetPaginator": ("offset", ("limit", "offset", "offset_param", "limit_param", "total_path")),
    "PageNumberPaginator": ("page_number", ("base_page", "page_param", "total_path", "maximum_page")),
    "JSONResponseCursorPaginator": ("cursor", ("cursor_path", "cursor_param")),
    "HeaderCursorPaginator": ("header_cursor", ("cursor_key", "cursor_param")),
}
_KEYS: Final = {
    "single_page": set[str](),
    "auto": set[str](),
    "header_link": {"links_next_key"},
    "json_link": {"next_url_path"},
    "offset": {
        "limit", "offset", "offset_param", "offset_body_path", "limit_param", "limit_body_path", "total_path",
        "maximum_offset", "stop_after_empty_page", "has_more_path",
    },
    "page_number": {
        "base_page", "page", "page_param", "page_body_path", "total_path", "maximum_page", "stop_after_empty_page",
        "has_more_path",
    },
    "cursor": {"cursor_path", "cursor_param", "cursor_body_path"},
    "header_cursor": {"cursor_key", "cursor_param"},
}  # fmt: skip
_SECRETS: Final = {"token", "api_key", "password", "client_secret"}
_SHORT_AUTH: Final = {"http_basic": "http_basic", "bearer": "bearer", "api_key": "api_key"}


def take_auth(client: dict[str, Any], given: Any, config: Mapping[str, str]) -> None:
    """
    Raises:
        CannotSayError: credentials that we do not have.
    """
    path = "client.auth"
    if isinstance(given, Made):
        given = _from_object(given, _AUTH_OBJECTS, path)
    if isinstance(given, str):
        raise CannotSayError(path, f"{given!r}, whose values are in dlt's own secrets: write them as a table")
    if not isinstance(given, Mapping):
        raise CannotSayError(path, f"is computed by a program{_about(given)}")
    kind = str(given.get("type", "bearer"))
    if kind not in {"bearer", "api_key", "http_basic", "oauth2_client_credentials"}:
        raise CannotSayError(path, f"{kind} has no counterpart here")
    said: dict[str, Any] = {"type": kind}
    for key, value in given.items():
        if key == "type" or value is None:
            continue
        here = f"{path}.{key}"
        if key == "access_token_request_data":
            _take_form(said, value, here)
        elif key in _SECRETS:
            said[key] = _secret(value, here)
        else:
            said[key] = plain(value, here, config, secrets=key in {"username", "client_id"})
    if kind == "api_key" and "name" not in said:
        said["name"] = "Authorization"
    client["auth"] = said


def _secret(value: Any, path: str) -> str:
    """A reference; a literal is none of ours to write."""
    if isinstance(value, Input):
        return text_of(value, path, {}, secrets=True)
    if isinstance(value, str):
        key = path.rpartition(".")[2]
        return text_of(Input(key), path, {}, secrets=True)
    if isinstance(value, Unknown):
        return text_of(
            Input(value.text if value.text.isidentifier() else path.rpartition(".")[2]), path, {}, secrets=True
        )
    raise CannotSayError(path, "is computed by a program")


def _take_form(said: dict[str, Any], value: Any, path: str) -> None:
    form = dict(value) if isinstance(value, Mapping) else {}
    if form.pop("grant_type", "client_credentials") != "client_credentials":
        raise CannotSayError(path, "another grant_type than client_credentials")
    if isinstance(scope := form.pop("scope", None), str):
        said["scope"] = scope
    if form or not isinstance(value, Mapping):
        raise CannotSayError(path, f"the token's request has no further fields here: {', '.join(form)}")


def paginator(given: Any, path: str, config: Mapping[str, str]) -> dict[str, Any]:
    """
    Raises:
        CannotSayError: one that we do not have.
    """
    if isinstance(given, Made):
        given = _from_object(given, _PAGINATOR_OBJECTS, path)
    if isinstance(given, str):
        given = {"type": given}
    if not isinstance(given, Mapping):
        raise CannotSayError(path, f"is computed by a program{_about(given)}")
    kind = {"json_response": "json_link"}.get(str(given.get("type")), str(given.get("type")))
    if kind not in _KEYS:
        raise CannotSayError(path, f"{kind} has no counterpart here")
    said: dict[str, Any] = {"type": kind}
    said |= {
        "base_page" if key == "page" else key: _paginator_value(key, value, f"{path}.{key}", kind, config)
        for key, value in given.items()
        if key != "type" and value is not None
    }
    if kind == "page_number":
        said.setdefault("base_page", 0)  # dlt's default; ours is 1
    if kind == "cursor" and not {"cursor_param", "cursor_body_path"} & set(said):
        said["cursor_param"] = "cursor"
    if kind == "offset" and "limit" not in said:
        raise CannotSayError(f"{path}.limit", "is missing")
    return said


def _paginator_value(key: str, value: Any, path: str, kind: str, config: Mapping[str, str]) -> Any:
    if key not in _KEYS[kind]:
        raise CannotSayError(path, "has no counterpart here")
    if key in {"total_path", "cursor_path", "next_url_path", "has_more_path"}:
        return jmespath_of_jsonpath(value, path)
    return plain(value, path, config)


def _from_object(given: Made, known: Mapping[str, tuple[str, tuple[str, ...]]], path: str) -> dict[str, Any]:
    if given.kind not in known:
        raise CannotSayError(path, f"{given.kind} is a class of its own")
    kind, order = known[given.kind]
    return {"type": kind, **dict(zip(order, given.positional, strict=False)), **given.arguments}


def _about(given: Any) -> str:
    return f": {given.text}" if isinstance(given, Unknown) else ""
