"""A REST resource → pages: the one driver of all paginators, and the guards that no walk escapes."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import structlog

from app.errors import SourceMalformedError
from app.extract.ahead import Requests, validator_key
from app.extract.bounds import is_enough, refuse_circle, refuse_more
from app.extract.client import SourceClient
from app.extract.ending import Ending
from app.extract.http_body import Response
from app.extract.http_errors import redact
from app.extract.increments import Increment
from app.extract.json_body import Cut
from app.extract.large_pages import LargePage, cut_answer, held, open_large
from app.extract.page_request import PageRequest
from app.extract.paging import PageAnswer, detect, first_request, next_request, pinned_paginator
from app.extract.requests import build_request
from app.extract.scoped_increments import Increments
from app.extract.scopes import ReadParents, Scope, scopes
from app.records import Checkpoint, Cursor, Page, Records, Traffic, Validators
from app.sources.auth import ApiKeyAuth
from app.sources.paginators import Auto, Offset, PageNumber, PaginatorSpec, SinglePage
from app.sources.resource import ResourceSpec
from app.sources.rest import Endpoint, parent_fields
from app.sources.tables import RestResource

log = structlog.get_logger()

MAX_VALIDATORS: Final = 500
"""Pages of a walk whose validators are kept; a longer walk is read whole."""


async def read_api(
    spec: ResourceSpec,
    checkpoint: Checkpoint,
    *,
    client: SourceClient,
    traffic: Traffic,
    now: datetime,
    read_parents: ReadParents | None = None,
) -> AsyncGenerator[Page, None]:
    """
    Walk the pages from where the checkpoint stands.

    Each page is asked for with the validators saved with it; a page that was
    not modified leads to the one that followed it then.

    Args:
        now: when the run began.
        read_parents: the rows of the resource whose fields the endpoint names.

    Raises:
        SourceError: see `SourceClient.get_page`.
        SourceMalformedError: not JSON, a walk that goes in circles or past max_pages.
    """
    walk = _Walk(spec, checkpoint, client, traffic, now, read_parents)
    if walk.increments is not None and (start := walk.increments.future) is not None:
        detail = f"the checkpoint {start} lies in the future; nothing was asked for"
        log.warning("cursor_in_future", source=spec.name, start_value=start)
        yield Page(
            number=1,
            records=Records(),
            after=Cursor(),
            last=True,
            findings=({"code": "cursor_in_future", "detail": detail},),
        )
        return
    async with aclosing(walk.pages()) as pages:
        async for page in pages:
            yield page


@dataclass(slots=True)
class _Walk:
    spec: ResourceSpec
    checkpoint: Checkpoint
    client: SourceClient
    traffic: Traffic
    now: datetime
    read_parents: ReadParents | None
    increments: Increments | None = None
    _endpoint: Endpoint = field(init=False)
    _selector: str | None = field(init=False)
    _paginator: PaginatorSpec = field(init=False)
    _found: dict[str, Any] = field(init=False)
    """What was found out about the source, pinned in the checkpoint."""
    _fresh: dict[str, Validators] = field(default_factory=dict)
    _previous: list[str] | bytes | None = None
    _key_param: str | None = field(init=False)
    """The parameter that carries the API key."""
    _given: PaginatorSpec | None = field(init=False)
    _ending: Ending = field(init=False)
    _bounded: bool = False
    """A walk ended at max_pages, at max_records or past the range that is asked for: there may be more."""

    def __post_init__(self) -> None:
        assert isinstance(self.spec.table, RestResource)
        self._endpoint = endpoint = self.spec.table.endpoint
        state = self.checkpoint.state
        self._found = {key: state[key] for key in ("data_selector", "paginator") if key in state}
        self._selector = endpoint.data_selector or state.get("data_selector")
        given = endpoint.paginator or self.spec.client.paginator
        pinned = state.get("paginator")
        self._given = given
        self._paginator = given or (pinned_paginator(pinned) if pinned else Auto(type="auto"))
        auth = self.spec.client.auth
        in_query = isinstance(auth, ApiKeyAuth) and auth.location == "query"
        self._key_param = auth.name if in_query and isinstance(auth, ApiKeyAuth) else None
        if endpoint.incremental is not None:
            scoped = bool(parent_fields(endpoint) or endpoint.partitions)
            resumed = self.checkpoint.cursor.page > 0
            strict = self.spec.backfill is not None
            self.increments = Increments(
                endpoint.incremental, state, self.now, scoped=scoped, resumed=resumed, strict=strict
            )
            if endpoint.window_seconds is not None:
                self.increments.current.ordered = False  # the order of one walk says nothing about the next

    @property
    def _increment(self) -> Increment | None:
        return self.increments.current if self.increments is not None else None

    async def pages(self) -> AsyncGenerator[Page, None]:
        cursor, token = self.checkpoint.cursor, self.checkpoint.cursor.page_token
        begin = str(self.checkpoint.state.get("scope", "")) if cursor.page else ""
        if cursor.page:
            self._fresh = dict(self.checkpoint.validators)
        found = scopes(
            self._endpoint,
            self._increment,
            values_of=self.increments.values_of if self.increments is not None else lambda _key: {},
            begin=begin,
            read_parents=self.read_parents,
        )
        async for scope, is_last in found:
            if scope.key == begin and begin and token is None:
                continue  # it was complete
            if self.increments is not None:
                self.increments.begin(scope, goes_on=token is not None and scope.key == begin)
            request = first_request(self._paginator, build_request(self.spec, scope))
            if token is not None and scope.key == begin and scope.window_end is None:
                request = request.at(token)
            async with aclosing(self._walk(scope, request, cursor, is_last=is_last)) as pages:
                async for page in pages:
                    cursor = page.after
                    yield page
        if cursor == self.checkpoint.cursor:
            # Nothing to ask for: no parent, or the last one was complete when the run before this one ended
            yield Page(
                number=cursor.page + 1, records=Records(), after=Cursor(), last=True, state=self._state(last=True)
            )

    async def _walk(
        self, scope: Scope, request: PageRequest, cursor: Cursor, *, is_last: bool
    ) -> AsyncGenerator[Page, None]:
        known, asked = self.checkpoint.validators, set[str]()
        pages = records_read = 0
        self._previous = None
        counts = self._increment is None and cursor.page_token is None
        self._ending = ending = Ending(self._given, counts=counts)
        conditional = self.spec.client.conditional_requests
        async with Requests(self.client, self.traffic, known if conditional else {}) as requests:
            while True:
                refuse_circle(request, asked, pages=pages)
                key = validator_key(request)
                async with aclosing(await requests.fetch(request, self._paginator)) as answered:
                    if answered.asked is not None:
                        answered.asked.brings(cursor.page + 1)
                    response, large = await self._open(request, answered)
                    if large is not None:
                        async for part, size in large.parts():
                            if self._increment is not None:
                                self._increment.read(part)
                            yield self._part(cursor, part, size)
                        response = replace(response, validators=large.validators)
                    records, following = await self._understand(request, response, large, known.get(key), pages)
                requests.promised = "next" in response.links
                count = len(records) + (len(large.seen) if large is not None else 0)
                if self._increment is not None:
                    self._increment.read(records)
                pages, records_read = pages + 1, records_read + count
                ending.pages, ending.records = pages, records_read
                ending.not_modified |= response.not_modified
                if following and is_enough(self._paginator, self._increment, pages=pages, records=records_read):
                    self._bounded, following = True, None
                self._fresh[key] = replace(
                    known[key] if response.not_modified else response.validators,
                    next_token=following.token if following else None,
                )
                cursor = Cursor(
                    page=cursor.page + 1,
                    position=cursor.position + count,
                    page_token=following.token if following else None,
                )
                size = len(response.body) if large is None else 0
                yield self._page(cursor, records, response, scope, size, last=following is None and is_last)
                if following is None:
                    if self._increment is not None and self._increment.left_out:
                        log.info("records_out_of_range", source=self.spec.name, records=self._increment.left_out)
                    return
                refuse_more(following, self._paginator, pages=pages)
                requests.look_ahead(following, self._paginator)
                request = following

    async def _open(self, request: PageRequest, response: Response) -> tuple[Response, LargePage | None]:
        """An answer too large to be held is cut as it comes, where that can be."""
        if response.rest is None:
            return response, None
        what = f"{request.method} {redact(request.url)}"
        large = await open_large(response, self._selector, self._paginator, what=what)
        return (response, large) if large is not None else (await held(response), None)

    def _part(self, cursor: Cursor, records: Records, size: int) -> Page:
        return Page(cursor.page + 1, records, after=cursor, partial=True, body_bytes=size, state=dict(self._found))

    async def _understand(
        self,
        request: PageRequest,
        response: Response,
        large: LargePage | None,
        saved: Validators | None,
        pages: int,
    ) -> tuple[Records, PageRequest | None]:
        """A page's records, and the request that follows it."""
        if response.not_modified:
            assert saved is not None
            # A page that was added after it shows in the Link header, and not in the page
            linked = (
                next_request(self._paginator, request, PageAnswer(None, (), links=response.links, has_links=True))
                if response.links
                else None
            )
            return Records(), linked or (request.at(saved.next_token) if saved.next_token else None)
        if response.ignored:
            return Records(), None
        what = f"{request.method} {redact(request.url)}"
        cut, seen, content = await cut_answer(response, large, self._selector, what=what)
        if len(seen) and content == self._previous:
            by_number = isinstance(self._paginator, PageNumber | Offset)
            if not by_number or (getattr(self._paginator, "follow_links", False) and "next" in response.links):
                raise SourceMalformedError(f"{what}: page {pages + 1} is page {pages} again")
            # Past its end some servers answer the last page again, or ignore the page number altogether
            log.info("page_repeated", source=self.spec.name, page=pages + 1)
            self._ending.repeats = True
            return Records(), None
        self._previous, self._ending.body = content, cut.body
        self._pin(cut, found=len(seen) > 0)
        answer = PageAnswer(cut.body, seen, response.headers, response.links, response.has_links)
        if isinstance(self._paginator, Auto):
            self._pin_paginator(answer)
        try:
            following = next_request(self._paginator, request, answer)
            # A link may repeat the key that was sent: it is put on each request anew, and belongs in no checkpoint
            return cut.records, following and following.without_param(self._key_param)
        except SourceMalformedError as error:
            raise SourceMalformedError(f"{what}: {error}") from None

    def _pin(self, cut: Cut, *, found: bool) -> None:
        if cut.evidence is None or not found:
            return  # given, or an empty body that proves nothing
        self._selector = self._found["data_selector"] = cut.selector
        log.info("records_found", source=self.spec.name, data_selector=cut.selector, evidence=cut.evidence)

    def _pin_paginator(self, answer: PageAnswer) -> None:
        self._paginator, evidence = detect(answer)
        if not isinstance(self._paginator, SinglePage):
            self._found["paginator"] = self._paginator.model_dump(mode="json", exclude_defaults=True)
        log.info("paginator_found", source=self.spec.name, paginator=self._paginator.type, evidence=evidence)

    def _page(
        self, cursor: Cursor, records: Records, response: Response, scope: Scope, size: int, *, last: bool
    ) -> Page:
        fresh = self._fresh
        ended = cursor.page_token is None and not self._bounded
        doubt = self._ending.doubt(self._paginator, self._increment) if ended else None
        return Page(
            number=cursor.page,
            records=records,
            after=cursor,
            last=last,
            bounded=self._bounded or doubt is not None,
            doubt=doubt,
            findings=self._ending.findings() if ended else (),
            not_modified=response.not_modified,
            body_bytes=size,
            validators={key: value for key, value in fresh.items() if value} if len(fresh) <= MAX_VALIDATORS else {},
            state=self._state(last=last, scope=scope, complete=cursor.page_token is None),
        )

    def _state(self, *, last: bool, scope: Scope | None = None, complete: bool = True) -> dict[str, Any]:
        state = dict(self._found)
        if self.increments is not None:
            state |= self.increments.state_after(scope, complete=complete, last=last)
        if scope is not None and scope.key and not last:
            state["scope"] = scope.key
        return state
