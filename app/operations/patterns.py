"""The form of texts that clients send: what OpenAPI says of them, and what is said when they do not fit."""

from collections.abc import Mapping
from typing import Final

from app.db.data_query import SERVED
from app.records import FINGERPRINT

_N: Final = "[0-9]{1,6}"
_SECONDS: Final = rf"{_N}(?:\.{_N})?S"
_DATE: Final = rf"(?:{_N}W(?:{_N}D)?|{_N}D)"
_TIME: Final = rf"T(?:{_N}H(?:{_N}M)?(?:{_SECONDS})?|{_N}M(?:{_SECONDS})?|{_SECONDS})"

NO_NUL: Final = r"^[^\x00]*$"
ISO_DURATION: Final = rf"^P(?:{_DATE}(?:{_TIME})?|{_TIME})$"
"""Without years and months, whose length depends on the calendar."""
STALENESS: Final = rf"{ISO_DURATION}|^[0-9]{{1,9}}(?:\.{_N})?$"
MAX_PACKED: Final = 20_000
"""Characters of a cursor's values: what a server takes for an address has its limits."""
CURSOR: Final = rf"^[0-9a-f]{{16}}-[0-9]{{1,19}}-[A-Za-z0-9_-]{{1,{MAX_PACKED}}}$"
"""Seal, rows before, values."""
_COLUMN: Final = "|".join(SERVED)
_SORTED: Final = "|".join(name for name in SERVED if name != "description")
SORT: Final = rf"^-?(?:{_SORTED})(?:,-?(?:{_SORTED})){{0,3}}$"
FIELDS: Final = rf"^(?:{_COLUMN})(?:,(?:{_COLUMN})){{0,7}}$"

MEANINGS: Final[Mapping[str, str]] = {
    NO_NUL: "a NUL character is in no text we hold",
    FINGERPRINT: "twelve hexadecimal digits, as /rejects has them",
    ISO_DURATION: 'write a duration as ISO 8601, for example "PT15M" (15 minutes), "PT1H" or "P7D"',
    STALENESS: 'write seconds, or a duration as ISO 8601, for example "PT15M" (15 minutes), "PT1H" or "P7D"',
    SORT: f"up to four columns, separated by commas, each with - before it to descend: {_SORTED.replace('|', ', ')}",
    FIELDS: f"columns, separated by commas: {_COLUMN.replace('|', ', ')}",
    CURSOR: "not one of ours; use next_cursor of a page as it is",
}
