"""Payloads as they were landed → records, as their page gave them. No I/O; what extraction itself does, again."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from app.extract.csv_cutter import CsvCutter
from app.extract.csv_text import unstorable
from app.extract.dialect import Dialect
from app.extract.increments import Increment, Progress
from app.extract.json_records import add_text
from app.records import Records, Rejection
from app.sources.csv_format import CsvFormat
from app.sources.resource import ResourceSpec
from app.sources.tables import AnyResource, CsvResource, RestResource

UNREADABLE: Final = Rejection("unreadable", None, "its text no longer reads as one record")


def read_landed(spec: ResourceSpec, payloads: Sequence[str], page_input: Mapping[str, Any]) -> Records:
    """
    Args:
        payloads: the characters received; see `Records.payloads`.
        page_input: of the run that landed them; a CSV row cannot be read without its header.
    """
    if isinstance(spec.table, CsvResource):
        return _read_rows(payloads, page_input, spec.table.format)
    return _read_objects(payloads, spec.table)


def _read_objects(payloads: Sequence[str], table: AnyResource) -> Records:
    records = Records()
    for payload in payloads:
        add_text(records, payload)
    incremental = table.endpoint.incremental if isinstance(table, RestResource) else None
    if incremental is not None and incremental.on_cursor_value_missing == "exclude":
        Increment(incremental, Progress(), datetime.max.replace(tzinfo=UTC)).read(records)
    return records


def _read_rows(payloads: Sequence[str], page_input: Mapping[str, Any], declared: CsvFormat) -> Records:
    """
    All at once where each is a record by itself, as nearly all are; else one by one.

    What the run found out is taken from its input, what it was told from the format.
    """
    given = declared.model_copy(update={"on_bad_row": "reject", "comment": None, "skip_rows_after_header": 0})
    dialect = Dialect(
        page_input["delimiter"], page_input["quote_char"], declared.escape_char, declared.double_quote, "declared"
    )

    def cut(text: str) -> Records:
        # The text is decoded already; in UTF-8 every character that it may hold has a form of its own
        cutter = CsvCutter(
            what="raw", first_line=2, header=page_input["header"], format=given, dialect=dialect, encoding="utf-8"
        )
        return cutter.feed(text.encode("utf-8", "surrogateescape"), final=True).records

    records = cut("\n".join(payloads) + "\n")
    if records.payloads != list(payloads):
        records = Records()
        for payload in payloads:
            # Its line end is not part of it; which one it was shows only where an escape stands before it, or none was
            cuts = [one for end in ("\n", "\r\n", "") if (one := cut(payload + end)).payloads == [payload]]
            found = next((one for one in cuts if not one.faults), next(iter(cuts), None))
            fields, fault = (found.fields[0], found.faults.get(0)) if found else (None, UNREADABLE)
            records.append(payload, 0, fields, fault)
    encoding = page_input.get("encoding") or "utf-8"
    for at, fault in records.faults.items():
        if fault.code == "invalid_utf8":
            records.faults[at] = unstorable(records.payloads[at], encoding) or fault
    return records
