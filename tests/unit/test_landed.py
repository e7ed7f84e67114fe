"""What was landed reads again as it read when it came."""

import json

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from app.extract.csv_cutter import CsvCutter
from app.extract.json_records import cut_array
from app.extract.landed import read_landed
from app.land import received, storable
from app.records import RawKind, Records
from app.sources.csv_format import CsvFormat
from tests.normalizing import csv_spec, rest_spec

ROWS = st.lists(st.text(st.sampled_from("ab1,;\"\\'\n\r\x00é\u2028 "), max_size=12), max_size=8)


@given(st.text(st.characters(codec="utf-8")) | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
@example("\\000 \\\\ \x00 \udcff")
@pytest.mark.parametrize("kind", ["csv", "rest"])
def test_what_was_escaped_to_be_stored_is_received_again(kind: RawKind, payload: str) -> None:
    stored, encoding = storable(payload, kind=kind)

    assert received(stored, encoding, kind=kind) == payload


@pytest.mark.parametrize(
    ("told", "encoding"),
    [
        ({}, "utf-8"),
        ({}, "cp1252"),
        ({"escape_char": "\\"}, "utf-8"),
        ({"quote_char": ""}, "utf-8"),
        ({"comment": "1"}, "utf-8"),
    ],
)
@given(rows=ROWS)
def test_rows_of_a_file_read_again_as_they_were_cut(told: dict[str, str], encoding: str, rows: list[str]) -> None:
    body = ("x;y\n" + "\n".join(rows)).encode(encoding, "replace") + b"\n\x81;\xff\n"
    cutter = CsvCutter(what="f", format=CsvFormat.model_validate({**told, "encoding": encoding, "delimiter": ";"}))
    records = cutter.feed(body, final=True).records
    # The line end is not landed: after an escape, what it was would count
    assume("escape_char" not in told or not any(payload.endswith("\\") for payload in records.payloads))

    again = read_landed(csv_spec(format=told), records.payloads, cutter.report())

    assert fields_and_faults(again) == fields_and_faults(records)


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text() | st.none(), max_size=3) | st.integers())
)
def test_records_of_a_body_read_again_as_they_were_cut(values: list[object]) -> None:
    records, _ = cut_array(json.dumps(values), 0)

    again = read_landed(rest_spec(endpoint={"path": "x"}), records.payloads, {})

    assert fields_and_faults(again) == fields_and_faults(records)


def test_records_that_an_increment_leaves_out_are_left_out_again() -> None:
    increment = {"cursor_path": "at", "on_cursor_value_missing": "exclude"}

    again = read_landed(
        rest_spec(endpoint={"path": "x", "incremental": increment}), ['{"at": null}', '{"at": "2026-01-01"}'], {}
    )

    assert again.filtered == {0}


def fields_and_faults(records: Records) -> list[object]:
    """What a record with a fault parsed to means nothing."""
    return [records.faults.get(at) or fields for at, fields in enumerate(records.fields)]
