"""What a checkpoint holds of a CSV body in progress, and whether its rest alone will do. No I/O."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from app.extract.csv_cutter import CsvCutter
from app.extract.decompress import compression_of
from app.extract.dialect import Dialect
from app.extract.http_body import RestOf
from app.extract.prefix_hash import MAX_PIECES, pieces
from app.records import Checkpoint
from app.sources.csv_format import Compression

READING: Final = "reading"
"""The key of the checkpoint's state."""


class PackedCheck:
    """Whether a body that goes past is compressed."""

    def __init__(self, compression: Compression) -> None:
        self._compression = compression
        self._start = b""

    @property
    def is_packed(self) -> bool:
        found = compression_of(self._start) if self._compression == "auto" else self._compression
        return found != "none"

    async def watched(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for part in parts:
            if len(self._start) < 4:
                self._start += part[:4]
            yield part


def state_while_reading(state: Mapping[str, Any], cutter: CsvCutter, *, etag: str | None) -> dict[str, Any]:
    """
    The checkpoint's state while a body is being read.

    Args:
        etag: of that body; None when its rest cannot be asked for, or is not needed.
    """
    kept = {name: value for name, value in state.items() if name != READING}
    found = cutter.found()
    if etag is None or not found["header"] or found["dialect"] is None:
        return kept
    return {**kept, READING: {**found, "dialect": asdict(found["dialect"]), "etag": etag}}


def found_before(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was found out about the body in progress: see `CsvCutter.found`."""
    reading = state.get(READING)
    if not reading:
        return None
    found = {name: value for name, value in reading.items() if name != "etag"}
    return {**found, "dialect": Dialect(**found["dialect"])}


def rest_to_ask_for(checkpoint: Checkpoint) -> RestOf | None:
    """The rest of the body in progress; None when it is to be read from its beginning."""
    reading, cursor = checkpoint.state.get(READING), checkpoint.cursor
    if not reading or cursor.prefix_hash is None or pieces(cursor.prefix_hash) >= MAX_PIECES:
        return None
    return RestOf(cursor.byte_offset, reading["etag"])
