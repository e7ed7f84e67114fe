"""The server process: start it, ask it, stop it. What counts is what it answers, never that a pid exists."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from app.clock import monotonic
from app.embedded.account import run_as, spawn_as
from app.embedded.cluster import major_of
from app.embedded.locks import open_owned
from app.embedded.places import PORT, Place
from app.embedded.waiting import wait_until
from app.errors import StoreUnavailableError

READY_SECONDS = 120.0  # a start after a crash reads up to max_wal_size again
REFUSAL_SECONDS = 30.0
FAST_STOP_SECONDS = 30.0
IMMEDIATE_STOP_SECONDS = 10.0
LOG_BYTES = 10 * 1024 * 1024

# After a kill -9 the old backends need a moment to notice, and PostgreSQL refuses until they have.
REFUSALS = ("already exists", "pre-existing shared memory block")

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "jit": "off",  # short statements on small tables: compiling costs more than it saves
    "fsync": "on",  # these two are PostgreSQL's own defaults; named so that no postgresql.conf changes them
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
}


class Answer(Enum):
    READY = 0
    BUSY = 1  # starting, recovering or shutting down
    SILENT = 2


@dataclass(frozen=True, slots=True)
class Server:
    place: Place
    bin_dir: Path
    version: str
    sockets: Path

    def answer(self) -> Answer:
        if not (self.sockets / f".s.PGSQL.{PORT}").exists():
            return Answer.SILENT
        where = ("-h", str(self.sockets), "-p", str(PORT), "-U", "postgres", "-d", "postgres", "-t", "3")
        try:
            asked = run_as(self.place.account, self.bin_dir / "pg_isready", "-q", *where, timeout_seconds=10)
        except subprocess.TimeoutExpired:
            return Answer.SILENT
        return Answer(asked.returncode) if asked.returncode in {0, 1} else Answer.SILENT

    def ensure_running(self) -> bool:
        """
        Join the server or start it; True when this call started it. The caller holds the start lock.

        Raises:
            StoreUnavailableError: it does not come up; the message ends with its last log lines.
        """
        give_up_at = monotonic() + REFUSAL_SECONDS
        while True:
            if self._joined():
                return False
            last_words = self._launch()
            if last_words is None:
                return True
            if not any(text in last_words for text in REFUSALS) or monotonic() > give_up_at:
                raise self._unavailable("PostgreSQL ended while starting", last_words)
            time.sleep(0.2)

    def stop(self) -> str | None:
        """
        Stop it and wait until it is gone: "fast", or "immediate" when fast took too long (the next
        start recovers, nothing committed is lost). None when it was not running.

        Raises:
            StoreUnavailableError: it is still there.
        """
        pid = self.postmaster_pid()
        if pid is None:
            return None
        ways = (
            ("fast", signal.SIGINT, FAST_STOP_SECONDS),
            ("immediate", signal.SIGQUIT, IMMEDIATE_STOP_SECONDS),
        )
        for name, number, seconds in ways:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            if wait_until(lambda: not self._is_postmaster(pid), seconds=seconds):
                return name
        raise self._unavailable(f"PostgreSQL (pid {pid}) does not stop", _tail(self.place.log))

    def postmaster_pid(self) -> int | None:
        """None when there is no server, also when its pid file is stale and the pid is a stranger's now."""
        pid = self._recorded_pid()
        return pid if pid is not None and self._is_postmaster(pid) else None

    def _joined(self) -> bool:
        state = self.answer()
        if state is Answer.BUSY:
            wait_until(lambda: self.answer() is not Answer.BUSY, seconds=READY_SECONDS)
            state = self.answer()
        if state is Answer.BUSY:
            raise self._unavailable("PostgreSQL is still starting or stopping", _tail(self.place.log))
        return state is Answer.READY

    def _launch(self) -> str | None:
        """None when it answers, otherwise what it said before it ended."""
        _rotate(self.place.log)
        log = open_owned(self.place.log, os.O_WRONLY | os.O_APPEND)
        try:
            mark = os.fstat(log).st_size
            program = self.bin_dir / "postgres"
            command = ("-D", str(self.place.data), *self._options())
            process = spawn_as(self.place.account, program, *command, log=log, environment=self._ignore_stale_pid())
        finally:
            os.close(log)
        try:
            self._wait_for(process, mark)
        except BaseException:
            process.send_signal(signal.SIGQUIT)
            raise
        return None if process.poll() is None else _tail(self.place.log, mark)

    def _wait_for(self, process: subprocess.Popen[bytes], mark: int) -> None:
        def ended_or_ready() -> bool:
            return process.poll() is not None or self.answer() is Answer.READY

        if not wait_until(ended_or_ready, seconds=READY_SECONDS):
            last_words = _tail(self.place.log, mark)
            raise self._unavailable(f"PostgreSQL did not answer within {READY_SECONDS:.0f} seconds", last_words)

    def _options(self) -> list[str]:
        settings = dict(SETTINGS)
        # A list in which a quoted name may hold a comma or a space.
        settings["unix_socket_directories"] = '"{}"'.format(str(self.sockets).replace('"', '""'))
        if major_of(self.version) >= 18:
            settings["io_method"] = "worker"
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _ignore_stale_pid(self) -> dict[str, str]:
        """
        PostgreSQL refuses for ever when the pid in a stale postmaster.pid lives
        again as some other process of this account. The variable is how pg_ctl
        tells it "that one is not a server"; its shared memory check stays.
        """
        pid = self._recorded_pid()
        return {} if pid is None or self._is_postmaster(pid) else {"PG_GRANDPARENT_PID": str(pid)}

    def _recorded_pid(self) -> int | None:
        try:
            return int((self.place.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None

    def _is_postmaster(self, pid: int) -> bool:
        return f" -D {self.place.data} " in self._command_line(pid)

    def _command_line(self, pid: int) -> str:
        """Empty when there is no such process, or only what a dead one leaves."""
        if Path("/proc/self/cmdline").exists():
            try:
                return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
            except OSError:
                return ""
        command = ("/bin/ps", "-ww", "-o", "args=", "-p", str(pid))
        return run_as(self.place.account, *command, timeout_seconds=10).stdout

    def _unavailable(self, what: str, last_words: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"{what}; the end of {self.place.log}:\n{last_words}")


def _rotate(log: Path) -> None:
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))


def _tail(log: Path, start: int = 0) -> str:
    """At most the last 15 lines, 2,000 characters."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - 2000))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-15:])
