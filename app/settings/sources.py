"""The variables of the rooms that reach out: the built-in sources, and HTTP."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from app.settings.base import Group, Seconds

SAMPLE_CSV = Path(__file__).parents[1] / "demo" / "data" / "products.csv"


class SourceSettings(Group):
    built_in: Annotated[tuple[str, ...], NoDecode] = Field(
        ("api", "csv"),
        validation_alias="BUILT_IN_SOURCES",
        description="Which of the sources api and csv there are, comma-separated; none: only those in SOURCES_DIR.",
        examples=["api,csv"],
    )
    api_host: str = Field(
        "https://jsonplaceholder.typicode.com",
        validation_alias="API_HOST",
        description="The API source; /posts is appended when the URL has no path.",
        examples=["https://jsonplaceholder.typicode.com"],
    )
    api_key: SecretStr | None = Field(
        None,
        validation_alias="API_KEY",
        description="Sent to API_HOST as a bearer token.",
        examples=["my-api-key"],
    )
    csv_url: str = Field(
        str(SAMPLE_CSV),
        validation_alias="CSV_URL",
        description="The CSV source: an http(s) URL or a file path; unset means the sample file that ships.",
        examples=["https://example.com/products.csv"],
    )
    csv_id_column: str | None = Field(
        None,
        validation_alias="CSV_ID_COLUMN",
        description="Header of the column that identifies a row; unset: id, uuid, key, code or csv_id.",
        examples=["sku"],
    )

    folder: Path = Field(
        Path("sources"),
        validation_alias="SOURCES_DIR",
        description="Folder of the source files, *.toml.",
        examples=["sources"],
    )
    file_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        validation_alias="FILE_ROOTS",
        description="Folders in which source files may name files, beside their own; separated by commas.",
        examples=["/srv/exports,/data/csv"],
    )

    @field_validator("built_in", "file_roots", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("built_in")
    @classmethod
    def _are_built_in(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value == ("none",):
            return ()
        for name in value:
            if name not in {"api", "csv"}:
                raise ValueError(f"there is no built-in source {name}; there are api and csv, and none for neither")
        return value

    @field_validator("api_host")
    @classmethod
    def _is_http(cls, value: str) -> str:
        return _checked_http_url(value)

    @field_validator("csv_url")
    @classmethod
    def _is_http_or_path(cls, value: str) -> str:
        scheme, found, rest = value.partition("://")
        if not found:
            return value
        if scheme == "file":
            return rest
        return _checked_http_url(value)


class HttpSettings(Group):
    connect_timeout_seconds: Seconds = Field(
        5.0, validation_alias="HTTP_CONNECT_TIMEOUT_SECONDS", description="To reach a source.", examples=[5]
    )
    read_timeout_seconds: Seconds = Field(
        20.0,
        validation_alias="HTTP_READ_TIMEOUT_SECONDS",
        description="The longest silence between two parts of a body.",
        examples=[20],
    )
    total_timeout_seconds: Seconds = Field(
        30.0,
        validation_alias="HTTP_TOTAL_TIMEOUT_SECONDS",
        description="For one whole page of an API, body included.",
        examples=[30],
    )
    file_timeout_seconds: Seconds = Field(
        900.0,
        validation_alias="HTTP_FILE_TIMEOUT_SECONDS",
        description="Spent waiting for the bytes of one file (time spent loading them does not count).",
        examples=[900],
    )
    min_bytes_per_second: int = Field(
        1024,
        ge=0,
        validation_alias="HTTP_MIN_BYTES_PER_SECOND",
        description="A file slower than this over HTTP_READ_TIMEOUT_SECONDS is given up; 0 waits for ever.",
        examples=[1024],
    )
    max_attempts: int = Field(
        4,
        ge=1,
        le=20,
        validation_alias="HTTP_MAX_ATTEMPTS",
        description="Tries of one request.",
        examples=[4],
    )
    max_elapsed_seconds: Seconds = Field(
        120.0,
        validation_alias="HTTP_MAX_ELAPSED_SECONDS",
        description="For all tries of one request together, waits included.",
        examples=[120],
    )
    max_page_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024,
        validation_alias="HTTP_MAX_PAGE_BYTES",
        description="Largest API page held whole, decompressed; others are cut as they come (docs/sources.md).",
        examples=[67108864],
    )
    max_file_bytes: int = Field(
        20 * 1024 * 1024 * 1024,
        ge=1024,
        validation_alias="HTTP_MAX_FILE_BYTES",
        description="Largest file, or API page cut as it comes, decompressed.",
        examples=[21474836480],
    )
    fault_relay: str | None = Field(
        None,
        validation_alias="FAULT_RELAY",
        description="Of tests: sources are asked by way of this relay, which spoils answers on purpose "
        "(docs/reliability.md). Refused where HOST is not of this machine alone.",
        examples=["http://127.0.0.1:9000"],
    )

    @field_validator("fault_relay")
    @classmethod
    def _is_of_this_machine(cls, value: str | None) -> str | None:
        parts = urlsplit(_checked_http_url(value)) if value else None
        if parts and (parts.scheme != "http" or parts.hostname != "127.0.0.1" or parts.port is None or parts.path):
            raise ValueError("must be http://127.0.0.1:PORT")
        return value


def _checked_http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as error:
        raise ValueError("is not a valid URL") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be a URL that starts with http:// or https://")
    return value
