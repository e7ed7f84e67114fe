"""Which part of a record becomes which column: `mapping`, and what is expected of the rows."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from app.sources.values import Spec, check_timezone, placeholders

ValueType = Literal["string", "integer", "decimal", "boolean", "datetime", "date", "json"]


class FieldMapping(Spec):
    """Where a column's value comes from (one of path, coalesce, template, constant), and what is made of it."""

    path: str | None = Field(None, min_length=1, description="JMESPath; for CSV the header's text.")
    coalesce: tuple[str, ...] = Field((), description="Paths; the first whose value is there and not null.")
    template: str | None = Field(None, description="Text with {path} in it; a missing value leaves nothing.")
    constant: str | int | float | bool | None = None

    type: ValueType | None = Field(None, description="By default what the column is: string, decimal or datetime.")
    format: str | None = Field(
        None, description="Of a datetime or date: strptime's, `iso8601`, `rfc2822`, `unix` or `unix_ms`."
    )
    timezone: str | None = Field(None, description="IANA name, for times without an offset.")
    decimal: str | None = Field(None, min_length=1, max_length=1, description="The decimal mark; `.` when omitted.")
    thousands: str | None = Field(None, min_length=1, max_length=1, description="The mark between thousands.")
    null_values: tuple[str, ...] = Field((), description="Texts that mean: no value.")
    default: str | int | float | bool | None = Field(None, description="Instead of no value.")
    mask: Literal["hash", "redact", "partial"] | None = Field(
        None, description="hash: BLAKE2b, 16 bytes, hex; redact: ***; partial: the last four characters."
    )

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        given = [name for name in ("path", "coalesce", "template") if getattr(self, name)]
        if self.constant is not None:
            given.append("constant")
        if len(given) != 1:
            raise ValueError(f"needs one of path, coalesce, template and constant; it has {given or 'none'}")
        return self

    @model_validator(mode="after")
    def _options_fit_the_type(self) -> Self:
        if self.timezone is not None:
            check_timezone(self.timezone)
        if self.decimal is not None and self.decimal == self.thousands:
            raise ValueError("decimal and thousands are the same character")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that are read."""
        if self.template is not None:
            return tuple(placeholders(self.template))
        return (self.path,) if self.path is not None else self.coalesce


def _from_text(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


Mapped = Annotated[FieldMapping, BeforeValidator(_from_text, json_schema_input_type=str | FieldMapping)]

COLUMNS: Final = ("name", "value", "description", "created_at", "updated_at")
"""The mapped columns of `normalized_data`, its key apart."""


class Mapping(Spec):
    """A path, or a table, for each column; what is not mapped stays empty."""

    source_id: Mapped | None = Field(None, description="The record's key; `primary_key` when omitted.")
    name: Mapped | None = None
    value: Mapped | None = None
    description: Mapped | None = None
    created_at: Mapped | None = None
    updated_at: Mapped | None = None
    deleted: Mapped | None = Field(None, description="True in a record that says it was deleted.")

    def of(self, column: str) -> FieldMapping | None:
        given: FieldMapping | None = getattr(self, column)
        return given


class Filter(Spec):
    """A record that does not hold is filtered: landed, counted, not loaded."""

    path: str = Field(min_length=1)
    op: Literal["eq", "ne", "lt", "le", "gt", "ge", "in", "not_in", "contains", "matches", "exists", "missing"]
    value: Any = None

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        if self.op in {"in", "not_in"} and not isinstance(self.value, list | tuple):
            raise ValueError(f"op {self.op} takes a list as value")
        if self.op not in {"exists", "missing"} and self.value is None:
            raise ValueError(f"op {self.op} needs a value")
        return self


Contract = Literal["evolve", "freeze", "discard_value", "reject_row"]


class SchemaContract(Spec):
    """
    What happens to what was not foreseen.

    columns: a field that the first pass did not have. data_type: a value that
    does not fit its mapping's type. evolve takes what can be taken and notes the
    rest; discard_value drops the value, with a note; reject_row rejects the
    record; freeze fails the run.
    """

    columns: Literal["evolve"] = "evolve"
    data_type: Contract = "evolve"


def _contract(value: Any) -> Any:
    return {"data_type": value} if isinstance(value, str) else value


ContractSpec = Annotated[SchemaContract, BeforeValidator(_contract, json_schema_input_type=Contract | SchemaContract)]


class Deletes(Spec):
    """How records that the source deleted are known, and what becomes of their rows."""

    mode: Literal["none", "soft", "hard"] = Field(
        "soft", description="soft: the row is hidden; hard: it is removed, its raw rows stay."
    )
    detect: Literal["flag", "snapshot"] = Field(
        "flag",
        description="flag: the record says so itself, see `mapping.deleted`; "
        "snapshot: also, a complete pass did not bring it.",
    )
    guard_ratio: float | None = Field(
        None,
        ge=0,
        le=1,
        description="When a larger share of the rows is absent, none is deleted, and the run is suspect; "
        "0.2 for snapshot when omitted, and no bound for replace.",
    )

    @model_validator(mode="after")
    def _deletes_something(self) -> Self:
        if self.detect == "snapshot" and self.mode == "none":
            raise ValueError('detect = "snapshot" finds what mode = "none" leaves alone; give mode = "soft" or "hard"')
        return self


CheckedColumn = Literal["name", "value", "description"]


class Expect(Spec):
    """What a run must fulfil; otherwise it says so in its status."""

    min_rows: int | None = Field(None, ge=0, description="Records that a complete pass brings at least.")
    on_zero: Literal["ok", "suspect", "fail"] | None = Field(
        None, description="What a complete pass without a record is; by default suspect when there are rows here."
    )
    max_rejects: int | None = Field(None, ge=0)
    max_reject_ratio: float | None = Field(None, ge=0, le=1)
    volume_drop: float | None = Field(
        None, ge=0, le=1, description="A complete pass brings at most this share fewer than is usual."
    )
    volume_rise: float | None = Field(None, gt=0, description="The same for more: 0.5 is half as many again.")
    not_null: tuple[CheckedColumn, ...] = Field((), description="Columns that are filled in every row.")
    unique: tuple[Literal["source_id"] | CheckedColumn, ...] = Field(
        (), description="Columns without a repeated value; source_id: no key comes twice in a pass."
    )
