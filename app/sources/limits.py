"""How hard a source may be asked, and how patiently: `rate_limit`, `retry`, `client.timeout`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from app.sources.values import Duration, Spec, Timeout


class RateLimit(Spec):
    requests: int = Field(gt=0, le=1_000_000, description="At most this many…")
    per: Duration = Field("PT1S", validate_default=True, description="…in each such span, on average.")
    burst: int | None = Field(None, ge=1, description="At once after a rest; `requests` when omitted.")
    concurrency: int = Field(4, ge=1, le=100, description="Requests in flight.")
    bucket: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.-]{1,100}$", description="Sources that name the same bucket share the limit."
    )
    respect_headers: bool = Field(default=True, description="Slow down when RateLimit headers say that little is left.")

    @model_validator(mode="after")
    def _span_is_positive(self) -> Self:
        if self.per <= 0:
            raise ValueError('per must be longer than nothing, for example "PT1S"')
        return self


class Retry(Spec):
    max_attempts: int = Field(5, ge=1, le=100)
    max_elapsed: Duration = Field("PT10M", validate_default=True, description="All tries of a request, waits included.")
    backoff_factor: float = Field(1.0, gt=0, le=3600, description="Seconds; doubled with each try.")
    max_delay: Duration = Field("PT1M", validate_default=True)
    jitter: Literal["full", "none"] = "full"
    status_codes: tuple[int | Literal["5xx", "4xx"], ...] = (408, 425, 429, "5xx")
    respect_retry_after: bool = True
    max_retry_after: Duration = Field(
        "PT5M", validate_default=True, description="A longer wait ends the turn; the scheduler comes back then."
    )


class Timeouts(Spec):
    """Bare numbers are seconds."""

    connect: Timeout | None = None
    read: Timeout | None = Field(None, description="The longest silence.")
    total: Timeout | None = Field(None, description="A whole page, or the waiting for a whole file.")
