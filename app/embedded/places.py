"""Which directories are used, and that they are nobody else's."""

import errno
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.embedded.account import Account, account_for, can_enter
from app.errors import ConfigError

PORT = 5432  # part of the socket's name only: TCP is off
SOCKET_PATH_BYTES = 103  # sun_path without its NUL: 107 on Linux, 103 on macOS

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Place:
    """A directory of ours that exists, and the account that runs PostgreSQL in it."""

    home: Path
    account: Account

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"


def place_for(requested: Path) -> Place:
    """
    Where the data lives. The answer for one path stays the same once there are data.

    Root's PostgreSQL runs as somebody who may not be able to get to `requested`
    (anything below /root). Then a fallback is used and reported, and no mode of
    a directory that is not ours is touched.

    Raises:
        ConfigError: the directory cannot be used; the message says what to do.
        OSError: it cannot be made.
    """
    home = requested.resolve()
    nearest = _nearest_existing(home)
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
    account = account_for(home / "data")
    if not account.switch:
        return Place(_made(home), account)
    if _holds_data(home):
        if not can_enter(account, home):
            raise ConfigError(
                f"{home} holds a database of uid {account.uid}, who can no longer enter that directory: "
                "allow it (chmod o+x on the parents) or point ETL_DATA_DIR elsewhere"
            )
        return Place(home, account)
    fallback = next((path for path in _fallbacks(home) if _is_ours(path) and _holds_data(path)), None)
    if fallback is None and can_enter(account, nearest):
        return Place(_made(home), account)
    fallback = fallback or _made_fallback(home)
    log.warning("embedded_fallback", requested=str(home), used=str(fallback))
    return Place(fallback, account_for(fallback / "data"))


def socket_directory(place: Place) -> Path:
    """Trust authentication stands on this directory being 0700 and the account's own."""
    directory = place.home / "run"
    # A comma separates hosts, in libpq and in asyncpg alike.
    if len(os.fsencode(directory / f".s.PGSQL.{PORT}")) > SOCKET_PATH_BYTES or "," in str(directory):
        directory = Path("/tmp") / f"etl-river-{place.account.uid}-{_short_hash(place.home)}"  # noqa: S108 - checked below
    return owned_directory(directory, uid=place.account.uid, gid=place.account.gid, mode=0o700)


def owned_directory(path: Path, *, uid: int, gid: int, mode: int) -> Path:
    """
    Make it, or accept it when it is already so.

    Raises:
        ConfigError: a link, a file, somebody else's directory or one that others
            can write to is in the way. In /tmp that may be an attack.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    refusal = ConfigError(
        f"{path} is in the way: not a directory that only uid {uid} can write to. "
        "Look whose it is, remove it, or point ETL_DATA_DIR elsewhere"
    )
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise refusal from error
    try:
        found = os.fstat(fd)
        # Our own uid: root was killed between making the directory and giving it away.
        if found.st_uid not in {uid, os.geteuid()} or found.st_mode & 0o022:
            raise refusal
        if found.st_uid != uid:
            os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)
    return path


def _made(home: Path) -> Path:
    """Make what is missing; root's are entered by another account, whatever the umask."""
    missing = [path for path in (home, *home.parents) if not path.exists()]
    for path in reversed(missing):
        with suppress(FileExistsError):
            path.mkdir()
            if os.geteuid() == 0:
                path.chmod(0o755)
    if not os.access(home, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(home))
    return home


def _made_fallback(home: Path) -> Path:
    uid, gid = os.geteuid(), os.getegid()
    lasting, temporary = _fallbacks(home)
    try:
        owned_directory(lasting.parent, uid=uid, gid=gid, mode=0o755)
        return owned_directory(lasting, uid=uid, gid=gid, mode=0o755)
    except OSError:  # /var/lib is read-only in some containers
        return owned_directory(temporary, uid=uid, gid=gid, mode=0o755)


def _fallbacks(home: Path) -> tuple[Path, Path]:
    name = _short_hash(home)
    return Path("/var/lib/etl-river") / name, Path("/var/tmp") / f"etl-river-{os.geteuid()}-{name}"  # noqa: S108 - _is_ours


def _is_ours(path: Path) -> bool:
    """Anybody can make a directory in /var/tmp, put a database of theirs in it and wait for us."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return found.st_uid == os.geteuid() and not path.is_symlink() and not found.st_mode & 0o022


def _holds_data(home: Path) -> bool:
    return (home / "data" / "PG_VERSION").exists()


def _nearest_existing(path: Path) -> Path:
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
