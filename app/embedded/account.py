"""Who PostgreSQL runs as. It refuses to be root, so root hands it to an ordinary account."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from app.errors import ConfigError

if sys.platform != "win32":
    import pwd

# Nothing is inherited: a PGDATA, PGPORT or LD_PRELOAD of the caller is not meant for this server.
CHILD_ENVIRONMENT = {"TZ": "UTC", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Account:
    """`switch` is True when we are root and children have to become this account."""

    uid: int
    gid: int
    switch: bool


def account_for(data: Path) -> Account:
    """
    The owner of `data` when root asks and it exists, else `nobody`; an ordinary user is always itself.

    Raises:
        ConfigError: root asks and there is no such account.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switch=False)
    if data.exists():
        owner = data.stat()
        if owner.st_uid == 0:
            raise ConfigError(
                f"{data} belongs to root, and PostgreSQL refuses to run as root: "
                f"give it to an ordinary account (chown -R nobody {data}) or set DATABASE_URL"
            )
        return Account(owner.st_uid, owner.st_gid, switch=True)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise ConfigError(
            "PostgreSQL refuses to run as root and there is no account 'nobody': "
            "run as an ordinary user, or set DATABASE_URL"
        ) from error
    return Account(nobody.pw_uid, nobody.pw_gid, switch=True)


def run_as(account: Account, *command: str | Path, timeout_seconds: float) -> subprocess.CompletedProcess[str]:
    """Output is stdout and stderr together. Raises OSError and `subprocess.TimeoutExpired`."""
    return subprocess.run(  # noqa: S603 - no shell, and the program is one find_binaries() accepted
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout_seconds,
        check=False,
        cwd="/",
        env=CHILD_ENVIRONMENT,
        start_new_session=True,
        user=account.uid if account.switch else None,
        group=account.gid if account.switch else None,
        extra_groups=[] if account.switch else None,
    )


def spawn_as(account: Account, *command: str | Path, log: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a child that outlives us. Its own session: Ctrl-C is for us, and we still need it then."""
    process = subprocess.Popen(  # noqa: S603 - no shell, and the program is one find_binaries() accepted
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        close_fds=True,  # an inherited lock would be held for as long as the server lives
        cwd="/",
        env={**CHILD_ENVIRONMENT, **environment},
        start_new_session=True,
        user=account.uid if account.switch else None,
        group=account.gid if account.switch else None,
        extra_groups=[] if account.switch else None,
    )
    # Another process may stop it, so its end must be reaped here whenever it comes: no zombie.
    threading.Thread(target=process.wait, name="embedded-postgres-reaper", daemon=True).start()
    return process


def can_enter(account: Account, directory: Path) -> bool:
    """Asked of the kernel as that account: mode bits alone would miss ACLs and mounts."""
    try:
        answer = run_as(account, "/bin/sh", "-c", 'cd -- "$1"', "sh", directory, timeout_seconds=10)
    except OSError:
        return False
    return answer.returncode == 0
