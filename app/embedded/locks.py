"""
Two file locks decide everything between processes.

`start.lock` is held, exclusively, while somebody decides to start or to stop.
`users.lock` is held, shared, for as long as somebody uses the server; who can
make it exclusive is alone. flock() belongs to the open file, not to the
process, so two users inside one process count as two.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.embedded.waiting import wait_until
from app.errors import StoreUnavailableError

if sys.platform != "win32":
    import fcntl

# Longer than the slowest start (recovery) or stop another process may be in the middle of.
LOCK_SECONDS = 180.0


def open_owned(path: Path, flags: int) -> int:
    """Open or create a 0600 file; one that root creates belongs to the owner of its directory."""
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return os.open(path, flags | os.O_NOFOLLOW)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)
    return fd


@contextmanager
def start_lock(home: Path) -> Iterator[None]:
    """
    Raises:
        StoreUnavailableError: somebody else did not let go within LOCK_SECONDS.
    """
    path = home / "start.lock"
    fd = open_owned(path, os.O_RDWR)
    try:
        if not wait_until(lambda: _locked(fd, fcntl.LOCK_EX), seconds=LOCK_SECONDS):
            raise StoreUnavailableError(
                f"another process has been starting or stopping PostgreSQL for {LOCK_SECONDS:.0f} seconds; "
                f"find it with: fuser {path}"
            )
        yield
    finally:
        os.close(fd)


def become_user(home: Path) -> int:
    """The caller holds the start lock: nobody is stopping the server. Close what is returned to be gone."""
    fd = open_owned(home / "users.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def is_last_user(fd: int) -> bool:
    """The caller holds the start lock and is leaving: when the answer is no, its own lock may be lost."""
    return _locked(fd, fcntl.LOCK_EX)


def _locked(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
