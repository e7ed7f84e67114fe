"""
What is pruned of the raw tables and of `etl_runs`, and what must stay.

A raw table is walked along (source, id), a stretch at a time, each in a
transaction of its own. Runs go by whole ticks, so that the totals over all
ticks stay exact: what goes is added up in `etl_checkpoint`, kind `totals`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

from app.db.engine import ReadSession, WriteSession
from app.db.evidence import RUNS_COMPARED
from app.db.models import RawApiData, RawCsvData
from app.records import BY_HAND

RAW_TABLES: Final = (RawApiData.__tablename__, RawCsvData.__tablename__)
TOTALS: Final = "totals"
PRUNED: Final = "prune"

# A row must stay when it is what a served row names, when it is the newest of its record, when its record has no key,
# and while it is a rejection that nothing has made good. Everything that a replay listens to is among those.
# A repeated one says nothing of its record: it is there for its delivery's key.
# `later` is asked by the partial index of rows that were not loaded: a later loaded one shows in normalized_data.
_STRETCH: Final = """
WITH stretch AS MATERIALIZED (
    SELECT id, source, source_id, run_id, disposition, reject_code, extracted_at FROM {table}
    WHERE source = :source AND id > :after ORDER BY id LIMIT :at_most
)
SELECT r.id, r.run_id, (
    r.extracted_at < :before
    AND (r.disposition = 'repeated' OR r.source_id IS NOT NULL
        AND r.reject_code IS DISTINCT FROM 'key_taken'
        AND n.raw_id IS DISTINCT FROM r.id
        AND (
            n.raw_id > r.id
            OR r.disposition = 'overtaken' AND n.raw_id IS NOT NULL
            OR EXISTS (
                SELECT FROM {table} AS later
                WHERE later.source = r.source AND later.source_id = r.source_id
                    AND later.disposition <> 'loaded' AND later.disposition NOT IN ('overtaken', 'repeated')
                    AND (later.id > r.id OR r.disposition = 'overtaken')
            )
        )
    )
) IS TRUE AS is_past
FROM stretch AS r LEFT JOIN normalized_data AS n ON n.source = r.source AND n.source_id = r.source_id
ORDER BY r.id
"""
_REMOVE: Final = "DELETE FROM {table} WHERE source = :source AND id = ANY(:ids)"

_SOURCES: Final = "SELECT DISTINCT source FROM etl_checkpoint WHERE kind = 'cursor' ORDER BY source"

# Ticks whose runs are all closed, old, and asked for by nobody: not by a raw row, not as the newest of a resource (when
# it is due next), not as the newest header of a file, not by the volumes that a run is compared with
_PAST_TICKS: Final = """
WITH numbered AS (
    SELECT id, tick_id, finished_at, status, trigger,
        row_number() OVER (PARTITION BY source, resource, trigger = 'hook',
                           trigger IN ('replay', 'backfill', 'checkpoint', 'approval')
                           ORDER BY id DESC) AS newest,
        row_number() OVER (PARTITION BY source, resource, input ->> 'header' IS NOT NULL
                           ORDER BY id DESC) AS with_header,
        input ->> 'header' IS NOT NULL AS has_header,
        row_number() OVER (PARTITION BY source, resource, status IN ('succeeded', 'suspect')
                           AND coalesce((profile ->> 'whole')::boolean, false) ORDER BY id DESC) AS compared,
        status IN ('succeeded', 'suspect') AND coalesce((profile ->> 'whole')::boolean, false) AS is_compared
    FROM etl_runs
)
SELECT tick_id FROM numbered
GROUP BY tick_id
HAVING bool_and(
    status NOT IN ('queued', 'running') AND finished_at < :before AND newest > 1
    AND NOT (has_header AND with_header = 1) AND NOT (is_compared AND compared <= :compared)
    AND id <> ALL(:kept)
) AND tick_id <> (SELECT tick_id FROM etl_runs ORDER BY created_at DESC LIMIT 1)
ORDER BY min(id) LIMIT :at_most
"""
_LOCK_TOTALS: Final = f"""
INSERT INTO etl_checkpoint (source, resource, kind, state) VALUES ('', '', '{TOTALS}', NULL)
ON CONFLICT (source, resource, partition, kind) DO UPDATE SET updated_at = now()
"""  # noqa: S608 -- of this module's own words
_REMOVE_TICKS: Final = f"""
WITH gone AS (
    DELETE FROM etl_runs WHERE tick_id = ANY(:ticks) RETURNING *
), ticks AS (
    SELECT sum(extracted) FILTER (WHERE trigger <> 'replay') AS records,
        extract(epoch FROM max(finished_at) FILTER (WHERE trigger <> 'hook')
                - min(created_at) FILTER (WHERE trigger <> 'hook')) AS seconds,
        bool_or(trigger <> 'hook') AS is_tick,
        CASE WHEN bool_and(status = 'succeeded') THEN max(finished_at) END AS success_at
    FROM gone GROUP BY tick_id HAVING bool_or(trigger <> ALL(:by_hand))
), summed AS (
    SELECT coalesce(sum(records), 0) AS records, coalesce(sum(seconds), 0) AS seconds,
        count(*) FILTER (WHERE is_tick) AS ticks,
        max(success_at) AS success_at
    FROM ticks
), failure AS (
    SELECT finished_at AS at, source || ': ' || coalesce(error_message, status) AS reason
    FROM gone WHERE status <> 'succeeded' ORDER BY finished_at DESC LIMIT 1
)
UPDATE etl_checkpoint AS held SET updated_at = now(), state = jsonb_build_object(
    'records', coalesce((held.state ->> 'records')::numeric, 0) + summed.records,
    'seconds', coalesce((held.state ->> 'seconds')::numeric, 0) + summed.seconds,
    'ticks', coalesce((held.state ->> 'ticks')::bigint, 0) + summed.ticks,
    'last_success_at', greatest((held.state ->> 'last_success_at')::timestamptz, summed.success_at),
    'last_failure_at', greatest((held.state ->> 'last_failure_at')::timestamptz, failure.at),
    'last_failure_reason', CASE WHEN failure.at IS NULL OR (held.state ->> 'last_failure_at')::timestamptz > failure.at
        THEN held.state ->> 'last_failure_reason' ELSE failure.reason END
)
FROM summed LEFT JOIN failure ON true
WHERE held.kind = '{TOTALS}' AND held.source = '' AND held.resource = ''
RETURNING (SELECT count(*) FROM gone)
"""  # noqa: S608 -- likewise
_COUNT_TICKS: Final = "SELECT count(*) FROM etl_runs WHERE tick_id = ANY(:ticks)"

_TAKE_TURN: Final = f"""
INSERT INTO etl_checkpoint AS held (source, resource, kind) VALUES ('', '', '{PRUNED}')
ON CONFLICT (source, resource, partition, kind) DO UPDATE SET updated_at = now()
WHERE held.updated_at < now() - make_interval(secs => :seconds)
RETURNING 1
"""  # noqa: S608 -- likewise


@dataclass(frozen=True, slots=True)
class RawStretch:
    """Some raw rows of a source, along their ids."""

    last_id: int
    past: list[int]
    """Ids of those that nothing needs any more."""
    runs: set[int]
    """That landed the others."""
    complete: bool
    """None follows."""


async def read_sources(session: ReadSession) -> list[str]:
    """Of all that ever ran, in the catalogue or not."""
    return list((await session.execute(text(_SOURCES))).scalars())


async def read_stretch(
    session: ReadSession | WriteSession, table: str, *, source: str, after: int, before: datetime, at_most: int
) -> RawStretch:
    """The next `at_most` raw rows, and which of them were landed before a moment and are past."""
    given = {"source": source, "after": after, "before": before, "at_most": at_most}
    rows = (await session.execute(text(_STRETCH.format(table=table)), given)).all()
    return RawStretch(
        rows[-1].id if rows else after,
        [row.id for row in rows if row.is_past],
        {row.run_id for row in rows if not row.is_past},
        complete=len(rows) < at_most,
    )


async def remove_raw(session: WriteSession, table: str, *, source: str, ids: Collection[int]) -> None:
    statement = text(_REMOVE.format(table=table)).bindparams(_ids("ids", ids), source=source)
    await session.execute(statement)


async def read_past_ticks(
    session: ReadSession | WriteSession, *, before: datetime, kept_runs: Collection[int], at_most: int
) -> list[Any]:
    """Ids of ticks that ended before a moment, and that nothing needs any more."""
    statement = text(_PAST_TICKS).bindparams(
        _ids("kept", kept_runs), before=before, at_most=at_most, compared=RUNS_COMPARED
    )
    return list((await session.execute(statement)).scalars())


async def count_runs(session: ReadSession | WriteSession, ticks: Collection[Any]) -> int:
    found: int = (await session.execute(text(_COUNT_TICKS), {"ticks": list(ticks)})).scalar_one()
    return found


async def remove_ticks(session: WriteSession, ticks: Collection[Any]) -> int:
    """Remove all their runs, and add them to the totals; how many runs they were."""
    await session.execute(text(_LOCK_TOTALS))
    given = {"ticks": list(ticks), "by_hand": list(BY_HAND)}
    removed: int = (await session.execute(text(_REMOVE_TICKS), given)).scalar_one()
    return removed


async def take_turn(session: WriteSession, *, every_seconds: float) -> bool:
    """Whether it is time again; then no other process takes the same turn."""
    taken = await session.execute(text(_TAKE_TURN), {"seconds": every_seconds})
    return taken.scalar_one_or_none() is not None


def _ids(name: str, ids: Collection[int]) -> Any:
    return bindparam(name, list(ids), type_=ARRAY(BigInteger))
