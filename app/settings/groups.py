"""
The variables, grouped by the room that reads them.

Each field names its variable, its unit or range, and an example, so that a
wrong value can be answered with one line that says how to write it right.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from app.settings.base import Group, Seconds
from app.settings.sources import HttpSettings, SourceSettings


class DatabaseSettings(Group):
    url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="PostgreSQL to use; unset means an embedded one is started.",
        examples=["postgresql://user:password@localhost:5432/etl?sslmode=prefer"],
    )
    pool_min_size: int = Field(
        5,
        ge=1,
        le=100,
        validation_alias="DATABASE_POOL_MIN_SIZE",
        description="Connections kept open.",
        examples=[5],
    )
    pool_max_size: int = Field(
        20,
        ge=2,
        le=500,
        validation_alias="DATABASE_POOL_MAX_SIZE",
        description="Connections at most.",
        examples=[20],
    )
    connect_timeout_seconds: Seconds = Field(
        5.0,
        validation_alias="DATABASE_CONNECT_TIMEOUT_SECONDS",
        description="To open one connection.",
        examples=[5],
    )
    command_timeout_seconds: Seconds = Field(
        60.0,
        validation_alias="DATABASE_COMMAND_TIMEOUT_SECONDS",
        description="For any one statement; a database that went silent is given up after this.",
        examples=[60],
    )
    slow_statement_seconds: Seconds = Field(
        1.0,
        validation_alias="DATABASE_SLOW_STATEMENT_SECONDS",
        description="A statement slower than this is logged as `statement_slow`.",
        examples=[1],
    )
    search_index: bool = Field(
        default=True,
        validation_alias="SEARCH_INDEX",
        description="From 50,000 rows on, make an index for search where the server has pg_trgm; loading takes longer "
        "with it.",
        examples=["true"],
    )

    @field_validator("url")
    @classmethod
    def _is_a_postgres_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        scheme, found, rest = value.get_secret_value().partition("://")
        if not found or scheme.removesuffix("+asyncpg") not in {"postgresql", "postgres"}:
            raise ValueError("must start with postgresql:// or postgres://")
        dsn = f"postgresql://{rest}"
        try:
            _ = urlsplit(dsn).port
        except ValueError as error:
            raise ValueError("has a port that is not a number from 0 to 65535") from error
        return SecretStr(dsn)

    @model_validator(mode="after")
    def _pool_sizes_are_ordered(self) -> Self:
        if self.pool_min_size > self.pool_max_size:
            raise ValueError(
                f"DATABASE_POOL_MIN_SIZE={self.pool_min_size} is larger than "
                f"DATABASE_POOL_MAX_SIZE={self.pool_max_size}; for example DATABASE_POOL_MIN_SIZE=5"
            )
        return self


class EmbeddedSettings(Group):
    data_dir: Path = Field(
        Path("~/.local/share/etl-river"),
        validation_alias="ETL_DATA_DIR",
        description="Where the embedded PostgreSQL keeps its data.",
        examples=["~/.local/share/etl-river"],
    )
    pg_bin: Path | None = Field(
        None,
        validation_alias="ETL_PG_BIN",
        description="Directory with initdb and postgres, when the embedded one should use those.",
        examples=["/usr/lib/postgresql/18/bin"],
    )

    @field_validator("data_dir", "pg_bin")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value else None


class ScheduleSettings(Group):
    interval_seconds: float = Field(
        900.0,
        ge=1,
        le=7 * 86_400,
        validation_alias="ETL_INTERVAL",
        description="Seconds from the start of one tick to the start of the next.",
        examples=[900],
    )
    lease_seconds: float = Field(
        30.0,
        ge=1,
        le=3600,
        validation_alias="ETL_LEASE_SECONDS",
        description="A run that gave no sign of life for this long may be taken over.",
        examples=[30],
    )
    max_concurrent_runs: int = Field(
        8,
        ge=1,
        le=100,
        validation_alias="MAX_CONCURRENT_RUNS",
        description="Runs of this process at the same time.",
        examples=[8],
    )


class RetentionSettings(Group):
    raw_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        validation_alias="RAW_RETENTION_DAYS",
        description="Superseded raw rows are removed after so many days; unset: never. What is current stays.",
        examples=[90],
    )
    runs_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        validation_alias="RUNS_RETENTION_DAYS",
        description="Runs that no raw row names are removed after so many days; unset: never. Totals stay.",
        examples=[365],
    )


class ServerSettings(Group):
    host: str = Field("127.0.0.1", validation_alias="HOST", description="Address to listen on.", examples=["127.0.0.1"])
    port: int = Field(
        8000,
        ge=0,
        le=65_535,
        validation_alias="PORT",
        description="Port to listen on; 0 picks one.",
        examples=[8000],
    )
    operator_token: SecretStr | None = Field(
        None,
        validation_alias="OPERATOR_TOKEN",
        description="Who sends it as bearer token may operate: start runs, check sources; unset: nobody may. "
        "Also as sha256:HEX.",
        examples=["a-long-random-text"],
    )
    read_token: SecretStr | None = Field(
        None,
        validation_alias="READ_TOKEN",
        description="Who sends it may read; when set, /data and its kin are closed to others. Also as sha256:HEX.",
        examples=["another-long-random-text"],
    )
    read_cache_bytes: int = Field(
        64 * 1024 * 1024,
        ge=0,
        le=2**40,
        validation_alias="READ_CACHE_BYTES",
        description="Memory for answers of /data that are kept until the data change; 0 keeps none.",
        examples=[67_108_864],
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*",),
        validation_alias="CORS_ORIGINS",
        description="Origins whose pages may read the API, comma-separated; never with credentials.",
        examples=["https://app.example.com,https://admin.example.com"],
    )

    @field_validator("operator_token", "read_token")
    @classmethod
    def _is_a_token(cls, value: SecretStr | None) -> SecretStr | None:
        kind, _, digits = (value.get_secret_value() if value else "").partition(":")
        if kind == "sha256" and not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
            raise ValueError("after sha256: come 64 hexadecimal digits, of the token's SHA-256")
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.path):
                raise ValueError(f"{origin!r} is not an origin (scheme://host[:port], no path) and not *")
        return value


class ExportSettings(Group):
    max_concurrent: int = Field(
        2,
        ge=1,
        le=100,
        validation_alias="MAX_CONCURRENT_EXPORTS",
        description="Exports of this process at the same time; each has a database connection of its own.",
        examples=[2],
    )
    stall_seconds: Seconds = Field(
        30.0,
        validation_alias="EXPORT_STALL_SECONDS",
        description="An export is cut when its client takes nothing for so long.",
        examples=[30],
    )
    max_seconds: Seconds = Field(
        3600.0,
        validation_alias="EXPORT_MAX_SECONDS",
        description="An export that takes longer is cut: for so long may it hold its snapshot.",
        examples=[3600],
    )


class LogSettings(Group):
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias="LOG_LEVEL", description="debug, info, warning or error.", examples=["info"]
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto",
        validation_alias="LOG_FORMAT",
        description="json, console, or auto: console on a terminal, json elsewhere.",
        examples=["json"],
    )

    @field_validator("level", "format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


GROUPS: tuple[type[Group], ...] = (
    DatabaseSettings,
    EmbeddedSettings,
    SourceSettings,
    HttpSettings,
    ScheduleSettings,
    RetentionSettings,
    ServerSettings,
    ExportSettings,
    LogSettings,
)
