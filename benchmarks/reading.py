"""The way out: pages of 1.1 million rows, at random places, cache on and off, while nothing and while a run loads."""

import asyncio
import os
import random
import re
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
from statistics import quantiles
from typing import IO, Final
from urllib.parse import quote

from benchmarks.cluster import ROOT, Cluster, etl_environment
from benchmarks.data import WORDS

PAGE_SIZE: Final = 50

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
    return Read(who, case, clients, loading, *asyncio.run(_measure(port, path, clients=clients, seconds=seconds)))


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
def loading(cluster: Cluster, database: str, url: str) -> Iterator[None]:
    """A run of another source, all of it new, for as long as the block takes."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "more.toml").write_text(
            'name = "more"\ntype = "csv"\nclient = { allow_private_networks = true }\n[[resources]]\nname = "rows"\n'
            f'primary_key = "id"\nfile = {{ url = "{url}" }}\nmapping = {{ name = "name", value = "value", '
            'description = "description", updated_at = "updated_at" }\n'
        )
        environment = etl_environment(DATABASE_URL=cluster.dsn_of(database), SOURCES_DIR=folder)
        command = [sys.executable, "-m", "app", "run", "more"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not int(cluster.psql("-c", "SELECT count(*) FROM raw_csv_data", database=database)):
                time.sleep(0.2)
            yield
            if process.poll() is not None:
                raise SystemExit("the run ended before the reads that were to go on beside it")
        finally:
            process.kill()
            process.wait()


async def _measure(port: int, path: Paths, *, clients: int, seconds: float) -> tuple[float, float, float, float, int]:
    took: list[float] = []
    errors = hits = 0
    until = time.perf_counter() + seconds

    async def client(seed: int) -> None:
        nonlocal errors, hits
        rng = random.Random(seed)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            began = time.perf_counter()
            writer.write(f"GET {path(rng)} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
            )
            await reader.readexactly(length)
            hits += b"etl-river; hit" in head
            errors += not head.startswith(b"HTTP/1.1 200")
            took.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client(seed) for seed in range(clients)))
    cuts = quantiles(took, n=100)
    rate = len(took) / (time.perf_counter() - began)
    return rate, cuts[49] * 1000, cuts[98] * 1000, hits / len(took), errors


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
