"""`etl_checkpoint`, kind `auth`: the refresh token that a server gave last, encrypted."""

import base64
import hashlib

import structlog
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from app.db.engine import Database
from app.db.models import EtlCheckpoint

log = structlog.get_logger()

KIND = "auth"


class StoredToken:
    """
    One source's refresh token, in transactions of its own: a batch that rolls back takes no token with it.

    Args:
        key_material: the configured secrets, of which the key is made: who reads
            only the database reads no token, and other secrets begin anew.
    """

    def __init__(self, database: Database, source: str, *, key_material: str) -> None:
        self._database = database
        self._source = source
        digest = hashlib.blake2b(key_material.encode(), digest_size=32, person=b"etl-river auth").digest()
        self._fernet = Fernet(base64.urlsafe_b64encode(digest))

    async def load(self) -> str | None:
        """None when there is none, or one that these secrets do not open."""
        table = EtlCheckpoint
        statement = select(table.secret).where(
            table.source == self._source, table.resource == "", table.partition == "", table.kind == KIND
        )
        async with self._database.read() as session:
            held = (await session.execute(statement)).scalar_one_or_none()
        if held is None:
            return None
        try:
            return self._fernet.decrypt(held).decode()
        except InvalidToken:
            log.warning("token_not_readable", source=self._source)
            return None

    async def save(self, refresh_token: str) -> None:
        table = EtlCheckpoint
        held = self._fernet.encrypt(refresh_token.encode())
        statement = insert(table).values(source=self._source, resource="", kind=KIND, secret=held)
        async with self._database.write() as session:
            await session.execute(
                statement.on_conflict_do_update(
                    index_elements=[table.source, table.resource, table.partition, table.kind],
                    set_={"secret": held, "updated_at": func.now()},
                )
            )
