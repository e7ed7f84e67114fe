"""What becomes of a record with a value that does not fit."""

import pytest

from app.errors import SourceMalformedError
from app.normalize.contract import apply_contract, shape
from app.normalize.rows import Normalized, open_normalizer
from app.records import Note, Rejection
from app.sources.mapping import Contract
from tests.normalizing import rest_spec

MAPPING = {
    "name": "name",
    "value": "amount",
    "description": {"path": "iban", "type": "integer", "mask": "partial"},
    "updated_at": {"path": "at", "timezone": "Europe/Berlin"},
    "deleted": "gone",
}


def normalized(contract: Contract, *records: dict[str, object]) -> Normalized:
    spec = rest_spec(MAPPING, schema_contract=contract, filter=[{"path": "skip", "op": "missing"}])
    return open_normalizer(spec, {}).normalize([str(at) for at in range(len(records))], records)


def test_evolve_keeps_what_can_be_kept_and_notes_the_rest() -> None:
    rows = normalized("evolve", {"name": {"de": "x"}, "amount": "n/a"})

    assert (rows.name, rows.value, rows.rejections) == (['{"de": "x"}'], [None], {})
    assert [note.code for note in rows.notes[0]] == ["not_text", "not_a_number"]


def test_discard_value_drops_whatever_does_not_fit_and_keeps_the_note() -> None:
    rows = normalized("discard_value", {"name": {"de": "x"}, "amount": "n/a"}, {"name": "b", "amount": 1})

    assert (rows.name, rows.value, rows.rejections) == (["", "b"], [None, 1.0], {})
    assert [note.code for note in rows.notes[0]] == ["not_text", "not_a_number"]


def test_reject_row_rejects_the_record_and_no_other() -> None:
    rows = normalized("reject_row", {"amount": "5"}, {"amount": "n/a"}, {"amount": ""}, {"iban": "DE12"})

    assert rows.rejections == {
        1: Rejection("not_a_number", "value", "does not fit its type: n/a"),
        3: Rejection("not_a_number", "description", "does not fit its type: ***"),
    }
    assert rows.notes == {}


@pytest.mark.parametrize("contract", ["reject_row", "freeze"])
def test_a_value_that_was_taken_all_the_same_is_no_failure(contract: Contract) -> None:
    rows = normalized(contract, {"name": "a\x00", "at": "2024-10-27T02:30:00"})

    assert rows.rejections == {}
    assert {note.code for note in rows.notes[0]} == {"ambiguous_time", "unstorable_character"}


def test_freeze_names_source_record_field_and_shape() -> None:
    with pytest.raises(SourceMalformedError, match=r"crm: record 1: value .*\(not_a_number\): 'aaa 99,9'"):
        normalized("freeze", {"amount": 5}, {"amount": "EUR 12,5"})


def test_freeze_does_not_show_a_masked_value() -> None:
    with pytest.raises(SourceMalformedError, match=r"description .* a masked value") as caught:
        normalized("freeze", {"iban": "DE12"})

    assert "DE12" not in str(caught.value)


@pytest.mark.parametrize("contract", ["reject_row", "freeze"])
def test_a_record_that_is_not_loaded_may_hold_anything(contract: Contract) -> None:
    rows = normalized(contract, {"amount": "n/a", "gone": True}, {"amount": "n/a", "skip": 1})

    assert (rows.rejections, rows.deleted, rows.filtered) == ({}, {0}, {1})


@pytest.mark.parametrize(("given", "looks"), [("Zürich-9", "'aaaaaa-9'"), ("***", "a masked value"), ("", "''")])
def test_a_shape_does_not_tell_the_value(given: str, looks: str) -> None:
    assert shape(given) == looks


def test_a_flag_that_does_not_parse_is_a_failure_though_no_column_holds_it() -> None:
    notes = {0: [Note("deleted", "not_a_boolean", "perhaps")]}

    for contract, expected in (("discard_value", []), ("reject_row", [0])):
        rejections = apply_contract(contract, source="crm", source_ids=["1"], columns={}, notes=notes)  # type: ignore[arg-type]
        assert list(rejections) == expected
