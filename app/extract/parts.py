"""Bytes as they come → parts of one size. No I/O."""

from collections.abc import AsyncIterator
from typing import Final

from app.errors import SourceError

GROWTH: Final = 50


async def in_parts(stream: AsyncIterator[bytes], size: int, *, first: int | None = None) -> AsyncIterator[bytes]:
    """
    The same bytes in parts of `size`, but for the last: those of the network have any.

    Args:
        first: the size of the first ones, which grow with what came before them, to a fiftieth of it.

    Raises:
        SourceError: the stream's, after what came before it.
    """
    held: list[bytes] = []
    held_bytes, given = 0, 0
    wanted = first or size
    try:
        async for part in stream:
            held.append(part)
            held_bytes += len(part)
            if held_bytes >= wanted:
                data, begin = b"".join(held), 0
                while len(data) - begin >= wanted:
                    yield data[begin : begin + wanted]
                    begin += wanted
                    given += wanted
                    wanted = min(max(wanted, given // GROWTH), size)
                held, held_bytes = [data[begin:]], len(data) - begin
    except SourceError:
        if held_bytes:
            yield b"".join(held)
        raise
    if held_bytes:
        yield b"".join(held)
