"""The five tables.

Revision ID: 0001
Revises:
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID_BLOCK_SIZE = 10_000


def upgrade() -> None:
    op.execute(f"CREATE SEQUENCE raw_row_ids AS bigint INCREMENT BY {ID_BLOCK_SIZE}")
    op.execute(f"CREATE SEQUENCE normalized_row_ids AS bigint INCREMENT BY {ID_BLOCK_SIZE}")
    create_raw("raw_api_data", kind="rest", payload=sa.JSON())
    create_raw("raw_csv_data", kind="csv", payload=sa.Text())
    create_normalized()
    create_checkpoint()
    create_runs()


def downgrade() -> None:
    for table in ("etl_runs", "etl_checkpoint", "normalized_data", "raw_csv_data", "raw_api_data"):
        op.drop_table(table)
    op.execute("DROP SEQUENCE normalized_row_ids")
    op.execute("DROP SEQUENCE raw_row_ids")


def moment(name: str, *, nullable: bool = True, default: str | None = None) -> sa.Column[object]:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        nullable=nullable,
        server_default=sa.text(default) if default else None,
    )


def text(name: str, *, nullable: bool = True, default: str | None = None) -> sa.Column[object]:
    return sa.Column(
        name,
        sa.Text(),
        nullable=nullable,
        server_default=sa.text(f"'{default}'") if default is not None else None,
    )


def bigint(name: str, *, nullable: bool = True, default: int | None = None) -> sa.Column[object]:
    return sa.Column(
        name,
        sa.BigInteger(),
        nullable=nullable,
        server_default=sa.text(str(default)) if default is not None else None,
    )


def create_raw(table: str, *, kind: str, payload: sa.types.TypeEngine[Any]) -> None:
    op.create_table(
        table,
        bigint("id", nullable=False),
        bigint("run_id", nullable=False),
        bigint("supersedes"),
        moment("extracted_at", nullable=False, default="now()"),
        sa.Column("page", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        text("source", nullable=False),
        text("source_id"),
        text("kind", nullable=False, default=kind),
        sa.Column("payload", payload, nullable=False),
        text("payload_encoding"),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        text("disposition", nullable=False, default="loaded"),
        text("reject_code"),
        text("reject_field"),
        text("reject_detail"),
        sa.Column("notes", postgresql.JSONB()),
        text("delivery_key"),
        sa.PrimaryKeyConstraint("source", "id", name=f"{table}_pkey"),
    )
    op.create_index(
        f"{table}_unloaded_idx",
        table,
        ["source", "source_id"],
        postgresql_where=sa.text("disposition <> 'loaded'"),
    )
    op.create_index(
        f"{table}_delivery_key_idx",
        table,
        ["source", "delivery_key"],
        unique=True,
        postgresql_where=sa.text("delivery_key IS NOT NULL"),
    )


def create_normalized() -> None:
    op.create_table(
        "normalized_data",
        bigint("id", nullable=False),
        bigint("raw_id", nullable=False),
        bigint("run_id", nullable=False),
        sa.Column("value", sa.Double()),
        moment("created_at", nullable=False, default="now()"),
        moment("updated_at", nullable=False, default="now()"),
        moment("loaded_at", nullable=False, default="now()"),
        moment("deleted_at"),
        text("source", nullable=False),
        text("source_id", nullable=False),
        text("name", nullable=False, default=""),
        text("description"),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("source", "id", name="normalized_data_pkey"),
        sa.UniqueConstraint("source", "source_id", name="normalized_data_source_source_id_key"),
    )


def create_checkpoint() -> None:
    op.create_table(
        "etl_checkpoint",
        text("source", nullable=False),
        text("resource", nullable=False),
        text("partition", nullable=False, default=""),
        text("kind", nullable=False, default="cursor"),
        *(bigint(name, nullable=False, default=0) for name in ("epoch", "batch_seq", "row_count")),
        sa.Column("page", sa.Integer(), nullable=False, server_default=sa.text("0")),
        *(bigint(name, nullable=False, default=0) for name in ("position", "byte_offset")),
        text("page_token"),
        text("prefix_hash"),
        sa.Column("validators", postgresql.JSONB()),
        text("request_hash"),
        sa.Column("fingerprints", postgresql.JSONB()),
        sa.Column("schema_seen", postgresql.JSONB()),
        text("mapping_hash"),
        text("pass_mapping_hash"),
        text("holder"),
        moment("heartbeat_at"),
        moment("lease_expires_at"),
        sa.Column("state", postgresql.JSONB()),
        sa.Column("secret", sa.LargeBinary()),
        moment("updated_at", nullable=False, default="now()"),
        sa.PrimaryKeyConstraint("source", "resource", "partition", "kind", name="etl_checkpoint_pkey"),
    )


def create_runs() -> None:
    counters = (
        "pages", "extracted", "inserted", "updated", "unchanged", "filtered", "duplicate", "rejected", "deleted",
        "outdated", "coerced", "raw_rows", "requests", "retries", "bytes_received",
    )  # fmt: skip
    op.create_table(
        "etl_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tick_id", sa.Uuid(), nullable=False),
        text("source", nullable=False),
        text("resource", nullable=False),
        text("partition", nullable=False, default=""),
        text("trigger", nullable=False),
        text("status", nullable=False),
        text("outcome"),
        text("holder", nullable=False),
        bigint("epoch", nullable=False),
        moment("created_at", nullable=False, default="now()"),
        moment("started_at"),
        moment("finished_at"),
        moment("heartbeat_at"),
        *(bigint(name, nullable=False, default=0) for name in counters),
        sa.Column("wait_seconds", postgresql.JSONB()),
        text("error_class"),
        text("error_message"),
        sa.Column("input", postgresql.JSONB()),
        sa.Column("findings", postgresql.JSONB()),
        sa.Column("profile", postgresql.JSONB()),
        sa.Column("request_ledger", postgresql.JSONB()),
        sa.PrimaryKeyConstraint("id", name="etl_runs_pkey"),
    )
    op.create_index("etl_runs_created_at_idx", "etl_runs", ["created_at"])
    op.create_index(
        "etl_runs_open_idx",
        "etl_runs",
        ["source", "resource"],
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
