"""SQLSTATE → our errors. No error of a driver leaves the room."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.errors import EtlError, StoreConflictError, StoreError, StoreRefusedError, StoreUnavailableError

# Classes and codes: PostgreSQL documentation, appendix A.
_CONFLICT = {"40001", "40P01", "55P03"}
_CONFIG = {"28000", "28P01", "3D000", "42501", "3F000"}
READ_ONLY = "25006"
"""A standby, or what has become one: the connection will not get better."""
_LENT = {"42P05", "26000"}
"""A prepared statement that is not ours, or no longer: another client's session."""
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58")

_LOST = "the connection to the database was lost"
_SILENT = "the database does not answer in time"
_IN_USE = "every database connection of this process is in use"

_REASONS = {
    "08": _LOST,
    "25006": "the database is read-only: a standby, or default_transaction_read_only is on",
    "28": "the database refuses our account",
    "3D000": "the database does not exist",
    "3F000": "the schema does not exist",
    "40001": "another session changed the same rows",
    "40P01": "another session and ours waited for each other's rows",
    "42501": "the database refuses our account",
    "53100": "the database's disk is full",
    "53200": "the database is out of memory",
    "53300": "the database has no connection slot left",
    "55P03": "another session holds a lock",
    "57014": "a statement took longer than the database allows",
    "57P03": "the database is starting up, or does not take connections now",
    "57": "the database is shutting down",
    "58": "the database cannot reach its own files",
}
"""By SQLSTATE, or its class."""

POOLED = (
    "DATABASE_URL leads through a connection pooler in transaction mode; leases, prepared statements and temporary "
    "tables need a session of their own: name the server itself, or a pool with pool_mode = session"
)


class KeyTakenError(StoreConflictError):
    """A straight COPY met a key that is already there (23505); the transaction is rolled back."""


class ContendedError(StoreConflictError):
    """A deadlock, a serialization failure or a lock that was not to be had: worth trying again at once."""


LOST_IN_DRIVER: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""The last: asyncpg's word when a connection ends while it is handed from one statement to the next."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn whatever the driver raises inside into one of ours."""
    try:
        yield
    except EtlError:
        raise
    except (DBAPIError, *LOST_IN_DRIVER) as error:
        raise translate(error) from error
    except PoolTimeoutError as error:
        raise StoreUnavailableError(f"{_IN_USE}; see DATABASE_POOL_MAX_SIZE", reason=_IN_USE) from error
    except InvalidRequestError as error:
        # A connection that died between two statements of one transaction
        raise StoreUnavailableError(f"the database connection was lost: {error}", reason=_LOST) from error
    except TimeoutError as error:
        raise StoreUnavailableError(
            "database: no answer within DATABASE_COMMAND_TIMEOUT_SECONDS, or DATABASE_CONNECT_TIMEOUT_SECONDS: "
            "it went silent, or another session holds a lock",
            reason=_SILENT,
        ) from error
    except OSError as error:
        raise StoreUnavailableError(f"database: {describe(error)}", reason="the database cannot be reached") from error


def translate(error: BaseException) -> StoreError:
    original: BaseException = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        original = error.orig.__cause__ or error.orig
    state = getattr(original, "sqlstate", None) or ""
    message = describe(original)
    if state == "23505":
        return KeyTakenError(message)
    if state in _LENT:
        return StoreRefusedError(POOLED, reason="the database is behind a pooler in transaction mode")
    if isinstance(original, asyncpg.ClientConfigurationError):
        return StoreRefusedError(f"DATABASE_URL: {message}", reason="DATABASE_URL cannot be used")
    if not state or isinstance(error, InterfaceError):
        # The driver's own words name whatever it was doing when it noticed
        return StoreUnavailableError(f"the database connection was lost ({message})", reason=_LOST)
    return _by_state(state, f"{message} (SQLSTATE {state})")


def _by_state(state: str, message: str) -> StoreError:
    reason = _REASONS.get(state) or _REASONS.get(state[:2]) or "the database could not do what was asked"
    if state in _CONFLICT:
        return ContendedError(f"database: {message}", reason=reason)
    if state in _CONFIG:
        return StoreRefusedError(f"DATABASE_URL: {message}", reason=reason)
    if state == READ_ONLY or state.startswith(_UNAVAILABLE_CLASSES):
        return StoreUnavailableError(f"database: {message}", reason=reason)
    return StoreError(f"database: {message}", reason=reason)


def describe(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    first = text[0] if text else type(error).__name__
    return first if len(first) <= 300 else first[:300] + "…"
