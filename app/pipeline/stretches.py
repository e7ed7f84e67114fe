"""
Which stretches of a file the next pass may skip, and whether this one was right to skip what it did. Pure.

A stretch was skipped because each of its records was what the table held for
its key. That is no longer so once another record of this pass has changed the
key: then the stretch would have changed it back. So the pass remembers the
first line of each version that it replaced. A skipped stretch behind such a
record must not hold such a line; and one that the next pass skips must not hold
a line that was replaced after the stretch had gone past.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final, Literal
from zlib import crc32

from app.extract.csv_stretches import USUAL_STRETCHES, bits_for
from app.land import Landed
from app.load import StagedBatch
from app.pipeline.batches import Batch
from app.records import CurrentRow, Fingerprints, Stretch, StretchRules

MAX_STRETCHES: Final = 4 * USUAL_STRETCHES
"""Kept of one pass; if there are more, the next pass cuts longer ones."""

MAX_REPLACED_BYTES: Final = 32 * 1024 * 1024
"""Of lines remembered. Where a pass changes more than that, the next one reads the whole file."""


class OvertakenStretchError(Exception):
    """A stretch was skipped that would have changed back what this pass had changed: skip nothing from here on."""


class StretchLedger:
    """
    What one pass, or the rest of one, has seen of the stretches of its file.

    Args:
        trusted: the fingerprints of the pass before hold as long as this one replaces nothing.
    """

    def __init__(self, *, trusted: bool) -> None:
        self._trusted = trusted
        self._rules: StretchRules | None = None
        self._stretches: dict[bytes, int] = {}
        self._records = 0
        self._replaced: set[bytes] = set()
        self._checksums: set[int] = set()
        """CRC-32 of these lines."""
        self._replaced_bytes = 0
        self._overflowed = False
        self._set_aside: set[int] = set()

    def check(self, batch: Batch) -> None:
        """
        No stretch that a batch skipped holds what the batches before it replaced.

        Raises:
            OvertakenStretchError: one does.
        """
        self._rules = batch.stretch_rules or self._rules
        self._refuse(batch.stretches, self._replaced, self._checksums)

    def replace(self, batch: Batch, landed: Landed, payloads: Mapping[str, str | None]) -> None:
        """
        A batch is staged, and replaces these versions.

        Args:
            payloads: of the current version, by key; None where it is not known.

        Raises:
            OvertakenStretchError: the batch skipped one of them, behind a record that replaces any.
        """
        if not payloads or self._rules is None:
            return
        end = self._rules.line_end
        lines = {text.partition(end)[0].encode("utf-8", "surrogateescape") for text in payloads.values() if text}
        at = min(landed.positions[at] for at, key in enumerate(landed.source_ids) if key in payloads)
        self._replaced_bytes += sum(map(len, lines - self._replaced))
        self._replaced |= lines
        checksums = set(map(crc32, lines))
        self._checksums |= checksums
        if None in payloads.values() or self._replaced_bytes > MAX_REPLACED_BYTES:
            self._overflowed = True
        self._refuse((stretch for stretch in batch.stretches if stretch.first > at), lines, checksums)

    def _refuse(self, stretches: Iterable[Stretch], replaced: set[bytes], checksums: set[int]) -> None:
        if not replaced or self._rules is None:
            return
        end = self._rules.line_end.encode()
        for stretch in stretches:
            if stretch.skipped is None:
                continue
            # Checksums first: that is a million lines in a pass, and all but a few are told apart by them
            suspicious = not checksums.isdisjoint(stretch.checksums)
            if self._overflowed or (suspicious and not replaced.isdisjoint(stretch.skipped.split(end))):
                raise OvertakenStretchError

    def settle(self, batch: Batch, staged: StagedBatch) -> None:
        """A batch is about to be committed: of its stretches, those count whose records are all in the table now."""
        self._set_aside |= staged.set_aside
        bad = sorted(self._set_aside)
        for stretch in batch.stretches:
            self._records += stretch.records
            at = bisect_left(bad, stretch.first)
            sound = stretch.skipped is not None or at == len(bad) or bad[at] > stretch.last
            if sound and len(self._stretches) <= MAX_STRETCHES:
                self._stretches[stretch.fingerprint] = stretch.records
        if batch.after is not None:
            # What is left is of a page that is not complete
            self._set_aside = {line for line in bad if line > batch.after.position}

    def to_keep(self, batch: Batch) -> Fingerprints | Literal["keep"] | None:
        """What the checkpoint holds once this batch is committed; "keep": what it held before."""
        if batch.not_modified:
            return "keep"
        if not batch.last:
            return "keep" if self._trusted and not self._replaced and not self._overflowed else None
        if self._overflowed or self._rules is None:
            return None
        if len(self._stretches) > MAX_STRETCHES:
            return Fingerprints(self._rules._replace(bits=bits_for(self._records)), {})
        return Fingerprints(self._rules, self._stretches, frozenset(self._checksums))


def replaced_versions(staged: StagedBatch, current: Mapping[str, CurrentRow]) -> dict[str, int]:
    """Raw ids of the versions that a batch replaces by other bytes, by key."""
    replaced = {}
    for rows in (staged.changed_rows, staged.deleted_rows):
        for key, content_hash in zip(rows.source_id, rows.content_hash, strict=True):
            there = current.get(key)
            if there is not None and there.content_hash != content_hash:
                replaced[key] = there.raw_id
    return replaced
