"""Waits, URLs in messages, cursors of pages: rules without I/O."""

import base64
import random
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.paging import PageCursor, decode_cursor, encode_cursor, filter_mark
from app.api.problems import ProblemError
from app.errors import SourceUnavailableError
from app.extract.http_errors import redact
from app.extract.retry import RetryPolicy, parse_retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MARK = filter_mark(None, None)


@given(attempt=st.integers(1, 30), elapsed=st.floats(0, 1000), seed=st.integers())
def test_a_wait_is_within_its_ceiling_and_its_budget(attempt: int, elapsed: float, seed: int) -> None:
    policy = RetryPolicy(max_attempts=20)

    delay = policy.delay_seconds(
        SourceUnavailableError("x"), attempt=attempt, elapsed_seconds=elapsed, rng=random.Random(seed)
    )

    if delay is None:
        assert attempt >= 20 or elapsed > policy.max_elapsed_seconds - policy.max_delay_seconds
    else:
        assert 0 <= delay <= min(policy.max_delay_seconds, policy.backoff_factor_seconds * 2 ** (attempt - 1))
        assert elapsed + delay <= policy.max_elapsed_seconds


def test_waits_are_spread() -> None:
    policy, rng = RetryPolicy(), random.Random(1)
    error = SourceUnavailableError("x")

    delays = {policy.delay_seconds(error, attempt=3, elapsed_seconds=0, rng=rng) for _ in range(50)}

    assert len(delays) == 50


@pytest.mark.parametrize(("asked", "waited"), [(0.0, 0.0), (7.0, 7.0), (119.0, 119.0), (121.0, None)])
def test_what_the_source_asks_for_is_obeyed_or_the_turn_ends(asked: float, waited: float | None) -> None:
    error = SourceUnavailableError("x", retry_after_seconds=asked)

    delay = RetryPolicy().delay_seconds(error, attempt=1, elapsed_seconds=0, rng=random.Random(1))

    assert delay == waited


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0.0),
        ("Fri, 01 Jan 2099 00:00:00 GMT", 2303683200.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("1.5", 1.5),
        ("٣", None),
        ("9" * 400, 999999999.0),
        ("Thu, 99 Jan 2026 00:01:00 GMT", None),
        ("Thu, 01 Jan 2026 00:01:00", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, now=NOW) == seconds


@given(st.text())
def test_no_retry_after_raises(header: str) -> None:
    seconds = parse_retry_after(header, now=NOW)

    assert seconds is None or seconds >= 0


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
