"""Where a value is, in an object and in a row."""

import pytest
from hypothesis import given

from app.errors import ConfigError
from app.normalize.paths import HeaderPaths, ObjectPaths, Unreadable, compile_path, header_index, is_plain
from tests.normalizing import ANYTHING

CONTACT = {
    "id": 7,
    "full name": "Ada",
    "company": {"name": "Acme", "tax.id": "DE1"},
    "emails": [{"to": "a@x.org", "main": False}, {"to": "b@x.org", "main": True}],
    "note": None,
    "sizes": [3, 4],
    "parts": ["a", "b"],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", 7),
        ("company.name", "Acme"),
        ('"full name"', "Ada"),
        ('company."tax.id"', "DE1"),
        ("nowhere", None),
        ("note", None),
        ("note.deeper", None),
        ("id.deeper", None),
        ("company.name.deeper", None),
        ("emails[0].to", "a@x.org"),
        ("emails[?main].to | [0]", "b@x.org"),
        ("emails[9].to", None),
        ("sum(sizes)", 7),
        ("join('-', parts)", "a-b"),
        ("nowhere || id", 7),
        ("@.id", 7),
    ],
)
def test_a_path_finds(path: str, value: object) -> None:
    assert compile_path(path)(CONTACT) == value


@pytest.mark.parametrize("path", ["id", "company.name", '"full name"', 'a."b.c".d'])
def test_a_path_of_names_is_plain(path: str) -> None:
    assert is_plain(path)


@pytest.mark.parametrize("path", ["a[0]", "a || b", "length(a)", "a.*", "a b", "", '"a\\nb"'])
def test_another_path_is_not_plain(path: str) -> None:
    assert not is_plain(path)


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("", "is no JMESPath"),
        ("full name", "'full name' is no JMESPath: .*\"first name\""),
        ("user-id", "'user-id' is no JMESPath"),
        ("a..b", "'a..b' is no JMESPath"),
        ("a[", "'a\\[' is no JMESPath: Invalid jmespath expression: Incomplete expression"),
        ("lower(name)", "there is no function lower"),
        ("a[?upper(b) == 'x']", "there is no function upper"),
        ("length(a, b)", "length\\(\\) takes 1 arguments, not 2"),
        ("&a", "& is for arguments"),
    ],
)
def test_a_bad_path_is_named_with_its_fault(path: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        compile_path(path)


def test_a_function_given_null_finds_nothing() -> None:
    assert compile_path("length(note)")(CONTACT) is None


@pytest.mark.parametrize("path", ["sum(parts)", "length(id)", "sizes[::0]", "max_by(emails, &main)"])
def test_a_function_that_does_not_take_the_value_says_so(path: str) -> None:
    assert isinstance(compile_path(path)(CONTACT), Unreadable)


def test_an_argument_reference_is_fine() -> None:
    assert compile_path("sort_by(emails, &to)[0].to")(CONTACT) == "a@x.org"
    assert compile_path("merge(company, company).name")(CONTACT) == "Acme"


@pytest.mark.parametrize("path", ["a", "a.b", "a[0]", "length(a)", "sum(@)", "sort(a)", "ceil(a)", "to_number(a)"])
@given(record=ANYTHING)
def test_no_record_makes_a_path_raise(path: str, record: object) -> None:
    for given_record in (record, {"a": record}):
        value = compile_path(path)(given_record)

        json_types = (dict, list, str, int, float, bool, type(None), Unreadable)
        assert isinstance(value, json_types)


def test_a_record_that_did_not_parse_has_no_values() -> None:
    for path in ("id", "company.name", "emails[0].to"):
        assert len(ObjectPaths().column(path)([CONTACT, None])) == 2
        assert ObjectPaths().column(path)([CONTACT, None])[1] is None


@pytest.mark.parametrize(
    ("header", "name", "index"),
    [
        (["id", "Bezeichnung"], "Bezeichnung", 1),
        (["id", " bezeichnung "], "Bezeichnung", 1),
        (["SKU", "sku"], "sku", 1),
        (["SKU", "sku"], "Sku", None),
        (["sku", "sku"], "sku", 0),
        (["id"], "sku", None),
        (["a.b"], "a.b", 0),
    ],
)
def test_a_header_is_found_by_its_text_else_by_the_only_one_like_it(
    header: list[str], name: str, index: int | None
) -> None:
    assert header_index(header, name) == index


def test_a_path_that_is_no_header_lists_the_headers() -> None:
    with pytest.raises(ConfigError, match="'Preis' is not a header; there are: id, Price"):
        HeaderPaths(["id", "Price"]).column("Preis")


@pytest.mark.parametrize(
    ("null_values", "cells"),
    [
        (("",), ["a", None, "NULL"]),
        (("", "NULL"), ["a", None, None]),
        (("NULL",), ["a", "", None]),
        ((), ["a", "", "NULL"]),
    ],
)
def test_null_cells_are_no_value(null_values: tuple[str, ...], cells: list[str | None]) -> None:
    column = HeaderPaths(["x", "y"], null_values).column("y")

    assert column([["0", "a"], ["1", ""], ["2", "NULL"]]) == cells


def test_a_row_that_ends_before_the_column_has_no_value_there() -> None:
    assert HeaderPaths(["x", "y"]).column("y")([["0", "a"], ["1"], None]) == ["a", None, None]
