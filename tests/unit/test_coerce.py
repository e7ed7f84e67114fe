"""Values as received → columns of their type; nothing raises, nothing is guessed."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ConfigError
from app.normalize.coerce import TEXT_COLUMNS, open_coercion
from app.normalize.moments import to_moments
from app.normalize.notes import GIVEN_LIMIT
from app.normalize.numbers import to_numbers
from app.normalize.texts import to_texts
from app.sources.mapping import FieldMapping, ValueType
from tests.normalizing import ANYTHING

BERLIN = "Europe/Berlin"


def coerced(column: str, value: object, **options: Any) -> tuple[Any, str | None]:
    """The value as the column takes it, and the code of the note."""
    typed, notes = open_coercion(column, FieldMapping(path="x", **options))([value])
    return typed[0], notes[0].code if notes else None


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]  # pytest reads better so


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_comes_back_from_its_text(value: float) -> None:
    assert coerced("value", repr(value)) == (value, None)
    assert coerced("value", value) == (value, None)


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
    assert coerced("value", value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.234.567,89", 1234567.89),
        ("1234567,89", 1234567.89),
        ("-12,5", -12.5),
        (" +1.000 ", 1000.0),
        (",5", 0.5),
        ("5,", 5.0),
        ("1,5e3", 1500.0),
        ("1.23,4", None),
        ("12.34.567", None),
        (".123", None),
        ("1..234", None),
        ("1.234,567.8", None),
        ("1,2,3", None),
        ("12 €", None),
        ("1_000", None),
        ("nan", None),
    ],
)
def test_marks_are_read_where_they_are_well_placed(text: str, expected: float | None) -> None:
    code = "not_a_number" if expected is None else None

    assert coerced("value", text, decimal=",", thousands=".") == (expected, code)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("1,234.5", {"thousands": ","}, 1234.5),
        ("1 234,5", {"thousands": " ", "decimal": ","}, 1234.5),
        ("1'234.5", {"thousands": "'"}, 1234.5),
        ("1_234.5", {"thousands": "_"}, 1234.5),
        ("1,5", {"decimal": ","}, 1.5),
        (7, {"decimal": ","}, 7.0),
    ],
)
def test_each_country_has_its_marks(text: object, options: dict[str, str], expected: float) -> None:
    assert coerced("value", text, **options) == (expected, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, (5.0, None)),
        ("5", (5.0, None)),
        ("5.0", (5.0, None)),
        (5.5, (None, "not_an_integer")),
        ("5.5", (None, "not_an_integer")),
        ("five", (None, "not_a_number")),
        (math.nan, (None, "not_finite")),
        (True, (None, "not_a_number")),
    ],
)
def test_an_integer_is_whole(value: object, expected: tuple[float | None, str | None]) -> None:
    assert coerced("value", value, type="integer") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Ada", ("Ada", None)),
        (" Ada ", (" Ada ", None)),
        (7, ("7", None)),
        (1.50, ("1.5", None)),
        (True, ("true", None)),
        (None, (None, None)),
        ({"é": 1}, ('{"é": 1}', "not_text")),
        ([1, "a"], ('[1, "a"]', "not_text")),
    ],
)
def test_text_is_the_text_or_the_json(value: object, expected: tuple[str | None, str | None]) -> None:
    assert coerced("name", value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, (True, None)),
        (False, (False, None)),
        (1, (True, None)),
        (0, (False, None)),
        ("TRUE", (True, None)),
        ("t", (True, None)),
        ("Yes", (True, None)),
        (" y ", (True, None)),
        ("0", (False, None)),
        ("no", (False, None)),
        ("N", (False, None)),
        ("F", (False, None)),
        ("", (None, None)),
        (None, (None, None)),
        (2, (None, "not_a_boolean")),
        (1.0, (None, "not_a_boolean")),
        ("on", (None, "not_a_boolean")),
        ([], (None, "not_a_boolean")),
    ],
)
def test_a_boolean_is_not_guessed(value: object, expected: tuple[bool | None, str | None]) -> None:
    assert coerced("deleted", value) == expected


@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)),  # noqa: DTZ001 -- a zone is added
    st.integers(-23 * 60, 23 * 60),
)
def test_a_moment_of_any_offset_is_the_same_instant_in_utc(naive: datetime, minutes: int) -> None:
    given_moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))

    moment, note = coerced("created_at", given_moment.isoformat())

    assert note is None
    assert moment == given_moment
    assert moment.tzinfo is UTC


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
    assert coerced("created_at", value) == (None, code)


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        ("24.12.2024 18:30", "%d.%m.%Y %H:%M", utc(2024, 12, 24, 17, 30)),
        (" 24.12.2024 18:30 ", "%d.%m.%Y %H:%M", utc(2024, 12, 24, 17, 30)),
        ("2024-07-01T12:00:00 +0300", "%Y-%m-%dT%H:%M:%S %z", utc(2024, 7, 1, 9)),
        ("2024-07-01T12:00", "iso8601", utc(2024, 7, 1, 10)),
        ("2024-07-01T12:00Z", "iso8601", utc(2024, 7, 1, 12)),
        (1_700_000_000, "unix", utc(2023, 11, 14, 22, 13, 20)),
        ("1700000000.5", "unix", utc(2023, 11, 14, 22, 13, 20, 500_000)),
        (-1, "unix", utc(1969, 12, 31, 23, 59, 59)),
        (1_700_000_000_123, "unix_ms", utc(2023, 11, 14, 22, 13, 20, 123_000)),
        ("Tue, 01 Jul 2003 10:52:37 +0200", "rfc2822", utc(2003, 7, 1, 8, 52, 37)),
        ("Tue, 01 Jul 2003 10:52:37 GMT", "rfc2822", utc(2003, 7, 1, 10, 52, 37)),
        ("Tue, 01 Jul 2003 10:52:37 -0000", "rfc2822", utc(2003, 7, 1, 10, 52, 37)),
        ("01 Jul 2003 10:52", "rfc2822", utc(2003, 7, 1, 8, 52)),
    ],
)
def test_a_moment_in_its_format(value: object, form: str, expected: datetime) -> None:
    assert coerced("updated_at", value, format=form, timezone=BERLIN) == (expected, None)


@pytest.mark.parametrize(
    ("value", "form", "code"),
    [
        ("2024-12-24", "%d.%m.%Y", "not_a_datetime"),
        ("24.12.2024", "%d.%m.%Y", "no_offset"),
        (20241224, "%Y%m%d", "not_a_datetime"),
        (True, "unix", "not_a_datetime"),
        ("1_700", "unix", "not_a_datetime"),
        ("soon", "unix", "not_a_datetime"),
        ([1], "unix", "not_a_datetime"),
        (math.nan, "unix", "not_a_datetime"),
        (math.inf, "unix", "out_of_range"),
        (10**15, "unix", "out_of_range"),
        ("2024-01-01T00:00:00Z", "rfc2822", "not_a_datetime"),
        (5, "rfc2822", "not_a_datetime"),
        ("", "rfc2822", None),
        ("", "%d", None),
        ("  ", "unix_ms", None),
    ],
)
def test_a_moment_that_is_not_in_its_format(value: object, form: str, code: str | None) -> None:
    assert coerced("updated_at", value, format=form) == (None, code)


@pytest.mark.parametrize(
    ("local", "expected", "code"),
    [
        ("2024-10-27T01:59:59", utc(2024, 10, 26, 23, 59, 59), None),
        ("2024-10-27T02:30:00", utc(2024, 10, 27, 0, 30), "ambiguous_time"),  # summer time's 02:30, the first
        ("2024-10-27T03:00:00", utc(2024, 10, 27, 2), None),
        ("2024-03-31T01:59:59", utc(2024, 3, 31, 0, 59, 59), None),
        ("2024-03-31T02:30:00", utc(2024, 3, 31, 1, 30), "ambiguous_time"),  # no such time; 03:30 in summer time
        ("2024-03-31T03:00:00", utc(2024, 3, 31, 1), None),
        ("0001-01-01T00:00:00", None, "out_of_range"),
    ],
)
def test_a_local_time_at_a_change_of_clocks_is_noted(local: str, expected: datetime | None, code: str | None) -> None:
    assert coerced("updated_at", local, timezone=BERLIN) == (expected, code)


@pytest.mark.parametrize(
    ("value", "options", "expected"),
    [
        ("2024-07-01", {}, (utc(2024, 7, 1), None)),
        ("2024-07-01", {"timezone": BERLIN}, (utc(2024, 6, 30, 22), None)),
        ("01.07.2024", {"format": "%d.%m.%Y"}, (utc(2024, 7, 1), None)),
        (1_719_871_200, {"format": "unix"}, (utc(2024, 7, 1), None)),  # 22:00 UTC
        (1_719_871_200, {"format": "unix", "timezone": BERLIN}, (utc(2024, 7, 1, 22), None)),  # 00:00 there
        ("2024-09-08", {"timezone": "America/Santiago"}, (utc(2024, 9, 8, 4), "ambiguous_time")),  # no midnight
        ("2024-07-01T10:00:00Z", {}, (None, "not_a_date")),
        ("2024-13-01", {}, (None, "not_a_date")),
        (20240701, {}, (None, "not_a_date")),
        ("", {}, (None, None)),
    ],
)
def test_a_date_is_its_midnight(
    value: object, options: dict[str, str], expected: tuple[datetime | None, str | None]
) -> None:
    assert coerced("created_at", value, type="date", **options) == expected


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("007", "integer", ("007", None)),
        (7, "integer", ("7", None)),
        ("seven", "integer", (None, "not_a_number")),
        ("1.50", "decimal", ("1.50", None)),
        ("2024-02-30", "date", (None, "not_a_date")),
        ("2024-02-29", "date", ("2024-02-29", None)),
        ("Yes", "boolean", ("Yes", None)),
        (False, "boolean", ("false", None)),
        ("perhaps", "boolean", (None, "not_a_boolean")),
        ({"a": [1.0]}, "json", ('{"a": [1.0]}', None)),
        ('{"a": 1}', "json", ('{"a": 1}', None)),
        (" ", "json", (None, None)),
        (7, "json", ("7", None)),
        ("{a}", "json", (None, "not_json")),
        ("NaN", "json", (None, "not_json")),
        ([math.inf], "json", (None, "not_json")),
        ("[" * 100_000, "json", (None, "not_json")),
    ],
)
def test_a_typed_text_is_kept_when_it_fits(value: object, kind: str, expected: tuple[str | None, str | None]) -> None:
    assert coerced("description", value, type=kind) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, (9.0, None)), ("  ", (9.0, None)), (0, (0.0, None)), ("n/a", (None, "not_a_number"))],
)
def test_a_default_stands_for_no_value_not_for_a_wrong_one(
    value: object, expected: tuple[float | None, str | None]
) -> None:
    assert coerced("value", value, default="9") == expected


def test_a_default_is_of_the_columns_type() -> None:
    assert coerced("name", None, default=5) == ("5", None)
    assert coerced("created_at", None, default="2024-01-01T01:00:00+01:00") == (utc(2024, 1, 1), None)


@pytest.mark.parametrize(
    ("mask", "value", "expected"),
    [
        ("redact", "4111111111111111", "***"),
        ("redact", None, None),
        ("partial", "4111111111111111", "************1111"),
        ("partial", "12345678", "****5678"),
        ("partial", "1234567", "*******"),
        ("partial", 12345678, "****5678"),
        ("hash", "ada@example.org", "4b0310a07ee09fb40bace56a3996a4e4"),
    ],
)
def test_a_masked_text(mask: str, value: object, expected: str | None) -> None:
    assert coerced("name", value, mask=mask) == (expected, None)


@pytest.mark.parametrize("mask", ["hash", "redact", "partial"])
def test_a_masked_field_is_hidden_in_notes(mask: Any) -> None:
    coerce = open_coercion("description", FieldMapping(path="x", type="integer", mask=mask))

    column, notes = coerce(["secret"])

    assert column == [None]
    assert (notes[0].code, notes[0].given) == ("not_a_number", "***")


@pytest.mark.parametrize(
    ("column", "options", "fault"),
    [
        ("value", {"type": "string"}, "type = 'string' does not fit the column; it takes decimal or integer"),
        ("created_at", {"type": "decimal"}, "it takes date or datetime"),
        ("deleted", {"type": "integer"}, "it takes boolean"),
        ("name", {"format": "%d"}, "format means nothing for type string"),
        ("value", {"timezone": "UTC"}, "timezone means nothing for type decimal"),
        ("created_at", {"decimal": ","}, "decimal means nothing for type datetime"),
        ("description", {"thousands": ","}, "thousands means nothing for type string"),
        ("value", {"mask": "hash"}, "mask is for columns of text"),
        ("value", {"thousands": "."}, "thousands is the decimal mark"),
        ("value", {"decimal": "5"}, "'5' cannot be a mark"),
        ("value", {"thousands": "-"}, "'-' cannot be a mark"),
        ("value", {"default": "none"}, "default = 'none' does not fit type decimal"),
        ("created_at", {"default": "2024-01-01T00:00:00"}, "default = .* does not fit type datetime"),
        ("created_at", {"format": "DD.MM.YYYY"}, "format 'DD.MM.YYYY' has no directives"),
        ("created_at", {"format": "%d.%m.%Q"}, "'Q' is a bad directive"),
        ("source_id", {"default": "x"}, "would give many records one key"),
        ("source_id", {"mask": "redact"}, "would give many records one key"),
        ("source_id", {"mask": "partial"}, "would give many records one key"),
    ],
)
def test_an_option_that_cannot_work_is_refused(column: str, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        open_coercion(column, FieldMapping(path="x", **options))


def test_a_constant_must_fit() -> None:
    with pytest.raises(ConfigError, match="constant = 'much' does not fit type decimal"):
        open_coercion("value", FieldMapping(constant="much"))


def test_one_odd_value_leaves_the_others_of_its_column_alone() -> None:
    good = "2024-01-01T00:00:00Z"

    column, notes = to_moments("at", [good, "odd", f" {good} ", None])

    assert column == [utc(2024, 1, 1), None, utc(2024, 1, 1), None]
    assert set(notes) == {1}


OPTIONS: list[dict[str, str]] = [
    {},
    {"decimal": ",", "thousands": "."},
    {"format": "%d.%m.%Y", "timezone": BERLIN},
    {"format": "unix"},
    {"format": "unix_ms", "timezone": BERLIN},
    {"format": "rfc2822"},
    {"timezone": BERLIN},
    {"mask": "hash"},
    {"mask": "partial"},
]
PYTHON_TYPES = {"value": float, "created_at": datetime, "deleted": bool, "name": str}
CASES = [
    (column, kind, options)
    for column in PYTHON_TYPES
    for kind in get_args(ValueType)
    for options in OPTIONS
    if column == "name" or "mask" not in options
]


def openable(column: str, kind: Any, options: dict[str, Any]) -> bool:
    try:
        open_coercion(column, FieldMapping(path="x", type=kind, **options))
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize(("column", "kind", "options"), [case for case in CASES if openable(*case)])
@settings(max_examples=30)
@given(
    values=st.lists(
        ANYTHING | st.from_regex(r"[0-9.,:TZ +-]{1,20}") | st.datetimes().map(datetime.isoformat) | st.floats(),
        max_size=5,
    )
)
def test_any_value_becomes_one_of_the_type_or_null_with_a_note(
    column: str, kind: Any, options: dict[str, Any], values: list[Any]
) -> None:
    typed, notes = open_coercion(column, FieldMapping(path="x", type=kind, **options))(values)

    assert len(typed) == len(values)
    for at, (value, one) in enumerate(zip(values, typed, strict=True)):
        if one is None:
            assert value is None or at in notes or (isinstance(value, str) and not value.strip())
            continue
        assert type(one) is PYTHON_TYPES[column]
        assert not isinstance(one, float) or math.isfinite(one)
        assert not isinstance(one, datetime) or one.tzinfo is UTC
        if kind == "json" and "mask" not in options:
            json.loads(str(one))
    for note in notes.values():
        assert "\x00" not in note.given
        assert len(note.given) <= GIVEN_LIMIT * 10
        assert note.field == column
        note.given.encode()


def test_every_column_of_text_takes_every_type() -> None:
    for column in TEXT_COLUMNS:
        assert all(openable(column, kind, {}) for kind in get_args(ValueType))


def test_a_note_keeps_the_beginning_of_what_was_given() -> None:
    assert to_numbers("value", ["x" * 500])[1][0].given == "x" * GIVEN_LIMIT
    assert to_texts("name", [["\x00"]])[1][0].given == '["\\u0000"]'
