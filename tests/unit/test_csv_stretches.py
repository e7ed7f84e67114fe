"""A file of which stretches are known gives the same records as one that is cut in whole."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.extract import csv_stretches, csv_text
from app.extract.csv_cutter import CsvCutter
from app.extract.csv_stretches import USUAL_STRETCHES, StretchCutter, bits_for
from app.extract.dialect import Dialect
from app.records import Fingerprints, Stretch, StretchRules
from app.sources.csv_format import CsvFormat

DECLARED = CsvFormat(delimiter=",", encoding="utf-8")


@pytest.fixture(autouse=True)
def _short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_stretches, "LEAST_BITS", 1)
    monkeypatch.setattr(csv_text, "SAMPLE_BYTES", 4)


Row = tuple[int, str, bool]
"""Line, payload, whether it has a fault."""


def fed(cutter: CsvCutter, body: bytes, *, part: int) -> tuple[list[Row], list[Stretch], StretchRules | None]:
    rows: list[Row] = []
    stretches: list[Stretch] = []
    consumed, rules = b"", None
    for at in range(0, max(1, len(body)), part):
        cut = cutter.feed(body[at : at + part], final=at + part >= len(body))
        faulty = [at in cut.records.faults for at in range(len(cut.records))]
        rows += zip(cut.records.positions, cut.records.payloads, faulty, strict=True)
        stretches += cut.stretches
        consumed += cut.body
        rules = cut.rules or rules
    assert consumed == body
    return rows, stretches, rules


def sound(rows: Sequence[Row], stretches: Sequence[Stretch], rules: StretchRules | None) -> Fingerprints | None:
    """What a pass would keep in which every record without a fault was loaded."""
    bad = [line for line, _, faulty in rows if faulty]
    kept = {
        stretch.fingerprint: stretch.records
        for stretch in stretches
        if not any(stretch.first <= line <= stretch.last for line in bad)
    }
    return Fingerprints(rules, kept) if rules else None


def restored(rows: Sequence[Row], stretches: Sequence[Stretch], whole: Sequence[Row]) -> list[Row]:
    """The rows cut, with those of the skipped stretches among them as a cut of everything found them."""
    skipped = [stretch for stretch in stretches if stretch.skipped is not None]
    found = list(rows)
    for stretch in skipped:
        text = (stretch.skipped or b"").decode("utf-8", "surrogateescape")
        lines = text.replace("\r\n", "\n").replace("\r", "\n").count("\n")
        within = [row for row in whole if stretch.first <= row[0] < stretch.first + lines]
        assert len(within) == stretch.records
        assert not any(faulty for _, _, faulty in within)
        found += within
    return sorted(found)


def skipped_records(stretches: Sequence[Stretch]) -> int:
    return sum(stretch.records for stretch in stretches if stretch.skipped is not None)


def lines_of(count: int, *, end: str = "\n", name: str = "row") -> list[str]:
    return [f"{number},{name} {number}{end}" for number in range(count)]


SOUP = st.lists(
    st.sampled_from(['a,"b\nc"', 'x,"y ""z"""', "1,2", "é,ß", 'bare"quote,1', '"open,1', "1,2,3", "#1,2", ""])
    | st.text(st.sampled_from('ab,"\n\r#é'), max_size=6),
    max_size=30,
)
ENCODINGS = ["utf-8", "utf-16-le", "cp1252"]


@given(
    before=SOUP,
    inserted=SOUP,
    cut=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    form=st.tuples(st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(ENCODINGS)),
    parts=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    comment=st.sampled_from([None, "#"]),
)
def test_whatever_is_skipped_would_have_been_cut_to_the_same_records(
    before: list[str],
    inserted: list[str],
    cut: tuple[int, int],
    form: tuple[str, str],
    parts: tuple[int, int],
    comment: str | None,
) -> None:
    end, encoding = form
    given_format = CsvFormat(delimiter=",", encoding=encoding, comment=comment)
    after = before[: min(cut)] + inserted + before[max(cut) :]
    old, new = ("".join(line + end for line in ["a,b", *lines]).encode(encoding) for lines in (before, after))
    found = fed(StretchCutter(what="t", format=given_format), old, part=parts[0])
    assert found[0] == fed(CsvCutter(what="t", format=given_format), old, part=parts[0])[0]
    whole, _, _ = fed(CsvCutter(what="t", format=given_format), new, part=parts[1])

    rows, stretches, _ = fed(StretchCutter(what="t", format=given_format, known=sound(*found)), new, part=parts[1])

    assert restored(rows, stretches, whole) == whole


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("cell", ["{0}", '"{0}\n{1}"'])
def test_an_insertion_costs_the_stretch_it_is_in(encoding: str, end: str, cell: str) -> None:
    if end == "\r":
        cell = cell.replace("\n", " ")
    lines = [f"{number},{cell.format('é', number)}{end}" for number in range(2000)]
    given_format = CsvFormat(delimiter=",", encoding=encoding)
    old = "".join(["id,name" + end, *lines]).encode(encoding)
    new = "".join(["id,name" + end, *lines[:700], f"new,1{end}", *lines[700:]]).encode(encoding)
    known = sound(*fed(StretchCutter(what="t", format=given_format), old, part=5000))

    again = fed(StretchCutter(what="t", format=given_format, known=known), old, part=3777)
    rows, stretches, _ = fed(StretchCutter(what="t", format=given_format, known=known), new, part=4001)

    assert len(again[0]) <= 40  # what follows the last stretch
    assert skipped_records(again[1]) + len(again[0]) == 2000
    assert 0 < len(rows) - len(again[0]) <= 40
    assert "new,1" in {payload for _, payload, _ in rows}
    assert skipped_records(stretches) + len(rows) == 2001


def test_where_the_last_pass_cut_parts_is_of_no_matter() -> None:
    body = "".join(["id,name\n", *lines_of(3000)]).encode()

    first = fed(StretchCutter(what="t", format=DECLARED), body, part=997)
    second = fed(StretchCutter(what="t", format=DECLARED), body, part=10_007)

    assert [stretch.fingerprint for stretch in first[1]] == [stretch.fingerprint for stretch in second[1]]


@pytest.mark.parametrize(
    "changed",
    [
        {"basis": "another mapping"},
        {"format": CsvFormat(delimiter=",", encoding="cp1252")},
        {"format": CsvFormat(delimiter=",", encoding="utf-8", escape_char="\\")},
        {"head": b"id,title\n"},
    ],
)
def test_stretches_of_another_meaning_are_not_skipped(changed: dict[str, Any]) -> None:
    given: dict[str, Any] = {"basis": "a mapping", "format": DECLARED}
    head, rest = b"id,name\n", "".join(lines_of(500)).encode()
    known = sound(*fed(StretchCutter(what="t", **given), head + rest, part=1000))
    assert skipped_records(fed(StretchCutter(what="t", known=known, **given), head + rest, part=1000)[1]) > 400
    head = changed.pop("head", head)

    rows, stretches, _ = fed(StretchCutter(what="t", known=known, **given | changed), head + rest, part=1000)

    assert len(rows) == 500
    assert skipped_records(stretches) == 0


def test_a_stretch_with_a_stale_line_is_cut() -> None:
    lines = lines_of(500)
    body = "".join(["id,name\n", *lines]).encode()
    known = sound(*fed(StretchCutter(what="t", format=DECLARED), body, part=1000))
    assert known is not None
    stale = frozenset([crc32(lines[250].rstrip("\n").encode())])

    rows, _, _ = fed(StretchCutter(what="t", format=DECLARED, known=replace(known, stale=stale)), body, part=1000)

    assert 252 in {line for line, _, _ in rows}
    assert len(rows) < 60


def test_a_quote_that_is_open_keeps_what_it_swallows() -> None:
    lines = lines_of(300)
    old = "".join(["id,name\n", *lines]).encode()
    # From here to line 200, everything is one field
    lines[100] = '100,"open\n'
    lines[200] = '200"\n'
    new = "".join(["id,name\n", *lines]).encode()
    known = sound(*fed(StretchCutter(what="t", format=DECLARED), old, part=500))
    whole, _, _ = fed(CsvCutter(what="t", format=DECLARED), new, part=500)

    rows, stretches, _ = fed(StretchCutter(what="t", format=DECLARED, known=known), new, part=500)

    assert skipped_records(stretches) > 90
    assert restored(rows, stretches, whole) == whole
    assert len(whole) == 200


def test_lines_without_the_end_of_a_stretch_are_not_held_back_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_stretches, "MAX_TAIL_CHARACTERS", 1000)
    line = next(line for line in lines_of(100) if crc32(line.rstrip("\n").encode()) & 1)
    cutter = StretchCutter(what="t", format=DECLARED)

    def given_out() -> Iterator[int]:
        for text in ["id,name\n", line * 4000, line * 4000]:
            yield len(cutter.feed(text.encode()).records)

    assert sum(given_out()) == 8000


@pytest.mark.parametrize(("lines", "stretch_lines"), [(0, 2), (1000, 2), (USUAL_STRETCHES * 100, 64)])
def test_a_longer_file_has_longer_stretches(lines: int, stretch_lines: int) -> None:
    assert 2 ** bits_for(lines) == stretch_lines


def test_a_cutter_that_goes_on_finds_the_same_stretches() -> None:
    body = "".join(["id,name\n", *lines_of(3000)]).encode()
    begin = StretchCutter(what="t", format=DECLARED).feed(body[:30_000])
    assert len(begin.records) > 1000
    known = sound(*fed(StretchCutter(what="t", format=DECLARED), body, part=5000))

    resumed = StretchCutter(what="t", format=DECLARED, known=known).resumed(body, first_line=begin.next_line)
    assert resumed is not None
    rows, stretches, _ = fed(resumed, body[len(begin.body) :], part=5000)

    assert isinstance(resumed.dialect, Dialect)
    assert skipped_records(stretches) + len(rows) + len(begin.records) == 3000
    assert len(rows) < 40
