"""
`python -m benchmarks`: measure, and write docs/performance.md.

    load   first, again, 1 % changed, with ETag; floor and ours in turn
    curve  first load of 10,000 to 10,000,000 rows
    read   pages, searches, exports of 1,100,000 rows
    report write docs/performance.md from what was measured
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from app.api.paging import PageCursor, encode_cursor
from benchmarks.cluster import Cluster, etl, etl_environment, running_cluster
from benchmarks.data import write_rows
from benchmarks.loading import Bench, Loaded, as_json
from benchmarks.reading import (
    Paths,
    Read,
    cases,
    export,
    fill,
    keyset_cases,
    loading,
    measure,
    serving,
    serving_tutorial,
)
from benchmarks.report import write_report
from benchmarks.served import served

RESULTS: Final = Path(__file__).resolve().parent / "results"
WHO: Final = ("floor", "ours", "floor that skips", "ours, search index")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[1])
    parser.add_argument("what", choices=("load", "curve", "read", "report", "all"))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="that a kind of page is asked for")
    parser.add_argument("--largest", type=int, default=10_000_000, help="of the curve")
    parser.add_argument("--folder", type=Path, help="for data and cluster; some 10 GB for 10,000,000 rows")
    given = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    steps = {"load": _load, "curve": _curve, "read": _read}
    with tempfile.TemporaryDirectory(prefix="etl-bench-") as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        for name in [name for name in steps if given.what in {name, "all"}]:
            with running_cluster(folder) as cluster:
                steps[name](cluster, folder, given)
    write_report(RESULTS)


def _load(cluster: Cluster, folder: Path, given: argparse.Namespace) -> None:
    loads: list[Loaded] = []
    with served(folder) as url:
        bench = Bench(cluster, folder, url)
        for number in range(1, given.rounds + 1):
            for load in bench.round(given.rows, number, WHO):
                print(_told(load), flush=True)
                loads.append(load)
    (RESULTS / "load.json").write_text(as_json(loads))


def _curve(cluster: Cluster, folder: Path, given: argparse.Namespace) -> None:
    loads: list[Loaded] = []
    with served(folder) as url:
        bench, rows = Bench(cluster, folder, url), 10_000
        while rows <= given.largest:
            for number in range(1, (given.rounds if rows <= 1_000_000 else 1) + 1):
                for load in bench.round(rows, number, ("floor", "ours")):
                    print(_told(load), flush=True)
                    loads.append(load)
            rows *= 10
    (RESULTS / "curve.json").write_text(as_json(loads))


def _read(cluster: Cluster, folder: Path, given: argparse.Namespace) -> None:
    cluster.create("reads")
    environment = etl_environment(DATABASE_URL=cluster.dsn_of("reads"))
    cluster.measure(etl("db", "upgrade"), environment=environment)
    total = fill(cluster, "reads", write_rows(folder, given.rows)[0])
    last = given.rows - 60
    cursors = [
        encode_cursor(PageCursor(50, ("csv", row)), made_for=("csv", None, False, None)) or ""
        for row in range(1, last, last // 5000)
    ]
    reads: list[Read] = []

    def ask(port: int, who: str, paths: Mapping[str, Paths], *clients: int, loads: bool = False) -> None:
        for case, path in paths.items():
            for count in clients:
                reads.append(
                    measure(port, path, who=who, case=case, clients=count, seconds=given.seconds, loading=loads)
                )
                print(reads[-1], flush=True)

    with serving_tutorial(cluster, "reads") as port:  # without our index, which would serve it as well
        ask(port, "tutorial", cases(total), 8)
    cluster.psql(
        "-c",
        "CREATE EXTENSION pg_trgm; CREATE INDEX normalized_data_search_idx ON normalized_data "
        "USING gin (name gin_trgm_ops, description gin_trgm_ops)",
        database="reads",
    )
    cluster.settle("reads")
    cluster.psql("-c", "VACUUM ANALYZE", database="reads")
    exports: dict[str, tuple[float, float]] = {}
    for who, settings in (("ours", {}), ("ours, cache off", {"READ_CACHE_BYTES": "0"})):
        with serving(cluster, "reads", **settings) as port:
            ask(port, who, cases(total) | keyset_cases(cursors), 8, 32)
            ask(port, who, {"100 rows, " + case: path for case, path in cases(total, page_size=100).items()}, 32)
            if settings:
                exports = {form: sorted(export(port, form) for _ in range(5))[2] for form in ("csv", "ndjson")}
                print(exports, flush=True)
    with served(folder) as url:
        more = f"{url}/plain/items_{given.rows}.csv"
        # Pages of all sources: its rows come after those that are read, then before them
        for name in ("more", "ahead"):
            with serving(cluster, "reads") as port, loading(cluster, "reads", more, name):
                paths = list(cases(total, page_size=100).items())[:3]
                told = "" if name == "more" else ", of the first source"
                ask(port, f"ours{told}", {f"100 rows, {case}": path for case, path in paths}, 32, loads=True)
    found = {"reads": [asdict(read) for read in reads], "exports": exports}
    (RESULTS / "read.json").write_text(json.dumps(found, indent=1))


def _told(load: Loaded) -> str:
    return (
        f"{load.rows:>10,} rows  round {load.round}  {load.who:<20} {load.step:<10} "
        f"{load.seconds:7.2f} s  CPU {load.cpu_seconds:6.2f} + {load.server_cpu_seconds:6.2f} s  "
        f"{load.peak_mb:4.0f} MB  WAL {load.wal_mb:6.0f} MB"
    )


if __name__ == "__main__":
    main()
