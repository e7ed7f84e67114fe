"""`etl_checkpoint`, kind `bucket`: a rate limit that all processes keep together."""

from typing import Final

from sqlalchemy import text

from app.db.engine import Database

# GCRA (ITU-T I.371): all that a bucket remembers is when it will be full again. Asked again
# after the lock on the row, clock_timestamp() is the moment at which the tokens are taken.
# `horizon`: a clock that was set back, or a limit that was raised, does not stop a source for days.
_TAKE: Final = text("""
    INSERT INTO etl_checkpoint AS bucket (source, resource, kind, state)
    VALUES ('', :bucket, 'bucket', jsonb_build_object(
        'full_at', extract(epoch FROM clock_timestamp())::float8 + CAST(:cost AS float8)))
    ON CONFLICT (source, resource, partition, kind) DO UPDATE SET
        updated_at = clock_timestamp(),
        state = jsonb_build_object('full_at', CAST(:cost AS float8) + least(
            greatest((bucket.state ->> 'full_at')::float8, extract(epoch FROM clock_timestamp())::float8),
            extract(epoch FROM clock_timestamp())::float8 + CAST(:horizon AS float8)))
    RETURNING (state ->> 'full_at')::float8 - CAST(:cost AS float8) - extract(epoch FROM clock_timestamp())::float8
""")


async def take(
    database: Database, bucket: str, *, requests: int, per_seconds: float, burst: int, want: int = 1
) -> float:
    """
    Take tokens, in a transaction of its own; those that are not there yet are reserved.

    Args:
        burst: how many may be used at once after a rest.
        want: how many to take, at least 1. An untaken token is nobody's: there is no giving back.

    Returns:
        Seconds until the first of them may be used, by the database's clock; each
        further one `per_seconds / requests` later. Below 0: it might have been used
        that long ago, so a few of the others may be used at once.

    Raises:
        StoreError: nothing is known to have been taken.
    """
    interval = per_seconds / requests
    horizon = burst * interval + max(1000 * interval, 60.0)
    async with database.write() as session:
        ahead: float = (
            await session.execute(_TAKE, {"bucket": bucket, "cost": want * interval, "horizon": horizon})
        ).scalar_one()
    return ahead - (burst - 1) * interval
