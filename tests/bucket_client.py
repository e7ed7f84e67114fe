"""
A process that asks a URL as fast as its shared bucket lets it.

    python -m tests.bucket_client DSN URL REQUESTS BURST SECONDS

Says "ready", waits for a line on stdin, and says how many requests it made.
"""

import asyncio
import sys
import time

import aiohttp

from app.db.engine import Database
from app.extract.limits import Limiter, Limiters
from app.sources.limits import RateLimit


async def main(dsn: str, url: str, requests: int, burst: int, seconds: float) -> None:
    database = Database(dsn)
    limiters = Limiters(database)
    limiter = limiters.of("crm", RateLimit(requests=requests, burst=burst, bucket="crm-account"))
    await database.ping()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    ends_at = time.monotonic() + seconds
    async with aiohttp.ClientSession() as session:
        made = await asyncio.gather(*(ask(session, url, limiter, ends_at) for _ in range(4)))
    print(sum(made), flush=True)
    await limiters.close()
    await database.close()


async def ask(session: aiohttp.ClientSession, url: str, limiter: Limiter, ends_at: float) -> int:
    made = 0
    while time.monotonic() < ends_at:
        async with limiter.slot(), session.get(url) as response:
            await response.read()
            made += 1
    return made


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
