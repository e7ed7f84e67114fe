"""Where a walk has to stop, whatever the source says. No I/O."""

from app.errors import SourceMalformedError
from app.extract.http_errors import redact
from app.extract.increments import Increment
from app.extract.page_request import PageRequest
from app.sources.paginators import PaginatorSpec


def refuse_circle(request: PageRequest, asked: set[str], *, pages: int) -> None:
    """
    Raises:
        SourceMalformedError: it was asked before in this walk.
    """
    if request.identity in asked:
        raise SourceMalformedError(
            f"{redact(request.url)}: page {pages} leads to a page already read; the walk would never end"
        )
    asked.add(request.identity)


def refuse_more(following: PageRequest, paginator: PaginatorSpec, *, pages: int) -> None:
    """
    After the last page that may be read was given out: the next run goes on behind it, and counts anew.

    Raises:
        SourceMalformedError: max_pages were read.
    """
    if pages >= paginator.max_pages:
        raise SourceMalformedError(
            f"{redact(following.url)}: more than {paginator.max_pages} pages; "
            'raise max_pages of its paginator, or set on_max_pages = "stop"; the next run goes on here'
        )


def is_enough(paginator: PaginatorSpec, increment: Increment | None, *, pages: int, records: int) -> bool:
    """Whether the walk ends here by what was ordered, and there may be more at the source."""
    if increment is not None and increment.has_passed_range:
        return True
    enough = paginator.max_records is not None and records >= paginator.max_records
    return enough or (pages >= paginator.max_pages and paginator.on_max_pages == "stop")
