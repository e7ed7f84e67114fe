"""A PostgreSQL of the measurement's own, with settings that are written down, and processes that are measured."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.embedded import EmbeddedServer, running_postgres, server

ROOT: Final = Path(__file__).resolve().parents[1]
NOTHING: Final = Path(os.devnull)
SETTINGS: Final = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "synchronous_commit": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
}


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process took, its start included."""

    seconds: float
    cpu_seconds: float
    """Of the process and its children."""
    server_cpu_seconds: float
    """Of PostgreSQL, whatever it did meanwhile; 0 where there is no /proc."""
    peak_mb: float
    wal_mb: float
    output: str


class Cluster:
    def __init__(self, embedded: EmbeddedServer) -> None:
        self._embedded = embedded
        self._postmaster = embedded.home / "data" / "postmaster.pid"
        self.dsn = embedded.dsn

    def psql(self, *arguments: str, database: str = "postgres", stdin: Path | None = None) -> str:
        command = [str(self._embedded.bin_dir / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.dsn_of(database)]
        with stdin.open("rb") if stdin else NOTHING.open("rb") as given:
            done = subprocess.run([*command, *arguments], stdin=given, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"psql: {done.stderr.strip()}")
        return done.stdout.strip()

    def dsn_of(self, database: str) -> str:
        return self.dsn.replace("/postgres?", f"/{database}?")

    def create(self, database: str) -> None:
        self.psql("-c", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        self.psql("-c", f"CREATE DATABASE {database}")

    def settle(self, database: str) -> None:
        """Nothing of what was before is left to be done."""
        self.psql("-c", "VACUUM ANALYZE", database=database)
        self.psql("-c", "CHECKPOINT")

    def measure(self, command: Sequence[str], *, environment: Mapping[str, str], stdin: Path | None = None) -> Spent:
        """
        Raises:
            SystemExit: the command failed.
        """
        wal, served, before = self._wal_bytes(), self._server_cpu(), resource.getrusage(resource.RUSAGE_CHILDREN)
        with stdin.open("rb") if stdin else NOTHING.open("rb") as given, tempfile.TemporaryFile("w+") as said:
            began = time.perf_counter()
            process = subprocess.Popen(
                command, env=dict(environment), stdin=given, stdout=subprocess.PIPE, stderr=said, text=True
            )
            output, _ = process.communicate()
            seconds = time.perf_counter() - began
            said.seek(0)
            if process.returncode:
                raise SystemExit(
                    f"{' '.join(command)}: exit code {process.returncode}\n{output[-500:]}{said.read()[-2000:]}"
                )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        served = self._server_cpu() - served
        return Spent(seconds, cpu, served, _peak_of(output), (self._wal_bytes() - wal) / 1e6, output)

    def measure_psql(self, script: Path, *, database: str, rows: Path) -> Spent:
        command = [str(self._embedded.bin_dir / "psql"), "-XqAt", "-d", self.dsn_of(database), "-f", str(script)]
        return self.measure(command, environment=os.environ, stdin=rows)

    def _server_cpu(self) -> float:
        """Of the postmaster, of its children that have ended and of those that live."""
        postmaster = self._postmaster.read_text().split("\n", 1)[0]
        ticks = 0
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile
                # proc_pid_stat(5), after the name: state, parent, …; 11 to 14: user, system, and those of dead children
                numbers = (folder / "stat").read_text().rpartition(")")[2].split()
                if folder.name == postmaster:
                    ticks += sum(map(int, numbers[11:15]))
                elif numbers[1] == postmaster:
                    ticks += sum(map(int, numbers[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def _wal_bytes(self) -> int:
        return int(self.psql("-c", "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"))


def etl_environment(**settings: str) -> dict[str, str]:
    """Of a process of ours, with byte code as an installation has it."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT), "LOG_LEVEL": "error", **settings}


def etl(*arguments: str) -> list[str]:
    """Prints, after everything else, the most memory that it had."""
    script = (
        "import sys, resource; from app.__main__ import build_app, run_cli;"
        "code = run_cli(sys.argv[1:], build_app=build_app);"
        "print('\\npeak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    return [sys.executable, "-c", script, *arguments]


def _peak_of(output: str) -> float:
    """In MB; 0 where the process did not say."""
    last = output.strip().rpartition("\n")[2].split()
    return int(last[1]) / 1024 if last[:1] == ["peak"] else 0.0


@contextmanager
def running_cluster(home: Path) -> Iterator[Cluster]:
    server.SETTINGS.update(SETTINGS)
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)  # as root, PostgreSQL runs as another user, who must get in
    with running_postgres(home / "pg") as embedded:
        yield Cluster(embedded)
