"""Whether a walk that ends has brought everything, as far as its pages tell. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.extract.increments import Increment
from app.extract.signs import signs_of_more
from app.sources.paginators import Auto, PaginatorSpec, SinglePage

_EVERYTHING: Final = 1 << 62
"""More than any source holds: where the numbers of a body cannot be compared with what was read."""


@dataclass(slots=True)
class Ending:
    """
    What a walk has seen when it ends.

    Args:
        given: the paginator that the source file names; None when it is found out.
        counts: the walk began at the first page and asks for everything, so a total can be compared.
    """

    given: PaginatorSpec | None
    counts: bool
    body: Any = None
    """The last one, parsed; the records in it."""
    pages: int = 0
    records: int = 0
    repeats: bool = False
    """The last page was the one before it again."""
    not_modified: bool = False
    """Some page was not read."""

    def doubt(self, paginator: PaginatorSpec, increment: Increment | None) -> str | None:
        """Why there may be more at the source, or this may be read again and again; None when nothing says so."""
        if increment is not None and self.records and increment.is_without_values:
            spec = increment.spec
            what = f"none of {self.records} records has a value of type {spec.cursor_type}"
            return f"{what} at incremental.cursor_path {spec.cursor_path}"
        if isinstance(self.given, SinglePage) or self.not_modified:
            return None
        again = "page 2 is page 1 again, and " if self.repeats and self.pages == 2 else ""
        sign = signs_of_more(
            self.body,
            records_read=self.records if self.counts else _EVERYTHING,
            pages_read=self.pages if self.counts else _EVERYTHING,
        )
        told = f"{self.records} records in {self.pages} {'page' if self.pages == 1 else 'pages'}"
        if sign is not None:
            found = isinstance(paginator, Auto) or self.given is None
            advice = (
                "say how it is paged with endpoint.paginator" if found else f"does its paginator fit, {paginator.type}?"
            )
            return f"the walk ended after {told}, but {again}{sign}; {advice}"
        return None

    def findings(self) -> tuple[Mapping[str, Any], ...]:
        """What is worth knowing, and no reason for doubt: a server may well ignore numbers and send all at once."""
        if not (self.repeats and self.pages == 2):
            return ()
        detail = f"page 2 is page 1 again, so {self.records} records are taken for all there are; if there are more, "
        return ({"code": "page_repeated", "detail": detail + "see page_param or offset_param of its paginator"},)
