"""Raw rows → what they normalize to now: read as their run read them, by the header that it found."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.db import replays
from app.db.engine import Database
from app.errors import ConfigError
from app.extract.landed import read_landed
from app.land import received
from app.normalize.rows import Normalizer, open_normalizer
from app.pipeline.replan import Fresh, Values
from app.records import LandedRow, Records, Rejection
from app.sources.resource import ResourceSpec
from app.sources.tables import CsvResource

MAX_DETAIL: Final = 300
UNREADABLE: Final = {"header_unknown", "header_misfit", "unreadable"}
"""Codes of rejections that say nothing about a record, only about us."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """How the rows of some runs are read."""

    page_input: Mapping[str, Any]
    normalizer: Normalizer | None
    """None: their rows cannot be read any more."""
    fault: Rejection | None = None


@dataclass(slots=True)
class Renormalizer:
    """
    One resource's raw rows, normalized again.

    Args:
        keeps_unreadable: rows whose header nobody knows, or whose header the mapping does not fit, are left as they
            are; otherwise they are rejected.
    """

    source: ResourceSpec
    database: Database
    keeps_unreadable: bool = False
    _readers: dict[str, _Reader] = field(default_factory=dict)
    _of_run: dict[int, _Reader] = field(default_factory=dict)

    async def renormalize(self, rows: Sequence[LandedRow]) -> list[Fresh]:
        """What each of the rows is now."""
        fresh: list[Fresh] = [Fresh(None)] * len(rows)
        for reader, indexes in await self._by_reader(rows):
            chosen = [rows[at] for at in indexes]
            if reader.normalizer is None:
                found = [Fresh(None, reader.fault, left=self.keeps_unreadable) for _ in chosen]
            else:
                found = self._read(chosen, reader, reader.normalizer)
            for at, new in zip(indexes, found, strict=True):
                fresh[at] = new
        return fresh

    def _read(self, rows: Sequence[LandedRow], reader: _Reader, normalizer: Normalizer) -> list[Fresh]:
        kind = self.source.raw_kind
        payloads = [received(row.payload, row.payload_encoding, kind=kind) for row in rows]
        records = read_landed(self.source, payloads, reader.page_input)
        return normalized_again(records, normalizer)

    async def _by_reader(self, rows: Sequence[LandedRow]) -> list[tuple[_Reader, list[int]]]:
        if not isinstance(self.source.table, CsvResource):
            return [(self.reader_of({}), list(range(len(rows))))]
        unknown = {row.run_id for row in rows} - self._of_run.keys()
        if unknown:
            async with self.database.read() as session:
                inputs = await replays.read_inputs(session, unknown)
            for run_id in unknown:
                self._of_run[run_id] = self._reader_of_run(run_id, inputs.get(run_id))
        indexes: dict[int, list[int]] = defaultdict(list)
        readers: dict[int, _Reader] = {}
        for at, row in enumerate(rows):
            reader = self._of_run[row.run_id]
            indexes[id(reader)].append(at)
            readers[id(reader)] = reader
        return [(readers[number], found) for number, found in indexes.items()]

    def _reader_of_run(self, run_id: int, page_input: Mapping[str, Any] | None) -> _Reader:
        if not page_input or not page_input.get("header"):
            why = "is gone" if page_input is None else "kept none"
            return _Reader(
                {}, None, Rejection("header_unknown", None, f"run {run_id}, which knew the header of this row, {why}")
            )
        try:
            return self.reader_of(page_input)
        except ConfigError as error:
            return _Reader(page_input, None, Rejection("header_misfit", None, str(error)[:MAX_DETAIL]))

    def reader_of(self, page_input: Mapping[str, Any]) -> _Reader:
        """
        Raises:
            ConfigError: the mapping does not fit that header.
        """
        names = ("header", "delimiter", "quote_char", "encoding")
        said = json.dumps([page_input.get(name) for name in names])
        if said not in self._readers:
            self._readers[said] = _Reader(page_input, open_normalizer(self.source, page_input))
        return self._readers[said]


async def open_renormalizer(
    source: ResourceSpec, database: Database, *, keeps_unreadable: bool = False
) -> Renormalizer:
    """
    Raises:
        ConfigError: the mapping cannot work, or does not fit the header that the last run found.
    """
    renormalizer = Renormalizer(source, database, keeps_unreadable)
    if not isinstance(source.table, CsvResource):
        renormalizer.reader_of({})
    elif not keeps_unreadable:
        # By itself a replay leaves such rows to the pass that follows: the header may have changed with the mapping
        async with database.read() as session:
            newest = await replays.read_newest_input(session, source=source.name)
        if newest is not None:
            renormalizer.reader_of(newest)
    return renormalizer


def normalized_again(records: Records, normalizer: Normalizer) -> list[Fresh]:
    """What records normalize to; none is dropped."""
    source_ids, keyless = normalizer.read_keys(records.fields)
    faults = keyless | records.faults
    indexes = [at for at in range(len(records)) if at not in faults and at not in records.filtered]
    fresh = [Fresh(source_ids[at], faults.get(at), filtered=at in records.filtered) for at in range(len(records))]
    normalized = normalizer.normalize([source_ids[at] or "" for at in indexes], [records.fields[at] for at in indexes])
    columns = zip(
        normalized.name,
        normalized.value,
        normalized.description,
        normalized.created_at,
        normalized.updated_at,
        strict=True,
    )
    for at, (index, values) in enumerate(zip(indexes, columns, strict=True)):
        key = source_ids[index]
        if at in normalized.rejections:
            fresh[index] = Fresh(key, normalized.rejections[at])
        elif at in normalized.filtered:
            fresh[index] = Fresh(key, filtered=True)
        else:
            notes = normalized.notes.get(at, ())
            fresh[index] = Fresh(key, deleted=at in normalized.deleted, values=Values(*values), notes=notes)
    return fresh
