"""What a tutorial makes of the same table: FastAPI, SQLAlchemy, a count and an OFFSET a page, ILIKE to search."""

import os
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.db.models import NormalizedData

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=10)
sessions = async_sessionmaker(engine)
app = FastAPI()


class Row(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    source: str
    source_id: str
    name: str
    value: float | None
    description: str | None
    created_at: datetime
    updated_at: datetime


class Rows(BaseModel):
    data: list[Row]
    total: int
    page: int


async def open_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


@app.get("/data")
async def read_rows(
    session: Annotated[AsyncSession, Depends(open_session)],
    page: int = 1,
    page_size: int = 50,
    source: str | None = None,
    search: str | None = None,
) -> Rows:
    found = select(NormalizedData)
    if source:
        found = found.where(NormalizedData.source == source)
    if search:
        pattern = f"%{search}%"
        found = found.where(or_(NormalizedData.name.ilike(pattern), NormalizedData.description.ilike(pattern)))
    total = await session.scalar(select(func.count()).select_from(found.subquery())) or 0
    rows = await session.scalars(found.order_by(NormalizedData.id).limit(page_size).offset((page - 1) * page_size))
    return Rows(data=[Row.model_validate(row) for row in rows], total=total, page=page)
