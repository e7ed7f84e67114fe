"""Parts of one size, and what came before a fault."""

from collections.abc import AsyncIterator

import pytest

from app.errors import SourceUnavailableError
from app.extract.parts import in_parts


async def _stream(*parts: bytes, fault: bool = False) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if fault:
        raise SourceUnavailableError("cut")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_the_same_bytes_in_parts_of_one_size(size: int) -> None:
    found = [part async for part in in_parts(_stream(b"", b"abc", b"d", b"", b"efghij"), size)]

    assert b"".join(found) == b"abcdefghij"
    assert {len(part) for part in found[:-1]} <= {size}
    assert 0 < len(found[-1]) <= size


async def test_nothing_is_no_part() -> None:
    assert [part async for part in in_parts(_stream(b""), 3)] == []


async def test_what_came_before_a_fault_is_given_out_first() -> None:
    parts = in_parts(_stream(b"abcd", b"e", fault=True), 3)

    assert [await anext(parts), await anext(parts)] == [b"abc", b"de"]
    with pytest.raises(SourceUnavailableError):
        await anext(parts)
