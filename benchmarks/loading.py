"""The way in: first load, the same file again, 1 % changed; floor and ours in turn."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.cluster import Cluster, Spent, etl, etl_environment
from benchmarks.data import CHANGED_EVERY, planted_faults, write_rows

HERE: Final = Path(__file__).resolve().parent
STEPS: Final = ("first", "again", "changed")


@dataclass(frozen=True, slots=True)
class Loaded:
    """One load, measured."""

    who: str
    step: str
    rows: int
    round: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    peak_mb: float
    wal_mb: float


class Bench:
    """
    Args:
        folder: that `url` serves.
    """

    def __init__(self, cluster: Cluster, folder: Path, url: str) -> None:
        self._cluster, self._folder, self._url = cluster, folder, url

    def round(self, rows: int, number: int, who: tuple[str, ...]) -> Iterator[Loaded]:
        """Each of them loads into a database of its own; one after the other, at each step."""
        first, changed = write_rows(self._folder, rows)
        loads: dict[str, Callable[[Path], Spent]] = {
            "ours": lambda _: self._ours("ours", "plain"),
            "ours, search index": lambda _: self._ours("indexed", "plain"),
            "floor": lambda file: self._floor("floor", file),
            "floor that skips": lambda file: self._floor("floor_skip", file),
        }
        for name in who:
            self._prepare(name)
        for step in STEPS:
            given = changed if step == "changed" else first
            shutil.copyfile(given, self._folder / "live.csv")
            for name in who:
                spent = loads[name](given)
                self._check(name, step, first)
                self._cluster.settle(_database(name))
                yield _loaded(name, step, rows, number, spent)
        if "ours" in who:
            self._ours("ours", "tagged")
            yield _loaded("ours", "with ETag", rows, number, self._ours("ours", "tagged"))
        for name in who:
            self._cluster.psql("-c", f"DROP DATABASE {_database(name)} WITH (FORCE)")

    def _prepare(self, name: str) -> None:
        database = _database(name)
        self._cluster.create(database)
        if name.startswith("floor"):
            self._cluster.psql("-f", str(HERE / "floor_tables.sql"), database=database)
            return
        self._cluster.measure(etl("db", "upgrade"), environment=self._environment(database, "plain"))
        if database == "indexed":
            self._cluster.psql(
                "-c",
                "CREATE EXTENSION pg_trgm; CREATE INDEX normalized_data_search_idx ON normalized_data "
                "USING gin (name gin_trgm_ops, description gin_trgm_ops)",
                database=database,
            )

    def _environment(self, database: str, kind: str) -> dict[str, str]:
        return etl_environment(
            DATABASE_URL=self._cluster.dsn_of(database), CSV_URL=f"{self._url}/{kind}/live.csv", BUILT_IN_SOURCES="csv"
        )

    def _ours(self, database: str, kind: str) -> Spent:
        return self._cluster.measure(etl("run", "csv", "--json"), environment=self._environment(database, kind))

    def _floor(self, database: str, file: Path) -> Spent:
        return self._cluster.measure_psql(HERE / f"{database}.sql", database=database, rows=file)

    def _check(self, name: str, step: str, first: Path) -> None:
        """
        Raises:
            SystemExit: the tables do not hold what they should.
        """
        table = "floor_rows" if name.startswith("floor") else "normalized_data"
        rows = int(first.stem.split("_")[1])
        there = int(self._cluster.psql("-c", f"SELECT count(*) FROM {table}", database=_database(name)))
        if there != rows:
            raise SystemExit(f"{name}, {step}: {there} rows instead of {rows}")
        if name == "ours" and step == "first":
            noted = int(
                self._cluster.psql("-c", "SELECT count(*) FROM raw_csv_data WHERE notes IS NOT NULL", database="ours")
            )
            if noted != planted_faults(first):
                raise SystemExit(f"{name}: {noted} notes instead of {planted_faults(first)}")
        if name.startswith("ours") and step == "changed":
            raw = int(self._cluster.psql("-c", "SELECT count(*) FROM raw_csv_data", database=_database(name)))
            if raw != rows + rows // CHANGED_EVERY:
                raise SystemExit(f"{name}: {raw} raw rows instead of {rows + rows // CHANGED_EVERY}")


def _database(name: str) -> str:
    return {"ours": "ours", "ours, search index": "indexed", "floor": "floor", "floor that skips": "floor_skip"}[name]


def _loaded(who: str, step: str, rows: int, number: int, spent: Spent) -> Loaded:
    return Loaded(
        who,
        step,
        rows,
        number,
        spent.seconds,
        spent.cpu_seconds,
        spent.server_cpu_seconds,
        spent.peak_mb,
        spent.wal_mb,
    )


def middle(loads: list[Loaded], who: str, step: str, what: str = "seconds") -> float | None:
    """The median over the rounds; None where it was not measured."""
    found = [getattr(load, what) for load in loads if (load.who, load.step) == (who, step)]
    return median(found) if found else None


def as_json(loads: list[Loaded]) -> str:
    return json.dumps([asdict(load) for load in loads], indent=1)


def from_json(text: str) -> list[Loaded]:
    items: list[dict[str, Any]] = json.loads(text)
    return [Loaded(**item) for item in items]
