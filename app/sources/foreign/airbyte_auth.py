"""A manifest's authenticator → `client.auth`, or headers where that says it better."""

import re
from typing import Any, Final

from app.sources.foreign.airbyte_parts import Context
from app.sources.foreign.components import Component
from app.sources.foreign.conversion import CannotSayError
from app.sources.foreign.templates import secret_of

_REFERENCE: Final = re.compile(r"\{secrets\.\w+\}")

Found = tuple[dict[str, Any] | None, dict[str, str], set[str]]
"""`client.auth`, further headers, and the parameters that are credentials and no parameters."""


def authenticated(context: Context, component: Component, params: dict[str, Any]) -> Found:
    """
    Args:
        params: of the request; one may be a key.

    Raises:
        CannotSayError: an authenticator that we do not have.
    """
    keys = [name for name, value in params.items() if isinstance(value, str) and _REFERENCE.fullmatch(value)]
    auth, headers = _authenticator(context, component)
    if not keys:
        return auth, headers, set()
    if auth is not None or len(keys) > 1:
        raise CannotSayError(component.path, f"credentials in {' and '.join(keys)} beside those of the authenticator")
    key = keys[0]
    return {"type": "api_key", "name": key, "api_key": params[key], "location": "query"}, headers, {key}


def _authenticator(context: Context, component: Component) -> tuple[dict[str, Any] | None, dict[str, str]]:
    kind = component.type
    if kind in {"", "NoAuth"}:
        return None, {}
    if kind == "BearerAuthenticator":
        token = _text(context, component, "api_token")
        if _REFERENCE.fullmatch(token):
            return {"type": "bearer", "token": token}, {}
        return None, {"Authorization": f"Bearer {_with_secret(component, token)}"}
    if kind == "ApiKeyAuthenticator":
        return _api_key(context, component)
    if kind == "BasicHttpAuthenticator":
        return _basic(context, component), {}
    if kind == "OAuthAuthenticator":
        return _oauth(context, component), {}
    if kind == "SelectiveAuthenticator":
        return _selected(context, component)
    raise component.refuse()


def _text(context: Context, component: Component, name: str) -> str:
    return context.text(component.get(name, ""), component, name, secrets=True).strip()


def _with_secret(component: Component, text: str) -> str:
    if not _REFERENCE.search(text):
        raise CannotSayError(component.path, "a credential that stands in the manifest itself; say it as a secret")
    return text


def _api_key(context: Context, component: Component) -> tuple[dict[str, Any] | None, dict[str, str]]:
    value = _text(context, component, "api_token")
    option = component.child("inject_into")
    place = option.get("inject_into", "header") if component.has("inject_into") else "header"
    name = context.text(
        option.get("field_name") if component.has("inject_into") else component.get("header", "Authorization"),
        component,
        "header",
    )
    if place == "header" and not _REFERENCE.fullmatch(value):
        return None, {name: _with_secret(component, value)}
    location = {"header": "header", "request_parameter": "query"}.get(str(place))
    if location is None or not _REFERENCE.fullmatch(value):
        raise component.refuse(f"a key in {place}, or one that is more than a secret")
    return {"type": "api_key", "name": name, "api_key": value, "location": location}, {}


def _basic(context: Context, component: Component) -> dict[str, Any]:
    username, password = _text(context, component, "username"), _text(context, component, "password")
    if not password:
        return {"type": "http_basic", "username": username}
    if not _REFERENCE.fullmatch(password):
        context.lose(component, f"the manifest's own password {password!r} is the secret PASSWORD here: set it")
        password = secret_of(("password",))
    return {"type": "http_basic", "username": username, "password": password}


def _oauth(context: Context, component: Component) -> dict[str, Any]:
    grant = str(component.get("grant_type", "refresh_token"))
    if grant not in {"refresh_token", "client_credentials"} or component.has("profile_assertion"):
        raise component.refuse(f"grant_type {grant}")
    for name in ("refresh_request_headers", "use_profile_assertion"):
        if component.get(name):
            raise CannotSayError(component.at(name), "has no counterpart here")
    if component.get("refresh_request_body"):
        raise CannotSayError(component.at("refresh_request_body"), "the token's request has no further fields here")
    said: dict[str, Any] = {
        "type": f"oauth2_{grant}",
        "access_token_url": context.text(
            component.get("token_refresh_endpoint", ""), component, "token_refresh_endpoint"
        ),
        "client_id": _text(context, component, "client_id"),
        "client_secret": _text(context, component, "client_secret"),
    }
    if grant == "refresh_token":
        said["refresh_token"] = _text(context, component, "refresh_token")
    if component.get("scopes"):
        said["scope"] = " ".join(context.text(scope, component, "scopes") for scope in component.get("scopes"))
    for name in ("access_token_name", "expires_in_name"):
        usual = name.removesuffix("_name")
        if component.get(name, usual) != usual:
            raise CannotSayError(component.at(name), f"the answer's {component.get(name)} instead of {usual}")
    return said


def _selected(context: Context, component: Component) -> tuple[dict[str, Any] | None, dict[str, str]]:
    path = ".".join(map(str, component.get("authenticator_selection_path", [])))
    choices = component.get("authenticators", {})
    chosen = context.renderer.config.get(path)
    if chosen not in choices:
        known = ", ".join(map(str, choices))
        raise CannotSayError(component.path, f"one of several authenticators: say --config {path}=…, one of {known}")
    return _authenticator(
        context, Component.of(choices[chosen], f"{component.at('authenticators')}.{chosen}", component.parameters)
    )
