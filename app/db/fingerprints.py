"""`etl_checkpoint.fingerprints`: how the stretches of a file are written down. Pure."""

import struct
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, Final

from app.records import Fingerprints, StretchRules

_STRETCH: Final = struct.Struct("<16sI")


def pack_fingerprints(found: Fingerprints | None) -> list[dict[str, Any]] | None:
    """
    As jsonb: `[{"basis", "bits", "line_end", "stretches", "stale"}]`.

    `stretches` is 20 bytes each, in base64: the fingerprint and the number of
    records (little-endian); `stale` 4 bytes each. 65,536 stretches are 1.7 MB so,
    and 3.5 MB as a list of words.
    """
    if found is None:
        return None
    stretches = b"".join(map(_STRETCH.pack, found.stretches.keys(), found.stretches.values()))
    stale = struct.pack(f"<{len(found.stale)}I", *sorted(found.stale))
    return [{**found.rules._asdict(), "stretches": b64encode(stretches).decode(), "stale": b64encode(stale).decode()}]


def unpack_fingerprints(held: Sequence[Any] | None) -> Fingerprints | None:
    if not held:
        return None
    tree = dict(held[0])
    stretches = dict(_STRETCH.iter_unpack(b64decode(tree.pop("stretches"))))
    stale = b64decode(tree.pop("stale"))
    return Fingerprints(StretchRules(**tree), stretches, frozenset(struct.unpack(f"<{len(stale) // 4}I", stale)))
