"""Join, start and stop: the one sentence of this room."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import structlog

from app.clock import monotonic
from app.embedded.binaries import binaries_for, find_binaries
from app.embedded.cluster import prepare_cluster
from app.embedded.locks import become_user, is_last_user, start_lock
from app.embedded.places import PORT, Place, place_for, socket_directory
from app.embedded.server import Server
from app.errors import ConfigError, StoreUnavailableError

# What only a change of configuration can cure; anything else (a full disk) may pass.
LASTING = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """
    A server that answers.

    Args:
        dsn: for `asyncpg.connect` and `psql` as it is.
        home: the directory that really holds it; not the requested one after a fallback.
        started: False when it was running already.
        version: of the binaries, as in "18.6".
    """

    dsn: str
    home: Path
    started: bool
    bin_dir: Path
    version: str
    _server: Server = field(repr=False)

    def ensure_running(self) -> bool:
        """
        Start the server again if it died under us. Blocking.

        Returns:
            True when it had to be started.

        Raises:
            ConfigError, StoreUnavailableError: as `running_postgres`.
        """
        with _named_errors(self.home), start_lock(self.home):
            started = self._server.ensure_running()
        if started:
            log.warning("embedded_restarted", home=str(self.home))
        return started


@contextmanager
def running_postgres(home: Path, *, pg_bin: Path | None = None) -> Iterator[EmbeddedServer]:
    """
    A PostgreSQL in `home` for as long as the block lasts: joined when it runs, started when not.

    Blocking; may be left in another thread than it was entered in. The last
    user, in whatever process, stops the server.

    Args:
        pg_bin: where to find the PostgreSQL programs; None looks in the usual places.

    Raises:
        ConfigError: no PostgreSQL, an unusable directory, or data of another major version.
        StoreUnavailableError: it does not start, or does not stop.
    """
    server, users, started = _enter(home, pg_bin)
    try:
        yield EmbeddedServer(
            dsn=f"postgresql://postgres@/postgres?host={quote(str(server.sockets), safe='')}&port={PORT}",
            home=server.place.home,
            started=started,
            bin_dir=server.bin_dir,
            version=server.version,
            _server=server,
        )
    finally:
        _leave(server, users)


def _enter(requested: Path, pg_bin: Path | None) -> tuple[Server, int, bool]:
    began_at = monotonic()
    with _named_errors(requested):
        found = find_binaries(pg_bin)
        place = place_for(requested)
        with start_lock(place.home):
            server = _prepared(place, found)
            users = become_user(place.home)
            try:
                started = server.ensure_running()
            except BaseException:
                os.close(users)
                raise
    log.info(
        "embedded_started" if started else "embedded_joined",
        version=server.version,
        home=str(place.home),
        seconds=round(monotonic() - began_at, 3),
    )
    return server, users, started


def _prepared(place: Place, found: Path) -> Server:
    bin_dir, version = binaries_for(place.account, found, place.home)
    prepare_cluster(place, bin_dir, version)
    return Server(place, bin_dir, version, socket_directory(place))


def _leave(server: Server, users: int) -> None:
    home = server.place.home
    try:
        with _named_errors(home), start_lock(home):
            if is_last_user(users) and (way := server.stop()):
                with suppress(OSError):  # one in /tmp would stay for ever
                    server.sockets.rmdir()
                log.info("embedded_stopped", home=str(home), way=way)
    finally:
        os.close(users)


@contextmanager
def _named_errors(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text = f"embedded PostgreSQL in {home}: {error.strerror or error} ({error.filename})"
        if error.errno in LASTING:
            raise ConfigError(f"{text}; point ETL_DATA_DIR at a directory this user can write to") from error
        raise StoreUnavailableError(text) from error
    except subprocess.TimeoutExpired as error:
        raise StoreUnavailableError(f"embedded PostgreSQL in {home}: {error}") from error
