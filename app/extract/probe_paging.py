"""How a source's pages follow one another: guessed from the first answer, and proven by the second page."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import TypeAdapter

from app.errors import SourceMalformedError
from app.extract.json_body import WHOLE
from app.extract.paging import detect, next_request
from app.extract.probe import Identify, Look, Probe
from app.extract.signs import signs_of_more
from app.sources.paginators import PaginatorSpec, SinglePage

_ADAPTER: Final = TypeAdapter[PaginatorSpec](PaginatorSpec)

HEADER_CURSORS: Final = ("Next-Page", "X-Next-Page", "X-Next-Cursor", "X-Next-Page-Token", "X-Continuation-Token")
_CURSOR: Final = re.compile(
    r"next|(next_?)?(page_?)?(cursor|token|offset)|next_?page|end_?cursor|after|(next_?)?bookmark|scroll_?id"
    r"|(next_?)?(continuation|pagination)(_?token)?|next_?(start|id|key)|next_?starting_?after",
    re.IGNORECASE,
)
_MORE: Final = re.compile(r"(has|is)_?(more|next|next_?page|truncated)(_?items|_?records)?", re.IGNORECASE)
_TOTALS: Final = re.compile(
    r"(total|count|total_?(count|results|items|records|rows|elements)?|@odata\.count|num_?found)", re.IGNORECASE
)
KEYSETS: Final = ("starting_after", "after", "since_id")
PAGE_PARAMS: Final = ("page", "_page", "page_number", "pageNumber", "page[number]", "p")
OFFSET_PARAMS: Final = (
    ("offset", "limit"),
    ("skip", "limit"),
    ("_start", "_limit"),
    ("start", "rows"),
    ("startAt", "maxResults"),
    ("$skip", "$top"),
    ("from", "size"),
)
BLIND: Final = ("page", "offset", "_page", "skip")
"""Parameters that are tried where nothing hints at them, in this order."""
MAX_DEPTH: Final = 3


@dataclass(slots=True)
class Paging:
    paginator: dict[str, Any] | None = None
    """As a source file says it; None: no way to a second page was found."""
    evidence: str = ""
    dropped: tuple[str, ...] = ()
    """Parameters of the URL that the paginator sets itself."""
    second: Look | None = None
    notes: list[str] = field(default_factory=list)
    """What was tried and found wanting, and what speaks for more than was found."""


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
    paging = Paging()
    known = first.identities(identify)
    total = _total(first)
    if not known:
        paging.notes.append("the first answer has no record, so nothing was proven about pages")
        return paging
    for candidate in _shown(first, key):
        second = await _follow(probe, first, candidate)
        if second is not None and _is_new(second.identities(identify), known):
            return replace(paging, paginator=candidate.paginator, evidence=candidate.why, second=second)
        paging.notes.append(f"{candidate.why}, but what it leads to is no second page")
    if isinstance(first.cut.body, dict) and first.cut.selector == WHOLE:
        return replace(paging, paginator={"type": "single_page"}, evidence="the body is one record itself")
    if total == len(known):
        paging.paginator = {"type": "single_page"}
        paging.evidence = f"the body says that there are {total} records, and {len(known)} came"
        return paging
    found = await _by_number(probe, first, known, identify)
    found.notes = [*paging.notes, *found.notes]
    more = signs_of_more(first.cut.body, records_read=len(known), pages_read=1)
    if found.paginator is None and (more or (total or 0) > len(known)):
        found.notes.append(f"{more or f'there are {total} records'}: the way to the rest was NOT found")
    elif found.paginator is None:
        found.paginator = {"type": "single_page"}
        found.evidence = "nothing led to a second page, and nothing says that there is more"
    return found


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
    has_more = _has_more(first)
    more = {"has_more_path": has_more} if has_more else {}
    for path, value in _members(first.cut.body):
        name = path.rpartition(".")[2].strip('"')
        if isinstance(value, str | int) and not isinstance(value, bool) and value and _CURSOR.fullmatch(name):
            if isinstance(value, str) and value.startswith(("http://", "https://", "/")):
                continue
            for param in _params_of(name):
                paginator = {"type": "cursor", "cursor_path": path, "cursor_param": param, **more}
                yield _Candidate(paginator, f"the body has {path}, and {param} takes it")
    if has_more and key is not None:
        for param in KEYSETS:
            paginator = {"type": "keyset", "cursor_path": key, "cursor_param": param, **more}
            yield _Candidate(paginator, f"{has_more} is true, and {param} takes the last {key}")


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


async def _by_number(probe: Probe, first: Look, known: list[str], identify: Identify) -> Paging:
    """Pages by number and by offset: the first that is proven; else what was tried."""
    notes: list[str] = []
    given = {name for name, _ in first.request.params}
    hinted = _hints(first)
    tries: list[tuple[str, str | None]] = [*((name, None) for name in PAGE_PARAMS), *OFFSET_PARAMS]
    tries = [item for item in tries if item[0] in {*given, *hinted, *BLIND}]
    tries.sort(key=lambda item: (item[0] not in given, item[0] not in hinted, _blind_rank(item[0])))
    for name, limit in tries:
        if probe.is_spent:
            notes.append(f"{name} was not tried: the {probe.max_requests} requests of a probe were used up")
            break
        if limit is None:
            found = await _try_page(probe, first, known, identify, name)
        else:
            found = await _try_offset(probe, first, known, identify, name, limit)
        if found.paginator is not None:
            return replace(found, notes=[*notes, *found.notes])
        notes += found.notes
    return Paging(notes=notes)


def _blind_rank(name: str) -> int:
    return BLIND.index(name) if name in BLIND else len(BLIND)


async def _try_page(probe: Probe, first: Look, known: list[str], identify: Identify, name: str) -> Paging:
    given = first.request.param(name)
    number = int(given) if given and given.isdecimal() else 1
    second = await probe.look(first.request.with_param(name, number + 1), first.cut.selector)
    if second is None:
        return Paging(notes=[f"{name}={number + 1}: refused"])
    brought = second.identities(identify)
    if brought == known:
        return Paging(notes=[f"{name}={number + 1}: the same records again, so {name} means nothing"])
    if brought and set(brought) < set(known):
        return Paging(notes=[f"{name}={number + 1}: a part of what came without it, so the first answer is the whole"])
    if brought and not _is_new(brought, known):
        return Paging(notes=[f"{name}={number + 1}: neither the same records nor others"])
    # A filter of that name brings nothing, an echo brings something new each time; and some count pages from 0
    base = number if given is not None else await _first_number(probe, first, known, identify, name)
    if base is None:
        return Paging(notes=[f"neither {name}=1 nor {name}=0 brings the first page, so {name} means something else"])
    if not brought:
        why = (
            f"{name}={number + 1} brings no record and {name}={base} the first page: the first page is the only one now"
        )
    else:
        why = f"{name}={number + 1} brings {len(brought)} other records"
    paginator: dict[str, Any] = {"type": "page_number", "page_param": name}
    paginator |= {"base_page": base} if base != 1 else {}
    if has_more := _has_more(first):
        paginator["has_more_path"] = has_more
    return Paging(paginator, why, (name,), second if brought else None)


async def _first_number(probe: Probe, first: Look, known: list[str], identify: Identify, name: str) -> int | None:
    for number in (1, 0):
        again = await probe.look(first.request.with_param(name, number), first.cut.selector)
        if again is not None and again.identities(identify) == known:
            return number
    return None


async def _try_offset(
    probe: Probe, first: Look, known: list[str], identify: Identify, name: str, limit_param: str
) -> Paging:
    """An offset that is one less than the page is long must bring the page's last record first."""
    given = first.request.param(limit_param)
    limit = int(given) if given and given.isdecimal() and int(given) > 0 else len(known)
    begin = first.request.param(name)
    start = int(begin) if begin and begin.isdecimal() else 0
    request = first.request.with_param(name, start + max(1, len(known) - 1)).with_param(limit_param, limit)
    second = await probe.look(request, first.cut.selector)
    if second is None:
        return Paging(notes=[f"{name}: refused"])
    brought = second.identities(identify)
    if len(known) > 1:
        is_there = brought[:1] == known[-1:] and set(brought[1:]).isdisjoint(known)
    else:
        again = await probe.look(request.with_param(name, start), first.cut.selector)
        is_there = _is_new(brought, known) and again is not None and again.identities(identify) == known
    if not is_there:
        return Paging(notes=[f"{name}={start + max(1, len(known) - 1)}: not the records from there on"])
    paginator: dict[str, Any] = {"type": "offset", "limit": limit}
    paginator |= {"offset_param": name} if name != "offset" else {}
    paginator |= {"limit_param": limit_param} if limit_param != "limit" else {}
    if has_more := _has_more(first):
        paginator["has_more_path"] = has_more
    why = f"{name}={start + max(1, len(known) - 1)} brings the last record of the first page and what follows it"
    return Paging(paginator, why, (name, limit_param), second)


def _is_new(brought: list[str], known: list[str]) -> bool:
    """Other records, for the most part: while one looks, some may move from page to page."""
    seen = set(known)
    return bool(brought) and 2 * sum(one not in seen for one in brought) > len(brought)


def _hints(first: Look) -> set[str]:
    """Names of parameters that the answer repeats, or of which it says what a server with them says."""
    names = {path.rpartition(".")[2].strip('"').lower() for path, _ in _members(first.cut.body)}
    found = {name for name in (*PAGE_PARAMS, *(pair[0] for pair in OFFSET_PARAMS)) if name.lower() in names}
    if names & {"total_pages", "totalpages", "current_page", "currentpage", "page_count", "last_page", "per_page"}:
        found.add("page")
    headers = {name.lower() for name in first.response.headers}
    return found | ({"page"} if headers & {"x-total-pages", "x-page", "x-per-page"} else set())


def _has_more(first: Look) -> str | None:
    """Where the body says that there is more."""
    return next(
        (path for path, value in _members(first.cut.body) if value is True and _MORE.fullmatch(_last(path))), None
    )


def _total(first: Look) -> int | None:
    """How many records the body, or a header, says there are."""
    for path, value in _members(first.cut.body):
        if isinstance(value, int) and not isinstance(value, bool) and _TOTALS.fullmatch(_last(path)):
            return value
    text = first.response.headers.get("X-Total-Count", "") or first.response.headers.get("X-Total", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


def _last(path: str) -> str:
    return path.rpartition(".")[2].strip('"')


def _members(tree: Any, path: str = "", depth: int = MAX_DEPTH) -> Iterator[tuple[str, Any]]:
    """What stands beside the records, by JMESPath."""
    if not isinstance(tree, dict) or depth == 0:
        return
    for key, value in tree.items():
        step = key if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) else '"' + key.replace('"', "") + '"'
        here = f"{path}.{step}" if path else step
        if isinstance(value, dict):
            yield from _members(value, here, depth - 1)
        elif not isinstance(value, list):
            yield here, value
