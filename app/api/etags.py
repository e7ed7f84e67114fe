"""Validators of answers: `ETag`, `If-None-Match`."""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import Response
from starlette.datastructures import Headers


def etag_of(body: bytes) -> str:
    """
    Of the bytes themselves: strong, and another one exactly when they are others.

    Not of the version of the data: totals that are estimated, or that counting had no time for, may differ between
    two answers of one version; and a version changes for rows that an answer does not show.
    """
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def validated_response(body: bytes, etag: str, headers: Mapping[str, str], *, asked: Headers) -> Response:
    """The JSON body, or a 304 where who asks has it already."""
    sent = {"ETag": etag, "Cache-Control": "no-cache", **headers}
    if _is_known(etag, joined(asked, "if-none-match")):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=sent)
    return Response(body, headers=sent, media_type="application/json")


def _is_known(etag: str, given: str) -> bool:
    """RFC 9110 §13.1.2: any of them, by weak comparison."""
    return given.strip() == "*" or etag in (item.strip().removeprefix("W/") for item in given.split(","))


def joined(headers: Headers, name: str) -> str:
    """RFC 9110 §5.3: lines of one name are one list."""
    return ", ".join(headers.getlist(name))
