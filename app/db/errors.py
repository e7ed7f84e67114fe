"""SQLSTATE → our errors. No error of a driver leaves the room."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.errors import ConfigError, EtlError, StoreConflictError, StoreError, StoreUnavailableError

# Classes and codes: PostgreSQL documentation, appendix A.
_CONFLICT = {"40001", "40P01", "55P03"}
_CONFIG = {"28000", "28P01", "3D000", "42501", "3F000"}
_LENT = {"42P05", "26000"}
"""A prepared statement that is not ours, or no longer: another client's session."""
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58")

POOLED = (
    "DATABASE_URL leads through a connection pooler in transaction mode; leases, prepared statements and temporary "
    "tables need a session of their own: name the server itself, or a pool with pool_mode = session"
)


class KeyTakenError(StoreConflictError):
    """A straight COPY met a key that is already there (23505); the transaction is rolled back."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn whatever the driver raises inside into one of ours."""
    try:
        yield
    except EtlError:
        raise
    except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise translate(error) from error
    except PoolTimeoutError as error:
        raise StoreUnavailableError("every database connection is in use; see DATABASE_POOL_MAX_SIZE") from error
    except InvalidRequestError as error:
        # A connection that died between two statements of one transaction
        raise StoreUnavailableError(f"the database connection was lost: {error}") from error
    except (OSError, TimeoutError) as error:
        raise StoreUnavailableError(f"database: {describe(error)}") from error


def translate(error: BaseException) -> StoreError | ConfigError:
    original: BaseException = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        original = error.orig.__cause__ or error.orig
    state = getattr(original, "sqlstate", None) or ""
    message = describe(original)
    if state == "23505":
        return KeyTakenError(message)
    if state in _LENT:
        return ConfigError(POOLED)
    if state in _CONFLICT:
        return StoreConflictError(f"{message} (SQLSTATE {state})")
    if isinstance(original, asyncpg.ClientConfigurationError):
        return ConfigError(f"DATABASE_URL: {message}")
    if state in _CONFIG:
        return ConfigError(f"DATABASE_URL: {message} (SQLSTATE {state})")
    if not state or isinstance(error, InterfaceError):
        # The driver's own words name whatever it was doing when it noticed
        return StoreUnavailableError(f"the database connection was lost ({message})")
    if state.startswith(_UNAVAILABLE_CLASSES):
        return StoreUnavailableError(f"database: {message} (SQLSTATE {state})")
    return StoreError(f"database: {message} (SQLSTATE {state})")


def describe(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    first = text[0] if text else type(error).__name__
    return first if len(first) <= 300 else first[:300] + "…"
