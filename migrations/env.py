"""
Where Alembic meets the database.

Called by the service, it gets a connection and touches no logging. Called by
hand (`alembic upgrade head`), it reads the settings and opens the same
database that `etl serve` would, the embedded one included.
"""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from app.db.locks import MIGRATION_LOCK
from app.db.models import Model


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Model.metadata, compare_server_default=True)
    with context.begin_transaction():
        # First the lock, then the timeouts: a replica may wait here as long as another one migrates.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        connection.execute(text("SET LOCAL statement_timeout = '15min'"))
        context.run_migrations()


async def migrate_by_hand() -> None:
    from app.resources import open_database  # noqa: PLC0415 -- the service hands in a connection and needs none of it
    from app.settings import load_settings  # noqa: PLC0415

    async with open_database(load_settings()) as database, database.connection() as connection:
        await connection.run_sync(migrate)
        await connection.commit()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
elif context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=Model.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(migrate_by_hand())
