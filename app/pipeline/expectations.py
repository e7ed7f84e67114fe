"""Whether a run brought what its source promised: `expect`. Pure."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from app.records import Counts
from app.sources.mapping import Expect


class Complaint(NamedTuple):
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    status: Literal["succeeded", "suspect", "failed"]
    complaints: tuple[Complaint, ...] = ()


def judge(expect: Expect, counts: Counts, *, row_count: int, complete: bool) -> Verdict:
    """
    Args:
        row_count: rows of the resource that are here.
        complete: the run asked for everything, and not only for what changed.
    """
    failed: list[Complaint] = []
    suspect: list[Complaint] = []
    if counts.extracted == 0 and complete:
        on_zero = expect.on_zero or ("suspect" if row_count else "ok")
        complaint = Complaint("empty_source", f"0 records; {row_count} rows are here")
        if on_zero != "ok":
            (failed if on_zero == "fail" else suspect).append(complaint)
    if expect.min_rows is not None and complete and counts.extracted < expect.min_rows:
        suspect.append(Complaint("too_few_rows", f"{counts.extracted} records; expect.min_rows is {expect.min_rows}"))
    if expect.max_rejects is not None and counts.rejected > expect.max_rejects:
        failed.append(Complaint("too_many_rejects", f"{counts.rejected} rejected; max_rejects is {expect.max_rejects}"))
    ratio = counts.rejected / counts.extracted if counts.extracted else 0.0
    if expect.max_reject_ratio is not None and ratio > expect.max_reject_ratio:
        failed.append(
            Complaint("too_many_rejects", f"{ratio:.1%} rejected; max_reject_ratio is {expect.max_reject_ratio:.1%}")
        )
    status: Literal["succeeded", "suspect", "failed"] = "failed" if failed else "suspect" if suspect else "succeeded"
    return Verdict(status, (*failed, *suspect))
