"""Pages become batches; a checkpoint is trusted for what it may be."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from app.errors import SourceUnavailableError
from app.pipeline.batches import MAX_BYTES, MAX_RECORDS, Batch, batches
from app.pipeline.checkpoint import after_batch, after_replay, begin_pass, may_replay, must_remap, while_replaying
from app.records import Checkpoint, Cursor, Page, Records, Validators
from tests.normalizing import rest_spec

SOURCE = rest_spec(primary_key="id", endpoint={"path": "http://h/posts"})
FRESH = Checkpoint(
    source="api",
    resource="posts",
    holder="me",
    epoch=1,
    batch_seq=0,
    row_count=0,
    cursor=Cursor(),
    validators={},
    request_hash=None,
    pass_mapping_hash=None,
    mapping_hash=None,
)
MIDWAY = Cursor(page=3, page_token="_page=4")
KNOWN = {"": Validators(etag='"1"')}
COMPLETE = replace(
    FRESH,
    validators=KNOWN,
    request_hash=SOURCE.request_hash,
    pass_mapping_hash=SOURCE.mapping_hash,
    mapping_hash=SOURCE.mapping_hash,
)


def page(number: int, size: int, *, last: bool = False) -> Page:
    records = Records([f"{number}.{at}" for at in range(size)], list(range(size)), [{}] * size)
    return Page(number=number, records=records, after=Cursor(page=number), last=last)


async def given_out(
    pages: AsyncGenerator[Page, None], *, max_records: int = 10, max_seconds: float = 60
) -> list[Batch]:
    return [batch async for batch in batches(pages, max_records=max_records, max_seconds=max_seconds)]


def sizes(found: list[Batch]) -> list[int]:
    return [batch.size for batch in found]


async def test_pages_of_large_records_are_not_gathered() -> None:
    async def pages() -> AsyncGenerator[Page, None]:
        for number in range(1, 5):
            yield replace(page(number, 1, last=number == 4), body_bytes=MAX_BYTES // 2)

    assert sizes(await given_out(pages())) == [2, 2]


async def test_batches_grow_with_what_a_run_has_brought() -> None:
    async def pages() -> AsyncGenerator[Page, None]:
        for number in range(1, 4_001):
            yield page(number, 100)

    found = sizes([batch async for batch in batches(pages())])

    committed = 0
    for at, size in enumerate(found[:-5]):
        at_once = sum(found[at : at + 5])
        assert at_once <= max(MAX_RECORDS, 0.1 * (committed + at_once))
        committed += size
    assert found[-2] == MAX_RECORDS


async def test_small_pages_are_committed_together() -> None:
    async def pages() -> AsyncGenerator[Page, None]:
        for number in range(1, 6):
            yield page(number, 4, last=number == 5)

    found = await given_out(pages())

    assert sizes(found) == [8, 8, 4]
    assert [batch.after.page if batch.after else None for batch in found] == [2, 4, 5]
    assert [batch.last for batch in found] == [False, False, True]


async def test_only_the_last_part_of_a_large_page_moves_the_cursor() -> None:
    async def pages() -> AsyncGenerator[Page, None]:
        yield page(1, 25)

    found = await given_out(pages())

    assert sizes(found) == [13, 12]
    assert [batch.after.page if batch.after else None for batch in found] == [None, 1]


async def test_pages_before_a_fault_are_given_out_first() -> None:
    async def pages() -> AsyncGenerator[Page, None]:
        yield page(1, 3)
        raise SourceUnavailableError("gone")

    giving = batches(pages())
    first = await anext(giving)

    assert first.size == 3
    with pytest.raises(SourceUnavailableError):
        await anext(giving)


async def test_a_slow_source_does_not_hold_back_what_it_sent() -> None:
    gate = asyncio.Event()

    async def pages() -> AsyncGenerator[Page, None]:
        yield page(1, 3)
        await gate.wait()
        yield page(2, 3, last=True)

    giving = batches(pages(), max_seconds=0.01)
    async with asyncio.timeout(5):
        first = await anext(giving)
        gate.set()
        second = await anext(giving)

    assert (first.size, second.size) == (3, 3)
    await giving.aclose()


async def test_the_pages_are_closed_when_nobody_wants_more() -> None:
    closed = asyncio.Event()

    async def pages() -> AsyncGenerator[Page, None]:
        try:
            yield page(1, 10)
            await asyncio.Event().wait()
        finally:
            closed.set()

    giving = batches(pages(), max_records=5)
    await anext(giving)
    await giving.aclose()

    assert closed.is_set()


def test_a_complete_pass_is_trusted() -> None:
    begun = begin_pass(COMPLETE, SOURCE)

    assert (begun.validators, must_remap(begun)) == (KNOWN, False)


def test_a_pass_goes_on_where_it_stood() -> None:
    begun = begin_pass(replace(COMPLETE, cursor=MIDWAY), SOURCE)

    assert (begun.cursor, begun.validators) == (MIDWAY, KNOWN)


def test_cursor_and_validators_belong_to_one_url() -> None:
    begun = begin_pass(replace(COMPLETE, cursor=MIDWAY, request_hash="another"), SOURCE)

    assert (begun.cursor, begun.validators, must_remap(begun)) == (Cursor(), {}, False)


def test_after_a_change_of_mapping_nothing_is_skipped() -> None:
    begun = begin_pass(replace(COMPLETE, mapping_hash="old", pass_mapping_hash="old", cursor=MIDWAY), SOURCE)

    assert (begun.cursor, begun.validators, must_remap(begun)) == (Cursor(), {}, True)


def test_a_pass_that_remaps_goes_on_remapping_when_it_is_resumed() -> None:
    begun = begin_pass(replace(COMPLETE, mapping_hash="old", cursor=MIDWAY), SOURCE)

    assert (begun.cursor, must_remap(begun)) == (MIDWAY, True)


def test_a_first_pass_that_stopped_under_another_mapping_begins_again_and_remaps() -> None:
    stopped = replace(COMPLETE, mapping_hash=None, pass_mapping_hash="old", cursor=MIDWAY)

    begun = begin_pass(stopped, SOURCE)
    resumed = begin_pass(replace(begun, cursor=MIDWAY), SOURCE)

    assert (begun.cursor, must_remap(begun)) == (Cursor(), True)
    assert must_remap(resumed)


def test_a_mapping_taken_back_in_the_middle_of_a_pass_remaps() -> None:
    begun = begin_pass(replace(COMPLETE, pass_mapping_hash="another", cursor=MIDWAY), SOURCE)

    assert (begun.cursor, begun.validators, must_remap(begun)) == (Cursor(), {}, True)


OTHER = replace(COMPLETE, mapping_hash="old", pass_mapping_hash="old", cursor=MIDWAY)


def test_a_replay_that_reached_all_leaves_cursor_and_validators_trustworthy() -> None:
    done = after_replay(while_replaying(OTHER, SOURCE, whole=True), SOURCE, reached_all=True)

    begun = begin_pass(done, SOURCE)
    assert (begun.cursor, begun.validators, must_remap(begun)) == (MIDWAY, KNOWN, False)
    assert not may_replay(done, SOURCE, begun=False)


@pytest.mark.parametrize("mapping_hash", ["old", SOURCE.mapping_hash])
def test_a_replay_is_taken_up_again_unless_it_reached_what_it_could(mapping_hash: str) -> None:
    stored = replace(OTHER, mapping_hash=mapping_hash)
    begun = while_replaying(stored, SOURCE, whole=True)
    done = after_replay(begun, SOURCE, reached_all=False)

    assert [may_replay(stored, SOURCE, begun=False), may_replay(begun, SOURCE, begun=True)] == [True, True]
    assert not may_replay(done, SOURCE, begun=False)
    # The pass that reads the source again may be resumed
    resumed = begin_pass(replace(begin_pass(done, SOURCE), cursor=MIDWAY), SOURCE)
    assert (begin_pass(done, SOURCE).cursor, resumed.cursor, must_remap(resumed)) == (Cursor(), MIDWAY, True)


def test_after_a_part_was_replayed_no_mapping_holds_for_all() -> None:
    ranged = while_replaying(OTHER, SOURCE, whole=False)

    assert may_replay(ranged, SOURCE, begun=False)
    assert may_replay(
        ranged, rest_spec({"name": "x"}, primary_key="id", endpoint={"path": "http://h/posts"}), begun=False
    )
    assert must_remap(begin_pass(ranged, SOURCE))


def test_another_body_is_read_and_not_replayed() -> None:
    assert not may_replay(replace(OTHER, request_hash="another"), SOURCE, begun=True)


def test_the_last_batch_completes_the_pass() -> None:
    begun = begin_pass(replace(COMPLETE, mapping_hash="old"), SOURCE)

    moved = after_batch(begun, Batch(pages=1, after=Cursor(page=9), last=True, validators=KNOWN))

    assert (moved.cursor, moved.validators, moved.mapping_hash) == (Cursor(), KNOWN, SOURCE.mapping_hash)
    assert not must_remap(moved)


def test_a_batch_within_a_page_leaves_the_cursor() -> None:
    begun = begin_pass(replace(COMPLETE, cursor=MIDWAY), SOURCE)

    assert after_batch(begun, Batch()) == begun
