"""Pages → raw rows: each record's own bytes, their hash, and a form that PostgreSQL can hold."""

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from app.records import RawKind, Record, Rejection


class Landed(NamedTuple):
    """A record with its identity and the hash of its bytes."""

    source_id: str | None
    content_hash: bytes
    """BLAKE2b, 16 bytes, of the bytes received."""
    page: int
    record: Record
    rejection: Rejection | None


def land_records(
    records: Iterable[Record], *, page: int, read_key: Callable[[Any], str | Rejection]
) -> list[Landed]:
    """Name and hash each record; one with a fault or without a key is rejected, never dropped."""
    landed = []
    for record in records:
        payload, _, fields, fault = record
        content_hash = hashlib.blake2b(payload.encode("utf-8", "surrogateescape"), digest_size=16).digest()
        key = read_key(fields) if fields is not None else fault
        if isinstance(key, str):
            landed.append(Landed(key, content_hash, page, record, fault))
        else:
            landed.append(Landed(None, content_hash, page, record, fault or key))
    return landed


def storable(payload: str, *, kind: RawKind) -> tuple[str, str | None]:
    """
    The payload as PostgreSQL can hold it, and how it is encoded.

    None: as received. 'escape': PostgreSQL's own bytea escape format, as text
    for CSV and as a JSON string otherwise, so that `decode(payload, 'escape')`
    or `decode(payload #>> '{}', 'escape')` gives back the bytes.
    """
    if "\x00" not in payload and _is_utf8(payload):
        return payload, None
    escaped = _escape(payload.encode("utf-8", "surrogateescape"))
    return (escaped if kind == "csv" else json.dumps(escaped)), "escape"


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escape(data: bytes) -> str:
    """PostgreSQL documentation §8.4.2: zero and high bytes as three octal digits, backslash doubled."""
    return "".join("\\\\" if byte == 0x5C else f"\\{byte:03o}" if byte == 0 or byte >= 0x80 else chr(byte) for byte in data)
