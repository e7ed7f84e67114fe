"""The data directory: made once and whole, and refused when another major version made it."""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from app.embedded.account import Account, run_as
from app.embedded.places import Place
from app.errors import ConfigError, StoreUnavailableError

INITDB_SECONDS = 120.0
UNFINISHED = "data.unfinished-"


def prepare_cluster(place: Place, bin_dir: Path, version: str) -> None:
    """
    Leave a data directory these binaries can open. The caller holds the start lock.

    Raises:
        ConfigError: what is there is not a database of this major version.
        StoreUnavailableError: initdb failed; nothing is left behind.
    """
    _remove_unfinished(place.home)
    marker = place.data / "PG_VERSION"
    if marker.exists():
        _check_major(marker.read_text().strip(), version, place.data)
    elif place.data.exists() and any(place.data.iterdir()):
        raise ConfigError(
            f"{place.data} holds files but no PG_VERSION, so it is no database: "
            "move it aside or point ETL_DATA_DIR elsewhere"
        )
    else:
        _create(place, bin_dir, major_of(version))


def major_of(version: str) -> int:
    """18 of "18.6", "18beta1" and "18"."""
    return int(re.split(r"\D", version, maxsplit=1)[0])


def _check_major(found: str, version: str, data: Path) -> None:
    if found != str(major_of(version)):
        raise ConfigError(
            f"{data} was made by PostgreSQL {found}, but the binaries are {version}: "
            f"point ETL_PG_BIN at a PostgreSQL {found} (and from there pg_dump, then restore), "
            f"or move {data} aside to start empty"
        )


def _create(place: Place, bin_dir: Path, major: int) -> None:
    """Beside its place and then renamed: a kill -9 in the middle leaves no half database."""
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=place.home))
    try:
        _give_to(unfinished, place.account)
        _initdb(unfinished, bin_dir, place.account, major)
        unfinished.rename(place.data)
        _sync_directory(place.home)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _initdb(directory: Path, bin_dir: Path, account: Account, major: int) -> None:
    command = (bin_dir / "initdb", "-D", directory, "-U", "postgres", "-A", "trust", "-E", "UTF8")
    answer = run_as(account, *command, *_locale(major), timeout_seconds=INITDB_SECONDS)
    if answer.returncode != 0:
        raise StoreUnavailableError(f"initdb failed in {directory}:\n{answer.stdout.strip()[-2000:]}")


def _locale(major: int) -> tuple[str, ...]:
    """Text sorts by code point on every operating system, and upper() still knows more than ASCII."""
    if major >= 17:
        builtin = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
        return (*builtin, "--no-instructions")
    return ("--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C", "--no-instructions")


def _give_to(directory: Path, account: Account) -> None:
    if account.switch:
        os.chown(directory, account.uid, account.gid, follow_symlinks=False)


def _remove_unfinished(home: Path) -> None:
    for pattern in (f"{UNFINISHED}*", "postgresql.unfinished-*"):
        for leftover in home.glob(pattern):
            shutil.rmtree(leftover, ignore_errors=True)  # an orphaned initdb may still write: next time, then


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
