"""What to pull, as data: one Pydantic model per kind of source."""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.records import RawKind


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Paths = tuple[str, ...]
"""Where a field is found: the first of these that a record has and that is not null."""


class Mapping(_Spec):
    """Which field of a record becomes which column of `normalized_data`; an empty tuple maps nothing."""

    name: Paths = ()
    value: Paths = ()
    description: Paths = ()
    created_at: Paths = ()
    updated_at: Paths = ()


class _Source(_Spec):
    name: str
    resource: str
    url: str
    primary_key: str | None
    mapping: Mapping

    @property
    def mapping_hash(self) -> str:
        """Changes when the same records would normalize to other rows."""
        return _hash(f"{self.primary_key}\n{self.mapping.model_dump_json()}")

    @property
    def request_hash(self) -> str:
        """Changes when another body is asked for; cursor and validators belong to one."""
        return _hash(self.url)


class ApiSource(_Source):
    type: Literal["rest_api"] = "rest_api"
    token: SecretStr | None = None
    """Sent as `Authorization: Bearer …`, to the URL's own host only."""
    page_param: str = "_page"
    limit_param: str = "_limit"
    page_size: int = 100
    max_pages: int = 10_000

    @property
    def raw_kind(self) -> RawKind:
        return "rest"


class CsvSource(_Source):
    type: Literal["csv"] = "csv"

    @property
    def raw_kind(self) -> RawKind:
        return "csv"

    @property
    def is_remote(self) -> bool:
        return self.url.startswith(("http://", "https://"))


SourceSpec = Annotated[ApiSource | CsvSource, Field(discriminator="type")]


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
