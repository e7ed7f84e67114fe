"""The words of other tools, for those who come from there."""

from collections.abc import Mapping
from typing import Any, Final

ALIASES: Final[Mapping[str, Mapping[str, str]]] = {
    "client": {"url_base": "base_url", "request_headers": "headers", "authenticator": "auth"},
    "endpoint": {
        "http_method": "method",
        "request_parameters": "params",
        "request_headers": "headers",
        "request_body_json": "json",
        "request_body_data": "data",
        "records_path": "data_selector",
    },
    "incremental": {
        "cursor_field": "cursor_path",
        "replication_key": "cursor_path",
        "update_key": "cursor_path",
        "incremental_key": "cursor_path",
        "start_datetime": "initial_value",
        "end_datetime": "end_value",
        "lag": "lookback_window",
    },
    "paginator": {"start_from_page": "base_page", "page_size": "limit"},
    "resources": {"sync_mode": "write_disposition", "columns": "mapping"},
    "format": {"quotechar": "quote_char", "escape": "escape_char", "skip_lines": "skip_rows_before_header"},
}
"""By table: a word that means exactly one of ours is taken for it."""

VALUES: Final[Mapping[tuple[str, str], str]] = {
    ("write_disposition", "append_deduped"): "merge",
    ("write_disposition", "incremental"): "merge",
    ("write_disposition", "truncate_insert"): "replace",
    ("write_disposition", "full-refresh"): "replace",
    ("write_disposition", "full_refresh_overwrite"): "replace",
    ("data_type", "discard_row"): "reject_row",
    ("schema_contract", "discard_row"): "reject_row",
}
"""By key and foreign value: ours."""

ELSEWHERE: Final[Mapping[str, str]] = {
    "url_base": "Airbyte's name; here client.base_url",
    "base_url": "here client.base_url",
    "url": "here client.base_url for an API; of a resource, file.url for a CSV file and feed.url for a feed",
    "auth": "here client.auth",
    "token": 'here client.auth = { type = "bearer", token = "{secrets.NAME}" }',
    "api_key": 'here client.auth = { type = "api_key", name = "X-Api-Key", api_key = "{secrets.NAME}" }',
    "authenticator": "Airbyte's name; here client.auth",
    "streams": "Airbyte's and Singer's name; here [[resources]]",
    "stream": "Singer's and Sling's name; here [[resources]]",
    "endpoints": "Sling's name; here [[resources]]",
    "cursor_field": "Airbyte's name; here endpoint.incremental.cursor_path",
    "replication_key": "Singer's name; here endpoint.incremental.cursor_path",
    "update_key": "Sling's name; here endpoint.incremental.cursor_path",
    "incremental_key": "ingestr's name; here endpoint.incremental.cursor_path",
    "incremental": "here endpoint.incremental",
    "paginator": "here client.paginator, or endpoint.paginator of a resource",
    "pagination": "Sling's name; here client.paginator, or endpoint.paginator of a resource",
    "records_path": "here endpoint.data_selector",
    "records_jsonpath": "Singer's name; here endpoint.data_selector (JMESPath)",
    "record_selector": "Airbyte's name; here endpoint.data_selector",
    "field_path": "Airbyte's name; here endpoint.data_selector",
    "rate": "Sling's name; here [rate_limit] requests and per",
    "concurrency": "here [rate_limit] concurrency",
    "http_method": "Airbyte's name; here endpoint.method",
    "primary_keys": "here primary_key, a name or a list of names",
    "key": "here primary_key",
    "merge_key": "dlt's and ingestr's name; here primary_key",
    "key_properties": "Singer's name; here primary_key",
    "requests_per_minute": 'here rate_limit = { requests = 60, per = "PT1M" }',
    "requests_per_second": 'here rate_limit = { requests = 5, per = "PT1S" }',
    "max_retries": "here retry.max_attempts, the first try included",
    "start_param": "dlt's name; put {incremental.start_value} into endpoint.params",
    "end_param": "dlt's name; put {incremental.end_value} into endpoint.params",
    "sep": "here format.delimiter",
    "date_format": 'here the format of a mapping: updated_at = { path = "day", format = "%d.%m.%Y" }',
    "cron": "here [schedule] cron",
    "interval": "here [schedule] interval",
}
"""What to write, and where, for a word found where it means nothing."""

TYPES: Final[Mapping[str, str]] = {
    "PageIncrement": "page_number",
    "OffsetIncrement": "offset",
    "CursorPagination": "cursor",
    "DefaultPaginator": "page_number, offset, cursor or another",
    "NoPagination": "single_page",
    "json_response": "json_link",
    "BearerAuthenticator": "bearer",
    "ApiKeyAuthenticator": "api_key",
    "BasicHttpAuthenticator": "http_basic",
    "OAuthAuthenticator": "oauth2_client_credentials or oauth2_refresh_token",
    "NoAuth": "none",
    "basic": "http_basic",
    "oauth2": "oauth2_client_credentials or oauth2_refresh_token",
    "rest": "rest_api",
    "api": "rest_api",
    "atom": "rss",
    "feed": "rss",
}
"""Other names of a `type`, and ours."""

FREE: Final = {"params", "headers", "json", "data", "partitions", "value"}
"""Tables whose keys are the user's own."""


def translate(tree: Any, *, table: str = "", hints: list[str] | None = None) -> Any:
    """
    The same tree in our words.

    Args:
        hints: gets a line for each word that was translated.

    Raises:
        ValueError: a foreign word stands beside its own translation.
    """
    if isinstance(tree, list):
        return [translate(item, table=table, hints=hints) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ours: dict[str, Any] = {}
    for key, value in tree.items():
        name = ALIASES.get(table, {}).get(key, key)
        if name != key:
            if name in tree:
                raise ValueError(f"{table}.{key} and {table}.{name} mean the same; keep {name}")
            if hints is not None:
                hints.append(f"{table}.{key} is taken as {table}.{name}")
        meant = VALUES.get((name, value), value) if isinstance(value, str) else value
        below = "resources" if name == "resource_defaults" else name
        ours[name] = meant if name in FREE else translate(meant, table=below, hints=hints)
    return ours
