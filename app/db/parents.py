"""The current rows of a parent resource, for the requests of its children."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from sqlalchemy import and_, select

from app.db.engine import Database
from app.db.models import NormalizedData, RawApiData

PART_ROWS: Final = 500


async def read_parents(database: Database, source: str, begin: str) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
    """
    Keys and parsed records of a resource's current rows, in the order of keys.

    Read in parts, each in a transaction of its own: no snapshot is held while
    the children are asked for.

    Args:
        begin: the key to begin with; empty for the first.
    """
    rows, raw = NormalizedData, RawApiData
    inclusive, key = True, begin
    while True:
        reached = rows.source_id >= key if inclusive else rows.source_id > key
        statement = (
            select(rows.source_id, raw.payload)
            .join(raw, and_(raw.source == rows.source, raw.id == rows.raw_id))
            .where(rows.source == source, rows.deleted_at.is_(None), reached)
            .order_by(rows.source_id)
            .limit(PART_ROWS)
        )
        async with database.read() as session:
            part = (await session.execute(statement)).all()
        for source_id, payload in part:
            record = json.loads(payload) if isinstance(payload, str) else payload
            if isinstance(record, dict):
                yield source_id, record
        if len(part) < PART_ROWS:
            return
        inclusive, key = False, part[-1].source_id
