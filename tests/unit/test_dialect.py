"""The delimiter is the one that the records agree on."""

import csv
import io

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.extract.dialect import Dialect, Grammar, column_names, sniff
from app.sources.csv_format import CsvFormat


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("id,name\n1,a\n", ","),
        ("id;name\n1;a\n", ";"),
        ("id\tname\n1\ta\n", "\t"),
        ("id|name\n1|a,b\n2|c,d\n", "|"),
        ("id:name\n1:a\n2:b\n", ":"),
        ("a:b,c:d\n1:2,3:4\n", ","),
        ("a:b,c:d\ne:f,g:h\n", ","),
        ("id;price\n1;1,5\n2;2,75\n", ";"),
        ("1,5;2,5;3,5\n1,5;2,5;3,5\n", ";"),
        ("id,at\n1,2020-01-01T10:00:00\n2,2020-01-01T11:00:00\n", ","),
        ("id,tags\n1,a|b|c\n2,d|e|f\n", ","),
        ('id;text\n1;"a,b,c\nd;e"\n2;"f,g;h"\n', ";"),
        ('"a;b","c;d"\n"e;f","g;h"\n', ","),
        ("id,name,age\n1,John\n2,Julie,26,Potatoes\n", ","),
        ("a;b\r1;2\r3;4", ";"),
    ],
)
def test_the_delimiter_is_found(text: str, delimiter: str) -> None:
    found = sniff(text, CsvFormat())

    assert (found.delimiter, found.evidence) == (delimiter, "detected")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name\n",
        "name\nAnn\nBob\n",
        "at\n10:00:00\n11:30:00\n",
        "HH:mm:ss\n15:02:37\n",
        "price\n1.5\n2.5\n",
        "note\na;b\nc\n",
        "note\na;b\nc;d\n",
        "a;b\nc\nd\n",
    ],
)
def test_a_file_of_one_column_has_a_comma(text: str) -> None:
    assert sniff(text, CsvFormat()) == Dialect()


def test_what_is_given_is_not_found_out() -> None:
    given_format = CsvFormat(delimiter=";", quote_char="'", escape_char="\\", double_quote=False)

    assert sniff("a,b\n1,2\n", given_format) == Dialect(";", "'", "\\", double_quote=False, evidence="declared")


def test_an_empty_quote_character_is_none() -> None:
    found = sniff('a;"b\n1;"2\n', CsvFormat(quote_char=""))

    assert (found.quote_char, found.delimiter) == (None, ";")


def test_lines_to_skip_and_comments_do_not_count() -> None:
    text = "a,b,c\nd,e,f\n# g,h,i\nid;name\n# j,k,l\n1;x\n"

    assert sniff(text, CsvFormat(skip_rows_before_header=2, comment="#")).delimiter == ";"


def test_column_names_tell_how_many_fields_there_are() -> None:
    text = "a;b,c\na;b,c\n"

    assert sniff(text, CsvFormat(header_definition=("x", "y"))).delimiter in ",;"
    assert sniff("a,b;c,d;e\n" * 3, CsvFormat(header_definition=("x", "y", "z"))).delimiter in ",;"
    assert sniff("1,2;3\n1,2;3\n", CsvFormat(header_definition=("x",))) == Dialect()


def test_a_character_with_another_meaning_is_no_delimiter() -> None:
    assert sniff("a;b\n1;2\n", CsvFormat(comment=";")).delimiter == ","


@given(
    rows=st.lists(st.lists(st.text("ab01 ,;\t|^", max_size=5), min_size=3, max_size=3), min_size=20, max_size=30),
    delimiter=st.sampled_from(",;\t|^"),
)
def test_what_a_writer_wrote_in_quotes_is_found(rows: list[list[str]], delimiter: str) -> None:
    assume(all(any(row) for row in rows))
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([["id", "name", "x"], *rows])

    assert sniff(text.getvalue(), CsvFormat()).delimiter == delimiter


@pytest.mark.parametrize(
    ("record", "is_sound", "is_closed"),
    [
        ("a,b", True, True),
        ('"a","b"', True, True),
        ('"a ""b"" c",', True, True),
        ('"a\nb",c', True, True),
        ('a"b,c', False, True),
        (' "a",b', False, True),
        ('"a" ,b', False, False),
        ('"a"b,c', False, False),
        ('"a,b', False, False),
        ('a,"', False, False),
    ],
)
def test_a_quote_encloses_a_field_or_is_out_of_place(record: str, is_sound: bool, is_closed: bool) -> None:
    grammar = Grammar(Dialect())

    assert (grammar.is_sound(record), grammar.is_closed(record)) == (is_sound, is_closed)


@pytest.mark.parametrize(
    ("dialect", "record", "is_sound"),
    [
        (Dialect(escape_char="\\"), r'a\"b,"c\"d"', True),
        (Dialect(escape_char="\\"), r'a\\"b', False),
        (Dialect(double_quote=False), '"a""b"', False),
        (Dialect(quote_char="'"), "'a''b',\"c", True),
        (Dialect(quote_char=None), '"a"b', True),
        (Dialect(delimiter="|", quote_char="^"), "^a|b^|c", True),
        (Dialect(delimiter="|", quote_char="^"), "a^|c", False),
    ],
)
def test_every_dialect_has_its_grammar(dialect: Dialect, record: str, is_sound: bool) -> None:
    assert Grammar(dialect).is_sound(record) is is_sound


def test_a_megabyte_of_quotes_is_read_once() -> None:
    grammar = Grammar(Dialect())

    assert grammar.is_sound('"' + '""' * 500_000 + '"')
    assert not grammar.is_sound('"' + '""' * 500_000)


@pytest.mark.parametrize(
    ("row", "names"),
    [
        (["id", "name"], ["id", "name"]),
        (["id", "", " ", "x"], ["id", "column_2", "column_3", "x"]),
        (["a", "a", "a"], ["a", "a_2", "a_3"]),
        (["a", "a", "a_2"], ["a", "a_3", "a_2"]),
        (["", "column_1"], ["column_1_2", "column_1"]),
        (["a\x00b", "\udcff"], ["a\ufffdb", "\ufffd"]),
        (["😀 é"], ["😀 é"]),
    ],
)
def test_columns_can_be_told_apart(row: list[str], names: list[str]) -> None:
    assert column_names(row) == names


@given(
    records=st.lists(st.text('ab,"', max_size=12), min_size=1, max_size=4),
    double_quote=st.booleans(),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_the_quick_look_at_quotes_sees_what_the_thorough_one_does(
    records: list[str], double_quote: bool, line_end: str
) -> None:
    """A dialect with an escape character, which is nowhere, takes the thorough one."""
    quick, thorough = (Grammar(Dialect(double_quote=double_quote, escape_char=escape)) for escape in (None, "\\"))
    closed = [record for record in records if thorough.is_closed(record)]
    text = "x" + line_end + "".join(record + line_end for record in closed)

    assert [quick.is_sound(record) for record in records] == [thorough.is_sound(record) for record in records]
    begin = 1 + len(line_end)
    assert quick.are_sound(text + '"', begin, len(text)) == all(thorough.is_sound(record) for record in closed)
