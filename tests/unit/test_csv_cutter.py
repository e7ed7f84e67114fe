"""A CSV body, cut at any place, gives the same records and loses no byte."""

import csv
import gzip
import io
from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.errors import SourceMalformedError
from app.extract import csv_cutter, csv_text
from app.extract.csv_cutter import CsvCutter
from app.records import Records
from app.sources.csv_format import CsvFormat

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
        (b'2,5" pipe', "bare_quote"),
        (b'2, "b"', "bare_quote"),
        (b'2,"b" ', "bare_quote"),
        (b'2,"b"c', "bare_quote"),
        (b'2,a"b"c,d', "bare_quote"),
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
    "body", [b"<!doctype html><p>", b"  <HTML>", b"\x00\x00\x00\x01", b"PK\x03\x04\x0a\x00", gzip.compress(b"id\n1\n")]
)
def test_what_is_not_csv_at_all_is_refused(body: bytes) -> None:
    with pytest.raises(SourceMalformedError, match=r"test\.csv"):
        cut(body)


@pytest.mark.parametrize("character", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_other_line_ends_of_unicode_stay_inside_their_field(character: str) -> None:
    records, _, _ = cut(f"id,name\n1,a{character}b\n2,c\n".encode())

    assert records.fields == [["1", f"a{character}b"], ["2", "c"]]


def cut_as(body: bytes, *, part: int = 1 << 20, **given: Any) -> tuple[Records, CsvCutter]:
    """With a format, or going on in the middle; the bytes consumed are all of the body."""
    cutter = CsvCutter(what="test.csv", **given)
    whole, consumed = Records(), b""
    parts = [body[at : at + part] for at in range(0, len(body), part)] or [b""]
    for number, piece in enumerate(parts):
        sliced = cutter.feed(piece, final=number == len(parts) - 1)
        consumed += sliced.body
        for at, payload in enumerate(sliced.records.payloads):
            whole.append(
                payload, sliced.records.positions[at], sliced.records.fields[at], sliced.records.faults.get(at)
            )
    assert consumed == body
    return whole, cutter


FORMATS = {
    "skip": (
        CsvFormat(skip_rows_before_header=2, skip_rows_after_header=1),
        'a title "\n\nid;name\nno.;text\n1;a\n2;b\n',
        ["id", "name"],
        [["1", "a"], ["2", "b"]],
        [5, 6],
    ),
    "comment": (
        CsvFormat(comment="#"),
        '# a "title\nid,name\n#,,,\n1,"a\n# b"\n\n# x\n2,#c\n#',
        ["id", "name"],
        [["1", "a\n# b"], ["2", "#c"]],
        [4, 8],
    ),
    "generated names": (
        CsvFormat(header_definition="Autogenerated"),
        "1|a\n2|b\n",
        ["f0", "f1"],
        [["1", "a"], ["2", "b"]],
        [1, 2],
    ),
    "given names": (
        CsvFormat(header_definition=("id", "name"), skip_rows_before_header=1),
        "x\n1,a\n2,b\n",
        ["id", "name"],
        [["1", "a"], ["2", "b"]],
        [2, 3],
    ),
    "quote and escape": (
        CsvFormat(quote_char="'", escape_char="\\", double_quote=False, delimiter="\t"),
        "id\tname\n'1'\t'a\\'\"b'\n2\tc\\\td\n",
        ["id", "name"],
        [["1", "a'\"b"], ["2", "c\td"]],
        [2, 3],
    ),
    "no quotes": (
        CsvFormat(quote_char=None),
        'id,name\n1,"a\n2,b"c\n',
        ["id", "name"],
        [["1", '"a'], ["2", 'b"c']],
        [2, 3],
    ),
    "names to tell apart": (
        CsvFormat(),
        '\ufeff"id",,id,x\n1,2,3,4\n',
        ["id", "column_2", "id_2", "x"],
        [["1", "2", "3", "4"]],
        [2],
    ),
    "one column": (CsvFormat(), "name\nAnn\nBob", ["name"], [["Ann"], ["Bob"]], [2, 3]),
}


@pytest.mark.parametrize("part", [1, 4, 11, 1000])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "cp932"])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_option_of_the_format_is_kept(kind: str, encoding: str, line_end: str, part: int) -> None:
    given_format, text, header, rows, positions = FORMATS[kind]
    body = text.replace("\n", line_end).encode(encoding, "ignore")
    if "\ufeff" not in text or encoding == "utf-8":
        given_format = given_format.model_copy(update={"encoding": encoding})

    records, cutter = cut_as(body, part=part, format=given_format)

    assert cutter.header == header
    assert records.fields == [[cell.replace("\n", line_end) for cell in row] for row in rows]
    assert records.positions == positions
    assert records.faults == {}


def test_what_was_found_is_reported() -> None:
    cutter = CsvCutter(what="test.csv")
    before = cutter.report()
    cutter.feed("id;name\n1;é\n".encode("cp1252"), final=True)

    assert before == dict.fromkeys(cutter.report())
    assert cutter.report() == {
        "header": ["id", "name"],
        "delimiter": ";",
        "quote_char": '"',
        "delimiter_evidence": "detected",
        "encoding": "cp1252",
        "encoding_evidence": "fallback",
    }


@pytest.mark.parametrize("part", [7, 1000])
@pytest.mark.parametrize(
    ("encoding", "bad", "code"),
    [
        ("shift_jis", b"2,\x81", "invalid_encoding"),
        ("cp1252", b"2,\x81", "invalid_encoding"),
        ("utf-16-le", b"2\x00,\x00\x0a\xd8", "invalid_encoding"),
        ("utf-8", b"2,\x81", "invalid_utf8"),
    ],
)
def test_bytes_that_are_not_of_the_encoding_cost_their_row(encoding: str, bad: bytes, code: str, part: int) -> None:
    body = "id,name\n1,a\n".encode(encoding) + bad + "\n3,c\n".encode(encoding)

    records, _ = cut_as(body, part=part, format=CsvFormat(encoding=encoding))

    assert {at: fault.code for at, fault in records.faults.items()} == {1: code}
    assert (records.fields[0], records.fields[2]) == (["1", "a"], ["3", "c"])
    records.payloads[1].encode("utf-8", "surrogateescape")  # as it is kept


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"id,name\n1,a\n2\n3,c\n4\n", r"test\.csv line 3: 1 fields where the header has 2 \(ragged_row\)"),
        (b'id,name\n1,a"b\n', r"test\.csv line 2: a quote .* \(bare_quote\)"),
        (b"id,name\n1,a\n2,\x00\n", r"test\.csv line 3: a NUL byte .* \(nul_byte\)"),
    ],
)
def test_a_bad_row_fails_the_file_where_that_is_asked_for(body: bytes, message: str) -> None:
    with pytest.raises(SourceMalformedError, match=message):
        cut_as(body, format=CsvFormat(on_bad_row="fail"))


def test_a_header_with_an_open_quote_is_not_taken_for_a_column() -> None:
    with pytest.raises(SourceMalformedError, match=r"test\.csv line 1: the header: a quote is opened"):
        cut_as(b'id,"name\n1,a\n2,b\n')


def test_a_line_without_end_is_not_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_cutter, "MAX_PENDING_CHARACTERS", 100_000)

    with pytest.raises(SourceMalformedError, match=r"test\.csv line 2: \d+ characters and no record ends"):
        cut_as(b"id,name\n" + b"x" * 300_000, part=50_000)


def test_a_long_line_is_not_cut_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a blank line the slower way is taken, and it took an unfinished line of a megabyte for a record."""
    monkeypatch.setattr(csv_cutter, "MAX_RECORD_CHARACTERS", 100)

    records, _ = cut_as(b"id,name\n1,a\n\n2," + b"b" * 200_000 + b"\n", part=30_000)

    assert records.fields == [["1", "a"], ["2", "b" * 200_000]]
    assert records.faults == {}


def test_a_field_of_many_megabytes_in_one_part_does_not_crash_it() -> None:
    records, _ = cut_as(b'id,name\n1,"' + b"b" * 3_000_000 + b'"\n', part=1 << 23)

    assert records.fields == [["1", "b" * 3_000_000]]


@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-8", ""), ("utf-8", "\ufeff"), ("utf-16-le", "\ufeff"), ("cp932", "")]
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_file_is_gone_on_with_at_any_slice(encoding: str, mark: str, line_end: str) -> None:
    lines = ["skipped", "番号;名称"] + [f'{number};"名{number}{line_end}é"' for number in range(9000)]
    body = mark.encode(encoding) + (line_end.join(lines) + line_end).encode(encoding, "ignore")
    given_format = CsvFormat(skip_rows_before_header=1)
    first = CsvCutter(what="test.csv", format=given_format)
    cuts = [(0, 1)]
    whole: list[list[str]] = []
    for at in range(0, len(body), 29_973):
        sliced = first.feed(body[at : at + 29_973], final=at + 29_973 >= len(body))
        cuts.append((cuts[-1][0] + len(sliced.body), sliced.next_line))
        whole += sliced.records.fields
    assert len(set(cuts)) > 3

    for offset, line in cuts[1:-1]:
        if not offset:
            continue
        resumed = CsvCutter(what="test.csv", format=given_format).resumed(body, first_line=line)
        assert resumed is not None
        rest = resumed.feed(body[offset:], final=True)
        known = CsvCutter(
            what="test.csv",
            first_line=line,
            header=first.header,
            format=given_format,
            dialect=first.dialect,
            encoding=str(first.report()["encoding"]),
            encoding_evidence=first.report()["encoding_evidence"],
        )
        again = known.feed(body[offset:], final=True)

        assert rest == again
        assert known.report() == resumed.report() == first.report()
        assert rest.records.faults == {}
        assert rest.records.fields == whole[len(whole) - len(rest.records) :]
        assert rest.body == body[offset:]
        assert not rest.records.positions or rest.records.positions[0] == line


def test_a_file_without_header_is_not_gone_on_with() -> None:
    assert CsvCutter(what="test.csv").resumed(b"\n\n", first_line=3) is None


DIALECTS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",;\t|:^é"),
        "quote_char": st.sampled_from("\"'`~"),
        "style": st.sampled_from(["doubled", "escaped"]),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        "line_end": st.sampled_from(["\n", "\r\n", "\r"]),
    }
)

PLAIN = "ab01 ,;:\t|\"'`~^#.\n\x0b\x1c\x7f"
LETTERS = {"cp1252": st.sampled_from(PLAIN + "éÿ€“¬"), "euc_kr": st.sampled_from(PLAIN + "김철수서울")}


@given(
    data=st.data(),
    dialect=DIALECTS,
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "gb18030", "euc_kr"]),
    width=st.integers(1, 4),
    part=st.integers(1, 60),
    sample_bytes=st.sampled_from([4, 64 * 1024]),
)
def test_any_table_in_any_dialect_and_encoding_comes_back_whole(
    data: st.DataObject, dialect: dict[str, Any], encoding: str, width: int, part: int, sample_bytes: int
) -> None:
    # Python 3.11's writer leaves a CR or the escape character alone where they mean something, so there are none
    characters = LETTERS.get(encoding, st.characters(codec="utf-8", exclude_characters="\x00\r\\"))
    cell = st.text(characters, max_size=8)
    rows = data.draw(st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=6))
    rows = [["x" + row[0].replace("\n", ""), *row[1:]] for row in rows]
    line_end, escaped = dialect["line_end"], dialect["style"] == "escaped"
    if line_end == "\r":
        rows = [[cell.replace("\n", " ") for cell in row] for row in rows]
    assume(dialect["delimiter"] != "é" or encoding != "euc_kr")
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=dialect["delimiter"],
        quotechar=dialect["quote_char"],
        escapechar="\\" if escaped else None,
        doublequote=not escaped,
        quoting=dialect["quoting"],
        lineterminator=line_end,
    )
    writer.writerow([f"column{number}" for number in range(width)])
    writer.writerows(rows)
    body = text.getvalue().encode(encoding)
    given_format = CsvFormat(
        delimiter=dialect["delimiter"],
        quote_char=dialect["quote_char"],
        escape_char="\\" if escaped else None,
        double_quote=not escaped,
        encoding=encoding,
    )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_text, "SAMPLE_BYTES", sample_bytes)
        records, cutter = cut_as(body, part=part, format=given_format)

    assert records.faults == {}
    assert records.fields == rows
    assert cutter.header is not None
    mark = dialect["quote_char"] if dialect["quoting"] == csv.QUOTE_ALL else ""
    head = dialect["delimiter"].join(f"{mark}{name}{mark}" for name in cutter.header)
    assert "".join(line + line_end for line in [head, *records.payloads]).encode(encoding) == body
