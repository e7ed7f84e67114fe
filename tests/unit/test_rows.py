"""Parsed records → columns, as the mapping says."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConfigError
from app.normalize.rows import Normalized, open_normalizer
from tests.normalizing import ANYTHING, csv_spec, rest_spec

HEADER = ["sku", "Bezeichnung", "Preis", "Stand", "weg"]


def objects(mapping: dict[str, Any], *records: Any, **table: Any) -> Normalized:
    return open_normalizer(rest_spec(mapping, **table), {}).normalize(
        [str(at) for at, _ in enumerate(records)], records
    )


def rows(mapping: dict[str, Any], *records: list[str], header: list[str] = HEADER, **table: Any) -> Normalized:
    normalizer = open_normalizer(csv_spec(mapping, primary_key=header[0], **table), {"header": header})
    return normalizer.normalize([str(at) for at, _ in enumerate(records)], records)


def noted(normalized: Normalized) -> dict[int, list[tuple[str, str, str]]]:
    return {at: [tuple(note) for note in notes] for at, notes in normalized.notes.items()}  # type: ignore[misc]


def test_objects_are_normalized_by_the_first_path_that_has_a_value() -> None:
    mapping = {"name": {"coalesce": ["name", "title"]}, "value": "value", "description": "body"}

    normalized = objects(mapping, {"id": 1, "name": None, "title": "T", "value": "2.5", "body": 7}, {"id": 2})

    assert normalized.name == ["T", ""]
    assert normalized.value == [2.5, None]
    assert normalized.description == ["7", None]
    assert normalized.created_at == [None, None]
    assert normalized.notes == {}


def test_the_crm_example_of_the_source_format() -> None:
    mapping = {
        "source_id": "id",
        "name": {"coalesce": ["full_name", "email"]},
        "value": {"path": "lifetime_value", "type": "decimal", "null_values": ["", "N/A"]},
        "description": {"template": "{email}, {company.name}, {address.city}"},
        "created_at": {"path": "created_at", "type": "datetime"},
        "deleted": "is_deleted",
    }

    normalized = objects(
        mapping,
        {"full_name": "Ada", "lifetime_value": "N/A", "email": "a@x", "company": {"name": "Acme"}},
        {"email": "b@x", "lifetime_value": 12, "created_at": "2024-01-01T01:00:00+01:00", "is_deleted": True},
        {"lifetime_value": "n/a", "is_deleted": False},
    )

    assert normalized.name == ["Ada", "b@x", ""]
    assert normalized.value == [None, 12.0, None]
    assert normalized.description == ["a@x, Acme, ", "b@x, , ", None]
    assert normalized.created_at == [None, datetime(2024, 1, 1, tzinfo=UTC), None]
    assert normalized.deleted == {1}
    assert noted(normalized) == {2: [("value", "not_a_number", "n/a")]}


def test_the_price_list_example_of_the_source_format() -> None:
    mapping = {
        "source_id": {"template": "{sku}:{weg}"},
        "name": "Bezeichnung",
        "value": {"path": "Preis", "type": "decimal", "decimal": ",", "thousands": "."},
        "updated_at": {"path": "Stand", "format": "%d.%m.%Y %H:%M", "timezone": "Europe/Berlin"},
    }

    normalized = rows(
        mapping,
        ["A1", "Nadel", "1.234,50", "24.12.2024 18:30", "w"],
        ["A2", "n/a", "n/a", "", "w"],
        format={"null_values": ["", "n/a"]},
    )

    assert normalized.name == ["Nadel", ""]
    assert normalized.value == [1234.5, None]
    assert normalized.updated_at == [datetime(2024, 12, 24, 17, 30, tzinfo=UTC), None]
    assert normalized.notes == {}


@pytest.mark.parametrize(
    ("template", "record", "text"),
    [
        ("{a}", {"a": "x"}, "x"),
        ("{a} {b.c}", {"a": 1, "b": {"c": True}}, "1 true"),
        ("<{a}|{b}>", {"b": "y"}, "<|y>"),
        ("<{a}|{b}>", {"a": None}, None),
        ("{{{a}}}", {"a": 1.5}, "{1.5}"),
        ("{ a }", {"a": ["é"]}, '["é"]'),
        ('{"full name"}', {"full name": "Ada"}, "Ada"),
        ("{a}", {"a": ""}, ""),
        ("{length(a)}-{b}", {"a": 5, "b": 1}, "-1"),
        ("plain", {}, "plain"),
    ],
)
def test_a_template_is_filled(template: str, record: dict[str, Any], text: str | None) -> None:
    assert objects({"description": {"template": template}}, record).description == [text]


def test_a_constant_is_the_same_in_every_row() -> None:
    mapping = {
        "name": {"constant": "EUR"},
        "value": {"constant": 0},
        "created_at": {"constant": "2024-01-01T00:00:00Z"},
    }

    normalized = objects(mapping, {}, {"name": "x"})

    assert normalized.name == ["EUR", "EUR"]
    assert normalized.value == [0.0, 0.0]
    assert normalized.created_at == [datetime(2024, 1, 1, tzinfo=UTC)] * 2


def test_null_values_make_way_for_the_next_path_and_for_the_default() -> None:
    mapping = {"name": {"coalesce": ["a", "b"], "null_values": ["-"], "default": "nobody"}}

    assert objects(mapping, {"a": "-", "b": "x"}, {"a": "-", "b": "-"}, {"a": "y"}).name == ["x", "nobody", "y"]


def test_columns_are_found_whatever_their_case_and_empty_cells_say_nothing() -> None:
    mapping = {"name": {"coalesce": ["name", "title"]}, "value": {"coalesce": ["value"]}}

    normalized = rows(mapping, ["1", "a", ""], ["2", "", "bad"], header=["ID", " Title", "VALUE"])

    assert normalized.name == ["a", ""]
    assert normalized.value == [None, None]
    assert noted(normalized) == {1: [("value", "not_a_number", "bad")]}


def test_a_column_without_any_of_its_headers_is_not_mapped() -> None:
    normalized = rows({"name": {"coalesce": ["nowhere", "neither"], "default": "x"}}, ["1", "a"], header=["id", "name"])

    assert normalized.name == [""]


def test_a_later_header_fills_the_cells_that_an_earlier_leaves_empty() -> None:
    mapping = {"name": {"coalesce": ["nowhere", "b", "c"]}}

    assert rows(mapping, ["1", "x", "y"], ["2", "", "z"], header=["id", "b", "c"]).name == ["x", "z"]


@pytest.mark.parametrize(
    ("mapping", "fault"),
    [
        ({"name": "nowhere"}, "mapping.name: 'nowhere' is not a header; there are: sku, Bezeichnung"),
        ({"name": {"template": "{sku} {nix}"}}, "mapping.name: 'nix' is not a header"),
        ({"source_id": "nowhere"}, "mapping.source_id: 'nowhere' is not a header"),
        ({"source_id": {"coalesce": ["a", "b"]}}, "mapping.source_id: none of a, b is a header"),
        ({"value": {"path": "Preis", "type": "json"}}, "mapping.value: type = 'json' does not fit"),
    ],
)
def test_a_mapping_that_cannot_work_names_file_and_key(mapping: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=f"^sources/prices.toml: prices: {fault}"):
        rows(mapping, ["A1", "x", "1", "", ""])


def test_a_bad_path_names_file_and_key() -> None:
    with pytest.raises(ConfigError, match=r"^sources/crm.toml: crm: mapping.value: 'a\[' is no JMESPath"):
        objects({"value": "a["})
    with pytest.raises(ConfigError, match=r"^sources/crm.toml: crm: filter: 'a\[' is no JMESPath"):
        objects({}, filter=[{"path": "a[", "op": "exists"}])


def test_filtered_records_are_neither_noted_nor_deleted() -> None:
    mapping = {"value": "Preis", "deleted": "weg"}
    records = [
        ["1", "", "5", "", "no"],
        ["2", "", "50", "", "yes"],
        ["3", "", "x", "", "yes"],
        ["4", "", "70", "", "?"],
    ]

    normalized = rows(
        mapping,
        *records,
        filter=[{"path": "Preis", "op": "ge", "value": 10}, {"path": "sku", "op": "ne", "value": "3"}],
    )

    assert normalized.filtered == {0, 2}
    assert normalized.deleted == {1}
    assert noted(normalized) == {3: [("deleted", "not_a_boolean", "?")]}


def test_a_path_whose_function_fails_gives_null_and_says_why() -> None:
    normalized = objects(
        {"value": "sum(prices)", "name": {"path": "join('-', x)", "default": "d"}}, {"prices": ["a"], "x": 5}
    )

    assert (normalized.value, normalized.name) == ([None], [""])
    assert [(note.field, note.code) for note in normalized.notes[0]] == [
        ("name", "path_failed"),
        ("value", "path_failed"),
    ]
    assert "sum()" in normalized.notes[0][1].given


def test_text_that_cannot_be_stored_is_mended_with_a_note() -> None:
    normalized = objects({"name": "name"}, {"name": "a\x00\ud800"}, {})

    assert normalized.name == ["a\ufffd\ufffd", ""]
    assert noted(normalized) == {0: [("name", "unstorable_character", "a\\x00\\ud800")]}
    assert normalized.rejections == {}


@pytest.mark.parametrize("path", ["secret", "join('', secret)"])
def test_a_masked_field_is_hidden_in_every_note(path: str) -> None:
    mapping = {
        "name": {"path": path, "mask": "partial"},
        "description": {"path": path, "mask": "hash", "type": "integer"},
    }

    normalized = objects(mapping, {"secret": "hunter2-\x00abc"}, {"secret": ["hunter2"]}, {"secret": {"x": "hunter2"}})

    assert normalized.notes
    assert {note.given for notes in normalized.notes.values() for note in notes} == {"***"}


@given(st.lists(st.dictionaries(st.sampled_from("abcde"), ANYTHING) | st.none(), max_size=4))
def test_no_record_makes_a_mapping_raise(records: list[dict[str, Any] | None]) -> None:
    mapping = {
        "name": {"template": "{a}-{b.c}"},
        "value": {"coalesce": ["a", "b[0]"]},
        "description": "a",
        "created_at": {"path": "c", "format": "unix"},
        "updated_at": {"path": "d", "timezone": "Europe/Berlin"},
        "deleted": "e",
    }

    normalized = objects(mapping, *records, filter=[{"path": "b", "op": "ne", "value": 1}])

    for name in ("name", "value", "description", "created_at", "updated_at"):
        assert len(getattr(normalized, name)) == len(records)
    assert normalized.rejections == {}


def test_a_filtered_record_is_not_rejected_too() -> None:
    normalizer = open_normalizer(rest_spec(filter=[{"path": "keep", "op": "eq", "value": True}]), {})

    normalized = normalizer.normalize(["x" * 2001, "y" * 2001], [{"keep": False}, {"keep": True}])

    assert normalized.filtered == {0}
    assert [(at, item.code, item.field) for at, item in normalized.rejections.items()] == [(1, "invalid", "source_id")]
