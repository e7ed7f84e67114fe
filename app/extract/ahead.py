"""The requests of one walk: asked one after another, or some ahead where the numbers of the pages are known."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from app.errors import SourceRefusedError
from app.extract.client import SourceClient
from app.extract.http_body import Response
from app.extract.page_request import PageRequest
from app.records import Traffic, Validators
from app.sources.paginators import Offset, PageNumber, PaginatorSpec


def validator_key(request: PageRequest) -> str:
    """By which a checkpoint knows the validators of a request."""
    return hashlib.blake2b(request.identity.encode(), digest_size=8).hexdigest()


@dataclass(slots=True)
class Requests:
    """Closes what it asked for ahead; an answer that nobody fetched is dropped."""

    client: SourceClient
    traffic: Traffic
    known: Mapping[str, Validators]
    """Empty where requests are not to be conditional."""
    promised: bool = False
    """The server itself said that there is a next page."""
    _ahead: dict[str, asyncio.Task[Response]] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._ahead.values():
            task.cancel()
        for answer in await asyncio.gather(*self._ahead.values(), return_exceptions=True):
            if isinstance(answer, Response):
                await answer.aclose()
        self._ahead.clear()

    async def fetch(self, request: PageRequest, paginator: PaginatorSpec) -> Response:
        """The caller closes the answer."""
        task = self._ahead.pop(request.identity, None)
        return await (task or self._ask(request, paginator))

    def look_ahead(self, following: PageRequest, paginator: PaginatorSpec) -> None:
        """Ask for the next pages already, where their numbers are known; they are given out in order."""
        kind = paginator
        if not isinstance(kind, PageNumber | Offset) or (isinstance(kind, PageNumber) and kind.follow_links):
            return
        step = 1 if isinstance(kind, PageNumber) else kind.limit
        limit = kind.maximum_page if isinstance(kind, PageNumber) else kind.maximum_offset
        number = int(following.number(*kind.place) or 0)
        for ahead in range(self.client.concurrency):
            at = number + ahead * step
            if limit is not None and at > limit:
                return
            request = following.with_number(*kind.place, at)
            if request.identity not in self._ahead:
                self._ahead[request.identity] = asyncio.create_task(self._ask(request, paginator))

    async def _ask(self, request: PageRequest, paginator: PaginatorSpec) -> Response:
        validators = self.known.get(validator_key(request))
        try:
            return await self.client.get_page(request, validators=validators, traffic=self.traffic)
        except SourceRefusedError as error:
            if self.promised or not _is_past_the_end(error, request, paginator):
                raise
            return Response(404, ignored=True)


def _is_past_the_end(error: SourceRefusedError, request: PageRequest, paginator: PaginatorSpec) -> bool:
    """Whether a 404 only says that there are no more pages (Django REST framework does)."""
    if error.status != 404 or not isinstance(paginator, PageNumber | Offset):
        return False
    first = paginator.base_page if isinstance(paginator, PageNumber) else paginator.offset
    return str(request.number(*paginator.place)) != str(first)
