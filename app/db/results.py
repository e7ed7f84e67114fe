"""What a statement did."""

from typing import cast

from sqlalchemy import CursorResult, Executable

from app.db.engine import WriteSession


async def changed_rows(session: WriteSession, statement: Executable) -> int:
    """Execute an UPDATE or DELETE; the number of rows it touched."""
    # SQLAlchemy types every result alike; a statement without RETURNING gives this one
    return cast("CursorResult[None]", await session.execute(statement)).rowcount
