"""A JSON array → records, each exactly as received."""

from pathlib import Path

import pytest

from app.errors import SourceMalformedError
from app.extract.json_body import ARRAY, cut_body
from app.extract.json_records import MAX_DEPTH
from app.records import Records

SUITE = Path(__file__).resolve().parents[3] / "shared" / "corpora" / "json" / "jsontestsuite"


def cut_records(body: bytes, *, what: str) -> Records:
    return cut_body(body, ARRAY, what=what).records


@pytest.mark.parametrize(
    "record",
    [
        '{"price": 1.10}',
        '{"a":1,"a":2}',
        r'{"t":"\u00e9\u0000\ud800"}',
        '{"n":12345678901234567890123456}',
        '{ "a" :\t1 , "b": [ ] }',
        '{"t":"日本"}',
        '{"n":' + "9" * 5000 + "}",
    ],
)
def test_a_payload_is_the_very_slice_received(record: str) -> None:
    records = cut_records(f' [ {record} ,\n{{"last":1}} ] '.encode(), what="GET x")

    assert records.payloads == [record, '{"last":1}']
    assert records.faults == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"{}",
        b"null",
        b'"text"',
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1]]",
        b'[{"a":1}] x',
        b"[{'a':1}]",
        b'["\t"]',
        b"[" * 100_000,
        b"<html></html>",
    ],
)
def test_what_is_not_a_json_array_is_malformed(body: bytes) -> None:
    with pytest.raises(SourceMalformedError, match="GET x"):
        cut_records(body, what="GET x")


def test_a_body_cut_anywhere_is_malformed() -> None:
    body = rb'[{"id":1,"t":"\u00e9 x"},{"id":2.5e3,"l":[true,null]}]'

    for end in range(len(body)):
        with pytest.raises(SourceMalformedError):
            cut_records(body[:end], what="GET x")


@pytest.mark.parametrize(
    ("element", "code"),
    [
        (b"5", "not_an_object"),
        (b"null", "not_an_object"),
        (b'["a"]', "not_an_object"),
        (b'{"a":"\xff"}', "invalid_utf8"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "too_deep"),
    ],
)
def test_a_bad_element_costs_no_other(element: bytes, code: str) -> None:
    records = cut_records(b'[{"id":1},' + element + b',{"id":2}]', what="GET x")

    assert [fault.code for fault in records.faults.values()] == [code]
    assert [fields for fields in records.fields if fields and "id" in fields] == [{"id": 1}, {"id": 2}]


def test_an_empty_array_has_no_records() -> None:
    assert len(cut_records(b" [ ] ", what="GET x")) == 0


@pytest.mark.skipif(not SUITE.is_dir(), reason="the JSON test suite is not beside the repository")
@pytest.mark.parametrize("kind", ["y", "n", "i"])
def test_the_json_test_suite(kind: str) -> None:
    """Each document is the second element of an array: `y_` must parse, `n_` must not, none may crash."""
    wrong = []
    for path in sorted(SUITE.rglob(f"{kind}_*.json")):
        body = b"[0," + path.read_bytes() + b"]"
        try:
            records = cut_records(body, what=path.name)
        except SourceMalformedError:
            parsed = False
        else:
            # Bytes that are not UTF-8 reject the record; an array that holds more or less than one element is
            # a document that became something else by being put into an array
            parsed = len(records) == 2 and records.faults[1].code != "invalid_utf8" if 1 in records.faults else True
            parsed = parsed and len(records) == 2
        if (kind == "y" and not parsed) or (kind == "n" and parsed):
            wrong.append(path.name)

    assert wrong == []
