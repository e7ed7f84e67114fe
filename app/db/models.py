"""
The five tables, as typed models. `migrations/` says the same in DDL; a test holds them equal.

Columns stand in the order that packs best (eight-byte values first, then four,
then text): on a million rows that is megabytes of padding not written.
"""

import uuid
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ID_BLOCK_SIZE = 10_000
"""Ids a writer takes with one nextval (`app.db.ids`): the increment of both sequences."""

NAMING = {
    "pk": "%(table_name)s_pkey",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "ck": "%(table_name)s_%(constraint_name)s_check",
}


class Model(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar = {
        int: BigInteger,
        str: Text,
        float: Double,
        bytes: LargeBinary,
        datetime: DateTime(timezone=True),
        uuid.UUID: Uuid,
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
    }


raw_row_ids = Sequence("raw_row_ids", increment=ID_BLOCK_SIZE, metadata=Model.metadata)
"""Shared by both raw tables, so that a normalized row names its raw row by id alone."""
normalized_row_ids = Sequence("normalized_row_ids", increment=ID_BLOCK_SIZE, metadata=Model.metadata)

NOW = text("now()")
ZERO = text("0")


class RawColumns:
    """Append-only: one row per change of a record, exactly as received."""

    id: Mapped[int] = mapped_column(sort_order=-90)
    run_id: Mapped[int] = mapped_column(sort_order=-89)
    supersedes: Mapped[int | None] = mapped_column(sort_order=-88)
    extracted_at: Mapped[datetime] = mapped_column(server_default=NOW, sort_order=-87)
    page: Mapped[int] = mapped_column(Integer, sort_order=-86)
    position: Mapped[int] = mapped_column(Integer, sort_order=-85)
    source: Mapped[str] = mapped_column(sort_order=-84)
    source_id: Mapped[str | None] = mapped_column(sort_order=-83)
    payload_encoding: Mapped[str | None]
    content_hash: Mapped[bytes]
    disposition: Mapped[str] = mapped_column(server_default=text("'loaded'"))
    reject_code: Mapped[str | None]
    reject_field: Mapped[str | None]
    reject_detail: Mapped[str | None]
    notes: Mapped[list[Any] | None]
    delivery_key: Mapped[str | None]


def _raw_keys(table: str) -> tuple[PrimaryKeyConstraint | Index, ...]:
    return (
        PrimaryKeyConstraint("source", "id"),
        Index(f"{table}_unloaded_idx", "source", "source_id", postgresql_where=text("disposition <> 'loaded'")),
        Index(
            f"{table}_delivery_key_idx",
            "source",
            "delivery_key",
            unique=True,
            postgresql_where=text("delivery_key IS NOT NULL"),
        ),
    )


class RawApiData(RawColumns, Model):
    """Records of JSON APIs, feeds and hooks."""

    __tablename__ = "raw_api_data"
    __table_args__ = _raw_keys("raw_api_data")

    kind: Mapped[str] = mapped_column(server_default=text("'rest'"))
    # json, not jsonb: jsonb reorders keys, drops duplicates and refuses \u0000
    payload: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=False)


class RawCsvData(RawColumns, Model):
    """Records of CSV files, as their source text without the line end."""

    __tablename__ = "raw_csv_data"
    __table_args__ = _raw_keys("raw_csv_data")

    kind: Mapped[str] = mapped_column(server_default=text("'csv'"))
    payload: Mapped[str]


class NormalizedData(Model):
    """What is served: one row per record, in the unified schema."""

    __tablename__ = "normalized_data"
    # Both keys begin with `source`: the table can be distributed by it, and the
    # primary key is the default order and serves every keyset page.
    __table_args__ = (PrimaryKeyConstraint("source", "id"), UniqueConstraint("source", "source_id"))

    id: Mapped[int]
    raw_id: Mapped[int]
    run_id: Mapped[int]
    value: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)
    loaded_at: Mapped[datetime] = mapped_column(server_default=NOW)
    deleted_at: Mapped[datetime | None]
    source: Mapped[str]
    source_id: Mapped[str]
    name: Mapped[str] = mapped_column(server_default=text("''"))
    description: Mapped[str | None]
    content_hash: Mapped[bytes]


class EtlCheckpoint(Model):
    """
    Where each resource goes on, and who may move it.

    Kind `cursor` is written as the last statement of a batch. Kinds `auth`,
    `bucket`, `breaker`, `pause` and `alert` live in short transactions of their
    own: a batch that is rolled back must not take a rotated token with it.
    """

    __tablename__ = "etl_checkpoint"

    source: Mapped[str] = mapped_column(primary_key=True)
    resource: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[str] = mapped_column(primary_key=True, server_default=text("''"))
    kind: Mapped[str] = mapped_column(primary_key=True, server_default=text("'cursor'"))
    epoch: Mapped[int] = mapped_column(server_default=text("0"))
    batch_seq: Mapped[int] = mapped_column(server_default=text("0"))
    row_count: Mapped[int] = mapped_column(server_default=text("0"))
    data_version: Mapped[uuid.UUID] = mapped_column(server_default=text("gen_random_uuid()"))
    page: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    position: Mapped[int] = mapped_column(server_default=text("0"))
    byte_offset: Mapped[int] = mapped_column(server_default=text("0"))
    page_token: Mapped[str | None]
    prefix_hash: Mapped[str | None]
    validators: Mapped[dict[str, Any] | None]
    request_hash: Mapped[str | None]
    # Megabytes: read by who needs them, not with each lease
    fingerprints: Mapped[list[Any] | None] = mapped_column(deferred=True)
    schema_seen: Mapped[dict[str, Any] | None]
    mapping_hash: Mapped[str | None]
    pass_mapping_hash: Mapped[str | None]
    holder: Mapped[str | None]
    heartbeat_at: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]
    succeeded_at: Mapped[datetime | None]
    state: Mapped[dict[str, Any] | None]
    secret: Mapped[bytes | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)


class EtlRun(Model):
    """One resource extracted once. The counters balance: see `app.records.Counts`."""

    __tablename__ = "etl_runs"
    __table_args__ = (
        Index("etl_runs_created_at_idx", "created_at"),
        Index(
            "etl_runs_open_idx",
            "source",
            "resource",
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    tick_id: Mapped[uuid.UUID]
    source: Mapped[str]
    resource: Mapped[str]
    partition: Mapped[str] = mapped_column(server_default=text("''"))
    trigger: Mapped[str]
    status: Mapped[str]
    outcome: Mapped[str | None]
    holder: Mapped[str]
    epoch: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    pages: Mapped[int] = mapped_column(server_default=ZERO)
    extracted: Mapped[int] = mapped_column(server_default=ZERO)
    inserted: Mapped[int] = mapped_column(server_default=ZERO)
    updated: Mapped[int] = mapped_column(server_default=ZERO)
    unchanged: Mapped[int] = mapped_column(server_default=ZERO)
    filtered: Mapped[int] = mapped_column(server_default=ZERO)
    duplicate: Mapped[int] = mapped_column(server_default=ZERO)
    rejected: Mapped[int] = mapped_column(server_default=ZERO)
    deleted: Mapped[int] = mapped_column(server_default=ZERO)
    outdated: Mapped[int] = mapped_column(server_default=ZERO)
    coerced: Mapped[int] = mapped_column(server_default=ZERO)
    raw_rows: Mapped[int] = mapped_column(server_default=ZERO)
    vanished: Mapped[int] = mapped_column(server_default=ZERO)
    requests: Mapped[int] = mapped_column(server_default=ZERO)
    retries: Mapped[int] = mapped_column(server_default=ZERO)
    bytes_received: Mapped[int] = mapped_column(server_default=ZERO)
    bytes_saved: Mapped[int] = mapped_column(server_default=ZERO)
    wait_seconds: Mapped[dict[str, Any] | None]
    error_class: Mapped[str | None]
    error_message: Mapped[str | None]
    input: Mapped[dict[str, Any] | None]
    findings: Mapped[list[Any] | None]
    profile: Mapped[dict[str, Any] | None]
    request_ledger: Mapped[dict[str, Any] | None]
