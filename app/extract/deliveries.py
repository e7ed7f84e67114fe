"""What was delivered → records. No I/O."""

from typing import NamedTuple

from app.errors import SourceMalformedError
from app.extract.json_body import cut_body
from app.extract.json_records import add_text, decode
from app.records import Records


class Delivery(NamedTuple):
    body: bytes
    key: str | None
    """By which it is known again; None: by nothing."""


def read_delivery(delivery: Delivery, selector: str | None) -> Records:
    """
    Its records, each exactly as it came.

    Args:
        selector: JMESPath to them; None, or where it leads nowhere: the body is the record.

    Raises:
        ConfigError: the selector makes new values instead of choosing records.
    """
    if selector is not None:
        try:
            return cut_body(delivery.body, selector, what="a delivery").records
        except SourceMalformedError:
            pass  # what it is instead is said of the body
    records = Records()
    add_text(records, decode(delivery.body))
    return records
