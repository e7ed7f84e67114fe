"""Keys: exact, storable, never made up."""

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.errors import ConfigError
from app.normalize.identity import MAX_KEY_CHARACTERS, MISSING_KEY, key_column, read_keys
from app.normalize.rows import open_normalizer
from tests.normalizing import ANYTHING, csv_spec, rest_spec

TEXTS = st.text(st.sampled_from("ab:\\"), min_size=1, max_size=4)


def keys(mapping: dict[str, Any] | None, *records: object, **table: Any) -> list[str | None]:
    return open_normalizer(rest_spec(mapping, **table), {}).read_keys(records)[0]


def codes(mapping: dict[str, Any] | None, *records: object, **table: Any) -> dict[int, str]:
    rejections = open_normalizer(rest_spec(mapping, **table), {}).read_keys(records)[1]
    return {at: rejection.code for at, rejection in rejections.items()}


@given(st.lists(ANYTHING, max_size=4))
def test_a_key_is_storable_text_or_a_rejection(values: list[Any]) -> None:
    found, rejections = read_keys(values)

    for at, key in enumerate(found):
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
        (10**400, str(10**400)),
        (0, "0"),
        (1.5, "1.5"),
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
        ({}, "key_not_scalar"),
        (math.nan, "bad_key"),
        (math.inf, "bad_key"),
        ("x" * (MAX_KEY_CHARACTERS + 1), "key_too_long"),
        ("a\x00", "unstorable_key"),
        ("\ud800", "unstorable_key"),
    ],
)
def test_what_is_no_key_rejects(value: object, code: str) -> None:
    found, rejections = read_keys([value, "good"])

    assert found == [None, "good"]
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


@pytest.mark.parametrize("primary_key", [(), ("nowhere",)])
def test_the_built_in_file_names_its_setting(primary_key: tuple[str, ...]) -> None:
    spec = csv_spec(source="csv", where="built in", primary_key=primary_key)

    with pytest.raises(ConfigError, match=r"^csv: .*CSV_ID_COLUMN.*; there are: colour, size"):
        open_normalizer(spec, {"header": ["colour", "size"]})


@pytest.mark.parametrize("primary_key", [(), ("nowhere",), ("colour", "nowhere")])
def test_a_source_file_names_itself_and_primary_key(primary_key: tuple[str, ...]) -> None:
    spec = csv_spec(primary_key=primary_key)

    with pytest.raises(ConfigError, match=r"^sources/prices.toml: prices: .*primary_key.*; there are: colour, size"):
        open_normalizer(spec, {"header": ["colour", "size"]})


def test_an_object_is_named_by_its_id() -> None:
    assert keys(None, {"id": 1}, {"id": "1"}) == ["1", "1"]
    assert codes(None, {"key": 1}, None, {"id": None}) == dict.fromkeys(range(3), "missing_key")


def test_an_object_is_named_by_its_primary_key() -> None:
    assert keys(None, {"order": {"id": 9}}, primary_key="order.id") == ["9"]
    assert keys(None, {"ids": ["a", "b"]}, primary_key="ids[-1]") == ["b"]


def test_several_keys_are_joined() -> None:
    records = [{"sku": "A:1", "at": 7}, {"sku": "B\\", "at": "x"}, {"sku": "C"}, {"sku": [], "at": None}, None]

    found, rejections = open_normalizer(rest_spec(primary_key=["sku", "at"]), {}).read_keys(records)

    assert found == ["A\\:1:7", "B\\\\:x", None, None, None]
    assert {at: (item.code, item.detail) for at, item in rejections.items()} == {
        2: ("missing_key", "at: the record has no key"),
        3: ("key_not_scalar", "sku: the key is a list, not text or a number"),
        4: ("missing_key", "sku: the record has no key"),
    }


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_two_pairs_of_keys_never_meet(a: str, b: str, c: str, d: str) -> None:
    assume((a, b) != (c, d))

    first, second = keys(None, {"x": a, "y": b}, {"x": c, "y": d}, primary_key=["x", "y"])

    assert first != second


def test_a_joined_key_may_be_too_long() -> None:
    long = "x" * (MAX_KEY_CHARACTERS - 1)

    assert codes(None, {"x": long, "y": long}, {"x": "a", "y": "b"}, primary_key=["x", "y"]) == {0: "key_too_long"}


@pytest.mark.parametrize(
    ("source_id", "record", "key"),
    [
        ("uid", {"uid": 5, "id": 6}, "5"),
        ({"coalesce": ["uid", "id"]}, {"uid": None, "id": 6}, "6"),
        ({"template": "{sku}:{at.name}"}, {"sku": "A", "at": {"name": "B"}}, "A:B"),
        ({"path": "uid", "type": "integer"}, {"uid": "007"}, "007"),
        ({"path": "uid", "mask": "hash"}, {"uid": "ada"}, "c6ef43c47f8c23627ee5b9f8f5cb406c"),
    ],
)
def test_a_mapped_key_comes_before_the_primary_key(source_id: object, record: object, key: str) -> None:
    assert keys({"source_id": source_id}, record, primary_key="id") == [key]


@pytest.mark.parametrize(
    ("source_id", "record", "code"),
    [
        ("uid", {"id": 6}, "missing_key"),
        ("uid", {"uid": {}}, "key_not_scalar"),
        ({"template": "{sku}{at}"}, {"id": 6}, "missing_key"),
        ({"path": "uid", "null_values": ["-"]}, {"uid": "-"}, "missing_key"),
        ({"path": "uid", "type": "integer"}, {"uid": "x7"}, "bad_key"),
        ({"path": "uid", "type": "integer"}, {"uid": ""}, "missing_key"),
        ("sum(uid)", {"uid": ["x"]}, "bad_key"),
    ],
)
def test_a_mapped_key_that_is_none_rejects(source_id: object, record: object, code: str) -> None:
    assert codes({"source_id": source_id}, record) == {0: code}


def test_a_masked_key_is_not_shown() -> None:
    spec = rest_spec({"source_id": {"path": "uid", "type": "integer", "mask": "hash"}})

    found, rejections = open_normalizer(spec, {}).read_keys([{"uid": "secret"}, {"uid": "17"}])

    assert rejections[0].detail == "not_a_number: ***"
    assert found[1] is not None
    assert len(found[1]) == 32


def test_a_row_is_named_by_its_columns() -> None:
    spec = csv_spec(primary_key=["sku", "warehouse"], format={"null_values": ["", "NULL"]})
    normalizer = open_normalizer(spec, {"header": ["Warehouse", "SKU", "name"]})

    found, rejections = normalizer.read_keys([["w", "s", "n"], ["w", "NULL", "n"], ["w"], None])

    assert found == ["s:w", None, None, None]
    assert {rejection.code for rejection in rejections.values()} == {"missing_key"}


def test_an_empty_cell_is_no_key() -> None:
    normalizer = open_normalizer(csv_spec(), {"header": ["id", "name"]})

    assert normalizer.read_keys([["1", "a"], ["", "b"], [], None]) == (
        ["1", None, None, None],
        {at: MISSING_KEY for at in (1, 2, 3)},  # noqa: C420 -- fromkeys hides the indexes
    )
