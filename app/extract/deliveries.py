"""What was delivered → records. No I/O."""

from typing import NamedTuple

from app.extract.json_records import add_text, decode
from app.records import Records


class Delivery(NamedTuple):
    body: bytes
    key: str | None
    """By which it is known again; None: by nothing."""


def read_deliveries(deliveries: list[Delivery]) -> Records:
    """Each body is one record, exactly as it came."""
    records = Records()
    for delivery in deliveries:
        add_text(records, decode(delivery.body))
    return records
