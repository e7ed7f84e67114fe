"""How old an answer may be: `X-Data-As-Of`, `X-Source-Lag-Seconds`, `max_staleness=`."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Query, Response
from pydantic import BeforeValidator, Field, TypeAdapter

from app.api.problems import ProblemError
from app.clock import utc_now
from app.sources.values import Duration

RETRY_SECONDS: Final = 30
"""What an answer that is too old suggests: a run may end any moment."""
_DURATION: Final[TypeAdapter[float]] = TypeAdapter(Duration)


def _seconds(value: Any) -> Any:
    text = str(value)
    return text if text.replace(".", "", 1).isdigit() else _DURATION.validate_python(text)


MaxStaleness = Annotated[
    Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=366 * 86_400)] | None,
    Query(
        description="503 rather than older data than this: seconds, or ISO 8601 such as PT15M.",
        json_schema_extra={"type": "string"},
    ),
]


def tell_freshness(response: Response, as_of: datetime | None, max_staleness: float | None) -> None:
    """
    Raises:
        ProblemError: 503, the data are older than the client will have them.
    """
    lag_seconds = None if as_of is None else max(0.0, (utc_now() - as_of).total_seconds())
    if max_staleness is not None and (lag_seconds is None or lag_seconds > max_staleness):
        told = "a source that it covers never ran to its end" if lag_seconds is None else f"{lag_seconds:.0f} s old"
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"the data are older than max_staleness={max_staleness:g} s allows: {told}; GET /sources says which",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )
    if as_of is not None and lag_seconds is not None:
        response.headers["X-Data-As-Of"] = as_of.isoformat().replace("+00:00", "Z")
        response.headers["X-Source-Lag-Seconds"] = str(int(lag_seconds))
