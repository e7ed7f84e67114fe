"""A feed, over HTTP or on disk → one page of entries."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from sys import maxsize
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from app.errors import SourceMalformedError
from app.extract.bodies import open_source
from app.extract.client import SourceClient
from app.extract.decompress import decompressed
from app.extract.feed_records import findings, read_entries, understand
from app.extract.http_errors import redact
from app.records import Checkpoint, Cursor, Page, Records, Traffic
from app.sources.resource import ResourceSpec
from app.sources.tables import RssResource

MAX_FEED_BYTES: Final = 16 * 1024 * 1024
"""Decompressed; a parsed feed takes several times its size. `client.max_response_bytes` says otherwise."""


async def read_feed(
    spec: ResourceSpec, checkpoint: Checkpoint, *, client: SourceClient, traffic: Traffic
) -> AsyncGenerator[Page, None]:
    """
    The feed as one page: it is read whole, or not at all.

    Raises:
        SourceError: not there, too large, or no feed; ill-formed, where `on_bozo` says so.
    """
    assert isinstance(spec.table, RssResource)
    feed, what = spec.table.feed, redact(spec.table.feed.url)
    saved = checkpoint.validators.get("") if spec.client.conditional_requests else None
    async with open_source(feed.url, saved, client=client, traffic=traffic, setting="feed.url") as body:
        if body is None:
            yield Page(1, Records(), Cursor(), last=True, not_modified=True, validators=checkpoint.validators)
            return
        plain = decompressed(body.parts, "auto", max_bytes=maxsize, what=what)
        most = spec.client.max_response_bytes or min(client.max_page_bytes, MAX_FEED_BYTES)
        text = await _whole(plain, most=most, what=what)
        validators = body.proven
    parsed = await understand(
        text,
        feed,
        what=what,
        content_type=body.headers.get("Content-Type"),
        content_language=body.headers.get("Content-Language"),
        base_url=_base(body.url),
    )
    if parsed.ill_formed is not None and feed.on_bozo == "fail":
        raise SourceMalformedError(f'{what}: ill-formed: {parsed.ill_formed}; feed.on_bozo is "fail"')
    records = await asyncio.to_thread(read_entries, parsed)
    if body.asked is not None:
        body.asked.brings(1)
    yield Page(
        number=1,
        records=records,
        after=Cursor(page=1, position=len(records)),
        last=True,
        body_bytes=len(text),
        validators={"": validators} if validators else {},
        findings=findings(parsed, records),
        input={"format": parsed.version, "encoding": parsed.encoding, "ill_formed": parsed.ill_formed},
    )


async def _whole(parts: AsyncIterator[bytes], *, most: int, what: str) -> bytes:
    held: list[bytes] = []
    size = 0
    async for part in parts:
        size += len(part)
        if size > most:
            raise SourceMalformedError(f"{what}: the feed is larger than {most} bytes; raise client.max_response_bytes")
        held.append(part)
    return b"".join(held)


def _base(url: str | None) -> str | None:
    """Without user and query, which may be credentials, and would stand in each relative link."""
    if url is None:
        return None
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
