"""
A source that is no file yet: the same tree as JSON, from a client over HTTP.

A file in SOURCES_DIR was put there by who owns the machine. A posted tree may
come from further away, so it gets no more than the files give already: a secret
goes only to an address to which a source sends it, and an address that is not
public is asked only where a source may ask it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from app.errors import ConfigError
from app.settings import Settings
from app.sources.auth import OAuth2RefreshToken
from app.sources.catalog import resolve
from app.sources.reading import read_source
from app.sources.resource import ResourceSpec, Secrets
from app.sources.tables import RestResource

POSTED: Final = "posted tree"
"""Where such a source is from, for errors."""
MAX_DEPTH: Final = 32
"""Tables and lists within one another; the format itself needs eight."""
INSTEAD: Final = "put the file into SOURCES_DIR, or use `etl sources check FILE` where the service runs"

_ADDRESS: Final = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::(\d{1,5}))?(?=[/?#]|\Z)")
_MAY_BE_URL: Final = re.compile(r"[^/]*:")
"""Placeholders are filled with neither colon nor slash, so nothing else becomes a URL of its own."""
_SECRET: Final = re.compile(r"secrets\.([A-Za-z_][A-Za-z0-9_]*)")


def read_posted(body: bytes, *, catalog: Iterable[ResourceSpec], settings: Settings) -> list[ResourceSpec]:
    """
    The resources that a posted tree selects, with what they may use.

    A path of a file is below SOURCES_DIR, where the file would be, or FILE_ROOTS.

    Raises:
        ConfigError: one line for each fault, each beginning with `POSTED`.
    """
    source = read_source(_parse(body), where=POSTED)
    if isinstance(source.client.auth, OAuth2RefreshToken):
        raise ConfigError(
            f"{POSTED}: client.auth.type: a look would use up the refresh token, and nothing is stored; {INSTEAD}"
        )
    specs = resolve(source, secrets={}, where=POSTED, folder=settings.sources.folder.absolute(), settings=settings)
    if not (source.enabled and specs):
        raise ConfigError(f"{POSTED}: enabled: nothing is enabled and selected, so there is nothing to look at")
    known = list(catalog)
    asked = {address for spec in specs for address in addresses(spec)}
    secrets = Secrets(_lent(specs, asked, known), POSTED)
    private_hosts = _private_hosts(asked, known) if source.client.allow_private_networks else frozenset[str]()
    return [replace(spec, secrets=secrets, private_hosts=private_hosts) for spec in specs]


def addresses(spec: ResourceSpec) -> set[str]:
    """Scheme, host and port of all that a resource asks; "" among them when one cannot be told beforehand."""
    urls = [spec.client.base_url, getattr(spec.client.auth, "access_token_url", None)]
    if isinstance(spec.table, RestResource):
        path = spec.table.endpoint.path
        urls.append(path if _MAY_BE_URL.match(path) else None)
    elif spec.body_url is not None:
        urls.append(None if Path(spec.body_url).is_absolute() else spec.body_url)
    return {_address(url) for url in urls if url is not None}


def _address(url: str) -> str:
    found = _ADDRESS.match(url)
    if found is None:
        return ""
    scheme, host, port = found[1], found[2].lower().rstrip("."), found[3]
    return f"{scheme}://{host}:{int(port) if port else {'http': 80, 'https': 443}[scheme]}"


def _lent(specs: list[ResourceSpec], asked: set[str], known: list[ResourceSpec]) -> Mapping[str, SecretStr]:
    """The secrets that are named; from the sources that send them to these addresses."""
    lent: dict[str, SecretStr] = {}
    faults = []
    for name in sorted({name for spec in specs for name in _named(spec)}):
        holders = [spec for spec in known if name in _named(spec)]
        if not _are_among(asked, holders):
            faults.append(
                f"{POSTED}: {{secrets.{name}}}: goes only to an address to which a source of this service sends it "
                f"already, not to {_listed(asked)}; {INSTEAD}"
            )
        for spec in holders:
            if name in spec.secrets.values:
                lent[name] = spec.secrets.values[name]
    if faults:
        raise ConfigError("\n".join(faults))
    return lent


def _private_hosts(asked: set[str], known: list[ResourceSpec]) -> frozenset[str]:
    if not _are_among(asked, [spec for spec in known if spec.client.allow_private_networks]):
        raise ConfigError(
            f"{POSTED}: client.allow_private_networks: no source of this service may ask {_listed(asked)} "
            f"there; {INSTEAD}"
        )
    return frozenset(address.partition("://")[2].rpartition(":")[0].strip("[]") for address in asked)


def _are_among(asked: set[str], known: list[ResourceSpec]) -> bool:
    return "" not in asked and asked <= {address for spec in known for address in addresses(spec)}


def _listed(asked: set[str]) -> str:
    return ", ".join(address or "an address that cannot be told beforehand" for address in sorted(asked))


def _named(spec: ResourceSpec) -> set[str]:
    auth = spec.client.auth
    parts = [spec.client.headers, auth.model_dump(mode="json") if auth else None]
    if isinstance(spec.table, RestResource):
        parts.append(spec.table.endpoint.headers)
    return set(_SECRET.findall(json.dumps(parts)))


def _parse(body: bytes) -> dict[str, Any]:
    """
    JSON as strict as TOML is: no key twice, no null, no number that is none.

    Raises:
        ConfigError: it is none, or it is nested too deeply.
    """
    try:
        tree = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
        fault = next((fault for fault in map(_fault, _walk(tree)) if fault), None)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{POSTED}: body: not the JSON of a source: {error}") from None
    if fault is not None:
        raise ConfigError(f"{POSTED}: {fault}")
    if not isinstance(tree, dict):
        raise ConfigError(f"{POSTED}: body: expected an object")
    return tree


def _walk(tree: Any) -> Iterable[tuple[tuple[str, ...], Any]]:
    """Not by recursion: what comes may be nested deeper than Python's stack."""
    left: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    while left:
        path, value = left.pop()
        yield path, value
        if len(path) <= MAX_DEPTH:
            items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            left += [((*path, str(key)), item) for key, item in items]


def _fault(found: tuple[tuple[str, ...], Any]) -> str | None:
    path, value = found
    where = ".".join(path) or "body"
    if len(path) > MAX_DEPTH:
        return f"{'.'.join(path[:4])}…: nested more than {MAX_DEPTH} deep"
    if value is None:
        return f"{where}: is null; leave the key out"
    texts = [*value, where] if isinstance(value, dict) else [value]
    if any(isinstance(text, str) and ("\0" in text or not _is_text(text)) for text in texts):
        return f"{where.encode('ascii', 'backslashreplace').decode()}: holds NUL or half a surrogate pair"
    return None


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return table


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")
