"""
A PostgreSQL for the tests: always a real one, chosen once and said aloud.

TEST_DATABASE_URL, else a container where a Docker engine answers, else the
embedded one. Whichever it is, each test gets a database of its own, cloned
from a template that was migrated once.
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from app.embedded import running_postgres


def choose() -> tuple[str, str]:
    """Which PostgreSQL, and why."""
    if os.environ.get("TEST_DATABASE_URL"):
        return "given", "TEST_DATABASE_URL is set"
    if _docker_answers():
        return "container", "a Docker engine answers"
    return "embedded", "no TEST_DATABASE_URL, no Docker engine"


@contextmanager
def running_server(kind: str) -> Iterator[str]:
    """The DSN of a superuser's connection to the chosen server."""
    if kind == "given":
        yield os.environ["TEST_DATABASE_URL"]
    elif kind == "container":
        from testcontainers.community.postgres import PostgresContainer

        with PostgresContainer("postgres:18", driver=None) as container:
            yield container.get_connection_url()
    else:
        home = Path(tempfile.mkdtemp(prefix="etl-tests-"))
        home.chmod(0o755)  # as root the server runs as another user, who must get in
        try:
            with running_postgres(home / "pg") as server:
                yield server.dsn
        finally:
            shutil.rmtree(home, ignore_errors=True)


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def _docker_answers() -> bool:
    """Asked of the socket itself: the client library leaks one for each engine that is not there."""
    kind, _, place = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").partition("://")
    try:
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as asked:
                asked.settimeout(3)
                asked.connect(place)
        else:
            host, _, port = place.rpartition(":")
            socket.create_connection((host, int(port)), timeout=3).close()
    except (OSError, ValueError):
        return False
    return True
