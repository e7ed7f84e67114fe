"""The proxy sees every COMMIT, and does its one thing at its one place."""

import asyncpg
import pytest

from app.db.dsn import server_of, through
from app.errors import ConfigError
from app.faults.plans import Edge, Fault, parse_fault, plan_faults
from app.faults.proxy import Proxy, Upstream
from app.faults.wire import FrontendStream

STARTUP = b"\0\0\0\x08\0\x03\0\0"


def query(text: bytes) -> bytes:
    return b"Q" + (len(text) + 5).to_bytes(4, "big") + text + b"\0"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_commits_are_seen_however_the_stream_is_cut(size: int) -> None:
    parse = b"P" + (4 + 2 + 7 + 2).to_bytes(4, "big") + b"s\0COMMIT\0\0\0"
    sent = STARTUP + query(b"SELECT 'COMMIT;'") + query(b"COMMIT;") + query(b" commit") + parse + query(b"COMMITTED")

    stream = FrontendStream()

    assert sum(stream.feed(sent[at : at + size]) for at in range(0, len(sent), size)) == 3


def test_a_plan_is_every_edge_or_a_choice_that_the_seed_repeats() -> None:
    counted: dict[Edge, int] = {"before_commit": 3, "after_commit": 2}

    every = plan_faults(counted, ("before_commit", "after_commit"), most=5, seed=1)
    some = [plan_faults(counted, ("before_commit", "after_commit"), most=2, seed=7) for _ in range(2)]

    assert [str(fault) for fault in every] == [
        "kill@before_commit:1",
        "kill@after_commit:1",
        "kill@before_commit:2",
        "kill@after_commit:2",
        "kill@before_commit:3",
    ]
    assert some[0] == some[1]
    assert len(some[0]) == 2


@pytest.mark.parametrize(
    "text", ["", "kill", "kill@before_commit", "kill@before_commit:0", "eat@sent:1", "kill@sent:1 x"]
)
def test_a_fault_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="for example kill@after_commit:2"):
        parse_fault(text)


async def write(dsn: str, proxy: Proxy) -> None:
    connection = await asyncpg.connect(through(dsn, host="127.0.0.1", port=proxy.port), timeout=10)
    try:
        async with connection.transaction():
            await connection.execute("CREATE TABLE here ()")
    finally:
        connection.terminate()


@pytest.mark.parametrize(("edge", "is_there"), [("before_commit", False), ("after_commit", True)])
async def test_a_cut_at_a_commit_is_before_or_after_it(edge: Edge, is_there: bool, empty_dsn: str) -> None:
    async with Proxy(Upstream(*server_of(empty_dsn)), Fault("reset", edge, 1)) as proxy:
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await write(empty_dsn, proxy)
    assert proxy.struck

    looking = await asyncpg.connect(empty_dsn)
    found = await looking.fetchval("SELECT to_regclass('here') IS NOT NULL")
    await looking.close()
    assert found is is_there


async def test_without_a_fault_it_only_counts(empty_dsn: str) -> None:
    async with Proxy(Upstream(*server_of(empty_dsn))) as proxy:
        await write(empty_dsn, proxy)

    assert proxy.counted["before_commit"] == proxy.counted["after_commit"] == 1
    assert not proxy.struck


@pytest.mark.parametrize(
    ("dsn", "server"),
    [
        ("postgresql://u:p@h:1/d", ("h", 1)),
        ("postgresql://h/d", ("h", 5432)),
        ("postgresql:///d", ("localhost", 5432)),
        ("postgresql://[::1]:7/d", ("::1", 7)),
        ("postgresql://[::1]/d", ("::1", 5432)),
        ("postgresql://u@a:1,b:2/d", ("a", 1)),
        ("postgresql://u@/d?host=%2Frun%2Fpg&port=9", ("/run/pg", 9)),
    ],
)
def test_a_dsn_says_where_its_server_is(dsn: str, server: tuple[str, int]) -> None:
    assert server_of(dsn) == server


def test_an_encrypted_connection_is_not_listened_to() -> None:
    with pytest.raises(ConfigError, match="sslmode=require"):
        server_of("postgresql://h/d?sslmode=require")


def test_the_way_through_keeps_account_and_database() -> None:
    assert through("postgresql://u:p%40@h:1/d?host=x&a=b&sslmode=prefer", host="127.0.0.1", port=5) == (
        "postgresql://u:p%40@127.0.0.1:5/d?a=b&sslmode=disable"
    )
