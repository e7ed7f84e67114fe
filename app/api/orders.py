"""What the operator sends as a body; a key that is not here is an error."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from app.operations.patterns import ISO_DURATION, NO_NUL
from app.records import FINGERPRINT, RefreshScope

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]
Step = Annotated[str, Field(pattern=ISO_DURATION)]
Fingerprint = Annotated[str, StringConstraints(pattern=FINGERPRINT)]


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StartOrder(Order):
    source: str = Field(max_length=200, description="Name of a source or a resource.")


class RefreshOrder(Order):
    scope: RefreshScope


class BackfillOrder(Order):
    """Half-open: `from` on, before `to`. Without `from` what was begun and is not complete goes on."""

    begin: Text | None = Field(None, alias="from", description="A value of the cursor; times in ISO 8601.")
    end: Text | None = Field(None, alias="to", description="Exclusive; for times it is now when omitted.")
    step: Step | None = Field(None, description="Ask window by window, each of this duration.")


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default")


class CheckpointOrder(Order):
    """Where the next run begins: one of the two."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"oneOf": [{"required": ["cursor_value"]}, {"required": ["rewind_by"]}]}
    )

    cursor_value: Text | None = Field(
        None, description="Times in ISO 8601; null: the beginning.", json_schema_extra=_without_default
    )
    rewind_by: Step = Field(
        "", description="So long before where it stands, in ISO 8601.", json_schema_extra=_without_default
    )

    @model_validator(mode="after")
    def _says_one(self) -> Self:
        # One model, not a union of two: each of its members would complain, by its own name
        if len(self.model_fields_set) != 1:
            raise PydanticCustomError("one_of", "give cursor_value or rewind_by, one of them")
        return self


class DeletesOrder(Order):
    decision: Literal["approve", "discard"]


class RedriveOrder(Order):
    fingerprint: Fingerprint
