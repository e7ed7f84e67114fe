"""What a statement did."""

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import CursorResult, Executable

from app.db.engine import WriteSession


async def changed_rows(session: WriteSession, statement: Executable, given: Mapping[str, Any] | None = None) -> int:
    """
    Execute an UPDATE or DELETE; the number of rows it touched.

    Args:
        given: values of its parameters.
    """
    # SQLAlchemy types every result alike; a statement without RETURNING gives this one
    return cast("CursorResult[None]", await session.execute(statement, given)).rowcount
