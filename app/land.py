"""Pages → landed records: each with its identity, the hash of its bytes, and a form that PostgreSQL can hold."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from app.records import NOT_JSON, RawKind, Records, Rejection, is_storable

_ESCAPED: Final = re.compile(rb"\\(?:\\|[0-7]{3})")

ReadKeys = Callable[[list[Any]], tuple[list[str | None], dict[int, Rejection]]]
"""Parsed records → their keys, and by index why one has none."""


@dataclass(slots=True)
class Landed:
    """The records of a batch, column by column."""

    payloads: list[str] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    fields: list[Any] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    """BLAKE2b, 16 bytes, of the bytes received."""
    source_ids: list[str | None] = field(default_factory=list)
    rejections: dict[int, Rejection] = field(default_factory=dict)
    """By index: records with a fault or without a key."""
    filtered: set[int] = field(default_factory=set)
    """Indexes of records that are kept, and not loaded."""
    keys: set[str] = field(default_factory=set)
    delivery_keys: list[str | None] = field(default_factory=list)
    """Of webhooks: by which a delivery is known again; empty for what was asked for."""

    def __len__(self) -> int:
        return len(self.payloads)

    @property
    def is_plain(self) -> bool:
        """Each record has a key of its own, and is to be loaded as far as is known."""
        return len(self.keys) == len(self) and not self.rejections and not self.filtered

    @property
    def plain_ids(self) -> list[str]:
        """The keys of records that are plain, in their order."""
        return cast("list[str]", self.source_ids)

    def storable(self, index: int, *, kind: RawKind) -> tuple[str, str | None]:
        """A payload as PostgreSQL can hold it; see the function."""
        return storable(self.payloads[index], kind=kind, is_json=self.rejections.get(index) != NOT_JSON)

    def only(self, indexes: Sequence[int]) -> "Landed":
        """Some of the records, where all of them are plain."""
        some = Landed(
            payloads=[self.payloads[at] for at in indexes],
            pages=[self.pages[at] for at in indexes],
            positions=[self.positions[at] for at in indexes],
            fields=[self.fields[at] for at in indexes],
            hashes=[self.hashes[at] for at in indexes],
            source_ids=[self.source_ids[at] for at in indexes],
        )
        some.keys.update(some.plain_ids)
        return some


def land(parts: Iterable[tuple[int, Records]], *, read_keys: ReadKeys) -> Landed:
    """Land the records of a batch: each part is a page's number and records of it."""
    landed = Landed()
    for page, records in parts:
        land_records(landed, page, records, read_keys=read_keys)
    return landed


def land_records(landed: Landed, page: int, records: Records, *, read_keys: ReadKeys) -> None:
    """Name, hash and add records of a page; one with a fault or without a key is rejected, never dropped."""
    begin = len(landed)
    source_ids, keyless = read_keys(records.fields)
    landed.payloads += records.payloads
    landed.positions += records.positions
    landed.fields += records.fields
    landed.pages += [page] * len(records)
    landed.hashes += _hashes(records.payloads)
    landed.source_ids += source_ids
    landed.keys.update(filter(None, source_ids))
    landed.filtered.update(begin + at for at in records.filtered)
    for at, rejection in (keyless | records.faults).items():
        landed.rejections[begin + at] = rejection


def _hashes(payloads: list[str]) -> list[bytes]:
    blake2b = hashlib.blake2b
    try:
        return [blake2b(payload.encode(), digest_size=16).digest() for payload in payloads]
    except UnicodeEncodeError:  # seldom, and twice as slow
        return [blake2b(payload.encode("utf-8", "surrogateescape"), digest_size=16).digest() for payload in payloads]


def storable(payload: str, *, kind: RawKind, is_json: bool = True) -> tuple[str, str | None]:
    """
    The payload as PostgreSQL can hold it, and how it is encoded.

    None: as received. 'escape': PostgreSQL's own bytea escape format, as text
    for CSV and as a JSON string otherwise, so that `decode(payload, 'escape')`
    or `decode(payload #>> '{}', 'escape')` gives back the bytes.
    """
    if is_storable(payload) and (is_json or kind == "csv"):
        return payload, None
    escaped = _escape(payload.encode("utf-8", "surrogateescape"))
    return (escaped if kind == "csv" else json.dumps(escaped)), "escape"


def received(payload: str, encoding: str | None, *, kind: RawKind) -> str:
    """The characters received: what `storable` was given."""
    if encoding is None:
        return payload
    escaped: str = payload if kind == "csv" else json.loads(payload)
    data = _ESCAPED.sub(lambda found: bytes((_unescaped(found[0]),)), escaped.encode())
    return data.decode("utf-8", "surrogateescape")


def _unescaped(mark: bytes) -> int:
    return 0x5C if mark == b"\\\\" else int(mark[1:], 8)


def _escape(data: bytes) -> str:
    """PostgreSQL documentation §8.4.2: zero and high bytes as three octal digits, backslash doubled."""
    return "".join(
        "\\\\" if byte == 0x5C else f"\\{byte:03o}" if byte == 0 or byte >= 0x80 else chr(byte) for byte in data
    )
