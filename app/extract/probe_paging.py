"""How a source's pages follow one another: guessed from the first answer, and proven by the second page."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from app.errors import SourceMalformedError
from app.extract.json_body import WHOLE
from app.extract.paging import detect, next_request
from app.extract.probe import SAID_DEPTH, Identify, Look, Paging, Probe, has_more_path, is_new, said_beside
from app.extract.probe_numbers import find_numbers
from app.extract.signs import signs_of_more
from app.sources.json_paths import path_of
from app.sources.paginators import PaginatorSpec, SinglePage

_ADAPTER: Final = TypeAdapter[PaginatorSpec](PaginatorSpec)

HEADER_CURSORS: Final = ("Next-Page", "X-Next-Page", "X-Next-Cursor", "X-Next-Page-Token", "X-Continuation-Token")
_CURSOR: Final = re.compile(
    r"next|(next_?)?(page_?)?(cursor|token|offset)|next_?page|end_?cursor|after|(next_?)?bookmark|scroll_?id"
    r"|(next_?)?(continuation|pagination)(_?token)?|next_?(start|id|key)|next_?starting_?after",
    re.IGNORECASE,
)
_LINK: Final = re.compile(r"next(_?page)?(_?(url|uri|link|href))?", re.IGNORECASE)
_TOTALS: Final = re.compile(
    r"(total|count|total_?(count|results|items|records|rows|elements)?|@odata\.count|num_?found)", re.IGNORECASE
)
KEYSETS: Final = ("starting_after", "after", "since_id")
USUAL_LENGTHS: Final = frozenset(
    {10, 20, 25, 30, 40, 50, 60, 100, 150, 200, 250, 300, 400, 500, 1000, 2000, 5000, 10_000}
)
"""Of pages: records that an answer with a next page usually has."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    paginator: dict[str, Any]
    why: str


async def find_paging(probe: Probe, first: Look, *, identify: Identify, key: str | None) -> Paging:
    """
    Ask for a second page in the ways that the first one suggests, until one brings other records.

    Args:
        identify: tells records apart.
        key: JMESPath to what a record is known by.
    """
    known = first.identities(identify)
    total = _total(first)
    if not known:
        return Paging(notes=["the first answer has no record, so nothing was proven about pages"])
    paging = await _first_that_leads_on(probe, first, list(_shown(first, key)), known, identify)
    if paging.paginator is not None:
        return paging
    if isinstance(first.cut.body, dict) and first.cut.selector == WHOLE:
        return replace(paging, paginator={"type": "single_page"}, evidence="the body is one record itself")
    if total == len(known):
        paging.paginator = {"type": "single_page"}
        paging.evidence = f"the body says that there are {total} records, and {len(known)} came"
        return paging
    found = await find_numbers(probe, first, known, identify)
    found.notes = [*paging.notes, *found.notes]
    more = signs_of_more(first.cut.body, records_read=len(known), pages_read=1, depth=SAID_DEPTH)
    if found.paginator is None and (more or (total or 0) > len(known)):
        found.notes.append(f"{more or f'there are {total} records'}: the way to the rest was NOT found")
    elif found.paginator is None:
        return await _settled(probe, first, found, known, identify, key)
    return found


async def _first_that_leads_on(
    probe: Probe, first: Look, candidates: list[_Candidate], known: list[str], identify: Identify
) -> Paging:
    notes: list[str] = []
    for candidate in candidates:
        second = await _follow(probe, first, candidate)
        if second is not None and is_new(second.identities(identify), known):
            return Paging(candidate.paginator, candidate.why, second=second, notes=notes)
        notes.append(f"{candidate.why}, but what it leads to is no second page")
    return Paging(notes=notes)


async def _settled(
    probe: Probe, first: Look, tried: Paging, known: list[str], identify: Identify, key: str | None
) -> Paging:
    """Nothing leads on, and nothing says that there is more; an answer as long as pages are is still doubted."""
    if len(known) in USUAL_LENGTHS and not tried.is_whole and not _is_file(first):
        keysets = [] if key is None else list(_keysets(key, {}))
        found = await _first_that_leads_on(probe, first, keysets, known, identify)
        if found.paginator is not None:
            return replace(found, notes=[*tried.notes, *found.notes])
        tried.notes += found.notes
        tried.doubt = f"exactly {len(known)} records came, which is a usual length of a page, and nothing leads on"
    tried.paginator = {"type": "single_page"}
    tried.evidence = "nothing led to a second page, and nothing says that there is more"
    return tried


def _shown(first: Look, key: str | None) -> Iterator[_Candidate]:
    """What the first answer itself leads to."""
    found, why = detect(first.answer)
    if not isinstance(found, SinglePage):
        yield _Candidate(found.model_dump(exclude_defaults=True), why)
    for name in HEADER_CURSORS:
        if first.response.headers.get(name):
            param = "page" if name.endswith("Page") else "cursor"
            paginator = {"type": "header_cursor", "cursor_key": name}
            yield _Candidate(
                paginator if name == "Next-Page" else {**paginator, "cursor_param": param},
                f"its header {name} leads on",
            )
    for path in _links(first):
        if getattr(found, "next_url_path", None) != path:
            yield _Candidate({"type": "json_link", "next_url_path": path}, f"the body has a link at {path}")
    has_more = has_more_path(first)
    more = {"has_more_path": has_more} if has_more else {}
    for keys, value in said_beside(first):
        path, name = path_of(keys), keys[-1]
        is_cursor = isinstance(value, str | int) and not isinstance(value, bool) and value and not _is_url(value)
        for param in _params_of(name) if is_cursor and _CURSOR.fullmatch(name) else ():
            paginator = {"type": "cursor", "cursor_path": path, "cursor_param": param, **more}
            yield _Candidate(paginator, f"the body has {path}, and {param} takes it")
    if has_more and key is not None:
        yield from _keysets(key, more)


def _keysets(key: str, more: dict[str, Any]) -> Iterator[_Candidate]:
    for param in KEYSETS:
        paginator = {"type": "keyset", "cursor_path": key, "cursor_param": param, **more}
        yield _Candidate(paginator, f"{param} takes the last {key}")


def _is_file(first: Look) -> bool:
    """Servers of files say when one was modified; APIs with such names for the most part do not."""
    path = urlsplit(first.request.url).path.lower()
    return path.endswith((".json", ".jsonl", ".ndjson")) and bool(first.response.validators.last_modified)


def _links(first: Look) -> Iterator[str]:
    """JMESPath to what may be the next page's URL: by the name of its key, or of its relation in a list of links."""
    for keys, value in said_beside(first):
        if _is_url(value) and any(map(_LINK.fullmatch, keys[-2:])):
            yield path_of(keys)
        for link in value if isinstance(value, list) else ():
            if isinstance(link, dict) and link.get("rel") == "next":
                yield from (f"{path_of(keys)}[?rel=='next'] | [0].{name}" for name in ("href", "url") if name in link)


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://", "/", "?"))


def _params_of(name: str) -> list[str]:
    """Where a cursor of this name is usually sent."""
    bare = re.sub(r"^next_?", "", name, flags=re.IGNORECASE)
    bare = bare[:1].lower() + bare[1:]
    names = {
        "": ("cursor", "next", "after", "page"),
        "endcursor": ("after", "cursor"),
        "end_cursor": ("after", "cursor"),
        "token": (name, "token", "pageToken", "page_token"),
    }.get(bare.lower(), (bare, name))
    return list(dict.fromkeys(names))


async def _follow(probe: Probe, first: Look, candidate: _Candidate) -> Look | None:
    try:
        following = next_request(_ADAPTER.validate_python(candidate.paginator), first.request, first.answer)
    except SourceMalformedError:
        return None
    return await probe.look(following, first.cut.selector) if following else None


def _total(first: Look) -> int | None:
    """How many records the body, or a header, says there are."""
    for keys, value in said_beside(first):
        if isinstance(value, int) and not isinstance(value, bool) and _TOTALS.fullmatch(keys[-1]):
            return value
    text = first.response.headers.get("X-Total-Count", "") or first.response.headers.get("X-Total", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None
