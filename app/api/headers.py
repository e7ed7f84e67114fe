"""What answers say beside their bodies, as OpenAPI describes it."""

from collections.abc import Mapping
from typing import Any, Final

FRESHNESS_HEADERS: Final[Mapping[str, Any]] = {
    "X-Data-As-Of": {
        "description": "When the least fresh of the sources that it covers, and that there are still, was last brought "
        "up to date; missing where one never was.",
        "schema": {"type": "string", "format": "date-time"},
    },
    "X-Source-Lag-Seconds": {
        "description": "How long ago that is.",
        "schema": {"type": "integer", "minimum": 0},
    },
}
VALIDATOR_HEADERS: Final[Mapping[str, Any]] = {
    "ETag": {
        "description": "Of the answer's bytes: sent back as `If-None-Match`, it brings a 304 while they are the same.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9a-f]{24}"$'},
    },
    "Cache-Control": {
        "description": "To be asked again before it is used again.",
        "required": True,
        "schema": {"type": "string", "enum": ["no-cache"]},
    },
}
PAGE_HEADERS: Final[Mapping[str, Any]] = {
    **VALIDATOR_HEADERS,
    **FRESHNESS_HEADERS,
    "Cache-Status": {
        "description": "RFC 9211: whether it was kept, or made for this request.",
        "required": True,
        "schema": {"type": "string", "enum": ["etl-river; hit", "etl-river; fwd=miss"]},
    },
    "Link": {
        "description": "RFC 8288: where the next page is; missing on the last.",
        "schema": {"type": "string", "pattern": '^<.+>; rel="next"$'},
    },
}


def validated_responses(headers: Mapping[str, Any]) -> dict[int | str, dict[str, Any]]:
    """For the `responses` of a route whose answer has an ETag; a 304 says the same of it as the answer itself."""
    same = {"description": "It is what `If-None-Match` names.", "headers": dict(headers)}
    return {200: {"headers": dict(headers)}, 304: same}
