"""Whether a run brought what its source promised: `expect`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple

from app.records import ColumnFault, Counts
from app.sources.mapping import Expect


class Complaint(NamedTuple):
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the tables say."""

    row_count: int = 0
    """Rows of the resource that are here."""
    earlier: Sequence[int] = ()
    """Records that its last complete passes brought."""
    faults: Sequence[ColumnFault] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    status: Literal["succeeded", "suspect", "failed"]
    complaints: tuple[Complaint, ...] = ()


def judge(expect: Expect, counts: Counts, evidence: Evidence, *, complete: bool) -> Verdict:
    """
    Args:
        complete: the run read everything, from the first page, and not only what changed.
    """
    failed: list[Complaint] = []
    suspect: list[Complaint] = []
    if complete:
        if counts.extracted == 0:
            on_zero = expect.on_zero or ("suspect" if evidence.row_count else "ok")
            complaint = Complaint("empty_source", f"0 records; {evidence.row_count} rows are here")
            if on_zero != "ok":
                (failed if on_zero == "fail" else suspect).append(complaint)
        suspect += _of_volume(expect, counts.extracted, evidence.earlier)
    if 0 < counts.extracted == counts.rejected and expect.max_reject_ratio is None:
        suspect.append(Complaint("all_rejected", f"every one of {counts.rejected} records was rejected"))
    if expect.max_rejects is not None and counts.rejected > expect.max_rejects:
        failed.append(Complaint("too_many_rejects", f"{counts.rejected} rejected; max_rejects is {expect.max_rejects}"))
    ratio = counts.rejected / counts.extracted if counts.extracted else 0.0
    if expect.max_reject_ratio is not None and ratio > expect.max_reject_ratio:
        failed.append(
            Complaint("too_many_rejects", f"{ratio:.1%} rejected; max_reject_ratio is {expect.max_reject_ratio:.1%}")
        )
    suspect += [_of_column(fault) for fault in evidence.faults]
    status: Literal["succeeded", "suspect", "failed"] = "failed" if failed else "suspect" if suspect else "succeeded"
    return Verdict(status, (*failed, *suspect))


def _of_volume(expect: Expect, extracted: int, earlier: Sequence[int]) -> list[Complaint]:
    found = []
    if expect.min_rows is not None and extracted < expect.min_rows:
        found.append(Complaint("too_few_rows", f"{extracted} records; expect.min_rows is {expect.min_rows}"))
    usual = median(earlier) if earlier else 0
    if not usual:
        return found
    change = f"{extracted} records, and {usual:g} are usual ({extracted / usual - 1:+.0%})"
    if expect.volume_drop is not None and extracted < usual * (1 - expect.volume_drop):
        found.append(Complaint("volume_dropped", f"{change}; expect.volume_drop is {expect.volume_drop:.0%}"))
    if expect.volume_rise is not None and extracted > usual * (1 + expect.volume_rise):
        found.append(Complaint("volume_rose", f"{change}; expect.volume_rise is {expect.volume_rise:.0%}"))
    return found


def _of_column(fault: ColumnFault) -> Complaint:
    what = "are empty" if fault.check == "not_null" else "repeat another row's value"
    return Complaint(
        f"{fault.check}_violated",
        f"{fault.column}: {fault.rows} rows {what}, for example {fault.example!r}; see expect.{fault.check}",
    )
