"""Small values that source files are written in: durations, secrets by reference, placeholders."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
"""`{name}`; `{{` and `}}` are the braces themselves, as in dlt."""

_DURATION: Final = re.compile(
    r"P(?=.)(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=.)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)


class Spec(BaseModel):
    """Base of all tables of a source file: a key that is not here is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def duration_seconds(text: str) -> float:
    """
    An ISO 8601 duration without years and months, whose length depends on the calendar.

    Raises:
        ValueError: it is none, or longer than can be counted.
    """
    match = _DURATION.fullmatch(text.strip().upper())
    if match is None:
        raise ValueError('write a duration as ISO 8601, for example "PT15M" (15 minutes), "PT1H" or "P7D"')
    try:
        return timedelta(**{unit: float(n) for unit, n in match.groupdict().items() if n}).total_seconds()
    except OverflowError:
        raise ValueError(f"{text} is too long") from None


def _seconds(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return duration_seconds(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(  # noqa: TRY004 -- pydantic's own word for a bad value
            f'has no unit: write a duration as ISO 8601, for example "PT{value}S" for {value} seconds'
        )
    return value


def _plain_seconds(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else _seconds(value)


Duration = Annotated[float, BeforeValidator(_seconds, json_schema_input_type=str), Field(ge=0, le=366 * 86_400)]
"""ISO 8601 (`"PT15M"`) in the file; seconds here. Calendar months and years have no fixed length and are refused."""

Timeout = Annotated[float, BeforeValidator(_plain_seconds, json_schema_input_type=float | str), Field(gt=0, le=86_400)]
"""The same, where a bare number is seconds."""


def _is_reference(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"\{secrets\.[A-Za-z_][A-Za-z0-9_]*\}", value):
        raise ValueError(
            "holds a literal; a secret is given by reference only: "
            '"{secrets.MY_TOKEN}", whose value is the variable ETL_SECRET_MY_TOKEN or the file /run/secrets/MY_TOKEN'
        )
    return value


_CREDENTIALS: Final = re.compile(
    r"(proxy-)?authorization|cookie|(x[-_])?(api|auth|access)[-_]?(key|token)|(client[-_])?secret|password",
    re.IGNORECASE,
)


def refuse_literals(table: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: a header or a parameter whose name says that it is a credential holds it in clear.
    """
    for name, value in table.items():
        if _CREDENTIALS.fullmatch(name) and isinstance(value, str) and value and "{secrets." not in value:
            raise ValueError(
                f"holds a literal in {name}; a secret is given by reference only, in client.headers or client.auth: "
                f'{name} = "{{secrets.MY_TOKEN}}", whose value is the variable ETL_SECRET_MY_TOKEN'
            )


SecretRef = Annotated[str, BeforeValidator(_is_reference)]
"""`{secrets.NAME}`, never the secret itself."""


def placeholders(text: str) -> Iterator[str]:
    """The names between single braces."""
    return (match[1].strip() for match in PLACEHOLDER.finditer(text) if match[1] is not None)


def fill(text: str, lookup: Any) -> str:
    """Replace each `{name}` by `lookup(name)`, `{{` and `}}` by a brace."""

    def one(match: re.Match[str]) -> str:
        return match[0][0] if match[1] is None else str(lookup(match[1].strip()))

    return PLACEHOLDER.sub(one, text)


def check_timezone(name: str) -> None:
    """
    Raises:
        ValueError: it is not in the IANA database.
    """
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f'{name!r} is no timezone of the IANA database; for example "Europe/Berlin"') from error
