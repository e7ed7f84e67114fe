"""A JSON API → pages: `_page` and `_limit`, or wherever its Link header leads."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import structlog

from app.errors import SourceMalformedError
from app.extract.http import Fetcher, Response
from app.extract.http_errors import redact
from app.extract.json_records import cut_records
from app.records import Checkpoint, Cursor, Page, Records, Traffic, Validators
from app.sources.spec import ApiSource

log = structlog.get_logger()

MAX_VALIDATORS = 500
"""Pages of a walk whose validators are kept; a longer walk is read whole."""


async def read_api(
    source: ApiSource, checkpoint: Checkpoint, *, fetcher: Fetcher, traffic: Traffic
) -> AsyncGenerator[Page, None]:
    """
    Walk the pages from where the checkpoint stands.

    Each page is asked for with the validators saved with it; a page that was
    not modified leads to the one that followed it then.

    Raises:
        SourceError: see `Fetcher.get_page`.
        SourceMalformedError: not JSON, a walk that goes in circles or past max_pages.
    """
    cursor = checkpoint.cursor
    known = checkpoint.validators
    fresh: dict[str, Validators] = dict(known) if cursor.page else {}
    token = cursor.page_token or ""
    asked = {token}
    previous: bytes | None = None
    while True:
        url = _page_url(source, token)
        response = await fetcher.get_page(
            url,
            token=source.token.get_secret_value() if source.token else None,
            validators=known.get(token),
            traffic=traffic,
        )
        records = Records()
        if response.not_modified:
            following = known[token].next_token
            fresh[token] = known[token]
        else:
            records = cut_records(response.body, what=f"GET {redact(url)}")
            repeated = len(records) > 0 and response.body == previous
            if repeated:
                # Past its end some servers answer the last page again, or ignore the page number altogether
                log.info("page_repeated", source=source.name, page=cursor.page + 1)
                records = Records()
            following = None if repeated else _next_token(source, token, response, len(records))
            fresh[token] = replace(response.validators, next_token=following)
            previous = response.body
        cursor = Cursor(page=cursor.page + 1, position=cursor.position + len(records), page_token=following)
        yield Page(
            number=cursor.page,
            records=records,
            after=cursor,
            last=following is None,
            not_modified=response.not_modified,
            body_bytes=len(response.body),
            validators={key: value for key, value in fresh.items() if value} if len(fresh) <= MAX_VALIDATORS else {},
        )
        if following is None:
            return
        token = following
        _guard(source, token, asked, cursor)


def _guard(source: ApiSource, token: str, asked: set[str], cursor: Cursor) -> None:
    if token in asked:
        raise SourceMalformedError(
            f"{redact(source.url)}: page {cursor.page} leads to a page already read; the walk would never end"
        )
    if cursor.page >= source.max_pages:
        raise SourceMalformedError(f"{redact(source.url)}: more than {source.max_pages} pages")
    asked.add(token)


def _page_url(source: ApiSource, token: str) -> str:
    """A token is the query of the page's URL; the first page asks for page 1."""
    parts = urlsplit(source.url)
    if not token:
        token = _with_params(parts.query, {source.page_param: "1", source.limit_param: str(source.page_size)})
    return urlunsplit(parts._replace(query=token))


def _next_token(source: ApiSource, token: str, response: Response, count: int) -> str | None:
    if response.has_links:
        target = response.links.get("next")
        return _same_host_query(source, target) if target else None
    # No Link header: a short page is the last, and a page longer than asked for was not paged at all
    if count != source.page_size:
        return None
    query = urlsplit(_page_url(source, token)).query
    number = int(dict(parse_qsl(query))[source.page_param])
    return _with_params(query, {source.page_param: str(number + 1)})


def _same_host_query(source: ApiSource, target: str) -> str:
    """
    The query of the next page, to be asked of our own URL.

    Scheme and port are not compared: servers behind a proxy write links with
    the scheme and port they see themselves (JSONPlaceholder says http).
    """
    parts, ours = urlsplit(urljoin(source.url, target)), urlsplit(source.url)
    if parts.hostname != ours.hostname or parts.path.rstrip("/") != ours.path.rstrip("/"):
        raise SourceMalformedError(f"{redact(source.url)}: its Link header leads elsewhere, to {redact(target)}")
    return parts.query


def _with_params(query: str, params: dict[str, str]) -> str:
    kept = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name not in params]
    return urlencode([*kept, *params.items()])
