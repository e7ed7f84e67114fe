"""Bytes as they come → parts of one size. No I/O."""

from collections.abc import AsyncIterator

from app.errors import SourceError


async def in_parts(stream: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """
    The same bytes in parts of `size`, but for the last: those of the network have any.

    Raises:
        SourceError: the stream's, after what came before it.
    """
    held: list[bytes] = []
    held_bytes = 0
    try:
        async for part in stream:
            held.append(part)
            held_bytes += len(part)
            if held_bytes >= size:
                data = b"".join(held)
                whole = held_bytes - held_bytes % size
                for begin in range(0, whole, size):
                    yield data[begin : begin + size]
                held, held_bytes = [data[whole:]], held_bytes - whole
    except SourceError:
        if held_bytes:
            yield b"".join(held)
        raise
    if held_bytes:
        yield b"".join(held)
