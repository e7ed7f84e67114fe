"""
What /data answers.

`Item` is a row as it is, `MarkedItem` one that may be deleted, `PartOfItem` what `fields=` leaves of either.
"""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from app.api.schemas import Moment


class Item(BaseModel):
    """One normalized record."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    source: str
    source_id: str
    name: str
    value: float | None
    description: str | None
    created_at: Moment
    updated_at: Moment


class MarkedItem(Item):
    """One normalized record, where deleted ones are among them."""

    deleted_at: Moment | None = Field(description="When we learnt that it is gone at its source; null: it is there.")


PartOfItem: Final = create_model(
    "PartOfItem",
    **{name: (field.annotation, None) for name, field in MarkedItem.model_fields.items()},  # type: ignore[call-overload]
)
"""What `fields=` leaves of an item."""

TotalIs = Literal["exact", "at_least", "estimated", "not_counted"]


class DataPage(BaseModel):
    data: list[MarkedItem | Item | PartOfItem]
    total: int | None = Field(description="Rows that match; see `total_is`. Null when nobody counted.")
    page: int
    page_size: int
    has_more: bool
    next_cursor: str | None = Field(
        description="Give it as `cursor` to get the next page, at any depth alike fast. "
        "Null at the end, and where the values to sort by are too long for an address; `Link` leads on."
    )
    total_is: TotalIs = Field(
        description="exact: always without filter and search, and whenever counting took a second at most; "
        "at_least: there may be more; estimated: as PostgreSQL's planner expects; not_counted."
    )
