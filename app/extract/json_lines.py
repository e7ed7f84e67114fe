"""
A body of JSON lines (NDJSON, JSON Lines): each line a record.

A line that is not JSON is rejected alone, as a line of a CSV file would be.
"""

from typing import Final

from app.extract.json_records import add_record, scan, skip
from app.records import Records, Rejection

LINES: Final = "(lines)"
"""What a checkpoint holds where another body has the path to its records; no JMESPath."""


def is_lines(text: str, begin: int) -> bool:
    """Whether a second value follows the one that begins here, on a line of its own."""
    try:
        _, end = scan(text, begin)
    except (ValueError, StopIteration, RecursionError):
        return False
    following = skip(text, end)
    return text[following : following + 1] in {"{", "["} and "\n" in text[end:following]


def cut_lines(text: str) -> Records:
    """The records, each as its line without blanks around it; their positions are line numbers."""
    records = Records()
    for number, line in enumerate(text.split("\n"), start=1):
        payload = line.strip(" \t\r")
        if not payload:
            continue
        try:
            value, end = scan(payload, 0)
        except (ValueError, StopIteration, RecursionError):
            end, value = -1, None
        if end == len(payload):
            add_record(records, payload, value, position=number)
        else:
            records.append(payload, number, None, Rejection("invalid_json", None, "the line is not one JSON value"))
    return records
