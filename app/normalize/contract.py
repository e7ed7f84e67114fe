"""What becomes of a record with a value that does not fit its type: `schema_contract.data_type`."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from app.errors import SourceMalformedError
from app.normalize.notes import HIDDEN
from app.records import Note, Rejection
from app.sources.mapping import Contract

TAKEN: Final = {"ambiguous_time", "unstorable_character"}
"""Codes of notes on values that were taken all the same: no failures."""


def apply_contract(
    contract: Contract,
    *,
    source: str,
    source_ids: Sequence[str],
    columns: Mapping[str, list[Any]],
    notes: Mapping[int, list[Note]],
    exempt: Collection[int] = (),
) -> dict[int, Rejection]:
    """
    By index, the records that the contract rejects; what it discards becomes null in the columns.

    Args:
        exempt: indexes of records whose values are not loaded.

    Raises:
        SourceMalformedError: the contract is frozen, and a value does not fit.
    """
    rejections: dict[int, Rejection] = {}
    if contract == "evolve":
        return rejections
    for at, items in notes.items():
        failures = [item for item in items if item.code not in TAKEN]
        if not failures or at in exempt:
            continue
        first = failures[0]
        if contract == "freeze":
            raise SourceMalformedError(
                f"{source}: record {source_ids[at]}: {first.field} does not fit its type ({first.code}): "
                f"{shape(first.given)}; schema_contract.data_type is freeze"
            )
        if contract == "reject_row":
            rejections[at] = Rejection(first.code, first.field, f"does not fit its type: {first.given}")
        else:
            _discard(at, failures, columns)
    return rejections


def _discard(at: int, failures: Sequence[Note], columns: Mapping[str, list[Any]]) -> None:
    for item in failures:
        if item.field in columns:
            columns[item.field][at] = None


def shape(given: str) -> str:
    """How a value looks, without what it says: `12 Jan` is `99 aaa`."""
    if given == HIDDEN:
        return "a masked value"
    letters = re.sub(r"[^\W\d_]", "a", given[:40])
    return repr(re.sub(r"[0-9]", "9", letters))
