"""Values as received → columns of their type; nothing raises, nothing is guessed."""

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConfigError
from app.normalize.coerce import GIVEN_LIMIT, to_moments, to_numbers, to_texts
from app.normalize.identity import MAX_KEY_CHARACTERS, key_column, read_keys
from app.normalize.rows import open_normalizer
from app.records import Rejection
from app.sources.spec import ApiSource, CsvSource, Mapping

ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
MAPPING = Mapping(name=("name", "title"), value=("value",), description=("body",), updated_at=("updated_at",))


def number(value: object) -> tuple[float | None, str | None]:
    column, notes = to_numbers("value", [value])
    return column[0], notes[0].code if notes else None


def moment(value: object) -> tuple[datetime | None, str | None]:
    column, notes = to_moments("at", [value])
    return column[0], notes[0].code if notes else None


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_comes_back_from_its_text(value: float) -> None:
    assert number(repr(value)) == (value, None)
    assert number(value) == (value, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", (None, None)),
        ("  ", (None, None)),
        (None, (None, None)),
        (" 1.5 ", (1.5, None)),
        ("1e3", (1000.0, None)),
        (10**400, (None, "not_finite")),
        ("1e999", (None, "not_finite")),
        ("nan", (None, "not_finite")),
        (math.inf, (None, "not_finite")),
        (True, (None, "not_a_number")),
        ("1_000", (None, "not_a_number")),
        ("1.2.3", (None, "not_a_number")),
        ("n/a", (None, "not_a_number")),
        ([1], (None, "not_a_number")),
        ({}, (None, "not_a_number")),
    ],
)
def test_a_number_or_a_note(value: object, expected: tuple[float | None, str | None]) -> None:
    assert number(value) == expected


@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)),  # noqa: DTZ001 -- a zone is added
    st.integers(-23 * 60, 23 * 60),
)
def test_a_moment_of_any_offset_is_the_same_instant_in_utc(naive: datetime, minutes: int) -> None:
    given_moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))

    column, note = moment(given_moment.isoformat())

    assert note is None
    assert column == given_moment
    assert column.tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", None),
        (None, None),
        ("2024-01-01T00:00:00", "no_offset"),
        ("2024-01-01", "no_offset"),
        ("2024", "not_a_datetime"),
        (1_700_000_000, "not_a_datetime"),
        (True, "not_a_datetime"),
        ("yesterday", "not_a_datetime"),
        ("0001-01-01T00:00:00+05:00", "out_of_range"),
        ("9999-12-31T23:59:59-05:00", "out_of_range"),
    ],
)
def test_a_moment_is_not_guessed(value: object, code: str | None) -> None:
    assert moment(value) == (None, code)


def test_one_odd_value_leaves_the_others_of_its_column_alone() -> None:
    good = "2024-01-01T00:00:00Z"

    column, notes = to_moments("at", [good, "odd", f" {good} ", None])

    expected = datetime(2024, 1, 1, tzinfo=UTC)
    assert column == [expected, None, expected, None]
    assert set(notes) == {1}


@given(st.lists(ANYTHING, max_size=4))
def test_no_value_raises_and_every_note_can_be_stored(values: list[Any]) -> None:
    for coerce in (to_texts, to_numbers, to_moments):
        column, notes = coerce("field", values)

        assert len(column) == len(values)
        for note in notes.values():
            assert "\x00" not in note.given
            assert len(note.given) <= GIVEN_LIMIT * 10
            note.given.encode()


@given(st.lists(ANYTHING, max_size=4))
def test_a_key_is_storable_text_or_a_rejection(values: list[Any]) -> None:
    keys, rejections = read_keys(values)

    for at, key in enumerate(keys):
        assert (key is None) == (at in rejections)
        if key is not None:
            assert key.strip()
            assert "\x00" not in key
            key.encode()


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("00017", "00017"),
        (17, "17"),
        ("17", "17"),
        (12345678901234567890123456, "12345678901234567890123456"),
        (0, "0"),
    ],
)
def test_a_key_is_exact(value: object, key: str) -> None:
    assert read_keys([value]) == ([key], {})


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "missing_key"),
        ("", "missing_key"),
        (" ", "missing_key"),
        (True, "key_not_scalar"),
        ([], "key_not_scalar"),
        ("x" * (MAX_KEY_CHARACTERS + 1), "key_too_long"),
        ("a\x00", "unstorable_key"),
        ("\ud800", "unstorable_key"),
    ],
)
def test_what_is_no_key_rejects(value: object, code: str) -> None:
    keys, rejections = read_keys([value, "good"])

    assert keys == [None, "good"]
    assert [rejection.code for rejection in rejections.values()] == [code]


@pytest.mark.parametrize(
    ("header", "primary_key", "index"),
    [
        (["a", "ID"], None, 1),
        (["csv_id", "b"], None, 0),
        (["code", "key", "uuid", "id"], None, 3),
        (["a", "Sku "], "sku", 1),
        (["sku", "SKU"], "SKU", 1),
    ],
)
def test_the_key_column(header: list[str], primary_key: str | None, index: int) -> None:
    assert key_column(header, primary_key=primary_key, source="csv", setting="CSV_ID_COLUMN") == index


@pytest.mark.parametrize("primary_key", [None, "nowhere"])
def test_a_key_is_never_made_up(primary_key: str | None) -> None:
    with pytest.raises(ConfigError, match=r"CSV_ID_COLUMN.*there are: colour, size"):
        key_column(["colour", "size"], primary_key=primary_key, source="csv", setting="CSV_ID_COLUMN")


def test_objects_are_normalized_by_the_first_name_that_has_a_value() -> None:
    source = ApiSource(name="api", resource="posts", url="http://x", primary_key="id", mapping=MAPPING)
    records = [{"id": 1, "name": None, "title": "T", "value": "2.5", "body": 7}, {"id": 2}]

    normalized = open_normalizer(source, {}).normalize(["1", "2"], records)

    assert normalized.name == ["T", ""]
    assert normalized.value == [2.5, None]
    assert normalized.description == ["7", None]
    assert normalized.notes == {}


def test_columns_are_found_whatever_their_case_and_empty_cells_say_nothing() -> None:
    source = CsvSource(name="csv", resource="rows", url="x.csv", primary_key=None, mapping=MAPPING)
    normalizer = open_normalizer(source, {"header": ["ID", "Title", "VALUE", "other"]})

    normalized = normalizer.normalize(["1", "2"], [["1", "a", "", "x"], ["2", "", "bad", "y"]])

    assert normalized.name == ["a", ""]
    assert normalized.value == [None, None]
    assert {at: [note.code for note in notes] for at, notes in normalized.notes.items()} == {1: ["not_a_number"]}
    assert normalizer.read_keys([["1", "a"], [], None]) == (
        ["1", None, None],
        {at: Rejection("missing_key", "source_id", "the record has no key") for at in (1, 2)},
    )


def test_text_that_cannot_be_stored_is_mended_with_a_note() -> None:
    source = ApiSource(name="api", resource="posts", url="http://x", primary_key="id", mapping=MAPPING)

    normalized = open_normalizer(source, {}).normalize(["1", "2"], [{"id": 1, "name": "a\x00\ud800"}, {"id": 2}])

    assert normalized.name == ["a\ufffd\ufffd", ""]
    assert [note.code for note in normalized.notes[0]] == ["unstorable_character"]
    assert normalized.rejections == {}
