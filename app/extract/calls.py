"""What is asked of a source once, and all the requests that this takes."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from app.clock import utc_now
from app.extract.http_errors import redact
from app.records import AskedRequest, Traffic

_HARMLESS: Final = re.compile(r"\d{0,6}|true|false|asc|desc", re.IGNORECASE)


@dataclass(slots=True)
class Call:
    """Tries, redirects and renewed credentials are requests of one call."""

    traffic: Traffic
    literals: Collection[tuple[str, str]]
    """Parameters as the source file says them word for word: one may be a secret, under whatever name."""
    attempt: int = 1
    asked: AskedRequest | None = None
    """The last request that was sent."""

    def begin(self, method: str, url: str) -> AskedRequest:
        """
        Count a request that is about to be sent.

        Args:
            url: before credentials were put on it: a key may stand under any name.
        """
        self.traffic.requests += 1
        self.asked = self.traffic.ledger.add(at=utc_now(), method=method, url=self._fit(url), attempt=self.attempt)
        return self.asked

    def _fit(self, url: str) -> str:
        parts = urlsplit(redact(url))
        query = [
            (name, "***" if (name, value) in self.literals and not _HARMLESS.fullmatch(value) else value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
        ]
        return urlunsplit(parts._replace(query=urlencode(query, safe="*")))
