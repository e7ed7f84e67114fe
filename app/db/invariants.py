"""
What holds whatever happened, each as one query that returns the keys with which it does not.

The queries look at the five tables and at two temporary ones: `prove_listing`, what the
source itself says it has, and `prove_reference`, what the tables held after a run that
nobody disturbed. `docs/reliability.md` tells what each of them means.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import asyncpg

from app.db.errors import store_errors

SHOWN_KEYS: Final = 5
"""Of each violation."""


class ListedRecord(NamedTuple):
    """A record as its source lists it."""

    source: str
    source_id: str | None
    """None: it has no key, and `digest` names it."""
    place: int | None
    """Where it stands, as a cursor's `position` counts; None where that is not known."""
    digest: str | None
    """MD5 of its payload as `app.land.storable` keeps it; None where only the key is known."""


class ListedSource(NamedTuple):
    source: str
    creates: bool
    """Its mapping has `created_at`."""
    updates: bool
    """The same of `updated_at`."""


class Fact(NamedTuple):
    """A row as the tables have it, without ids, runs and times of our own."""

    source: str
    key: str
    digest: str


class Violation(NamedTuple):
    invariant: str
    sql: str
    """With `prove_listing` and `prove_reference`, which `docs/reliability.md` describes."""
    keys: list[str]
    """The first of them."""


_TABLES: Final = """
CREATE TEMPORARY TABLE prove_sources (source text PRIMARY KEY, creates boolean, updates boolean);
CREATE TEMPORARY TABLE prove_listing (source text, source_id text, place bigint, digest text);
CREATE TEMPORARY TABLE prove_reference (source text, key text, digest text);
CREATE TEMPORARY VIEW prove_raw AS
    SELECT source, source_id, id, run_id, disposition, reject_code, content_hash, md5(payload::text) AS digest
    FROM raw_api_data
    UNION ALL
    SELECT source, source_id, id, run_id, disposition, reject_code, content_hash, md5(payload)
    FROM raw_csv_data;
CREATE TEMPORARY VIEW prove_lost AS
    SELECT l.source, l.key, l.place
    FROM (SELECT source, coalesce(source_id, 'payload ' || digest) AS key, place FROM prove_listing) AS l
    LEFT JOIN (
        SELECT source, source_id AS key FROM normalized_data
        UNION ALL SELECT source, coalesce(source_id, 'payload ' || digest) FROM prove_raw
        WHERE disposition IN ('rejected', 'filtered', 'deleted')) AS kept USING (source, key)
    WHERE kept.key IS NULL;
CREATE TEMPORARY VIEW prove_facts AS
    SELECT n.source, n.source_id AS key, md5(ROW(
        n.name, n.value, n.description, n.deleted_at IS NOT NULL, r.digest,
        CASE WHEN s.creates AND n.created_at <> n.loaded_at THEN n.created_at END,
        CASE WHEN s.updates AND n.updated_at <> n.loaded_at THEN n.updated_at END)::text) AS digest
    FROM normalized_data AS n JOIN prove_sources AS s USING (source)
        LEFT JOIN prove_raw AS r ON r.source = n.source AND r.id = n.raw_id
    UNION ALL
    SELECT DISTINCT source, coalesce(source_id, '') || ' ' || disposition, md5(ROW(reject_code, digest)::text)
    FROM prove_raw JOIN prove_sources USING (source)
    WHERE disposition IN ('rejected', 'filtered', 'deleted');
"""

QUERIES: Final[dict[str, str]] = {
    "I1 nothing lost": "SELECT source, key, 'is nowhere' FROM prove_lost",
    "I1 nothing invented": """
SELECT n.source, n.source_id, 'is not at its source' FROM normalized_data AS n JOIN prove_sources USING (source)
WHERE NOT EXISTS (SELECT FROM prove_listing AS l WHERE l.source = n.source AND l.source_id = n.source_id)""",
    "I2 no key twice": """
SELECT source, source_id, count(*) || ' rows' FROM normalized_data GROUP BY source, source_id HAVING count(*) > 1
UNION ALL
SELECT source, source_id, 'landed again though unchanged, raw row ' || id FROM (
    SELECT source, source_id, id, content_hash,
        lag(content_hash) OVER (PARTITION BY source, source_id ORDER BY id) AS before
    FROM prove_raw WHERE disposition = 'loaded') AS versions
WHERE content_hash = before""",
    "I2 raw as sent": """
SELECT n.source, n.source_id, 'raw row ' || n.raw_id || ' is missing or another record''s'
FROM normalized_data AS n LEFT JOIN prove_raw AS r ON r.source = n.source AND r.id = n.raw_id
WHERE r.source_id IS DISTINCT FROM n.source_id OR r.content_hash IS DISTINCT FROM n.content_hash
UNION ALL
SELECT source, key, 'a raw row is not what the source sent' FROM (
    SELECT source, coalesce(source_id, '') AS key, digest FROM prove_raw
    WHERE source IN (SELECT source FROM prove_listing WHERE digest IS NOT NULL)
    EXCEPT SELECT source, coalesce(source_id, ''), digest FROM prove_listing) AS different""",
    "I3 checkpoint not ahead of data": """
SELECT l.source, l.key, 'is not here, and the checkpoint is past it'
FROM prove_lost AS l JOIN etl_checkpoint AS c ON c.source = l.source AND c.kind = 'cursor'
WHERE c.mapping_hash IS NOT NULL OR l.place <= c.position
UNION ALL
SELECT c.source, '', 'row_count ' || c.row_count || ', rows ' || count(n.source)
FROM etl_checkpoint AS c LEFT JOIN normalized_data AS n ON n.source = c.source AND n.deleted_at IS NULL
WHERE c.kind = 'cursor' GROUP BY c.source, c.row_count HAVING c.row_count <> count(n.source)""",
    "I4 every run balances": """
SELECT source, 'run ' || id, 'extracted ' || extracted FROM etl_runs
WHERE extracted <> inserted + updated + unchanged + filtered + duplicate + rejected + deleted + outdated
UNION ALL
SELECT r.source, 'run ' || r.id, 'says ' || r.raw_rows || ' raw rows, wrote ' || count(w.run_id)
FROM etl_runs AS r LEFT JOIN prove_raw AS w ON w.source = r.source AND w.run_id = r.id
GROUP BY r.source, r.id, r.raw_rows HAVING r.raw_rows <> count(w.run_id)
UNION ALL
SELECT s.source, '', 'runs inserted ' || s.inserted || ', rows ' || count(n.source)
FROM (SELECT source, sum(inserted) AS inserted FROM etl_runs GROUP BY source) AS s
    LEFT JOIN normalized_data AS n USING (source)
GROUP BY s.source, s.inserted HAVING s.inserted < count(n.source)""",
    "I5 no run stays running": """
SELECT r.source, 'run ' || r.id, r.status || ', and another holds its lease' FROM etl_runs AS r
WHERE r.status IN ('queued', 'running') AND NOT EXISTS (
    SELECT FROM etl_checkpoint AS c
    WHERE c.source = r.source AND c.kind = 'cursor' AND c.epoch = r.epoch AND c.holder = r.holder)""",
    "I6 no older value over a newer one": """
SELECT n.source, n.source_id, 'shows raw row ' || n.raw_id || ', and a later one is ' || max(r.id)
FROM normalized_data AS n JOIN prove_raw AS r
    ON r.source = n.source AND r.source_id = n.source_id AND r.disposition = 'loaded' AND r.id > n.raw_id
WHERE n.deleted_at IS NULL GROUP BY n.source, n.source_id, n.raw_id""",
    "I7 a second run writes nothing": """
SELECT source, key, CASE WHEN b.version IS NULL THEN 'was written' WHEN a.version IS NULL THEN 'is gone'
    ELSE 'was written again' END
FROM prove_versions_before AS b FULL JOIN prove_versions AS a USING (source, key)
WHERE a.version IS DISTINCT FROM b.version""",
    "I8 the same tables": """
SELECT source, key, 'is not as in the reference' FROM (
    (TABLE prove_facts EXCEPT ALL TABLE prove_reference) UNION ALL (TABLE prove_reference EXCEPT ALL TABLE prove_facts)
) AS different GROUP BY source, key""",
}

_REMEMBER: Final = """
CREATE OR REPLACE TEMPORARY VIEW prove_versions AS
    SELECT source, source_id AS key, xmin::text || ' ' || ctid::text AS version FROM normalized_data
    UNION ALL SELECT source, 'raw api ' || id, xmin::text FROM raw_api_data
    UNION ALL SELECT source, 'raw csv ' || id, xmin::text FROM raw_csv_data;
DROP TABLE IF EXISTS prove_versions_before;
CREATE TEMPORARY TABLE prove_versions_before AS TABLE prove_versions;
"""

AT_ANY_MOMENT: Final = tuple(
    name for name in QUERIES if name.startswith(("I1 nothing inv", "I2", "I3", "I4", "I5", "I6"))
)
"""Also right after a kill."""
WHEN_COMPLETE: Final = (*AT_ANY_MOMENT, "I1 nothing lost")


class Invariants:
    """The queries, on one connection to the database in question."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def violations(self, names: Iterable[str]) -> list[Violation]:
        """Of the invariants named, those that do not hold."""
        found = []
        with store_errors():
            # A plan that takes full tables for empty ones costs minutes
            await self.connection.execute("ANALYZE normalized_data, raw_api_data, raw_csv_data, etl_runs")
            for name in names:
                sql = QUERIES[name].strip()
                rows = await self.connection.fetch(f"{sql}\nLIMIT {SHOWN_KEYS}")
                if rows:
                    found.append(Violation(name, sql, [" ".join(map(str, row)) for row in rows]))
        return found

    async def facts(self) -> list[Fact]:
        with store_errors():
            return [Fact(*row) for row in await self.connection.fetch("TABLE prove_facts")]

    async def remember_versions(self) -> None:
        """From now on, "I7 a second run writes nothing" looks at what is written."""
        with store_errors():
            await self.connection.execute(_REMEMBER)


@asynccontextmanager
async def open_invariants(
    dsn: str,
    *,
    sources: Sequence[ListedSource],
    listing: Sequence[ListedRecord],
    reference: Sequence[Fact] | None = None,
) -> AsyncIterator[Invariants]:
    """
    Args:
        reference: None where "I8 the same tables" will not be asked.

    Raises:
        StoreError: the database cannot be reached.
    """
    with store_errors():
        connection = await asyncpg.connect(dsn)
    try:
        with store_errors():
            await connection.execute(_TABLES)
            for table, rows in (
                ("prove_sources", sources),
                ("prove_listing", listing),
                ("prove_reference", reference or ()),
            ):
                await connection.copy_records_to_table(table, records=rows)
            await connection.execute("ANALYZE prove_listing; ANALYZE prove_reference")
        yield Invariants(connection)
    finally:
        await connection.close()
