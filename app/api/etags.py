"""Validators of answers: `ETag`, `If-None-Match`."""

import hashlib

from starlette.datastructures import Headers


def etag_of(body: bytes) -> str:
    """
    Of the bytes themselves: strong, and another one exactly when they are others.

    Not of the version of the data: totals that are estimated, or that counting had no time for, may differ between
    two answers of one version; and a version changes for rows that an answer does not show.
    """
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def is_known(etag: str, headers: Headers) -> bool:
    """Whether who asks has it already, so that 304 will do. RFC 9110 §13.1.2: any of them, by weak comparison."""
    given = joined(headers, "if-none-match")
    return given.strip() == "*" or etag in (item.strip().removeprefix("W/") for item in given.split(","))


def joined(headers: Headers, name: str) -> str:
    """RFC 9110 §5.3: lines of one name are one list."""
    return ", ".join(headers.getlist(name))
