"""A feed (RSS 0.9x to 2.0, RSS 1.0, Atom 0.3 and RFC 4287, CDF): `feed` of an rss resource."""

from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from app.sources.mapping import FieldMapping, Mapping
from app.sources.values import Spec


class FeedSpec(Spec):
    url: str = Field(min_length=1, description="http(s) URL, or a path below the source file's folder or FILE_ROOTS.")
    identity: tuple[Literal["id", "link"], ...] = Field(
        ("id", "link"),
        description="What names an entry: the first of these that it has, else the hash of its content. Never a date.",
    )
    on_bozo: Literal["accept_and_note", "fail"] = Field(
        "accept_and_note", description="Of a feed that is ill-formed: take what was understood, or fail the run."
    )
    max_parse_seconds: float | None = Field(
        None,
        gt=0,
        le=600,
        description="Of processor time; by default 1.75, and 4 for each MiB beyond the first. "
        "Raise it where a feed that means no harm is stopped.",
    )

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        if len(set(self.identity)) < len(self.identity):
            raise ValueError("identity names one thing twice")
        return self


def _default(**given: Any) -> FieldMapping:
    # Nothing of it counts as set: `etl sources config` tells defaults from what the file says
    return FieldMapping.model_construct(_fields_set=set(), **given)


ENTRY_MAPPING: Final = Mapping.model_construct(
    _fields_set=set(),
    source_id=_default(path="id"),
    name=_default(path="title"),
    description=_default(path="summary"),
    created_at=_default(coalesce=("published", "updated"), type="datetime"),
    updated_at=_default(coalesce=("updated", "published"), type="datetime"),
)
"""Of a feed whose file says nothing of it."""
