"""URLs in messages, cursors of pages: rules without I/O."""

import base64
import hashlib
import json
import re
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.paging import MAX_TEXT, PageCursor, decode_cursor, encode_cursor
from app.api.problems import ProblemError
from app.db.data_query import DEFAULT_ORDER, Order, total_order
from app.extract.http_errors import redact
from app.operations.patterns import CURSOR

FILTERS = ("csv", None)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:hunter2@h:1/p?a=b", "http://h:1/p?a=b"),
        ("http://h/p?api_key=hunter2&page=2", "http://h/p?api_key=***&page=2"),
        ("http://h/p?Access-Token=hunter2&X-Amz-Signature=hunter2", "http://h/p?Access-Token=***&X-Amz-Signature=***"),
        ("http://h/p#hunter2", "http://h/p"),
        ("/a/file.csv", "/a/file.csv"),
        ("http://[broken", "(unreadable URL)"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert redact(url) == shown


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=MAX_TEXT)
ORDER = total_order([Order("value", descending=True), Order("updated_at"), Order("name")])
VALUES = st.tuples(
    st.none() | st.floats(-1e300, 1e300),
    st.datetimes(timezones=st.just(UTC)),
    TEXT,
    TEXT,
    st.integers(-(2**63), 2**63 - 1),
)


@given(values=VALUES, seen=st.integers(0, 2**62))
def test_a_cursor_comes_back_as_it_went(values: tuple[Any, ...], seen: int) -> None:
    cursor = PageCursor(seen, values)

    text = encode_cursor(cursor, made_for=FILTERS)

    assert text is not None or sum(len(value.encode()) for value in values[2:4]) > 7_000
    if text is None:
        return
    assert re.fullmatch(CURSOR, text)
    assert decode_cursor(text, order=ORDER, made_for=FILTERS) == cursor


def test_what_is_too_long_for_an_address_is_in_no_cursor() -> None:
    assert encode_cursor(PageCursor(2, ("x" * (MAX_TEXT + 1), 7)), made_for=FILTERS) is None


@pytest.mark.parametrize(
    ("character", "fits"), [("x", True), ("é", True), ("水", True), ("🌊", False), ("\x01", False)]
)
def test_two_texts_as_long_as_can_be_make_a_cursor_that_is_accepted_or_none(character: str, fits: bool) -> None:
    text = encode_cursor(PageCursor(2, (character * MAX_TEXT, character * MAX_TEXT, 7)), made_for=FILTERS)

    assert (text is not None) == fits
    assert text is None or re.fullmatch(CURSOR, text)


@given(st.from_regex(CURSOR, fullmatch=True))
def test_a_made_up_cursor_is_refused(text: str) -> None:
    with pytest.raises(ProblemError):
        decode_cursor(text, order=DEFAULT_ORDER, made_for=FILTERS)


@pytest.mark.parametrize(
    "values",
    [b"[]", b"null", b"{}", b"[1, 2]", b'["csv", "x"]', b'["csv", 9223372036854775808]', b"\xff", b"[" * 99_999],
)
def test_a_cursor_with_a_good_seal_and_bad_values_is_refused(values: bytes) -> None:
    body = "1-" + base64.urlsafe_b64encode(values).decode().rstrip("=")
    seal = hashlib.blake2b(json.dumps([body, *FILTERS]).encode(), digest_size=8).hexdigest()

    with pytest.raises(ProblemError, match="not one of ours"):
        decode_cursor(f"{seal}-{body}", order=DEFAULT_ORDER, made_for=FILTERS)


@given(TEXT, st.integers(0, 40))
def test_a_cursor_that_was_changed_or_mixed_up_is_refused(source: str, at: int) -> None:
    text = encode_cursor(PageCursor(3, (source, 7)), made_for=FILTERS)
    assert text is not None
    changed = text[: at % len(text)] + ("0" if text[at % len(text)] != "0" else "1") + text[at % len(text) + 1 :]

    with pytest.raises(ProblemError):
        decode_cursor(text, order=DEFAULT_ORDER, made_for=(None, "search"))
    with pytest.raises(ProblemError):
        decode_cursor(changed, order=DEFAULT_ORDER, made_for=FILTERS)
