"""What becomes of each record of a batch."""

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.land import Landed, land_records
from app.load import StagedBatch
from app.normalize.rows import open_normalizer
from app.pipeline.known import drop_known_versions
from app.pipeline.staging import StagingRules, stage
from app.records import CurrentRow, Records, Rejection
from tests.normalizing import rest_spec

SOURCE = rest_spec({"name": "name", "value": "value", "updated_at": "at", "deleted": "gone"}, primary_key="id")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def rules(*, remap: bool = False, append: bool = False) -> StagingRules:
    ids = itertools.count(1)
    return StagingRules(
        trusted=False,
        normalizer=open_normalizer(SOURCE, {}),
        kind="rest",
        remap=remap,
        append=append,
        take_raw_ids=lambda count: list(itertools.islice(ids, count)),
        take_row_ids=lambda count: list(itertools.islice(ids, count)),
    )


def land(*records: dict[str, object] | str) -> Landed:
    """Records by their fields; a text is a record with a fault."""
    page = Records()
    for position, fields in enumerate(records, start=1):
        fault = Rejection("not_an_object", None, "") if isinstance(fields, str) else None
        page.append(str(fields), position, None if fault else fields, fault)
    landed = Landed()
    land_records(landed, 1, page, read_keys=rules().normalizer.read_keys)
    return landed


def current(
    fields: dict[str, object], *, updated_at: datetime = LONG_AGO, dated: bool = False
) -> dict[str, CurrentRow]:
    return {str(fields["id"]): CurrentRow(900, land(fields).hashes[0], updated_at, dated)}


def staged(*records: dict[str, object] | str, there: dict[str, CurrentRow] | None = None) -> StagedBatch:
    return stage(land(*records), there or {}, rules=rules(), pages=1)


def dispositions(batch: StagedBatch) -> list[str]:
    return ["loaded"] * len(batch.plain_raw_rows) + [row.disposition for row in batch.raw_rows]


def test_a_new_record_is_landed_and_written() -> None:
    batch = staged({"id": 1, "name": "a"}, {"id": 2})

    assert batch.new_rows.source_id == ["1", "2"]
    assert batch.new_rows.raw_id == batch.plain_raw_rows.id
    assert batch.plain_raw_rows.payload == ["{'id': 1, 'name': 'a'}", "{'id': 2}"]


def test_an_unchanged_record_writes_nothing() -> None:
    batch = staged({"id": 1}, there=current({"id": 1}))

    assert (batch.counts.unchanged, dispositions(batch), len(batch.changed_rows)) == (1, [], 0)


def test_a_changed_record_names_what_it_supersedes() -> None:
    batch = staged({"id": 1, "name": "new"}, there=current({"id": 1}))

    assert batch.changed_rows.source_id == ["1"]
    assert [row.supersedes for row in batch.raw_rows] == [900]


def test_the_later_of_two_versions_wins_and_both_are_landed() -> None:
    batch = staged({"id": 1, "name": "a"}, {"id": 1, "name": "b"})

    assert (batch.counts.duplicate, batch.new_rows.name) == (1, ["b"])
    assert dispositions(batch) == ["overtaken", "loaded"]
    assert batch.raw_rows[1].supersedes == batch.raw_rows[0].id


def test_the_same_version_twice_is_landed_once() -> None:
    batch = staged({"id": 1, "name": "a"}, {"id": 1, "name": "a"})

    assert (batch.counts.unchanged, batch.counts.duplicate, batch.new_rows.name) == (1, 0, ["a"])
    assert dispositions(batch) == ["loaded"]


def test_a_record_that_ends_where_it_was_is_not_written() -> None:
    batch = staged({"id": 1, "name": "b"}, {"id": 1, "name": "a"}, there=current({"id": 1, "name": "a"}))

    assert (batch.counts.duplicate, batch.counts.unchanged, len(batch.changed_rows)) == (1, 1, 0)
    assert dispositions(batch) == ["overtaken"]


@pytest.mark.parametrize(("dated", "outdated"), [(True, 1), (False, 0)])
def test_only_a_time_of_the_source_makes_a_record_outdated(dated: bool, outdated: int) -> None:
    there = current({"id": 1}, updated_at=datetime(2025, 1, 1, tzinfo=UTC), dated=dated)

    batch = staged({"id": 1, "at": "2024-01-01T00:00:00Z"}, there=there)

    assert batch.counts.outdated == outdated
    assert dispositions(batch) == (["overtaken"] if outdated else ["loaded"])


def test_an_older_version_later_in_the_batch_is_outdated() -> None:
    batch = staged({"id": 1, "at": "2025-01-01T00:00:00Z"}, {"id": 1, "at": "2024-01-01T00:00:00Z"})

    assert (batch.counts.outdated, batch.counts.duplicate) == (1, 0)
    assert batch.new_rows.updated_at == [datetime(2025, 1, 1, tzinfo=UTC)]


def test_identical_rejected_records_are_counted_each_and_landed_once() -> None:
    batch = staged("bad", "bad", {"id": None})

    assert batch.counts.rejected == 3
    assert [row.rejection.code for row in batch.raw_rows if row.rejection] == ["not_an_object", "missing_key"]


def test_a_note_is_landed_with_its_record() -> None:
    batch = staged({"id": 1, "value": "n/a"}, {"id": 2, "value": 2})

    assert batch.counts.coerced == 1
    assert [note.given for notes in batch.plain_raw_rows.notes for note in notes or ()] == ["n/a"]
    assert sorted([*batch.plain_raw_rows.id, *(row.id for row in batch.raw_rows)]) == sorted(batch.new_rows.raw_id)


def test_after_a_change_of_mapping_equal_bytes_are_normalized_and_not_landed() -> None:
    batch = stage(land({"id": 1}), current({"id": 1}), rules=rules(remap=True), pages=1)

    assert batch.changed_rows.raw_id == [900]
    assert dispositions(batch) == []


def test_a_rejection_that_is_known_and_newest_is_not_landed_again() -> None:
    batch = staged("bad")
    version = (batch.raw_rows[0].source_id, batch.raw_rows[0].content_hash)

    drop_known_versions(batch, {version: 5}, {})

    assert batch.raw_rows == []
    assert batch.counts.rejected == 1


RECORDS = st.lists(
    st.one_of(
        st.just("bad"),
        st.fixed_dictionaries(
            {
                "id": st.integers(1, 4),
                "name": st.sampled_from("ab"),
                "value": st.sampled_from([1, "n/a"]),
                "at": st.sampled_from([None, "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]),
            }
        ),
    ),
    max_size=12,
)


@given(records=RECORDS, there=RECORDS, remap=st.booleans())
def test_every_record_is_accounted_for_and_no_key_is_written_twice(
    records: list[dict[str, object] | str], there: list[dict[str, object] | str], remap: bool
) -> None:
    known: dict[str, CurrentRow] = {}
    for fields in there:
        if isinstance(fields, dict):
            known |= current(fields)

    batch = stage(land(*records), known, rules=rules(remap=remap), pages=1)

    batch.counts.inserted = len(batch.new_rows)
    batch.counts.updated = len(batch.changed_rows)
    assert batch.counts.balanced
    written = [*batch.new_rows.source_id, *batch.changed_rows.source_id]
    assert len(written) == len(set(written))
    assert set(batch.changed_rows.source_id) <= known.keys()
    assert not set(batch.new_rows.source_id) & known.keys()
    raw_ids = [*batch.plain_raw_rows.id, *(row.id for row in batch.raw_rows)]
    assert len(raw_ids) == len(set(raw_ids))
    if not remap:
        assert {*batch.new_rows.raw_id, *batch.changed_rows.raw_id} <= set(raw_ids)


def test_a_record_that_says_it_was_deleted_hides_its_row_once() -> None:
    there = current({"id": 1, "name": "a"})

    batch = staged({"id": 1, "gone": True}, there=there)

    assert (batch.counts.deleted, batch.net_rows, dispositions(batch)) == (1, -1, ["deleted"])
    assert batch.deleted_rows.source_id == ["1"]
    assert batch.deleted_rows.raw_id == [batch.raw_rows[0].id]
    assert batch.raw_rows[0].supersedes == 900

    hidden = {"1": current({"id": 1, "gone": True})["1"]._replace(deleted=True)}
    again = staged({"id": 1, "gone": True}, there=hidden)
    assert (again.counts.unchanged, again.raw_rows, len(again.deleted_rows)) == (1, [], 0)


def test_a_deleted_record_that_comes_back_is_there_again() -> None:
    hidden = {"1": current({"id": 1, "gone": True})["1"]._replace(deleted=True)}

    batch = staged({"id": 1, "name": "a"}, there=hidden)

    assert (len(batch.changed_rows), batch.resurrected, batch.net_rows) == (1, 1, 1)


def test_the_deletion_of_a_record_that_was_never_here_is_told_once() -> None:
    batch = staged({"id": 1, "gone": True})
    assert (batch.counts.deleted, batch.net_rows, dispositions(batch)) == (1, 0, ["deleted"])

    drop_known_versions(batch, {(row.source_id, row.content_hash): 5 for row in batch.raw_rows}, {})
    assert (batch.counts.deleted, batch.counts.unchanged, batch.raw_rows) == (0, 1, [])


def test_a_deletion_that_is_told_again_after_a_return_deletes_again() -> None:
    there = current({"id": 1, "name": "a"})
    batch = staged({"id": 1, "gone": True}, there=there)

    drop_known_versions(batch, {(row.source_id, row.content_hash): 5 for row in batch.raw_rows}, there)

    assert (batch.counts.deleted, dispositions(batch)) == (1, ["deleted"])
    assert batch.deleted_rows.raw_id == [batch.raw_rows[0].id]


@pytest.mark.parametrize("there", [None, current({"id": 1, "name": "before"})])
def test_within_a_batch_the_last_word_on_a_record_counts(there: dict[str, CurrentRow] | None) -> None:
    gone: dict[str, object] = {"id": 1, "gone": True}
    back: dict[str, object] = {"id": 1, "name": "back"}

    deleted = staged(back, gone, there=there)
    assert (deleted.counts.duplicate, deleted.counts.deleted) == (1, 1)
    assert len(deleted.deleted_rows) == (there is not None)
    assert len(deleted.new_rows) + len(deleted.changed_rows) == 0

    revived = staged(gone, back, there=there)
    assert (revived.counts.duplicate, revived.counts.deleted, len(revived.deleted_rows)) == (1, 0, 0)
    assert len(revived.new_rows) + len(revived.changed_rows) == 1
    for batch in (deleted, revived):
        batch.counts.inserted, batch.counts.updated = len(batch.new_rows), len(batch.changed_rows)
        assert batch.counts.balanced


def test_an_older_deletion_is_outdated() -> None:
    there = current({"id": 1}, updated_at=datetime(2026, 2, 1, tzinfo=UTC), dated=True)

    batch = staged({"id": 1, "gone": True, "at": "2026-01-01T00:00:00Z"}, there=there)

    assert (batch.counts.outdated, len(batch.deleted_rows)) == (1, 0)


def test_what_is_appended_changes_nothing_that_is_there() -> None:
    there = current({"id": 1, "name": "a"})

    batch = stage(
        land({"id": 1, "name": "b"}, {"id": 2}, {"id": 2, "name": "c"}), there, rules=rules(append=True), pages=1
    )

    assert (batch.counts.unchanged, batch.new_rows.source_id, len(batch.changed_rows)) == (2, ["2"], 0)
    assert batch.new_rows.name == [""]


def test_a_filtered_record_is_kept_and_not_loaded() -> None:
    landed = land({"id": 1}, {"id": 2}, {"id": 2})
    landed.filtered = {1, 2}

    batch = stage(landed, {}, rules=rules(), pages=1)

    assert (batch.counts.filtered, batch.new_rows.source_id) == (2, ["1"])
    assert [row.disposition for row in batch.raw_rows] == ["filtered"]
