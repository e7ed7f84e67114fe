"""
A stretch of raw rows, normalized again → what is to be written. Pure: the world as it stands is an argument.

Row by row, in the order in which they were landed, as if each came now: a row
competes for its key with what is there, unless it is itself what is there. Of
two the later landed one wins, unless the source dates it earlier.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from app.pipeline.replan import Contest, Fresh, Replan, Values, is_other, is_same
from app.records import (
    KEY_TAKEN,
    SAMPLES,
    Counts,
    Disposition,
    HeldRow,
    LandedRow,
    Note,
    RawVerdict,
    Rejection,
    Replayed,
    ReplayKind,
    ReplaySample,
)


class Replanning:
    """
    Decides row by row.

    Args:
        held: what `normalized_data` holds for the old and the new keys of the rows.
        append: a record whose key is there stays as it is.
        trusted: what a pass brought is how the source was then: no time makes it older.
    """

    def __init__(
        self,
        rows: Sequence[LandedRow],
        fresh: Sequence[Fresh],
        held: Mapping[str, HeldRow],
        *,
        contest: Contest,
        append: bool,
        trusted: bool,
        told: Replayed,
    ) -> None:
        self._rows, self._fresh, self._held = rows, fresh, held
        self._contest, self._append, self._trusted = contest, append, trusted
        self._told = told
        self._counts = Counts(extracted=len(rows))
        self._plan = Replan(self._counts)
        self._within = {row.id for row in rows}
        keys = Counter(new.source_id for new in fresh)
        self._repeated = {key for key, count in keys.items() if count > 1}
        self._kinds: list[ReplayKind] = ["unchanged"] * len(rows)
        self._verdicts: dict[int, RawVerdict] = {}
        self._pending: dict[str, int] = {}
        self._deletions: dict[str, int] = {}
        self._given_up: dict[str, HeldRow] = {}

    def plan(self) -> Replan:
        for at, (row, new) in enumerate(zip(self._rows, self._fresh, strict=True)):
            if new.left or self._is_settled(row, new):
                self._counts.unchanged += 1
            elif new.rejection is not None:
                self._reject(at, row, new)
            elif new.filtered:
                self._filter(at, row, new)
            else:
                self._settle(at, row, new)
        for key, at in self._pending.items():
            self._write(key, at)
        self._write_deletions()
        self._plan.verdicts += [self._verdicts[at] for at in sorted(self._verdicts) if self._differs(at)]
        self._tell()
        return self._plan

    def _is_settled(self, row: LandedRow, new: Fresh) -> bool:
        """Whether it is what is there, and stays so: the many."""
        if row.disposition != "loaded" or new.values is None or new.deleted or new.source_id != row.source_id:
            return False
        key = row.source_id or ""
        there = self._held.get(key)
        return (
            there is not None
            and there.raw_id == row.id
            and not (there.deleted or new.notes or row.notes or key in self._repeated)
            and is_same(new.values, there)
        )

    def _reject(self, at: int, row: LandedRow, new: Fresh) -> None:
        """What was loaded from it before stays, its last good version, unless the record has another key now."""
        self._counts.rejected += 1
        key = new.source_id or row.source_id
        if key is not None and row.source_id not in {key, None}:
            # Under its old key nothing would ever come again: not even once it heals, beside it
            self._move(row, key)
        self._judge(at, "rejected", key, rejection=new.rejection)
        if row.disposition != "rejected":
            self._kinds[at] = "rejected"

    def _filter(self, at: int, row: LandedRow, new: Fresh) -> None:
        self._counts.filtered += 1
        self._judge(at, "filtered", new.source_id)
        self._give_up(row)
        if row.disposition != "filtered":
            self._kinds[at] = "filtered"

    def _settle(self, at: int, row: LandedRow, new: Fresh) -> None:
        key = new.source_id
        assert key is not None
        if key != row.source_id:
            self._move(row, key)
        if not self._wins(at, row, new, key):
            return
        earlier = self._deletions.pop(key, None)
        if earlier is not None:
            self._overtake(earlier, by=row)
            self._counts.deleted -= 1
        if key in self._pending:
            self._overtake(self._pending.pop(key), by=row)
        if new.deleted:
            self._delete(at, row, key)
        else:
            self._pending[key] = at
            self._judge(at, "loaded", key, notes=new.notes)
            self._counts.coerced += bool(new.notes)

    def _wins(self, at: int, row: LandedRow, new: Fresh, key: str) -> bool:
        """Whether it is the current version of its key; if not, it is settled."""
        moment = new.values.updated_at if new.values and not self._trusted else None
        rival = self._pending.get(key, self._deletions.get(key))
        if rival is not None:
            earlier = self._fresh[rival].values
            dated = earlier.updated_at if earlier else None
            wins = not self._append and not (moment is not None and dated is not None and moment < dated)
        else:
            there = self._held.get(key)
            wins = there is None or key in self._given_up or self._beats(row, moment, there)
            if wins and there is not None and not there.deleted and there.raw_id not in self._within:
                self._displace(there, by=row, key=key)
        if not wins:
            self._lose(at, key)
        return wins

    def _displace(self, there: HeldRow, *, by: LandedRow, key: str) -> None:
        """What an earlier stretch loaded, or a later one will meet, gives its key to another record."""
        if there.raw_id in self._contest.leaving or is_other(by, key):
            self._plan.verdicts.append(RawVerdict(there.raw_id, key, "rejected", KEY_TAKEN))

    def _beats(self, row: LandedRow, moment: datetime | None, there: HeldRow) -> bool:
        """The same against what the table holds."""
        if there.raw_id == row.id:
            return True
        if there.raw_id in self._contest.leaving:
            return True
        later = there.raw_id > row.id
        if later and (there.raw_id in self._within or (there.deleted and there.raw_id not in self._contest.staying)):
            return True  # that row comes later in the stretch and settles it, or is nothing any more
        if moment is not None and there.dated_by_source and moment != there.updated_at:
            return moment > there.updated_at and not self._append
        return not later and not self._append

    def _lose(self, at: int, key: str) -> None:
        if is_other(self._rows[at], key) and not self._append:
            self._take_key(at, key)
            return
        if self._append:
            self._counts.unchanged += 1
        else:
            self._counts.outdated += 1
        self._judge(at, "overtaken", key)
        self._kinds[at] = "overtaken"

    def _take_key(self, at: int, key: str) -> None:
        """Two records have one key now: the one that does not get it is told, and heard by the next replay."""
        self._counts.rejected += 1
        self._judge(at, "rejected", key, rejection=KEY_TAKEN)
        self._kinds[at] = "rejected" if self._rows[at].rejection != KEY_TAKEN else "unchanged"

    def _overtake(self, at: int, *, by: LandedRow) -> None:
        """A row that this stretch was to load or to delete, by a later one of its key."""
        row, verdict = self._rows[at], self._verdicts[at]
        key = verdict.source_id or ""
        self._counts.coerced -= bool(verdict.notes)
        if is_other(row, key) or is_other(by, key):
            self._take_key(at, key)
            return
        self._counts.duplicate += 1
        self._kinds[at] = "unchanged"
        if row.disposition not in {"loaded", "deleted"}:
            self._kinds[at] = "overtaken"
            self._verdicts[at] = RawVerdict(verdict.id, verdict.source_id, "overtaken")

    def _delete(self, at: int, row: LandedRow, key: str) -> None:
        there = self._held.get(key)
        self._judge(at, "deleted", key)
        if row.disposition == "deleted" and row.source_id == key and (there is None or there.deleted):
            self._counts.unchanged += 1
            return
        self._counts.deleted += 1
        self._kinds[at] = "deleted"
        self._deletions[key] = at

    def _move(self, row: LandedRow, key: str) -> None:
        self._give_up(row)
        if row.source_id is not None:
            self._plan.moved[row.source_id] = key

    def _give_up(self, row: LandedRow) -> None:
        """What was loaded from this row under its old key is no more."""
        there = self._held.get(row.source_id or "")
        if there is not None and there.raw_id == row.id and not there.deleted:
            self._given_up[row.source_id or ""] = there

    def _judge(
        self,
        at: int,
        disposition: Disposition,
        source_id: str | None,
        *,
        rejection: Rejection | None = None,
        notes: tuple[Note, ...] = (),
    ) -> None:
        self._verdicts[at] = RawVerdict(self._rows[at].id, source_id, disposition, rejection, notes)

    def _differs(self, at: int) -> bool:
        row, verdict = self._rows[at], self._verdicts[at]
        notes: list[Any] = [note._asdict() for note in verdict.notes]
        said = (row.source_id, row.disposition, row.rejection, row.notes or [])
        return said != (verdict.source_id, verdict.disposition, verdict.rejection, notes)

    def _write(self, key: str, at: int) -> None:
        row, new, there = self._rows[at], self._fresh[at], self._held.get(key)
        values = new.values
        assert values is not None
        healed = row.disposition == "rejected" and row.rejection is not None and row.rejection.code != KEY_TAKEN.code
        moved = key != row.source_id and row.source_id is not None
        if there is not None and there.raw_id == row.id and not there.deleted and is_same(values, there):
            self._counts.unchanged += 1
            self._kinds[at] = "healed" if healed else "unchanged"
            return
        self._kinds[at] = "healed" if healed else "moved" if moved else "changed"
        self._plan.resurrected += there is not None and there.deleted
        rows = self._plan.changed_rows
        rows.raw_id.append(row.id)
        rows.source_id.append(key)
        rows.content_hash.append(row.content_hash)
        for name, value in zip(Values._fields, values, strict=True):
            getattr(rows, name).append(value)

    def _write_deletions(self) -> None:
        gone = self._plan.deleted_rows
        for key, at in self._deletions.items():
            there, values = self._held.get(key), self._fresh[at].values
            self._given_up.pop(key, None)
            if there is not None and not there.deleted:
                gone.source_id.append(key)
                gone.raw_id.append(self._rows[at].id)
                gone.content_hash.append(self._rows[at].content_hash)
                gone.updated_at.append(values.updated_at if values else None)
        for key, there in self._given_up.items():
            if key not in self._pending:
                self._counts.vanished += 1
                gone.source_id.append(key)
                gone.raw_id.append(there.raw_id)
                gone.content_hash.append(there.content_hash)
                gone.updated_at.append(None)

    def _tell(self) -> None:
        for kind, count in Counter(self._kinds).items():
            self._told.add(kind, count)
            kept = self._told.samples.setdefault(kind, [])
            if len(kept) < SAMPLES:
                found = [at for at, one in enumerate(self._kinds) if one == kind]
                kept += map(self._sample, found[: SAMPLES - len(kept)])

    def _sample(self, at: int) -> ReplaySample:
        row, new = self._rows[at], self._fresh[at]
        verdict = self._verdicts.get(at)
        there = self._held.get(row.source_id or "")
        before = _shown(row.disposition, row.source_id, row.rejection)
        if there is not None and there.raw_id == row.id:
            before |= {name: getattr(there, name) for name in Values._fields}
        if verdict is None:
            return ReplaySample(row.id, row.source_id, before, before)
        after = _shown(verdict.disposition, verdict.source_id, verdict.rejection)
        if verdict.disposition == "loaded" and new.values is not None:
            given = new.values._asdict()
            after |= {
                name: before.get(name) if given[name] is None and name.endswith("_at") else given[name]
                for name in given
            }
        return ReplaySample(row.id, row.source_id, before, after)


def _shown(disposition: str, source_id: str | None, rejection: Rejection | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"disposition": disposition, "source_id": source_id}
    return shown | ({"rejection": rejection._asdict()} if rejection else {})
