"""Bytes as they come → parts of one size. No I/O."""

from collections.abc import AsyncIterator


async def in_parts(stream: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The same bytes in parts of `size`, but for the last: those of the network have any."""
    held: list[bytes] = []
    held_bytes = 0
    async for part in stream:
        held.append(part)
        held_bytes += len(part)
        if held_bytes >= size:
            data = b"".join(held)
            whole = held_bytes - held_bytes % size
            for begin in range(0, whole, size):
                yield data[begin : begin + size]
            held, held_bytes = [data[whole:]], held_bytes - whole
    if held_bytes:
        yield b"".join(held)
