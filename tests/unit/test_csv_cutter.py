"""A CSV body, cut at any place, gives the same records and loses no byte."""

import csv
import io
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import SourceMalformedError
from app.extract import csv_cutter
from app.extract.csv_cutter import CsvCutter
from app.records import Records

# Python 3.11's writer leaves a lone CR unquoted, which makes it a line end
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=12)


def cut(body: bytes, *, part: int = 1 << 20) -> tuple[Records, bytes, list[str] | None]:
    cutter = CsvCutter(what="test.csv")
    whole, consumed = Records(), b""
    parts = [body[at : at + part] for at in range(0, len(body), part)] or [b""]
    for number, piece in enumerate(parts):
        sliced = cutter.feed(piece, final=number == len(parts) - 1)
        consumed += sliced.body
        for at, payload in enumerate(sliced.records.payloads):
            fault = sliced.records.faults.get(at)
            whole.append(payload, sliced.records.positions[at], sliced.records.fields[at], fault)
    return whole, consumed, cutter.header


@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8),
    line_end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    part=st.integers(1, 40),
)
def test_what_a_writer_wrote_comes_out_whatever_the_parts(
    rows: list[list[str]], line_end: str, quoting: Literal[0, 1], part: int
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=line_end, quoting=quoting)
    writer.writerow(["id", "name", "value"])
    # Without quotes a row of blank cells could not be told from a blank line
    rows = [["x", *row[1:]] for row in rows]
    writer.writerows(rows)
    body = text.getvalue().encode()

    records, consumed, header = cut(body, part=part)

    assert header == ["id", "name", "value"]
    assert records.fields == rows
    assert records.faults == {}
    assert consumed == body
    joined = line_end.join(["id,name,value", *records.payloads]) + line_end
    if quoting == csv.QUOTE_MINIMAL:
        assert joined.encode() == body


@given(body=st.binary(max_size=200), part=st.integers(1, 50))
def test_no_body_crashes_it_and_none_loses_a_byte(body: bytes, part: int) -> None:
    try:
        _, consumed, _ = cut(b"id,name\n" + body, part=part)
    except SourceMalformedError:
        return

    assert consumed == b"id,name\n" + body


@pytest.mark.parametrize("part", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_numbers_count_lines_and_not_records(part: int, line_end: str) -> None:
    body = line_end.join(["id,name", '1,"two', 'lines"', "", "2,é", "3,c"]).encode()

    records, _, _ = cut(body, part=part)

    assert records.positions == [2, 5, 6]
    assert records.payloads == [f'1,"two{line_end}lines"', "2,é", "3,c"]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"2,b,more", "ragged_row"),
        (b"2", "ragged_row"),
        (b"2,a\x00b", "nul_byte"),
        (b"2,\xff\xfe", "invalid_utf8"),
        (b'2,"never closed', "unclosed_quote"),
    ],
)
@pytest.mark.parametrize("part", [1, 5, 1000])
def test_a_bad_row_costs_no_other(bad: bytes, code: str, part: int) -> None:
    records, _, _ = cut(b"id,name\n1,a\n" + bad + b"\n3,c\n4,d\n", part=part)

    assert {records.payloads[at]: fault.code for at, fault in records.faults.items()} == {
        bad.decode("utf-8", "surrogateescape"): code
    }
    good = [row for at, row in enumerate(records.fields) if at not in records.faults]
    assert good == [["1", "a"], ["3", "c"], ["4", "d"]]


def test_a_quote_open_at_the_end_of_the_file_takes_only_its_own_line() -> None:
    records, _, _ = cut(b'id,name\n1,a\n2,"open\n3,c\n')

    assert [records.faults[at].code if at in records.faults else "" for at in range(3)] == ["", "unclosed_quote", ""]


def test_a_record_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_cutter, "MAX_RECORD_CHARACTERS", 100)

    records, _, _ = cut(b'id,name\n1,"' + b"x\n" * 200 + b"2,b\n", part=50)

    assert records.faults[0].code == "unclosed_quote"
    assert records.fields[-1] == ["2", "b"]


def test_a_byte_order_mark_is_not_part_of_the_header() -> None:
    records, _, header = cut("\ufeffid,name\n1,a\n".encode())

    assert header == ["id", "name"]
    assert records.payloads == ["1,a"]


@pytest.mark.parametrize(
    "body", [b"<!doctype html><p>", b"  <HTML>", "id,name\n1,a\n".encode("utf-16"), "id,name\n".encode("utf-16-le")]
)
def test_what_is_not_csv_at_all_is_refused(body: bytes) -> None:
    with pytest.raises(SourceMalformedError, match=r"test\.csv"):
        cut(body)


@pytest.mark.parametrize("character", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_other_line_ends_of_unicode_stay_inside_their_field(character: str) -> None:
    records, _, _ = cut(f"id,name\n1,a{character}b\n2,c\n".encode())

    assert records.fields == [["1", f"a{character}b"], ["2", "c"]]
