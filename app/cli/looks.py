"""What a look at a source says, as text."""

import json
from collections.abc import Sequence

from app.operations import sources as operations


def check_lines(report: operations.Check) -> list[str]:
    if not report.ok:
        return [f"{report.name}: {report.error_class}: {report.error}"]
    if not report.requests:
        return [f"{report.name}: ok; it is delivered, and nobody was asked"]
    counted = f"{report.records} record{'' if report.records == 1 else 's'}"
    lines = [f"{report.name}: ok, {counted} on the first page{', more may follow' if report.more_pages else ''}"]
    lines += [f"  {key}: {value}" for key, value in report.found.items() if value is not None]
    if report.keys_missing or report.keys_repeated:
        lines.append(f"  keys: {report.keys_missing} missing, {report.keys_repeated} repeated")
    for code, count in report.rejected.items():
        lines.append(f"  would be rejected: {count} of {code}")
    if report.filtered:
        lines.append(f"  would be filtered: {report.filtered} of {report.records}")
    if report.coerced:
        lines.append(f"  coerced, with a note: {report.coerced}; `etl sources preview {report.name}` shows them")
    if report.empty_columns:
        lines.append(f"  no value in any record: {', '.join(report.empty_columns)}; is the path right?")
    return lines


def preview_lines(name: str, shown: Sequence[operations.PreviewRow]) -> list[str]:
    lines = [f"{name}:"]
    for row in shown:
        lines += [f"  {row.position}: {row.raw}", f"     → {_outcome(row)}"]
        lines += [f"       {note['field']}: {note['code']}, given {note['given']!r}" for note in row.notes]
    return lines


def _outcome(row: operations.PreviewRow) -> str:
    if row.rejection is not None:
        return f"rejected: {row.rejection['code']} {row.rejection['field'] or ''} {row.rejection['detail']}"
    if row.row is None:
        return row.becomes
    return json.dumps({"source_id": row.source_id, **row.row}, ensure_ascii=False)
