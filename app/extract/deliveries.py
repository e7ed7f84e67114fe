"""What was delivered → records. No I/O."""

import json
from typing import Final, NamedTuple

from app.extract.json_records import add_record, check_end, decode, scan, skip
from app.records import Records, Rejection

_NOT_JSON: Final = Rejection("not_json", None, "the body is no JSON; it is kept as a JSON string")


class Delivery(NamedTuple):
    body: bytes
    key: str | None
    """By which it is known again; None: by nothing."""


def read_deliveries(deliveries: list[Delivery]) -> Records:
    """Each body is one record, exactly as it came; what is no JSON is rejected, as a JSON string."""
    records = Records()
    for position, delivery in enumerate(deliveries, 1):
        text = decode(delivery.body)
        try:
            begin = skip(text, 0)
            value, end = scan(text, begin)
            check_end(text, end)
        except (ValueError, StopIteration, RecursionError):
            records.append(json.dumps(text), position, None, _NOT_JSON)
        else:
            add_record(records, text, value, position=position)
    return records
