"""Rejected records that nothing has made good since, grouped by what is wrong with them."""

from typing import Any, Final

from sqlalchemy import text

from app.db.engine import ReadSession

MAX_GROUPS: Final = 1_000

# The shape of a reason: numbers and words as such, so that a thousand wrong prices are one group
_SHAPE: Final = (
    r"""regexp_replace(regexp_replace(coalesce(reject_detail, ''), '\d+', '9', 'g'), '[[:alpha:]]+', 'a', 'g')"""
)
FINGERPRINT: Final = f"left(md5(concat_ws('|', source, reject_code, reject_field, {_SHAPE})), 12)"
"""Of a rejected raw row: the same for the same kind of fault of the same source."""

_OPEN: Final = """
SELECT raw.id, raw.source, raw.source_id, raw.reject_code, raw.reject_field, raw.reject_detail, raw.run_id,
    raw.page, raw.position, raw.extracted_at, raw.payload_encoding, left(raw.payload::text, 2000) AS payload
FROM {table} AS raw
WHERE raw.disposition = 'rejected' AND (CAST(:source AS text) IS NULL OR raw.source = :source)
    AND (raw.reject_code = 'key_taken' OR NOT EXISTS (
        SELECT FROM normalized_data AS held
        WHERE held.source = raw.source AND held.source_id = raw.source_id AND held.raw_id > raw.id
    )
    AND NOT EXISTS (
        SELECT FROM {table} AS later
        WHERE later.source = raw.source AND later.source_id = raw.source_id
            AND later.disposition <> 'loaded' AND later.disposition <> 'repeated' AND later.id > raw.id
    ))
"""
_FINGERPRINTED: Final = f"""
WITH open AS ({_OPEN.format(table="raw_api_data")} UNION ALL {_OPEN.format(table="raw_csv_data")}),
fingerprinted AS (
    SELECT *, {FINGERPRINT} AS fingerprint FROM open
)
"""  # noqa: S608 -- of this module's own words
_GROUPS: Final = f"""{_FINGERPRINTED}
SELECT fingerprint, source, reject_code AS code, reject_field AS field, count(*) AS count,
    min(extracted_at) AS first_seen_at, max(extracted_at) AS last_seen_at,
    (array_agg(reject_detail ORDER BY id))[1] AS example, (array_agg(source_id ORDER BY id))[1] AS example_source_id
FROM fingerprinted
GROUP BY fingerprint, source, reject_code, reject_field
ORDER BY count DESC, fingerprint LIMIT {MAX_GROUPS}
"""  # noqa: S608 -- likewise
_MEMBERS: Final = f"""{_FINGERPRINTED}
SELECT * FROM fingerprinted
WHERE fingerprint = :fingerprint AND id > :after ORDER BY id LIMIT :at_most
"""  # noqa: S608 -- likewise


async def read_groups(session: ReadSession, *, source: str | None = None) -> list[dict[str, Any]]:
    """The kinds of rejections that are open, the most frequent first; at most MAX_GROUPS."""
    return [dict(row) for row in (await session.execute(text(_GROUPS), {"source": source})).mappings()]


async def read_members(
    session: ReadSession, fingerprint: str, *, source: str | None = None, after: int = 0, at_most: int = 20
) -> list[dict[str, Any]]:
    """The records of one kind, the oldest first."""
    given = {"fingerprint": fingerprint, "source": source, "after": after, "at_most": at_most}
    return [dict(row) for row in (await session.execute(text(_MEMBERS), given)).mappings()]
