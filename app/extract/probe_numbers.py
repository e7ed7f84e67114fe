"""Pages by number and by offset, which no answer leads to: tried, and proven by the records that they bring."""

from dataclasses import replace
from typing import Any, Final

from app.extract.probe import Identify, Look, Paging, Probe, has_more_path, is_new, said_beside

PAGE_PARAMS: Final = ("page", "_page", "page_number", "pageNumber", "page[number]", "p")
OFFSET_PARAMS: Final = (
    ("offset", "limit"),
    ("skip", "limit"),
    ("_start", "_limit"),
    ("start", "rows"),
    ("startAt", "maxResults"),
    ("$skip", "$top"),
    ("from", "size"),
    ("page[offset]", "page[limit]"),
)
BLIND: Final = ("page", "offset", "_page", "skip")
"""Parameters that are tried where nothing hints at them, in this order."""


async def find_numbers(probe: Probe, first: Look, known: list[str], identify: Identify) -> Paging:
    """Pages by number and by offset: the first that is proven; else what was tried."""
    notes: list[str] = []
    is_whole = False
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
        is_whole |= found.is_whole
    return Paging(notes=notes, is_whole=is_whole)


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
        note = f"{name}={number + 1}: a part of what came without it, so the first answer is the whole"
        return Paging(notes=[note], is_whole=True)
    if brought and not is_new(brought, known):
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
    if has_more := has_more_path(first):
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
        is_there = is_new(brought, known) and again is not None and again.identities(identify) == known
    if not is_there:
        return Paging(notes=[f"{name}={start + max(1, len(known) - 1)}: not the records from there on"])
    paginator: dict[str, Any] = {"type": "offset", "limit": limit}
    paginator |= {"offset_param": name} if name != "offset" else {}
    paginator |= {"limit_param": limit_param} if limit_param != "limit" else {}
    if has_more := has_more_path(first):
        paginator["has_more_path"] = has_more
    why = f"{name}={start + max(1, len(known) - 1)} brings the last record of the first page and what follows it"
    return Paging(paginator, why, (name, limit_param), second)


def _hints(first: Look) -> set[str]:
    """Names of parameters that the answer repeats, or of which it says what a server with them says."""
    names = {keys[-1].lower() for keys, _ in said_beside(first)}
    found = {name for name in (*PAGE_PARAMS, *(pair[0] for pair in OFFSET_PARAMS)) if name.lower() in names}
    if names & {"total_pages", "totalpages", "current_page", "currentpage", "page_count", "last_page", "per_page"}:
        found.add("page")
    if any(name.startswith("@odata.") for name in names):
        found.add("$skip")
    if "jsonapi" in names or any({"type", "attributes"} <= record.keys() for record in first.objects[:1]):
        found |= {"page[number]", "page[offset]"}
    headers = {name.lower() for name in first.response.headers}
    return found | ({"page"} if headers & {"x-total-pages", "x-page", "x-per-page"} else set())
