"""A JSON body → its records, wherever they are, each exactly as received."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConfigError, SourceMalformedError
from app.extract.json_body import cut_body

ODD = '{"price": 1.10, "a":1,"a":2, "t":"\\u00e9"}'

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("body", "selector"),
    [
        (f"[{ODD}]", None),
        (f"[{ODD}]", "@"),
        (f' {{"data" : [ {ODD} ] , "meta": {{"next": null}} }} ', None),
        (f'{{"data": [{ODD}]}}', "data"),
        (f'{{"data": {ODD}}}', "data"),
        (f'{{"data": [1], "data": [{ODD}]}}', "data"),
        (f'{{"a": {{"b": {{"c": [{ODD}]}}}}, "x": [1]}}', "a.b.c"),
        (f'{{"edges": [{{"node": {ODD}}}]}}', "edges[].node"),
        (f'{{"edges": [{{"node": {ODD}, "node": {ODD}}}]}}', "edges[*].node"),
        (f'{{"a.b": [{ODD}]}}', '"a.b"'),
        (f'[{{"id": 1}}, {ODD}]', "[?price]"),
        (ODD, "@"),
    ],
)
def test_records_are_the_very_slices_received(body: str, selector: str | None) -> None:
    assert cut_body(body.encode(), selector, what="GET x").records.payloads == [ODD]


@pytest.mark.parametrize(
    ("body", "selector"),
    [
        ({"items": [{"a": 1}], "errors": [{"b": 1}]}, "items"),
        ({"response": {"docs": [{"a": 1}]}}, "response.docs"),
        ({"count": 0, "results": []}, "results"),
        ({"id": 1, "name": "x"}, "@"),
        ([{"a": 1}], "[]"),
    ],
)
def test_where_the_records_are_is_found_out_with_evidence(body: Any, selector: str) -> None:
    cut = cut_body(json.dumps(body).encode(), None, what="GET x")

    assert cut.selector == selector
    assert cut.evidence
    again = cut_body(json.dumps(body).encode(), cut.selector, what="GET x")
    assert again.records.payloads == cut.records.payloads


def test_two_lists_without_a_usual_name_are_a_question() -> None:
    with pytest.raises(SourceMalformedError, match=r"cats, dogs.*data_selector"):
        cut_body(b'{"cats": [{"a":1}], "dogs": [{"a":1}]}', None, what="GET x")


def test_a_selector_that_finds_nothing_says_what_there_is() -> None:
    with pytest.raises(SourceMalformedError, match="nothing at data_selector data; the body has the keys items, total"):
        cut_body(b'{"items": [], "total": 0}', "data", what="GET x")


def test_null_is_no_record_and_no_fault() -> None:
    assert len(cut_body(b'{"data": null}', "data", what="GET x").records) == 0


def test_a_selector_must_choose_and_not_make() -> None:
    with pytest.raises(ConfigError, match="makes new values"):
        cut_body(b'{"data": [{"a": 1}]}', "data[].{b: a}", what="GET x")


@pytest.mark.parametrize("body", [b'{"data": [1', b'{"data" [1]}', b'{"data": [1],}', b"{'a': 1}", b'{"a": 1} x', b"{"])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    for selector in (None, "data", "data[*]"):
        with pytest.raises(SourceMalformedError, match="GET x"):
            cut_body(body, selector, what="GET x")


@given(tree=st.dictionaries(st.text(max_size=5), JSON, max_size=4), records=st.lists(st.dictionaries(st.text(), JSON)))
def test_the_envelope_is_parsed_as_json_parses_it(tree: dict[str, Any], records: list[dict[str, Any]]) -> None:
    whole = {**tree, "data": records}

    cut = cut_body(json.dumps(whole).encode(), "data", what="GET x")

    assert cut.body == whole
    assert [json.loads(payload) for payload in cut.records.payloads] == records
    by_spans = cut_body(json.dumps(whole).encode(), "data[*]", what="GET x").records
    assert by_spans.payloads == cut.records.payloads
