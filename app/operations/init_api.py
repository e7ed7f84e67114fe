"""A first answer in JSON, and a few more → the API's part of a source file."""

from dataclasses import replace
from typing import Any, Final

import jmespath

from app.clock import utc_now
from app.errors import SourceMalformedError, SourceRefusedError
from app.extract.http_body import Response
from app.extract.http_errors import excerpt
from app.extract.json_body import ARRAY, WHOLE, Cut, cut_body, record_lists
from app.extract.json_lines import LINES
from app.extract.page_request import PageRequest
from app.extract.probe import Identify, Look, Paging, Probe
from app.extract.probe_paging import find_paging
from app.extract.rate_headers import read_budget
from app.operations.draft import Draft, as_comment, describe_columns
from app.sources.guess.columns import columns_of_objects
from app.sources.guess.keys import guess_key
from app.sources.guess.mapping import cursor_candidates
from app.sources.guess.places import find_place, is_error

SPANS: Final = ((1, "PT1S"), (60, "PT1M"), (900, "PT15M"), (3600, "PT1H"), (86_400, "P1D"))
"""Seconds and durations for which servers usually count requests."""


async def describe_api(draft: Draft, probe: Probe, request: PageRequest, response: Response) -> None:
    """
    Args:
        response: to the request, with its whole body.

    Raises:
        SourceMalformedError: it is not JSON.
        SourceRefusedError: it speaks of an error, and of nothing else.
    """
    first = Look(request, response, _cut(draft, response.body, probe.what))
    if isinstance(first.cut.body, dict) and is_error(first.cut.body):
        names = ", ".join(first.cut.body)
        raise SourceRefusedError(
            f"{probe.what}: HTTP {response.status}, but its body speaks of an error ({names}), and has no record; "
            "check the address, its parameters and the credentials",
            status=response.status,
            said=excerpt(response.body),
        )
    endpoint = draft.resource["endpoint"]
    if first.cut.selector not in {ARRAY, LINES, WHOLE}:
        endpoint["data_selector"] = first.cut.selector
    draft.say(".endpoint", f"the records: {first.cut.evidence or first.cut.selector}; {len(first)} in the first answer")
    await _describe_validators(draft, probe, first)
    identify, key = _known_by(draft.name, first)
    paging = await find_paging(probe, first, identify=identify, key=key)
    _describe_paging(draft, paging)
    records = _together(first, paging, identify)
    columns = columns_of_objects(records)
    describe_columns(
        draft,
        columns,
        records=len(records),
        empty="the first answer has no record",
        is_single=first.cut.selector == WHOLE or (len(first) == 1 and isinstance(_at(first), dict)),
    )
    for candidate in cursor_candidates(columns)[:3]:
        draft.say(
            ".endpoint",
            f"could be a cursor: {candidate.path}, in {candidate.share:.0%} of the records, {candidate.order}; where "
            "the API takes a time of change as parameter, say it with endpoint.incremental",
        )
    _describe_limits(draft, response)


def _at(look: Look) -> Any:
    """What stands where the records are: a list of them, or one."""
    return jmespath.search(look.cut.selector, look.cut.body) if look.cut.selector not in {ARRAY, LINES} else None


def _cut(draft: Draft, body: bytes, what: str) -> Cut:
    try:
        cut = cut_body(body, None, what=what)
        place = find_place(cut.body) if cut.selector == WHOLE else None
        if place is not None:
            return replace(cut_body(body, place.selector, what=what), evidence=place.evidence)
        if isinstance(cut.body, dict) and cut.selector not in {WHOLE, LINES} and "id" in cut.body:
            draft.missing.append(
                f"whether the records are at {cut.selector}, or the body is one itself, for it has an id; say "
                f'data_selector = "{WHOLE}" then'
            )
        return cut
    except SourceMalformedError:
        # Several lists, none with a usual name: the longest is taken, and the others are named
        cut = cut_body(body, WHOLE, what=what)
        lists = dict(record_lists(cut.body))
        if not lists:
            raise
        longest = max(lists, key=lambda path: len(lists[path]))
        others = ", ".join(path for path in lists if path != longest)
        draft.missing.append(f"which list is meant: {longest} is the longest; there are also {others}")
        draft.say(".endpoint.data_selector", "the longest list of objects")
        return cut_body(body, longest, what=what)


async def _describe_validators(draft: Draft, probe: Probe, first: Look) -> None:
    validators = first.response.validators
    sent = [name for name, value in (("ETag", validators.etag), ("Last-Modified", validators.last_modified)) if value]
    if not sent:
        draft.say(".endpoint", "no ETag and no Last-Modified: each run reads everything that it asks for")
        return
    them = "them" if len(sent) > 1 else "it"
    if await probe.is_confirmed(first):
        draft.say(".endpoint", f"{' and '.join(sent)}: asked with {them}, it answers 304 while nothing changes")
    else:
        draft.say(".endpoint", f"sent: {' and '.join(sent)}; but asked with {them} it does not answer 304")


def _known_by(name: str, first: Look) -> tuple[Identify, str | None]:
    """How records of two answers are told apart, and the key if it is one field."""
    columns = columns_of_objects(first.objects)
    key = guess_key(columns, resource=name, records=len(first.objects)) if first.objects else None
    if key is None or not key.paths:
        return (lambda _record, text: text), None
    paths = [jmespath.compile(path) for path in key.paths]
    return (lambda record, _text: str([path.search(record) for path in paths])), (
        key.paths[0] if len(key.paths) == 1 else None
    )


def _describe_paging(draft: Draft, paging: Paging) -> None:
    endpoint = draft.resource["endpoint"]
    for name in paging.dropped:
        endpoint.get("params", {}).pop(name, None)
    if not endpoint.get("params", True):
        del endpoint["params"]
    if paging.paginator is None:
        draft.missing.append(f"how pages follow one another; say endpoint.paginator. {'; '.join(paging.notes[-1:])}")
        draft.say(".endpoint", *(f"tried: {note}" for note in paging.notes[:-1]))
        return
    endpoint["paginator"] = paging.paginator
    draft.say(".endpoint.paginator", paging.evidence, *(f"tried: {note}" for note in paging.notes))
    if paging.doubt:
        draft.missing.append(f"whether there is more: {paging.doubt}; say endpoint.paginator where the API has pages")
    elif paging.paginator["type"] == "single_page":
        draft.say(".*", "every answer is the whole: rows that it no longer brings can be deleted with")
        draft.say(".*", as_comment("deletes", {"detect": "snapshot"}))


def _together(first: Look, paging: Paging, identify: Identify) -> list[dict[str, Any]]:
    """The records of both pages; one that stands on both counts once."""
    if paging.second is None:
        return first.objects
    seen = set(first.identities(identify))
    second = paging.second
    new = [
        fields
        for fields, identity in zip(second.cut.records.fields, second.identities(identify), strict=True)
        if identity not in seen and isinstance(fields, dict)
    ]
    return [*first.objects, *new]


def _describe_limits(draft: Draft, response: Response) -> None:
    budget = read_budget(response.headers, now=utc_now())
    if budget is None or budget.limit is None:
        return
    span = next((text for seconds, text in SPANS if budget.reset_seconds <= seconds), None)
    if span is None:
        return
    draft.tree["rate_limit"] = {"requests": budget.limit, "per": span}
    draft.say(
        "rate_limit",
        f"its headers: {budget.limit} requests, {budget.remaining} left, counted anew in {budget.reset_seconds:.0f} s; "
        "the span is the shortest usual one that holds that",
    )
