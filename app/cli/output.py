"""What commands take and print."""

import json
import re
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any, Final

import typer

from app.records import FINGERPRINT

MAX_ID: Final = 2**63 - 1
"""Of a run: what PostgreSQL's bigint holds."""


def check_fingerprint(given: str | None) -> str | None:
    """
    Raises:
        BadParameter: there is no such reason.
    """
    if given is not None and not re.fullmatch(FINGERPRINT, given):
        raise typer.BadParameter("twelve hexadecimal digits, as `etl rejects` shows them")
    return given


def to_json(tree: Any, *, indent: int | None = None, readable: bool = False) -> str:
    """
    As the API has it: times in ISO 8601, with Z.

    Args:
        readable: letters beyond ASCII are not escaped.
    """
    return json.dumps(tree, indent=indent, ensure_ascii=not readable, default=_plain)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
