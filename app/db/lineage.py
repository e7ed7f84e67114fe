"""From a served row to the bytes that it came from."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import text

from app.db.engine import ReadSession

MAX_VERSIONS: Final = 100
"""Earlier versions of a record that are told, newest first."""
MAX_SET_ASIDE: Final = 20

# Both indexes begin with the source, and ids come from one sequence: one probe for each source there is
_BY_ID: Final = """
SELECT * FROM normalized_data
WHERE id = :id AND source = ANY(ARRAY(SELECT DISTINCT source FROM etl_checkpoint WHERE kind = 'cursor'))
"""
_BY_KEY: Final = "SELECT * FROM normalized_data WHERE source = :source AND source_id = :source_id"

_COLUMNS: Final = """raw.id, raw.kind, raw.payload::text AS payload, raw.payload_encoding,
    encode(raw.content_hash, 'hex') AS content_hash, raw.run_id, raw.page, raw.position, raw.disposition,
    raw.reject_code, raw.reject_field, raw.reject_detail, raw.notes, raw.supersedes, raw.extracted_at"""

_VERSIONS: Final = f"""
WITH RECURSIVE versions AS (
    (SELECT {_COLUMNS}, 1 AS depth FROM {{table}} AS raw WHERE raw.source = :source AND raw.id = :id)
    UNION ALL
    SELECT {_COLUMNS}, depth + 1 FROM {{table}} AS raw JOIN versions ON raw.id = versions.supersedes
    WHERE raw.source = :source AND depth < :at_most
)
SELECT * FROM versions ORDER BY depth
"""  # noqa: S608 -- of this module's own words
_SET_ASIDE: Final = f"""
SELECT {_COLUMNS} FROM {{table}} AS raw
WHERE raw.source = :source AND raw.source_id = :source_id AND raw.disposition <> 'loaded'
ORDER BY raw.id DESC LIMIT :at_most
"""  # noqa: S608 -- likewise

_RUN: Final = """
SELECT id, tick_id, source, resource, trigger, status, started_at, finished_at, input, profile,
    profile ->> 'mapping' AS mapping_version, request_ledger
FROM etl_runs WHERE id = :id
"""
_TABLES: Final = ("raw_api_data", "raw_csv_data")


async def find_row(
    session: ReadSession, *, row_id: int | None = None, source: str = "", source_id: str = ""
) -> dict[str, Any] | None:
    """A row of `normalized_data`, deleted ones too; by its id, or by source and key."""
    by_id = row_id is not None
    given: Mapping[str, Any] = {"id": row_id} if by_id else {"source": source, "source_id": source_id}
    row = (await session.execute(text(_BY_ID if by_id else _BY_KEY), given)).mappings().one_or_none()
    return None if row is None else dict(row)


async def read_versions(session: ReadSession, *, source: str, raw_id: int) -> list[dict[str, Any]]:
    """The raw row of a version, and those that it superseded, newest first; empty when it was pruned."""
    return await _of_both(session, _VERSIONS, {"source": source, "id": raw_id, "at_most": MAX_VERSIONS})


async def read_set_aside(session: ReadSession, *, source: str, source_id: str) -> list[dict[str, Any]]:
    """Versions of a record that were not loaded: rejected, filtered, overtaken or telling of its deletion."""
    return await _of_both(session, _SET_ASIDE, {"source": source, "source_id": source_id, "at_most": MAX_SET_ASIDE})


async def read_run_behind(session: ReadSession, run_id: int) -> dict[str, Any] | None:
    """The run that a row names; None when it was pruned."""
    row = (await session.execute(text(_RUN), {"id": run_id})).mappings().one_or_none()
    return None if row is None else dict(row)


async def _of_both(session: ReadSession, statement: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A source has rows in one of the raw tables."""
    for table in _TABLES:
        found = [dict(row) for row in (await session.execute(text(statement.format(table=table)), given)).mappings()]
        if found:
            return found
    return []
