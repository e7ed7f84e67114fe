"""
What can go wrong, grouped by what the caller should do about it.

    EtlError
    ├── ConfigError               fix the configuration; never retried (exit code 2)
    │   └── OrderError                or ask for something else: this has no meaning anywhere
    │       └── QuestionError             about rows: it names the part that is wrong
    ├── SourceError               the outside world did not deliver
    │   ├── SourceUnavailableError    try again later
    │   │   └── SourceBusyError           at the time it named
    │   ├── SourceRefusedError        credentials or request are wrong
    │   └── SourceMalformedError      bytes came, but not what was promised
    ├── RunCancelledError         somebody asked the run to stop
    └── StoreError                our own database
        ├── StoreUnavailableError     cannot be reached now; try again later
        │   └── StoreRefusedError         it answers and does not let us in: also a ConfigError
        └── StoreConflictError        somebody else wrote first; nothing of ours was written

A bad *row* is not here: that is a value, `app.records.Rejection`. Errors carry
no HTTP status and no exit code; each edge maps the type to its own.
"""

from typing import ClassVar, Literal

ErrorClass = Literal["config_error", "transient_error", "system_error", "data_error"]


class EtlError(Exception):
    """Base of all expected failures. The message says what, where, and what to do."""

    error_class: ClassVar[ErrorClass] = "system_error"


class ConfigError(EtlError):
    """A setting, a source file or a command is wrong and stays wrong until someone edits it."""

    error_class: ClassVar[ErrorClass] = "config_error"


class OrderError(ConfigError):
    """What was asked for is no value of its kind, or an empty range: wrong whatever stands where."""


class QuestionError(OrderError):
    """
    A condition on rows that there is not, or with a value that is none.

    Args:
        name: of the condition, as it was given.
        fault: what is wrong with it, and what there is instead.
    """

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"{name}: {fault}")
        self.name = name
        self.fault = fault


class SourceError(EtlError):
    """A source did not deliver what it should."""

    error_class: ClassVar[ErrorClass] = "transient_error"


class SourceUnavailableError(SourceError):
    """
    The source cannot be reached, is too slow, or asked us to wait.

    Args:
        retry_after_seconds: what the source asked for; None when it did not say.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class SourceBusyError(SourceUnavailableError):
    """The source asked to be left alone for longer than a run waits: come back after `retry_after_seconds`."""


class SourceRefusedError(SourceError):
    """
    The source answered and will answer the same again: 401, 403, 404 and their kin.

    Args:
        status: of its answer; None when it was refused before there was one.
        said: what the body of that answer says; not part of the message, for it may repeat anything.
    """

    error_class: ClassVar[ErrorClass] = "config_error"

    def __init__(self, message: str, *, status: int | None = None, said: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.said = said


class SourceMalformedError(SourceError):
    """The body is not what the source promised: HTML for JSON, a cut body, no header line."""

    error_class: ClassVar[ErrorClass] = "data_error"


class RunCancelledError(EtlError):
    """Somebody asked this run to stop; what it committed stays, and the next run goes on from there."""


class StoreError(EtlError):
    """
    PostgreSQL could not do what was asked.

    Args:
        reason: the same for anybody's eyes: it names no statement, server or account.
    """

    def __init__(self, message: str, *, reason: str = "the database could not do what was asked") -> None:
        super().__init__(message)
        self.reason = reason


class StoreUnavailableError(StoreError):
    """PostgreSQL cannot be reached, is starting or stopping, is full or read-only, or missed its deadline."""


class StoreRefusedError(StoreUnavailableError, ConfigError):
    """PostgreSQL answers and does not let us in; at start that is fatal, later it may be mended there."""


class StoreConflictError(StoreError):
    """Another writer was there first (lost lease, serialization failure); nothing of ours was written."""
