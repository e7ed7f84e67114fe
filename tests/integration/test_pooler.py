"""Behind a pooler that lends connections for one transaction, nothing that we promise would hold: it is refused."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from sqlalchemy import text

from app.db.engine import Database
from app.db.pooler import require_sessions
from app.errors import ConfigError

pytestmark = pytest.mark.skipif(
    shutil.which("pgbouncer") is None or sys.platform == "win32", reason="there is no pgbouncer here"
)


@asynccontextmanager
async def pgbouncer(dsn: str, folder: Path, mode: str) -> AsyncIterator[str]:
    """The same database through a real pooler."""
    server = urlsplit(dsn)
    host = parse_qs(server.query).get("host", [server.hostname or ""])[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "users.txt").write_text(f'"{server.username}" "{server.password or ""}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={host} port={server.port or 5432}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\npool_mode = {mode}\n"
        f"auth_type = trust\nauth_file = {folder}/users.txt\nignore_startup_parameters = extra_float_digits\n"
    )
    command = ["pgbouncer", "-q", str(folder / "pgbouncer.ini")]
    if os.geteuid() == 0:  # it refuses to be root
        command += ["-u", "nobody"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"postgresql://{server.username}:{server.password or ''}@127.0.0.1:{port}{server.path}"
    try:
        await _until_it_answers(url)
        yield url
    finally:
        process.terminate()
        process.wait(10)


async def _until_it_answers(url: str) -> None:
    for _ in range(100):
        try:
            await (await asyncpg.connect(url, statement_cache_size=0)).close()
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("pgbouncer does not answer")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that whoever pgbouncer runs as may read."""
    made = Path(tempfile.mkdtemp(prefix="etl-pooler-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


async def test_a_pool_that_lends_for_a_transaction_is_refused(dsn: str, folder: Path) -> None:
    async with pgbouncer(dsn, folder, "transaction") as url:
        database = Database(url)
        for _ in range(3):
            with pytest.raises(ConfigError, match="pool_mode = session"):
                await require_sessions(database)
        await database.close()


async def test_a_pool_that_lends_for_a_session_is_as_good_as_the_server(dsn: str, folder: Path) -> None:
    async with pgbouncer(dsn, folder, "session") as url:
        for given in (url, dsn):
            database = Database(given)
            for _ in range(3):
                await require_sessions(database)
            async with database.read() as session:
                assert (await session.execute(text("SELECT 1"))).scalar() == 1
            await database.close()
