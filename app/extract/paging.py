"""
How one page leads to the next. No I/O, and no state but the request itself.

A paginator is a function of the request just made and what it answered, so a
walk can go on from any request that a checkpoint holds, and many walks can
share one specification. The guards against endless walks are in the driver
(`app.extract.rest_api`), once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl, urldefrag, urljoin, urlsplit, urlunsplit

import jmespath
from pydantic import TypeAdapter

from app.errors import SourceMalformedError
from app.extract.page_request import PageRequest, pairs
from app.sources.paginators import (
    Auto,
    CursorInBody,
    HeaderCursor,
    HeaderLink,
    JsonLink,
    Keyset,
    Offset,
    PageNumber,
    PaginatorSpec,
    SinglePage,
)


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """What a paginator may look at."""

    body: Any
    """Parsed; the records are in it."""
    records: Sequence[Any]
    """Parsed."""
    headers: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    """RFC 8288 `Link` targets by relation, absolute."""
    has_links: bool = False
    """The server sends a Link header, be it empty."""


def first_request(paginator: PaginatorSpec, request: PageRequest) -> PageRequest:
    """The request of the first page."""
    if not isinstance(paginator, PageNumber | Offset):
        return request
    first = paginator.base_page if isinstance(paginator, PageNumber) else paginator.offset
    request = request.with_number(*paginator.place, first)
    limit = paginator.limit
    if limit is not None and (paginator.limit_body_path or paginator.limit_param):
        request = request.with_number(paginator.limit_param or "", paginator.limit_body_path, limit)
    return request


def next_request(paginator: PaginatorSpec, request: PageRequest, answer: PageAnswer) -> PageRequest | None:
    """
    The request of the page after this one; None at the end.

    Raises:
        SourceMalformedError: the reference to the next page cannot be understood.
    """
    return _STEPS[type(paginator)](paginator, request, answer)


def detect(answer: PageAnswer) -> tuple[PaginatorSpec, str]:
    """The paginator that a first answer shows, and the evidence."""
    if answer.links.get("next"):
        return HeaderLink(type="header_link"), "its Link header has rel=next"
    for path in (
        "next",
        "links.next",
        "_links.next.href",
        "paging.next",
        "pagination.next_url",
        "meta.next",
        "next_page_url",
        "next_url",
        "nextLink",
        '"@odata.nextLink"',
    ):
        value = _find(path, answer.body)
        if isinstance(value, str) and value.startswith(("http://", "https://", "/", "?")):
            return JsonLink(type="json_link", next_url_path=path), f"the body has a link at {path}"
    return SinglePage(type="single_page"), "nothing in it leads to another page"


def pinned_paginator(tree: Mapping[str, Any]) -> PaginatorSpec:
    """One that was found out before, from the checkpoint."""
    return TypeAdapter[PaginatorSpec](PaginatorSpec).validate_python(tree)


def _page_number(paginator: PageNumber, request: PageRequest, answer: PageAnswer) -> PageRequest | None:
    if paginator.follow_links and answer.has_links:
        return _header_link(HeaderLink(type="header_link"), request, answer)
    number = _integer(request.number(*paginator.place), paginator.base_page)
    if paginator.limit is not None and len(answer.records) != paginator.limit:
        # A short page is the last; a page longer than asked for was not paged at all
        return None
    if _is_over(paginator, answer):
        return None
    if paginator.total_path is not None:
        total = _integer(_find(paginator.total_path, answer.body), None, at=paginator.total_path)
        if number - paginator.base_page + 1 >= total:
            return None
    if paginator.maximum_page is not None and number >= paginator.maximum_page:
        return None
    return request.with_number(*paginator.place, number + 1)


def _offset(paginator: Offset, request: PageRequest, answer: PageAnswer) -> PageRequest | None:
    offset = _integer(request.number(*paginator.place), paginator.offset)
    if _is_over(paginator, answer):
        return None
    following = offset + paginator.limit
    if paginator.total_path is not None:
        if following >= _integer(_find(paginator.total_path, answer.body), None, at=paginator.total_path):
            return None
    elif paginator.has_more_path is None and len(answer.records) < paginator.limit:
        return None
    if paginator.maximum_offset is not None and following > paginator.maximum_offset:
        return None
    return request.with_number(*paginator.place, following)


def _cursor(paginator: CursorInBody, request: PageRequest, answer: PageAnswer) -> PageRequest | None:
    value = _find(paginator.cursor_path, answer.body)
    if value is None or value == "" or _says_no_more(paginator.has_more_path, answer):
        return None
    in_body = paginator.cursor_body_path is not None and isinstance(value, list)  # Elasticsearch's search_after
    if not isinstance(value, str | int | float) and not in_body:
        raise SourceMalformedError(f"the cursor at {paginator.cursor_path} is neither text nor a number")
    if paginator.cursor_body_path is not None:
        return request.with_body_value(paginator.cursor_body_path, value)
    assert paginator.cursor_param is not None
    return request.with_param(paginator.cursor_param, value)


def _header_cursor(paginator: HeaderCursor, request: PageRequest, answer: PageAnswer) -> PageRequest | None:
    value = answer.headers.get(paginator.cursor_key)
    if not value:
        return None
    # Kinto's Next-Page, for one, is the whole URL
    is_url = value.startswith(("http://", "https://"))
    return _linked(request, value) if is_url else request.with_param(paginator.cursor_param, value)


def _json_link(paginator: JsonLink, request: PageRequest, answer: PageAnswer) -> PageRequest | None:
    value = _find(paginator.next_url_path, answer.body)
    if not value:
        return None
    if not isinstance(value, str):
        raise SourceMalformedError(f"the link at {paginator.next_url_path} is not text")
    return _linked(request, value)


def _header_link(paginator: HeaderLink, request: PageRequest, answer: PageAnswer) -> PageRequest | None:
    target = answer.links.get(paginator.links_next_key.lower())
    return _linked(request, target) if target else None


def _keyset(paginator: Keyset, request: PageRequest, answer: PageAnswer) -> PageRequest | None:
    if not answer.records or _says_no_more(paginator.has_more_path, answer):
        return None
    # A record without a key is rejected, and must not end the walk for all that follow it. Of a page that was cut
    # as it came only the last is known
    known = reversed(answer.records) if isinstance(answer.records, list) else [answer.records[-1]]
    values = (_find(paginator.cursor_path, record) for record in known if record is not None)
    value = next((value for value in values if isinstance(value, str | int | float)), None)
    if value is None:
        raise SourceMalformedError(f"no record of the page has a key at {paginator.cursor_path}")
    return request.with_param(paginator.cursor_param, value)


def _single_page(_paginator: SinglePage, _request: PageRequest, _answer: PageAnswer) -> None:
    return None


_STEPS: Final[Mapping[type, Callable[[Any, PageRequest, PageAnswer], PageRequest | None]]] = {
    SinglePage: _single_page,
    Auto: _single_page,
    PageNumber: _page_number,
    Offset: _offset,
    CursorInBody: _cursor,
    HeaderCursor: _header_cursor,
    JsonLink: _json_link,
    HeaderLink: _header_link,
    Keyset: _keyset,
}


def _linked(request: PageRequest, target: str) -> PageRequest:
    """
    The request behind a link.

    Scheme and port of a link to the same host are not taken: servers behind a
    proxy write links with those that they see themselves (JSONPlaceholder says http).
    """
    try:
        parts, ours = urlsplit(urldefrag(urljoin(request.url, target))[0]), urlsplit(request.url)
        if parts.hostname != ours.hostname:
            raise SourceMalformedError(f"the link to the next page leads to another host, {parts.hostname}")
    except ValueError as error:
        raise SourceMalformedError("the link to the next page is no URL") from error
    url = urlunsplit((ours.scheme, ours.netloc, parts.path, "", ""))
    return replace(request, url=url, params=pairs(parse_qsl(parts.query, keep_blank_values=True)))


def _is_over(paginator: PageNumber | Offset, answer: PageAnswer) -> bool:
    if paginator.stop_after_empty_page and not answer.records:
        return True
    return _says_no_more(paginator.has_more_path, answer)


def _says_no_more(has_more_path: str | None, answer: PageAnswer) -> bool:
    if has_more_path is None:
        return False
    more = _find(has_more_path, answer.body)
    return not more or (isinstance(more, str) and more.lower() in {"false", "0", "no"})


def _integer(value: Any, default: int | None, *, at: str = "") -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        if default is None:
            raise SourceMalformedError(f"there is no whole number at {at} of the body") from None
        return default


def _find(path: str, body: Any) -> Any:
    return jmespath.search(path, body) if isinstance(body, dict | list) else None
