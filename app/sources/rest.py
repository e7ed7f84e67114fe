"""What to ask of a REST API: `endpoint` and `incremental`, in dlt's words."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from app.sources.paginators import PaginatorSpec, Path
from app.sources.values import Duration, Spec, placeholders, refuse_literals

_KNOWN: Final = re.compile(r"incremental\.(start_value|end_value)|resources\.[A-Za-z0-9_-]+\.[A-Za-z0-9_.\"-]+")
_SECRET: Final = re.compile(r"secrets\.[A-Za-z_][A-Za-z0-9_]*")
Scalar = str | int | float | bool


class ResponseAction(Spec):
    """What an answer means, where it is not what HTTP says; the first that matches counts."""

    status_code: int | Literal["4xx", "5xx"] | None = None
    content: str | None = Field(None, description="Text that the body contains.")
    action: Literal["ignore", "retry", "fail", "refresh_auth"]
    error_class: Literal["config_error", "transient_error", "data_error"] | None = None

    @model_validator(mode="after")
    def _matches_something(self) -> Self:
        if self.status_code is None and self.content is None:
            raise ValueError("needs status_code, content, or both")
        return self


class Incremental(Spec):
    """Ask only for what changed: the largest value seen of a field is where the next run begins."""

    cursor_path: Path = Field(description="JMESPath into the record.")
    cursor_type: Literal["datetime", "integer", "string"] = "datetime"
    cursor_format: str = Field(
        "iso8601",
        description="How a datetime is sent and read: iso8601, date, unix, unix_ms, or strptime's. "
        "Records may write ISO 8601 or seconds since 1970 all the same.",
    )
    initial_value: str | int | datetime | date | None = Field(None, description="Where the first run begins.")
    end_value: str | int | datetime | date | None = Field(None, description="Where a run ends; exclusive.")
    step: Duration | None = Field(None, description="Ask window by window; each end moves the checkpoint.")
    lookback_window: Duration = Field("PT0S", validate_default=True, description="Read again before the checkpoint.")
    range_start: Literal["closed", "open"] = Field(
        "closed", description="open: records at the start value are filtered; closed: read again, which costs nothing."
    )
    row_order: Literal["asc", "desc"] | None = Field(
        None, description="asc: checked, and every page moves the checkpoint. Otherwise only a complete pass does."
    )
    on_cursor_value_missing: Literal["include", "exclude", "raise"] = "include"

    @model_validator(mode="after")
    def _values_fit_the_type(self) -> Self:
        for name in ("initial_value", "end_value"):
            value = getattr(self, name)
            fits = {"datetime": str | int | datetime | date, "integer": int, "string": str}[self.cursor_type]
            if value is not None and not isinstance(value, fits):
                raise ValueError(f"{name} is not of cursor_type {self.cursor_type}")
        if (
            self.cursor_type == "datetime"
            and isinstance(self.initial_value, int)
            and not self.cursor_format.startswith("unix")
        ):
            raise ValueError(
                'initial_value is a number: say cursor_type = "integer", or for times cursor_format = "unix"'
            )
        if (self.lookback_window or self.step) and self.cursor_type != "datetime":
            raise ValueError("lookback_window and step are durations, so they need cursor_type = 'datetime'")
        if self.step is not None and (self.step < 1 or self.initial_value is None):
            raise ValueError("step is at least PT1S, and needs an initial_value: where the first window begins")
        return self


class Endpoint(Spec):
    path: str = Field("", description="Below client.base_url; a full URL is taken as it is.")
    method: Literal["GET", "POST"] = "GET"
    params: dict[str, Scalar | tuple[Scalar, ...]] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    json_body: dict[str, Any] | list[Any] | None = Field(None, alias="json", description="Sent as JSON.")
    data: dict[str, Scalar] | None = Field(None, description="Sent as a form.")
    data_selector: Path | None = Field(None, description="JMESPath to the records; found out when omitted.")
    paginator: PaginatorSpec | None = None
    partitions: tuple[dict[str, Scalar], ...] = Field((), description="One walk for each, with these parameters.")
    response_actions: tuple[ResponseAction, ...] = ()
    incremental: Incremental | None = None

    @field_validator("path", "params", "json_body", "data", "partitions")
    @classmethod
    def _placeholders_are_known(cls, value: Any) -> Any:
        for text in _texts(value):
            for name in placeholders(text):
                if not _KNOWN.fullmatch(name):
                    raise ValueError(
                        f"{{{name}}} means nothing here; there are {{incremental.start_value}}, "
                        "{incremental.end_value} and {resources.NAME.FIELD}, and {{ }} for braces"
                    )
        return value

    @field_validator("params", "headers", "data")
    @classmethod
    def _names_no_secret(cls, value: Any) -> Any:
        refuse_literals(value or {})
        return value

    @model_validator(mode="after")
    def _walks_in_one_way(self) -> Self:
        step = self.incremental.step if self.incremental else None
        ways = [bool(parent_fields(self)), bool(self.partitions), step is not None]
        if sum(ways) > 1:
            raise ValueError("parents, partitions and incremental.step cannot be combined; give one of them")
        parents = {parent for parent, _ in parent_fields(self).values()}
        if len(parents) > 1:
            raise ValueError(f"has {len(parents)} parents, {', '.join(sorted(parents))}; there can be one")
        return self

    @model_validator(mode="after")
    def _increments_are_described(self) -> Self:
        texts = _texts([self.path, self.params, self.json_body, self.data, self.partitions])
        names = {name for text in texts for name in placeholders(text) if name.startswith("incremental.")}
        for name in (name for text in _texts(self.partitions) for name in placeholders(text)):
            if name.startswith("resources."):
                raise ValueError(f"{{{name}}}: partitions cannot name a parent's fields; put them into path or params")
        if names and self.incremental is None:
            raise ValueError(f"{{{min(names)}}} needs endpoint.incremental, which says what it stands for")
        return self

    @property
    def window_seconds(self) -> float | None:
        """
        How much one walk asks for; None: everything from the start.

        A request that cannot say {incremental.end_value} would bring all that follows, window after window.
        """
        texts = _texts([self.path, self.params, self.json_body, self.data])
        ends = any("incremental.end_value" in placeholders(text) for text in texts)
        return self.incremental.step if self.incremental and ends else None

    @model_validator(mode="after")
    def _has_one_body(self) -> Self:
        if self.json_body is not None and self.data is not None:
            raise ValueError("json and data are two bodies; a request has one")
        if self.method == "GET" and (self.json_body is not None or self.data is not None):
            raise ValueError('a body needs method = "POST"')
        return self


def parent_fields(endpoint: Endpoint) -> dict[str, tuple[str, str]]:
    """The placeholders that take a field of a parent's record: each with the parent's name and the field's path."""
    found = {}
    for text in _texts([endpoint.path, endpoint.params, endpoint.json_body, endpoint.data]):
        for name in placeholders(text):
            if name.startswith("resources."):
                _, parent, path = name.split(".", 2)
                found[name] = (parent, path)
    return found


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _texts(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _texts(value)
