"""A URL and headers as somebody types them → how a source file says them: credentials by name only. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from pydantic import SecretStr

from app.errors import ConfigError

_SECRET_NAME: Final = re.compile(
    r"(.*[-_.])?(api[-_]?key|app[-_]?id|key|token|secret|password|passwd|pwd|auth|authorization|sig|signature|cookie"
    r"|credential|accesstoken|session(id)?)",
    re.IGNORECASE,
)
_REFERENCE: Final = re.compile(r"\{secrets\.([A-Za-z_][A-Za-z0-9_]*)\}")
_SAYS_LITTLE: Final = re.compile(
    r"api|rest|v?\d+(\.\d+)*|data|index|export|exports|download|downloads|file|files|records|items|list|all|feed|feeds"
    r"|rss|atom|json|csv|get|search|query|raw|public",
    re.IGNORECASE,
)
_ENDING: Final = re.compile(r"\.(csv|tsv|txt|json|jsonl|ndjson|xml|rss|atom|gz|zip|zst)", re.IGNORECASE)


@dataclass(slots=True)
class Address:
    name: str
    url: str
    """Without user, password and fragment, and without what is sent as a credential."""
    base_url: str
    path: str
    """Below the base, as `endpoint.path` has it."""
    params: dict[str, Any] = field(default_factory=dict)
    client: dict[str, Any] = field(default_factory=dict)
    """`headers` and `auth`."""
    secrets: dict[str, SecretStr] = field(default_factory=dict)
    """Those that were typed in clear, by the name under which the file refers to them."""


def read_address(
    url: str, *, name: str | None = None, headers: Sequence[str] = (), token_secret: str | None = None
) -> Address:
    """
    Args:
        name: of the source; made of the URL when omitted.
        headers: each `Name: value`.
        token_secret: the secret that is sent as a bearer token (RFC 6750).

    Raises:
        ConfigError: no URL, no header, no name, or several credentials where one can be said.
    """
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"{url}: is no URL: {error}") from None
    if parts.scheme.lower() not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{url}: give a URL that begins with http:// or https://, or the path of a CSV file")
    host = parts.netloc.rpartition("@")[2]
    name = checked_name(name) if name else name_of(parts.path, parts.hostname)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(key, value) for key, value in pairs if not _is_secret(key, value)]
    base, path = _split(f"{parts.scheme.lower()}://{host}", parts.path)
    plain = urlunsplit((parts.scheme.lower(), host, parts.path, urlencode(kept), ""))
    address = Address(name, plain, base, _braced(path), _params(kept))
    if parts.username is not None:
        password = _keep(address, "PASSWORD", unquote(parts.password or ""))
        _take_auth(address, {"type": "http_basic", "username": unquote(parts.username), "password": password})
    if token_secret is not None:
        _take_auth(address, {"type": "bearer", "token": f"{{secrets.{secret_name(token_secret)}}}"})
    for header in headers:
        _take_header(address, header)
    for key, value in pairs:
        if _is_secret(key, value):
            api_key = _keep(address, key, value)
            _take_auth(address, {"type": "api_key", "name": key, "api_key": api_key, "location": "query"})
    return address


def name_of(path: str, host: str = "") -> str:
    """A name for what lies at a path: its last part that says something, else the host's."""
    parts = [_stem(unquote(part)) for part in path.split("/") if part]
    labels = [label for label in host.split(".") if label not in {"www", "api"} and not label.isdecimal()]
    words = [part for part in reversed(parts) if re.search(r"[A-Za-z]", part) and not _SAYS_LITTLE.fullmatch(part)]
    return slug((words or labels[-2:-1] or labels or ["source"])[0])


def slug(text: str) -> str:
    """The text as a name of a source or a resource."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-")[:60].lower()
    return plain if plain[:1].isalpha() else f"s_{plain}".rstrip("_")


def checked_name(name: str) -> str:
    """
    Raises:
        ConfigError: it is no name of a source.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", name):
        raise ConfigError(f"--name {name}: holds letters, digits, _ and -, and begins with a letter or _")
    return name


def secret_name(text: str) -> str:
    """`x-api-key` as the name of a secret."""
    plain = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").upper()
    return plain if plain and not plain[0].isdigit() else f"S_{plain}"


def _split(root: str, path: str) -> tuple[str, str]:
    """The base, and what is below it: the last part of the path, with the slash that may end it."""
    head, _, last = path.rstrip("/").rpartition("/")
    slash = "/" if path.endswith("/") and last else ""
    return f"{root}{head}", f"{last}{slash}"


def _stem(part: str) -> str:
    return _ENDING.sub("", part)


def _params(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        text = int(value) if re.fullmatch(r"0|[1-9]\d{0,15}", value) else _braced(value)
        given = found.get(key)
        found[key] = text if given is None else [*given, text] if isinstance(given, list) else [given, text]
    return found


def _braced(text: str) -> str:
    """Braces as a source file has them, where a single one begins a placeholder."""
    return text.replace("{", "{{").replace("}", "}}")


def _is_secret(name: str, value: str) -> bool:
    return bool(value) and (_SECRET_NAME.fullmatch(name) is not None or _REFERENCE.fullmatch(value) is not None)


def _keep(address: Address, name: str, value: str) -> str:
    """The reference to a value that was typed in clear, or the one that was typed itself."""
    if _REFERENCE.fullmatch(value):
        return value
    name = secret_name(f"{address.name}_{name}")
    address.secrets[name] = SecretStr(value)
    return f"{{secrets.{name}}}"


def _take_auth(address: Address, auth: Mapping[str, Any]) -> None:
    if "auth" in address.client:
        raise ConfigError(
            f"{address.url}: two credentials, {address.client['auth']['type']} and {auth['type']}; "
            "a source has one client.auth: give the other as a --header, or leave it out"
        )
    address.client["auth"] = dict(auth)


def _take_header(address: Address, header: str) -> None:
    name, colon, value = header.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ConfigError(f'--header {name}: is written "Name: value"')
    bearer = re.fullmatch(r"(?i:bearer) +(\S+)", value)
    if name.lower() == "authorization" and bearer and "auth" not in address.client:
        _take_auth(address, {"type": "bearer", "token": _keep(address, "TOKEN", bearer[1])})
        return
    if _SECRET_NAME.fullmatch(name) and not _REFERENCE.search(value):
        value = _keep(address, name, value)
    elif not _REFERENCE.search(value):
        value = _braced(value)
    address.client.setdefault("headers", {})[name] = value
