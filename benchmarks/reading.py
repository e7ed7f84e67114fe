"""The way out: pages of 1.1 million rows, at random places, cache on and off, while nothing and while a run loads."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

from benchmarks.cluster import ROOT, Cluster, etl_environment
from benchmarks.data import WORDS

HERE: Final = Path(__file__).resolve().parent
PAGE_SIZE: Final = 50
PATHS: Final = 20_000
"""Of a case: enough for none to come again much sooner than its turn."""

Paths = Callable[[random.Random], str]


@dataclass(frozen=True, slots=True)
class Read:
    """One kind of page, asked for some seconds."""

    who: str
    case: str
    clients: int
    loading: bool
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    hit_ratio: float
    """Of requests, those whose answer was kept; by the header Cache-Status."""
    errors: int
    """Answers that were not 200."""


@contextmanager
def serving(cluster: Cluster, database: str, **settings: str) -> Iterator[int]:
    """`etl serve`; its port."""
    environment = etl_environment(
        DATABASE_URL=cluster.dsn_of(database), BUILT_IN_SOURCES="none", PORT="0", LOG_LEVEL="info", **settings
    )
    with _served_by([sys.executable, "-m", "app", "serve"], environment, "etl: serving on") as port:
        yield port


@contextmanager
def serving_tutorial(cluster: Cluster, database: str) -> Iterator[int]:
    """`benchmarks.tutorial`, one process as well; its port."""
    dsn = cluster.dsn_of(database).replace("postgresql://", "postgresql+asyncpg://")
    command = [sys.executable, "-m", "uvicorn", "benchmarks.tutorial:app", "--port", "0", "--no-access-log"]
    with _served_by(command, {**os.environ, "DATABASE_URL": dsn}, "INFO:     Uvicorn running on") as port:
        yield port


@contextmanager
def _served_by(command: list[str], environment: dict[str, str], says: str) -> Iterator[int]:
    # A file, not a pipe: nobody reads what it says afterwards, and a full pipe would hold it up
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=said, stderr=said)
        try:
            yield _port_said(said, process, says)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def _port_said(said: IO[str], process: subprocess.Popen[bytes], says: str) -> int:
    """
    Raises:
        SystemExit: it ended, or did not say so within half a minute.
    """
    until = time.perf_counter() + 30
    while time.perf_counter() < until and process.poll() is None:
        said.seek(0)
        if found := re.search(rf"{re.escape(says)} http://[^:]+:(\d+)", said.read()):
            return int(found[1])
        time.sleep(0.05)
    said.seek(0)
    raise SystemExit(f"it does not serve: {said.read()[-1000:]}")


def cases(rows: int, *, page_size: int = PAGE_SIZE) -> dict[str, Paths]:
    """What both answer, at random."""
    pages = rows // page_size
    base = f"/data?page_size={page_size}"
    return {
        "page 1": lambda _: base,
        "one of the first 180 pages": lambda rng: f"{base}&page={rng.randint(1, 180)}",
        "of a source, one of 180": lambda rng: f"{base}&source={rng.choice(('api', 'csv'))}&page={rng.randint(1, 180)}",
        "any page, by number": lambda rng: f"{base}&page={rng.randint(1, pages)}",
        "search of two words": lambda rng: f"{base}&search={quote(' '.join(rng.sample(WORDS, 2)))}",
    }


def keyset_cases(cursors: Sequence[str]) -> dict[str, Paths]:
    """What only we answer: cursors at three depths, random ones each."""
    base, third = f"/data?page_size={PAGE_SIZE}&source=csv&cursor=", len(cursors) // 3
    parts = {"first": cursors[:third], "second": cursors[third : 2 * third], "last": cursors[2 * third :]}
    return {f"cursor in the {name} third": _any_of(base, some) for name, some in parts.items()}


def _any_of(base: str, cursors: Sequence[str]) -> Paths:
    return lambda rng: base + rng.choice(cursors)


def measure(
    port: int, path: Paths, *, who: str, case: str, clients: int, seconds: float, loading: bool = False
) -> Read:
    """
    By wrk: of two cores the server needs one, and clients in Python would take more than the other.

    Raises:
        SystemExit: wrk is not installed, or failed, or was answered nothing else than errors.
    """
    if (wrk := shutil.which("wrk")) is None:
        raise SystemExit("wrk is needed to ask for pages; Debian's package of that name has it")
    rng = random.Random(clients)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as paths:
        paths.writelines(f"{path(rng)}\n" for _ in range(PATHS))
        paths.flush()
        command = [wrk, "-t1", f"-c{clients}", f"-d{seconds:.0f}", "--timeout", "30", "-s", str(HERE / "readers.lua")]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{port}", "--", paths.name, str(clients)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"wrk: {done.stderr or done.stdout}")
    requests, took, middle, slow, hits, errors = map(int, done.stdout.strip().rpartition("\n")[2].split())
    if errors >= requests:
        raise SystemExit(f"{case}: of {requests} answers none was 200")
    rate, ratio = requests / took * 1e6, hits / max(requests, 1)
    return Read(who, case, clients, loading, rate, middle / 1000, slow / 1000, ratio, errors)


def export(port: int, form: str) -> tuple[float, float]:
    """Rows and megabytes a second through HTTP."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/export?format={form}") as answer:
        rows = size = 0
        while part := answer.read(1 << 20):
            rows += part.count(b"\n")
            size += len(part)
    seconds = time.perf_counter() - began
    return rows / seconds, size / seconds / 1e6


@contextmanager
def loading(cluster: Cluster, database: str, url: str, name: str) -> Iterator[None]:
    """A run of a source of that name, all of it new, for as long as the block takes."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "more.toml").write_text(
            f'name = "{name}"\ntype = "csv"\nclient = {{ allow_private_networks = true }}\n'
            f'[[resources]]\nname = "rows"\nprimary_key = "id"\nfile = {{ url = "{url}" }}\n'
            'mapping = { name = "name", value = "value", description = "description", updated_at = "updated_at" }\n'
        )
        environment = etl_environment(DATABASE_URL=cluster.dsn_of(database), SOURCES_DIR=folder)
        command = [sys.executable, "-m", "app", "run", name]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            landed = f"SELECT count(*) FROM raw_csv_data WHERE source = '{name}'"
            while not int(cluster.psql("-c", landed, database=database)):
                time.sleep(0.2)
            yield
            if process.poll() is not None:
                raise SystemExit("the run ended before the reads that were to go on beside it")
        finally:
            process.kill()
            process.wait()


def fill(cluster: Cluster, database: str, file: Path) -> int:
    """A million rows of `csv` and a tenth of them as `api`, as a run would have left them; how many."""
    cluster.psql(
        "-c",
        "CREATE UNLOGGED TABLE given (id text, name text, value text, description text, updated_at timestamptz)",
        "-c",
        "\\copy given FROM pstdin WITH (FORMAT csv, HEADER)",
        database=database,
        stdin=file,
    )
    for source, first, limit in (("csv", 0, "ALL"), ("api", 20_000_000, "(SELECT count(*) / 10 FROM given)")):
        cluster.psql(
            "-c",
            "INSERT INTO normalized_data (id, raw_id, run_id, value, updated_at, source, source_id, name, description,"
            f" content_hash) SELECT {first} + row_number() OVER (), 0, 0, CASE WHEN value ~ '^[0-9.]+$' AND value !~"
            f" '[.].*[.]' THEN value::float8 END, updated_at, '{source}', id, name, description, decode(md5(id), 'hex')"
            f" FROM (SELECT * FROM given LIMIT {limit}) AS part",
            database=database,
        )
    cluster.psql(
        "-c",
        "INSERT INTO etl_checkpoint (source, resource, row_count, succeeded_at)"
        " SELECT source, 'rows', count(*), now() FROM normalized_data GROUP BY source; DROP TABLE given",
        database=database,
    )
    cluster.settle(database)
    return int(cluster.psql("-c", "SELECT count(*) FROM normalized_data", database=database))
