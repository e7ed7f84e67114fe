"""Whether a body is the same up to where a pass stands, also when it was read in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.extract.csv_resume import rest_to_ask_for
from app.extract.http_body import RestOf
from app.extract.prefix_hash import MAX_PIECES, PrefixCheck, PrefixHash, pieces
from app.records import Checkpoint, Cursor


def hashed(body: bytes, cuts: list[int]) -> str:
    """As passes leave it that read up to each cut, and went on there."""
    text, before = "", 0
    for cut in [*cuts, len(body)]:
        prefix = PrefixHash(text, offset=before)
        prefix.update(body[before:cut])
        text, before = str(prefix), cut
    return text


def holds(seen: str, body: bytes, *, size: int, part: int) -> bool:
    check = PrefixCheck(seen, size=size)
    for at in range(0, size, part):
        check.feed(body[at : min(at + part, size)])
    return check.holds


@given(body=st.binary(min_size=4, max_size=60), data=st.data(), part=st.integers(1, 70))
def test_only_the_same_bytes_hold(body: bytes, data: st.DataObject, part: int) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=3)))
    seen = hashed(body, cuts)
    at = data.draw(st.integers(0, len(body) - 1))
    other = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]

    assert pieces(seen) == len(cuts) + 1
    assert holds(seen, body, size=len(body), part=part)
    assert holds(seen, body + b"more", size=len(body), part=part)
    assert not holds(seen, other, size=len(body), part=part)
    assert not holds(seen, body[:-1], size=len(body), part=part)


@pytest.mark.parametrize("seen", ["", "00"])
def test_a_hash_of_something_else_does_not_hold(seen: str) -> None:
    assert not holds(seen, b"abc", size=3, part=3)


@pytest.mark.parametrize(("breaks", "asked"), [(0, True), (MAX_PIECES - 2, True), (MAX_PIECES - 1, False)])
def test_a_body_that_broke_too_often_is_read_from_its_beginning_once(breaks: int, asked: bool) -> None:
    body = bytes(100)
    checkpoint = Checkpoint(
        source="f",
        resource="rows",
        holder="me",
        epoch=1,
        batch_seq=1,
        row_count=1,
        cursor=Cursor(byte_offset=100, prefix_hash=hashed(body, list(range(1, breaks + 1)))),
        validators={},
        request_hash=None,
        pass_mapping_hash=None,
        mapping_hash=None,
        state={"reading": {"etag": '"v1"'}},
    )

    assert rest_to_ask_for(checkpoint) == (RestOf(100, '"v1"') if asked else None)
