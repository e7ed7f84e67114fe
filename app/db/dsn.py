"""The parts of a DSN: where its server is, and the same with another database or another way there."""

from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from app.errors import ConfigError

_ENCRYPTED: Final = {"require", "verify-ca", "verify-full"}


def server_of(dsn: str) -> tuple[str, int]:
    """
    Host and port of the first server it names; the host of a Unix socket is its directory.

    Raises:
        ConfigError: it insists on encryption, which nobody can stand in the middle of.
    """
    parts = urlsplit(dsn)
    query = dict(parse_qsl(parts.query))
    if query.get("sslmode") in _ENCRYPTED:
        raise ConfigError(
            f"DATABASE_URL: sslmode={query['sslmode']}: what passes cannot be watched on an encrypted connection; "
            "name a server that does without, or leave DATABASE_URL unset for an embedded one"
        )
    first = parts.netloc.rpartition("@")[2].split(",")[0]
    host, port = first, ""
    if not first.endswith("]"):  # an IPv6 address without a port
        head, colon, tail = first.rpartition(":")
        host, port = (head, tail) if colon else (first, "")
    host = query.get("host", unquote(host)).split(",")[0].strip("[]") or "localhost"
    return host, int(query.get("port", port or "5432").split(",")[0])


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    parts = urlsplit(dsn)
    kept = [(key, value) for key, value in parse_qsl(parts.query) if key not in {"dbname", "database"}]
    return urlunsplit(parts._replace(path=f"/{quote(name)}", query=urlencode(kept)))


def through(dsn: str, *, host: str, port: int) -> str:
    """The same database, reached by another way, unencrypted."""
    parts = urlsplit(dsn)
    kept = [
        (key, value)
        for key, value in parse_qsl(parts.query)
        if key not in {"host", "port"} and not key.startswith("ssl")
    ]
    account = parts.netloc.rpartition("@")[0]
    netloc = f"{account}@{host}:{port}" if account else f"{host}:{port}"
    return urlunsplit(parts._replace(netloc=netloc, query=urlencode([*kept, ("sslmode", "disable")])))
