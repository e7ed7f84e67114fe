"""A body cut while it comes gives what the whole body gives, however it is cut into parts."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import SourceMalformedError
from app.extract.json_body import ARRAY, WHOLE, cut_body
from app.extract.json_stream import StreamCutter, find_open_list
from app.records import Records

SUITE = Path(__file__).resolve().parents[3] / "shared" / "corpora" / "json" / "jsontestsuite"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def cutter(selector: str = ARRAY, *, found_out: bool = False, max_value_bytes: int = 10**6) -> StreamCutter:
    return StreamCutter(selector, found_out=found_out, what="GET x", max_value_bytes=max_value_bytes)


def cut(body: bytes, one: StreamCutter, *, size: int) -> Records:
    """All records of a body that comes in parts of some size."""
    found = Records()
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    for at, part in enumerate([*parts, b""]):
        records = one.feed(part, final=at == len(parts))
        for index in range(len(records)):
            fault = records.faults.get(index)
            found.append(records.payloads[index], records.positions[index], records.fields[index], fault)
    return found


@given(
    records=st.lists(VALUES, max_size=5),
    beside=st.dictionaries(st.text(max_size=3).filter(lambda key: key != "data"), VALUES, max_size=3),
    after=st.booleans(),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
    size=st.integers(1, 40),
)
def test_parts_of_any_size_give_what_the_whole_body_gives(
    records: list[Any], beside: dict[str, Any], *, after: bool, ascii_only: bool, indent: int | None, size: int
) -> None:
    tree = {"data": records, **beside} if after else {**beside, "data": records}
    body = json.dumps(tree, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    whole = cut_body(body, "data", what="GET x")
    one = cutter("data")

    assert cut(body, one, size=size) == whole.records
    assert one.body == {**whole.body, "data": records[-1:]}
    assert (len(one.records), one.records[-1] if records else None) == (len(records), records[-1] if records else None)


@pytest.mark.parametrize(
    "body",
    [
        rb' [ {"price": 1.10} ,{"a":1,"a":2}, {"t":"\u00e9\u0000\ud800"} ] ',
        b'[1234567890.5e+10,-0,-1.5E-3,{"n":' + b"9" * 5000 + b"}]",
        b'\xef\xbb\xbf[{"t":"' + "日本".encode() + b'"}]',
        b'[{"a":"\xff\xe6\x97"},5,null,true,"x",[1]]',
        b"[]",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_records_are_the_very_slices_received(body: bytes, size: int) -> None:
    assert cut(body, cutter(), size=size) == cut_body(body, ARRAY, what="GET x").records


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"null",
        b'"text"',
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"[NaN]",
        b"[-Infinity]",
        b"[1]]",
        b'[{"a":1}] x',
        b"[{'a':1}]",
        b'["\t"]',
        b"[1",
        b"[1.",
        b"[" * 100_000,
        b"<html></html>",
        b'{"data":[1],}',
        b'{"data":[1] "b":2}',
        b'{"data" [1]}',
        b"{data:[1]}",
        b'{"data":[1]}}',
        b'{"data":[1],"data":[2]}',
        b'{"other":[1]}',
        b'{"data":[{"a":"\\x"}]}',
    ],
)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_what_is_not_json_is_malformed_however_it_comes(body: bytes, size: int) -> None:
    with pytest.raises(SourceMalformedError, match="GET x"):
        cut(body, cutter("data" if body.startswith(b"{") else ARRAY), size=size)


def test_a_body_cut_anywhere_is_malformed() -> None:
    body = rb'{"a":[1],"data":[{"id":1,"t":"\u00e9 x"},{"id":2.5e3,"l":[true,null]}],"next":"x"}'

    for end in range(len(body)):
        with pytest.raises(SourceMalformedError):
            cut(body[:end], cutter("data"), size=7)


def test_a_fault_early_in_a_part_is_told_at_once_with_its_place() -> None:
    one = cutter()
    one.feed(b'[{"id":1},')

    with pytest.raises(SourceMalformedError, match="character 15"):
        one.feed(b'{"id"?1}' + b"," + b'{"id":2},' * 50)


@pytest.mark.parametrize("body", [b'[{"a":"' + b"x" * 5000, b'{"b":"' + b"x" * 5000, b"[" + b"1" * 5000])
def test_a_value_that_is_too_large_is_refused_before_it_is_complete(body: bytes) -> None:
    one = cutter("data" if body.startswith(b"{") else ARRAY, max_value_bytes=1000)

    with pytest.raises(SourceMalformedError, match=r"more than 1000 bytes.*HTTP_MAX_PAGE_BYTES"):
        cut(body[:3000] + b"," * 10**6, one, size=10)


def test_a_nested_path_a_single_object_and_null_are_found() -> None:
    assert cut(b'{"a":{"x":1,"b":[{"id":1}]},"c":2}', cutter("a.b"), size=4).payloads == ['{"id":1}']
    assert cut(b'{"data":{"id":1}}', cutter("data"), size=4).payloads == ['{"id":1}']
    assert len(cut(b'{"data":null}', cutter("data"), size=4)) == 0
    assert len(cut(b'[{"id":1}]', cutter(WHOLE), size=4)) == 1


@pytest.mark.parametrize(
    ("beginning", "path"),
    [
        ('{"data":[{"a":1},{"a"', "data"),
        ('{"meta":{"n":[1,2]},"response":{"items":[{"a":1},{"a":2', "response.items"),
        ('{"included":[{"a":1}],"data":[{"a":1},', "data"),
        ('{"data":[{"a":1}],"items":[{"a":1},', None),
        ('{"people":[{"a":1},{"a"', None),
        ('{"data":["a","b",', None),
        ('{"data":["a",{"b":1},', None),
        ('{"data":"a long te', None),
        ('{"a":{"b":{"c":{"data":[{"a":1},{', None),
    ],
)
def test_the_open_list_is_found_where_nothing_else_can_be_meant(beginning: str, path: str | None) -> None:
    assert find_open_list(beginning) == path


def test_a_list_with_a_better_name_after_the_records_is_an_error() -> None:
    body = b'{"items":[{"id":1}],"data":[{"id":2}]}'

    with pytest.raises(SourceMalformedError, match="data_selector"):
        cut(body, cutter("items", found_out=True), size=5)
    assert len(cut(body, cutter("items"), size=5)) == 1


@pytest.mark.skipif(not SUITE.is_dir(), reason="the JSON test suite is not beside the repository")
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_json_test_suite_gives_the_same_as_whole(size: int) -> None:
    def outcome(read: Any) -> Any:
        try:
            return read()
        except SourceMalformedError:
            return "malformed"

    paths = sorted(SUITE.rglob("*.json"))
    for path in paths:
        body = b"[0," + path.read_bytes() + b"]"
        whole = outcome(lambda body=body: cut_body(body, ARRAY, what="GET x").records)
        assert outcome(lambda body=body: cut(body, cutter(), size=size)) == whole, path.name
    assert len(paths) > 300
