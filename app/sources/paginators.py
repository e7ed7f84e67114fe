"""How one page leads to the next: `paginator`, in dlt's words."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.sources.values import Spec

Path = Annotated[str, Field(min_length=1, max_length=500)]
"""JMESPath into the response's body."""

BodyPath = Annotated[str, Field(pattern=r"^[^.\[\]]+(\.[^.\[\]]+)*$", max_length=500)]
"""A dotted path to where a value is put in the request's JSON body."""


class _Paginator(Spec):
    max_pages: int = Field(10_000, ge=1, description="Reaching it is an error, unless `on_max_pages` says stop.")
    on_max_pages: Literal["fail", "stop"] = "fail"
    max_records: int | None = Field(None, ge=1, description="The walk ends with the page that reaches it.")


class SinglePage(_Paginator):
    type: Literal["single_page"]


class Auto(_Paginator):
    """Whatever the first response shows: a Link header, a link or a cursor in the body; else one page."""

    type: Literal["auto"]


class PageNumber(_Paginator):
    type: Literal["page_number"]
    page_param: str = "page"
    page_body_path: BodyPath | None = Field(None, description="Instead: where the number stands in the JSON body.")
    base_page: int = Field(1, ge=0, description="Number of the first page.")
    limit_param: str | None = None
    limit_body_path: BodyPath | None = None
    limit: int | None = Field(None, ge=1, description="Sent as `limit_param`; a shorter page is then the last.")
    total_path: Path | None = Field(None, description="Where the body says how many pages there are.")
    maximum_page: int | None = Field(None, ge=0, description="Number of the last page to ask for.")
    stop_after_empty_page: bool = True
    has_more_path: Path | None = None
    follow_links: bool = Field(
        default=False, description="A Link header, where the server sends one, wins (json-server)."
    )

    @property
    def place(self) -> tuple[str, str | None]:
        """The parameter of the page's number, and the path in the body that is used instead."""
        return self.page_param, self.page_body_path


class Offset(_Paginator):
    type: Literal["offset"]
    limit: int = Field(100, ge=1)
    offset: int = Field(0, ge=0, description="Of the first page.")
    offset_param: str = "offset"
    offset_body_path: BodyPath | None = Field(None, description="Instead: where the offset stands in the JSON body.")
    limit_param: str | None = "limit"
    limit_body_path: BodyPath | None = None
    total_path: Path | None = Field(None, description="Where the body says how many records there are.")
    maximum_offset: int | None = Field(None, ge=0)
    stop_after_empty_page: bool = True
    has_more_path: Path | None = None

    @property
    def place(self) -> tuple[str, str | None]:
        """The parameter of the offset, and the path in the body that is used instead."""
        return self.offset_param, self.offset_body_path


class CursorInBody(_Paginator):
    type: Literal["cursor"]
    cursor_path: Path = "cursors.next"
    cursor_param: str | None = None
    cursor_body_path: BodyPath | None = Field(None, description="A dotted path in the request's JSON body.")
    has_more_path: Path | None = None

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if (self.cursor_param is None) == (self.cursor_body_path is None):
            raise ValueError("needs one of cursor_param and cursor_body_path: where the cursor is sent")
        return self


class HeaderCursor(_Paginator):
    type: Literal["header_cursor"]
    cursor_key: str = Field("next", description="Of the response's header; a URL in it is followed as it is.")
    cursor_param: str = "cursor"


class JsonLink(_Paginator):
    type: Literal["json_link"]
    next_url_path: Path = "next"


class HeaderLink(_Paginator):
    """RFC 8288."""

    type: Literal["header_link"]
    links_next_key: str = "next"


class Keyset(_Paginator):
    """Goes on after the last record's key (`starting_after`)."""

    type: Literal["keyset"]
    cursor_path: Path = Field("id", description="Of the record.")
    cursor_param: str = "starting_after"
    has_more_path: Path | None = None


PaginatorSpec = Annotated[
    SinglePage | Auto | PageNumber | Offset | CursorInBody | HeaderCursor | JsonLink | HeaderLink | Keyset,
    Field(discriminator="type"),
]
