"""How one page leads to the next: no server, no sleep."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.errors import SourceMalformedError
from app.extract.link_header import parse_links
from app.extract.page_request import Given, PageRequest
from app.extract.paging import PageAnswer, detect, first_request, next_request
from app.sources.paginators import PaginatorSpec

FIRST = PageRequest("https://api.example.com/v1/things", (("state", "all"),))


def paginator(**tree: Any) -> PaginatorSpec:
    return TypeAdapter(PaginatorSpec).validate_python(tree)


def asked(spec: PaginatorSpec, *answers: PageAnswer) -> Iterator[str]:
    """The parameters of each request of a walk, without those of the first."""
    request: PageRequest | None = first_request(spec, FIRST)
    for answer in answers:
        if request is None:
            break
        yield "&".join(f"{name}={value}" for name, value in request.params if name != "state")
        request = next_request(spec, request, answer)
    yield "end" if request is None else "more"


def answer(count: int = 2, body: Any = None, **rest: Any) -> PageAnswer:
    records = [{"id": at + 1, "key": {"id": f"k{at}"}} for at in range(count)]
    return PageAnswer({"items": records, **(body or {})}, records, **rest)


@pytest.mark.parametrize(
    ("spec", "answers", "expected"),
    [
        ({"type": "single_page"}, [answer()], ["", "end"]),
        ({"type": "page_number"}, [answer(), answer(), answer(0)], ["page=1", "page=2", "page=3", "end"]),
        ({"type": "page_number", "page_param": "p", "base_page": 0}, [answer(), answer(0)], ["p=0", "p=1", "end"]),
        (
            {"type": "page_number", "limit_param": "n", "limit": 2},
            [answer(), answer(1)],
            ["page=1&n=2", "n=2&page=2", "end"],
        ),
        ({"type": "page_number", "limit": 2}, [answer(5)], ["page=1", "end"]),
        ({"type": "page_number", "total_path": "pages"}, [answer(2, {"pages": 2})] * 3, ["page=1", "page=2", "end"]),
        (
            {"type": "page_number", "total_path": "pages", "base_page": 0},
            [answer(2, {"pages": 2})] * 3,
            ["page=0", "page=1", "end"],
        ),
        ({"type": "page_number", "maximum_page": 2}, [answer()] * 3, ["page=1", "page=2", "end"]),
        (
            {"type": "page_number", "has_more_path": "more"},
            [answer(2, {"more": True}), answer(2, {"more": False})],
            ["page=1", "page=2", "end"],
        ),
        (
            {"type": "page_number", "stop_after_empty_page": False, "has_more_path": "more"},
            [answer(0, {"more": 1}), answer(0, {"more": "false"})],
            ["page=1", "page=2", "end"],
        ),
        (
            {"type": "offset", "limit": 2},
            [answer(), answer(), answer(1)],
            ["offset=0&limit=2", "limit=2&offset=2", "limit=2&offset=4", "end"],
        ),
        (
            {"type": "offset", "limit": 2, "total_path": "total"},
            [answer(1, {"total": 3}), answer(2, {"total": 3})],
            ["offset=0&limit=2", "limit=2&offset=2", "end"],
        ),
        (
            {"type": "offset", "limit": 2, "limit_param": None, "maximum_offset": 2},
            [answer()] * 3,
            ["offset=0", "offset=2", "end"],
        ),
        (
            {"type": "cursor", "cursor_path": "meta.next", "cursor_param": "c"},
            [answer(2, {"meta": {"next": "a/b="}}), answer(2, {"meta": {"next": None}})],
            ["", "c=a/b=", "end"],
        ),
        (
            {"type": "cursor", "cursor_path": "next", "cursor_param": "c", "has_more_path": "more"},
            [answer(2, {"next": 7, "more": True}), answer(2, {"next": 9, "more": False})],
            ["", "c=7", "end"],
        ),
        (
            {"type": "header_cursor", "cursor_key": "X-Next"},
            [answer(headers={"X-Next": "t1"}), answer()],
            ["", "cursor=t1", "end"],
        ),
        (
            {"type": "header_cursor", "cursor_key": "Next-Page"},
            [answer(headers={"Next-Page": "https://api.example.com/v1/things?_token=x"})],
            ["", "more"],
        ),
        (
            {"type": "json_link", "next_url_path": "links.next"},
            [answer(2, {"links": {"next": "?page=2&x=%20"}}), answer(2, {"links": {}})],
            ["", "page=2&x= ", "end"],
        ),
        (
            {"type": "header_link"},
            [answer(links={"next": "http://api.example.com/v1/things?page=2"}), answer()],
            ["", "page=2", "end"],
        ),
        (
            {"type": "keyset", "cursor_path": "key.id", "cursor_param": "after"},
            [answer(), answer(1), answer(0)],
            ["", "after=k1", "after=k0", "end"],
        ),
        (
            {"type": "keyset", "has_more_path": "more"},
            [answer(2, {"more": True}), answer(2, {"more": False})],
            ["", "starting_after=2", "end"],
        ),
    ],
)
def test_a_walk_asks_for(spec: dict[str, Any], answers: list[PageAnswer], expected: list[str]) -> None:
    assert list(asked(paginator(**spec), *answers)) == expected


def test_a_cursor_can_travel_in_the_body() -> None:
    spec = paginator(type="cursor", cursor_path="next", cursor_body_path="page.after")
    first = PageRequest("https://x/", json={"query": "a", "page": {"size": 2}}, method="POST")

    following = next_request(spec, first, answer(2, {"next": "t"}))

    assert following is not None
    assert following.json == {"query": "a", "page": {"size": 2, "after": "t"}}
    assert first.json == {"query": "a", "page": {"size": 2}}


def test_a_link_keeps_our_scheme_and_port() -> None:
    request = PageRequest("https://api.example.com:8443/v1/things")

    following = next_request(
        paginator(type="json_link"), request, answer(2, {"next": "http://api.example.com/v1/things?after=%2Fx#top"})
    )

    assert following is not None
    assert (following.url, following.params) == ("https://api.example.com:8443/v1/things", (("after", "/x"),))


@pytest.mark.parametrize(
    ("spec", "bad"),
    [
        ({"type": "json_link"}, answer(2, {"next": "https://elsewhere.example.com/"})),
        ({"type": "json_link"}, answer(2, {"next": ["x"]})),
        ({"type": "json_link"}, answer(2, {"next": "http://[half"})),
        ({"type": "cursor", "cursor_path": "next", "cursor_param": "c"}, answer(2, {"next": {"a": 1}})),
        ({"type": "page_number", "total_path": "pages"}, answer(2, {"pages": "many"})),
        ({"type": "page_number", "total_path": "pages"}, answer(2)),
        ({"type": "keyset", "cursor_path": "nothing"}, answer(2)),
    ],
)
def test_a_reference_that_cannot_be_understood_is_malformed(spec: dict[str, Any], bad: PageAnswer) -> None:
    with pytest.raises(SourceMalformedError):
        next_request(paginator(**spec), FIRST, bad)


@pytest.mark.parametrize("more", [[], {}, "", None, 0, "no"])
def test_odd_words_for_no_more_are_understood(more: Any) -> None:
    spec = paginator(type="cursor", cursor_path="next", cursor_param="c", has_more_path="more")

    assert next_request(spec, FIRST, answer(2, {"next": "x", "more": more})) is None


@given(
    params=st.lists(st.tuples(st.text(min_size=1), st.text())),
    body=st.none() | st.dictionaries(st.text(), st.integers() | st.text()),
)
def test_a_walk_goes_on_from_what_a_checkpoint_holds(params: list[tuple[str, str]], body: Any) -> None:
    request = PageRequest("https://x/y", tuple(params), json=body, method="POST")

    assert PageRequest("https://x/y", method="POST").at(request.token) == PageRequest(
        "https://x/y", tuple(params), json=body or None, method="POST"
    )


PAIRS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2", "3"])), max_size=5).map(tuple)
BODIES = st.none() | st.dictionaries(
    st.sampled_from("abc"), st.integers(1, 3) | st.dictionaries(st.sampled_from("de"), st.integers(1, 3), min_size=1)
)


@given(params=PAIRS, built=PAIRS, body=BODIES, built_body=BODIES)
def test_a_token_leaves_out_what_is_given_and_stands_for_the_same_request(
    params: Any, built: Any, body: Any, built_body: Any
) -> None:
    # A walk changes a body, and takes nothing from it
    merged = None if built_body is None and not body else dict(built_body or {})
    for key, value in (body or {}).items():
        before = (merged or {}).get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            value = {**before, **value}  # noqa: PLW2901
        merged = {**(merged or {}), key: value}
    fixed = Given(url="https://x/secret", params=built, json=built_body)
    base = PageRequest("https://x/secret", built, json=built_body, method="POST", given=fixed)
    request = PageRequest("https://x/secret", params, json=merged, method="POST", given=fixed)

    again = base.at(request.token)

    assert (again, "secret" in request.token) == (request, False)
    assert not any(list(pair) in json.loads(request.token).get("params", []) for pair in built)
    assert base.at(request.identity) == request, "a token of before, which says everything itself"


@pytest.mark.parametrize(
    ("value", "links"),
    [
        ("<b>; rel=next", {"next": "http://x/a/b"}),
        ('<?p=2>; rel="next", </l>; rel=last', {"next": "http://x/a/?p=2", "last": "http://x/l"}),
        ('<b>; REL="Next  LAST"', {"next": "http://x/a/b", "last": "http://x/a/b"}),
        ('<b>; title="a, <c>; rel=next"; rel = "prev"', {"prev": "http://x/a/b"}),
        ('<b>; title="\\", ";rel=next', {"next": "http://x/a/b"}),
        ('<b>;rel=next;rel=prev, <c>;rel="next"', {"next": "http://x/a/b"}),
        ("<b?x=1,2;y>; rel=next", {"next": "http://x/a/b?x=1,2;y"}),
        ("nonsense, <b>; rel=next", {"next": "http://x/a/b"}),
        ('<b>; title="open, <c>; rel=next', {"next": "http://x/a/c"}),
        ("<b>", {}),
        ("<b>; prerel=next; rel", {}),
        ("", {}),
    ],
)
def test_a_link_header_is_read_as_rfc_8288_writes_it(value: str, links: dict[str, str]) -> None:
    assert parse_links(value, base="http://x/a/") == links


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (answer(links={"next": "https://x/?p=2"}), "header_link"),
        (answer(2, {"next": "https://x/?p=2"}), "json_link"),
        (answer(2, {"links": {"next": "/things?p=2"}}), "json_link"),
        (answer(2, {"next": "a token"}), "single_page"),
        (answer(), "single_page"),
    ],
)
def test_a_first_answer_shows_how_it_is_paged(seen: PageAnswer, kind: str) -> None:
    found, evidence = detect(seen)

    assert found.type == kind
    assert evidence
