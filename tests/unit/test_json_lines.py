"""A body of JSON lines: each line a record, a bad one rejected alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import SourceMalformedError
from app.extract.json_body import cut_body
from app.extract.json_lines import LINES

BODY = b'{"id": 1.10}\r\n\n  {"id":2, "a":"\\u0000"}\n{"id": 3\n[4]\n{"id":5} {"id":6}\n{"id":7}'


def test_each_line_is_a_record_as_received() -> None:
    cut = cut_body(BODY, None, what="x")

    assert cut.selector == LINES
    assert cut.evidence == "each line is a JSON value of its own"
    assert cut.records.payloads == [
        '{"id": 1.10}',
        r'{"id":2, "a":"\u0000"}',
        '{"id": 3',
        "[4]",
        '{"id":5} {"id":6}',
        '{"id":7}',
    ]
    assert cut.records.positions == [1, 3, 4, 5, 6, 7]
    assert {at: fault.code for at, fault in cut.records.faults.items()} == {
        2: "invalid_json",
        3: "not_an_object",
        4: "invalid_json",
    }


def test_a_body_of_one_line_is_lines_where_it_was_before() -> None:
    assert cut_body(b'{"id": 1}\n', LINES, what="x").records.payloads == ['{"id": 1}']
    assert len(cut_body(b"", LINES, what="x").records) == 0


@pytest.mark.parametrize(
    "body", [b'{"id": 1} {"id": 2}', b'{"id": 1}\n"text"', b'{"id": 1}\n}', b'{"id": 1,\n"b": 2} x']
)
def test_what_is_neither_is_not_json(body: bytes) -> None:
    with pytest.raises(SourceMalformedError, match="not valid JSON"):
        cut_body(body, None, what="x")


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.none()), min_size=2))
def test_any_records_come_out_as_they_went_in(records: list[dict[str, object]]) -> None:
    lines = [json.dumps(record) for record in records]

    assert cut_body("\n".join(lines).encode(), None, what="x").records.payloads == lines
