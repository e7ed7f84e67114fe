"""How old an answer may be: `X-Data-As-Of`, `X-Source-Lag-Seconds`, `max_staleness=`."""

from datetime import datetime
from http import HTTPStatus
from typing import Final

from app.api.problems import ProblemError
from app.clock import utc_now
from app.sources.values import duration_seconds

RETRY_SECONDS: Final = 30
"""What an answer that is too old suggests: a run may end any moment."""


def _seconds(text: str) -> float:
    return duration_seconds(text) if text.startswith("P") else float(text)


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s old" if seconds >= 10 else f"{seconds:.1f} s old"


def freshness_headers(as_of: datetime | None, allowed: str | None) -> dict[str, str]:
    """
    What an answer says of its age.

    Args:
        as_of: when its data were last brought up to date.
        allowed: `max_staleness` as given.

    Raises:
        ProblemError: 503, the data are older than the client will have them.
    """
    max_staleness = None if allowed is None else _seconds(allowed)
    lag_seconds = None if as_of is None else max(0.0, (utc_now() - as_of).total_seconds())
    if max_staleness is not None and (lag_seconds is None or lag_seconds > max_staleness):
        told = "a source that it covers never ran to its end" if lag_seconds is None else _age(lag_seconds)
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"the data are older than max_staleness={max_staleness:g} s allows: {told}; GET /sources says which",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )
    if as_of is None or lag_seconds is None:
        return {}
    return {"X-Data-As-Of": as_of.isoformat().replace("+00:00", "Z"), "X-Source-Lag-Seconds": str(int(lag_seconds))}
