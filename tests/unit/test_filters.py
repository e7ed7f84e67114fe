"""Which records pass."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConfigError
from app.normalize.filters import Filters, open_test
from app.normalize.paths import HeaderPaths, ObjectPaths
from app.sources.mapping import Filter
from tests.normalizing import ANYTHING

DAY = datetime(2024, 5, 1, tzinfo=UTC)


def holds(op: str, value: object, wanted: object = None, *, cells: bool = False) -> bool:
    return open_test(Filter.model_validate({"path": "x", "op": op, "value": wanted}), cells=cells)(value)


@pytest.mark.parametrize(
    ("op", "value", "wanted"),
    [
        ("eq", "open", "open"),
        ("eq", 5, 5.0),
        ("eq", True, True),
        ("eq", "2024-05-01T02:00:00+02:00", DAY),
        ("eq", "2024-05-01", date(2024, 5, 1)),
        ("ne", "open", "closed"),
        ("ne", "5", 5),
        ("ne", 1, True),
        ("ne", None, "open"),
        ("lt", 9, 10),
        ("lt", "2024-01-31", "2024-02-01"),
        ("le", 10, 10),
        ("gt", 10.5, 10),
        ("gt", "2024-06-01T00:00:00Z", DAY),
        ("ge", "b", "b"),
        ("ge", "2024-05-01T00:00:00Z", date(2024, 5, 1)),
        ("in", "a", ["a", "b"]),
        ("in", 2.0, [1, 2]),
        ("not_in", "c", ["a", "b"]),
        ("not_in", None, ["a"]),
        ("contains", "hello", "ell"),
        ("contains", ["a", "b"], "b"),
        ("contains", {"a": 1}, "a"),
        ("matches", "ORD-17", r"^ORD-\d+$"),
        ("matches", 17, "^1"),
        ("exists", 0, None),
        ("exists", "", None),
        ("missing", None, None),
    ],
)
def test_a_json_value_holds(op: str, value: object, wanted: object) -> None:
    assert holds(op, value, wanted)


@pytest.mark.parametrize(
    ("op", "value", "wanted"),
    [
        ("eq", "Open", "open"),
        ("eq", None, "open"),
        ("eq", 1, True),
        ("eq", "5", 5),
        ("eq", "yesterday", DAY),
        ("ne", "open", "open"),
        ("lt", 10, 9),
        ("lt", "9", 10),
        ("lt", None, 10),
        ("lt", True, 10),
        ("lt", [1], 10),
        ("lt", "2024-01-01T00:00:00", DAY),
        ("gt", 10, 10),
        ("ge", 9.99, 10),
        ("in", "c", ["a", "b"]),
        ("in", None, ["a"]),
        ("in", True, [1]),
        ("not_in", "a", ["a", "b"]),
        ("contains", "hello", "elk"),
        ("contains", [1], True),
        ("contains", None, "a"),
        ("contains", 5, "5"),
        ("contains", {"a": 1}, ["a"]),
        ("matches", "ORD-x", r"^ORD-\d+$"),
        ("matches", None, ".*"),
        ("matches", ["a"], "a"),
        ("exists", None, None),
        ("missing", "", None),
    ],
)
def test_a_json_value_does_not_hold(op: str, value: object, wanted: object) -> None:
    assert not holds(op, value, wanted)


@pytest.mark.parametrize(
    ("op", "cell", "wanted", "expected"),
    [
        ("eq", "5.0", 5, True),
        ("eq", "5.0", "5", False),
        ("eq", "x", 5, False),
        ("eq", "yes", True, True),
        ("eq", "maybe", True, False),
        ("ne", "yes", False, True),
        ("lt", "9", 10, True),
        ("lt", "9", "10", True),
        ("lt", "9", "1_0", False),
        ("lt", "abc", "abd", True),
        ("lt", "nan", "o", True),
        ("gt", "10", "9", True),
        ("gt", "b", 9, True),
        ("ge", "-1e3", -1000, True),
        ("le", None, 5, False),
        ("in", "5", [5, 6], True),
        ("contains", "a5b", 5, True),
    ],
)
def test_a_cell_is_read_as_what_it_is_compared_with(op: str, cell: str | None, wanted: Any, *, expected: bool) -> None:
    assert holds(op, cell, wanted, cells=True) is expected


def test_a_record_must_pass_every_filter() -> None:
    filters = [Filter(path="status.name", op="eq", value="open"), Filter(path="amount", op="gt", value=10)]
    records = [
        {"status": {"name": "open"}, "amount": 11},
        {"status": {"name": "open"}, "amount": 10},
        {"status": {"name": "done"}, "amount": 11},
        {},
        None,
    ]

    assert Filters(filters, ObjectPaths(), cells=False).filtered(records) == {1, 2, 3, 4}


def test_a_path_whose_function_fails_is_missing() -> None:
    filters = [Filter(path="sum(a)", op="missing")]

    assert Filters(filters, ObjectPaths(), cells=False).filtered([{"a": ["x"]}, {"a": [1]}]) == {1}


def test_cells_are_found_by_their_header() -> None:
    filters = [Filter(path="stock", op="ge", value=1)]

    assert Filters(filters, HeaderPaths(["id", "Stock"]), cells=True).filtered([["1", "0"], ["2", "12"]]) == {0}


@pytest.mark.parametrize(
    ("path", "op", "value", "fault"),
    [("a[", "exists", None, "no JMESPath"), ("a", "matches", "(", "no regular expression: missing \\)")],
)
def test_a_filter_that_cannot_work_is_refused(path: str, op: str, value: str | None, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        Filters([Filter.model_validate({"path": path, "op": op, "value": value})], ObjectPaths(), cells=False)


@given(value=ANYTHING, wanted=ANYTHING, cells=st.booleans())
def test_no_value_makes_a_filter_raise(value: object, wanted: Any, *, cells: bool) -> None:
    for op in ("eq", "ne", "lt", "le", "gt", "ge", "contains"):
        if wanted is not None:
            assert holds(op, value, wanted, cells=cells) in {True, False}
