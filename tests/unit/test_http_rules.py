"""URLs in messages, cursors of pages: rules without I/O."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.paging import PageCursor, decode_cursor, encode_cursor, filter_mark
from app.api.problems import ProblemError
from app.extract.http_errors import redact

MARK = filter_mark(None, None)


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


@given(source=st.text(st.characters(categories=["L", "N"])), row=st.integers(0, 2**63 - 1), page=st.integers(1, 2**62))
def test_a_cursor_comes_back_as_it_went(source: str, row: int, page: int) -> None:
    cursor = PageCursor(source, row, page)

    assert decode_cursor(encode_cursor(cursor, mark=MARK), mark=MARK) == cursor


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_no_text_breaks_the_cursor(text: str) -> None:
    with suppress(ProblemError):  # and nothing else
        cursor = decode_cursor(text, mark=MARK)

        assert encode_cursor(cursor, mark=MARK)


@pytest.mark.parametrize(
    "content",
    ["[]", "null", '["a",true,1,"m"]', '["a",-1,1,"m"]', '["a",1e9,1,"m"]', '["a\\u0000",1,1,"m"]', "[" * 5000],
)
def test_a_made_up_cursor_is_refused(content: str) -> None:
    text = base64.urlsafe_b64encode(content.encode()).decode()

    with pytest.raises(ProblemError):
        decode_cursor(text, mark=MARK)
