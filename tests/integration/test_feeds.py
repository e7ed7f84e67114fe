"""RSS and Atom feeds of source files, run for real."""

import gzip
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from app.errors import ConfigError
from app.operations import replay as replays
from app.operations.config import resolved
from app.operations.sources import check, preview
from app.records import ReplayRange
from app.resources import Resources
from app.settings import load_settings
from tests.conftest import api_client
from tests.source_files import EXAMPLE_E, SourceFiles
from tests.source_server import Fault, SourceServer

ROWS = """
SELECT source_id, name, description, created_at::text, updated_at::text FROM normalized_data ORDER BY source_id
"""
AT = "2026-03-01T10:00:00+02:00"


def atom(*entries: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom"><title>Status</title>'
        f"<id>urn:feed</id><updated>{AT}</updated>\n{''.join(entries)}</feed>"
    ).encode()


def entry(number: int, *, title: str | None = None, updated: str = AT, more: str = "") -> str:
    return (
        f"<entry><id>urn:{number}</id><title>{title or f't{number}'}</title><updated>{updated}</updated>"
        f'<link href="https://status.example.com/{number}"/><summary>s{number}</summary>{more}</entry>\n'
    )


def rss(*items: str) -> bytes:
    return f'<rss version="2.0"><channel><title>News</title>{"".join(items)}</channel></rss>'.encode()


class Feed:
    def __init__(self, files: SourceFiles, server: SourceServer, resources: Resources) -> None:
        self.files, self.server, self.resources = files, server, resources

    def has(self, body: bytes, *, content_type: str = "application/atom+xml", **headers: str) -> None:
        self.server.put("/feed", body, content_type=content_type, **headers)

    def means(self, *, feed: str = "", keys: str = "") -> None:
        """A file with no more than what a feed needs, and these keys."""
        self.files.write(
            'name = "s"\ntype = "rss"\nclient = { allow_private_networks = true }\n'
            f'[retry]\nmax_attempts = 1\n[[resources]]\nname = "entries"\n{keys}\n'
            f'[resources.feed]\nurl = "{self.server.url}/feed"\n{feed}\n'
        )

    @property
    def spec(self) -> Any:
        self.resources.catalog = self.files.catalog()
        return self.resources.catalog.select(["s"])[0]


@pytest.fixture
def feed(resources: Resources, source_server: SourceServer, tmp_path: Path) -> Feed:
    files = SourceFiles(resources, tmp_path / "sources", source_server.url)
    made = Feed(files, source_server, resources)
    made.means()
    return made


async def rows(sql: asyncpg.Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await sql.fetch(ROWS)]


async def findings(sql: asyncpg.Connection) -> list[dict[str, Any]]:
    held = await sql.fetchval("SELECT findings FROM etl_runs ORDER BY id DESC LIMIT 1")
    return list(json.loads(held or "[]"))


async def test_e_a_status_page(feed: Feed, source_server: SourceServer, sql: asyncpg.Connection) -> None:
    text = EXAMPLE_E.replace("https://status.example.com", source_server.url)
    text = text.replace("[schedule]", "client = { allow_private_networks = true }\n[schedule]")
    feed.files.write(text, name="e")
    source_server.put("/history.atom", atom(entry(2), entry(1)), content_type="application/atom+xml")

    report = await feed.files.run("status_feed")

    assert (report.status, report.outcome, report.counts.inserted) == ("succeeded", "changed", 2)
    at = "2026-03-01 08:00:00+00"
    assert await rows(sql) == [(f"urn:{n}", f"t{n}", f"s{n}\nhttps://status.example.com/{n}", at, at) for n in (1, 2)]


async def test_a_file_that_names_only_its_feed_gives_sensible_rows(feed: Feed, sql: asyncpg.Connection) -> None:
    published = "<published>2026-02-28T23:30:00.25Z</published>"
    feed.has(atom(entry(1, more=published), entry(2)))

    report = await feed.files.run()

    assert (report.status, report.counts.inserted) == ("succeeded", 2)
    at = "2026-03-01 08:00:00+00"
    assert await rows(sql) == [
        ("urn:1", "t1", "s1", "2026-02-28 23:30:00.25+00", at),
        ("urn:2", "t2", "s2", at, at),
    ]
    raw = await sql.fetchrow("SELECT kind, payload::text FROM raw_api_data ORDER BY position LIMIT 1")
    assert raw is not None
    held = json.loads(raw["payload"])
    assert (raw["kind"], held["id_from"]) == ("feed", "id")
    assert (held["updated"], held["updated_given"]) == ("2026-03-01T08:00:00Z", AT)
    assert not [key for key in held if key.endswith("_parsed")]
    assert await findings(sql) == []


@pytest.mark.parametrize("validator", ["etag", "last_modified"])
async def test_a_feed_that_did_not_change_is_one_request(
    feed: Feed, source_server: SourceServer, sql: asyncpg.Connection, validator: str
) -> None:
    feed.has(
        atom(entry(1)), **{validator: {"etag": '"v1"', "last_modified": "Sun, 01 Mar 2026 08:00:00 GMT"}[validator]}
    )
    await feed.files.run()

    again = await feed.files.run()

    assert (again.outcome, again.counts.extracted) == ("not_modified", 0)
    assert len(source_server.requests("/feed")) == 2
    assert await sql.fetchval("SELECT requests FROM etl_runs ORDER BY id DESC LIMIT 1") == 1


async def test_updated_entries_upsert_and_those_that_fall_off_stay(feed: Feed, sql: asyncpg.Connection) -> None:
    feed.has(atom(entry(2), entry(1)))
    await feed.files.run()
    feed.has(atom(entry(3), entry(2, title="mended", updated="2026-03-02T00:00:00Z")))

    after = await feed.files.run()
    again = await feed.files.run()

    assert (after.counts.inserted, after.counts.updated, after.counts.vanished) == (1, 1, 0)
    assert [row[:2] for row in await rows(sql)] == [("urn:1", "t1"), ("urn:2", "mended"), ("urn:3", "t3")]
    assert await sql.fetchval("SELECT count(*) FROM raw_api_data") == 4
    assert (again.counts.extracted, again.counts.written, again.counts.raw_rows) == (2, 0, 0)


@pytest.mark.parametrize(
    ("items", "named"),
    [
        ([f"<item><title>t</title><link>https://x.example/{n}</link></item>" for n in range(30)], "30 by their link"),
        ([f"<item><title>t</title><description>{n}</description></item>" for n in range(30)], "30 by the hash"),
    ],
)
async def test_thirty_entries_without_an_id_are_thirty_rows(
    feed: Feed, sql: asyncpg.Connection, items: list[str], named: str
) -> None:
    feed.has(rss(*items))

    first, again = await feed.files.run(), await feed.files.run()

    assert (first.counts.inserted, again.counts.unchanged, again.counts.written) == (30, 30, 0)
    assert await sql.fetchval("SELECT count(*) FROM normalized_data") == 30
    (finding,) = await findings(sql)
    assert finding["code"] == "entries_without_id"
    assert named in finding["detail"]


async def test_identity_says_what_names_an_entry(feed: Feed, sql: asyncpg.Connection) -> None:
    feed.means(feed='identity = ["link"]')
    feed.has(atom(entry(1)))

    await feed.files.run()

    held = json.loads(await sql.fetchval("SELECT payload::text FROM raw_api_data"))
    assert (held["id"], held["id_from"], held["guid"]) == ("https://status.example.com/1", "link", "urn:1")
    assert (await rows(sql))[0][0] == "https://status.example.com/1"


@pytest.mark.parametrize(
    ("guid", "source_id", "link"),
    [
        ("<guid>news-1</guid>", "news-1", None),
        ("<guid><![CDATA[ 7 ]]></guid>", "7", None),
        ("<guid>https://x.example/1</guid>", "https://x.example/1", "https://x.example/1"),
        ('<guid isPermaLink="true">1</guid>', "{url}/1", "{url}/1"),
    ],
)
async def test_an_id_that_is_a_word_is_not_a_link_that_changes_with_the_address(
    feed: Feed, sql: asyncpg.Connection, guid: str, source_id: str, link: str | None
) -> None:
    feed.has(rss(f"<item>{guid}<title>t</title></item>"))

    await feed.files.run()

    assert (await rows(sql))[0][0] == source_id.format(url=feed.server.url)
    held = json.loads(await sql.fetchval("SELECT payload::text FROM raw_api_data"))
    assert held.get("link") == (link and link.format(url=feed.server.url))


async def test_one_id_twice_is_one_row_and_one_duplicate(feed: Feed, sql: asyncpg.Connection) -> None:
    feed.has(atom(entry(1, title="first"), entry(1, title="second")))

    report = await feed.files.run()

    assert (report.counts.inserted, report.counts.duplicate) == (1, 1)
    assert await sql.fetchval("SELECT count(*) FROM raw_api_data") == 2


ILL_FORMED = atom(entry(1), entry(2)).replace(b"s1", b"Fish & chips <b>").replace(b"</feed>", b"")


async def test_an_ill_formed_feed_is_a_finding_and_loses_no_entry(feed: Feed, sql: asyncpg.Connection) -> None:
    feed.has(ILL_FORMED)

    report = await feed.files.run()

    assert (report.status, report.counts.inserted, report.counts.rejected) == ("succeeded", 2, 0)
    (finding,) = await findings(sql)
    assert finding["code"] == "ill_formed"
    assert finding["detail"].startswith("near line ")


@pytest.mark.parametrize("reference", ["&#xD800;", "&#55357;", "&#xdFFf;", "&#0;"])
async def test_a_character_that_is_none_loses_no_entry(feed: Feed, sql: asyncpg.Connection, reference: str) -> None:
    feed.has(atom(entry(1, title=f"a{reference}b"), entry(2)))

    report = await feed.files.run()

    assert (report.status, report.counts.inserted) == ("succeeded", 2)
    assert (await rows(sql))[0][1] == "a\ufffdb"
    assert [one["code"] for one in await findings(sql)] == ["ill_formed"]


async def test_on_bozo_fail_fails_the_run_and_writes_nothing(feed: Feed, sql: asyncpg.Connection) -> None:
    feed.means(feed='on_bozo = "fail"')
    feed.has(ILL_FORMED, etag='"v1"')

    report = await feed.files.run()

    assert report.status == "failed"
    assert await sql.fetchval("SELECT count(*) FROM raw_api_data") == 0
    told = await sql.fetchrow("SELECT error_class, error_message AS error FROM etl_runs")
    assert told is not None
    assert told["error_class"] == "data_error"
    assert "ill-formed: near line" in told["error"]
    assert (await feed.files.run()).outcome != "not_modified"


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", "application/rss+xml", "an empty body where a feed was expected"),
        (b" \n", "application/rss+xml", "an empty body where a feed was expected"),
        (b"<!doctype html><html><body>Log in</body></html>", "text/html", "no feed (RSS, RDF or Atom): HTML or XML"),
        (
            b'<html><head><link rel="alternate" type="application/rss+xml" href="/feed.xml"></head></html>',
            "text/html",
            "it names a feed: ",
        ),
        (
            b'{"version": "https://jsonfeed.org/version/1.1", "items": []}',
            "application/json",
            "a JSON Feed is a source",
        ),
        (b"<root><a/></root>", "application/xml", "see whether feed.url is right"),
        (bytes(range(256)), "application/octet-stream", "no feed (RSS, RDF or Atom)"),
    ],
)
async def test_what_is_no_feed_is_a_failed_run_and_not_zero_rows(
    feed: Feed, sql: asyncpg.Connection, body: bytes, content_type: str, reason: str
) -> None:
    feed.has(atom(entry(1)))
    await feed.files.run()
    feed.has(body, content_type=content_type)

    report = await feed.files.run()

    assert report.status == "failed"
    told = await sql.fetchrow("SELECT error_class, error_message AS error FROM etl_runs ORDER BY id DESC LIMIT 1")
    assert told is not None
    assert told["error_class"] == "data_error"
    assert reason in told["error"]
    assert len(await rows(sql)) == 1


async def test_a_feed_without_entries_is_empty_and_well(feed: Feed) -> None:
    feed.has(rss())

    report = await feed.files.run()

    assert (report.status, report.outcome) == ("succeeded", "empty")


@pytest.mark.parametrize(
    ("given", "stored", "note"),
    [
        ("Sun, 01 Mar 2026 10:00:00 +0530", "2026-03-01 04:30:00+00", None),
        ("Sun, 01 Mar 2026 10:00:00 EST", "2026-03-01 15:00:00+00", None),
        ("2026-03-01T10:00:00-11:45", "2026-03-01 21:45:00+00", None),
        ("", None, None),
        ("gestern", None, "not_a_datetime"),
        ("Sun, 99 Foo 99999 10:00:00 GMT", None, "not_a_datetime"),
        ("0000-00-00T00:00:00Z", None, "not_a_datetime"),
        ("9999999-01-01T00:00:00Z", None, "not_a_datetime"),
    ],
)
async def test_dates_of_all_kinds_are_tolerated(
    feed: Feed, sql: asyncpg.Connection, given: str, stored: str | None, note: str | None
) -> None:
    feed.means(keys='mapping = { name = "title", created_at = "published" }')
    feed.has(rss(f"<item><guid>1</guid><title>t</title><pubDate>{given}</pubDate></item>"))

    report = await feed.files.run()

    assert (report.status, report.counts.inserted) == ("succeeded", 1)
    raw = await sql.fetchrow("SELECT notes->0->>'code', notes->0->>'given' FROM raw_api_data")
    assert tuple(raw or ()) == (note, given if note else None)
    if stored is not None:
        assert (await rows(sql))[0][3] == stored


@pytest.mark.parametrize(
    ("content_type", "declared", "written", "noted"),
    [
        ("application/xml", "utf-8", "utf-8", False),
        ("text/xml", "utf-8", "utf-8", False),  # RFC 7303 took back the US-ASCII of RFC 3023
        ("application/xml; charset=windows-1252", "utf-8", "utf-8", False),  # a server's default, the feed knows better
        ("application/xml", "utf-8", "cp1252", True),
        ("application/xml; charset=utf-8", "iso-8859-1", "iso-8859-1", True),
        ("application/xml", "iso-8859-1", "iso-8859-1", False),
        ("application/xml", "utf-16", "utf-16", False),
        ("application/xml", "no-such-encoding", "utf-8", True),
        ("text/plain", "utf-8", "utf-8", True),
    ],
)
async def test_an_encoding_that_is_declared_wrong_is_tolerated(
    feed: Feed, sql: asyncpg.Connection, content_type: str, declared: str, written: str, noted: bool
) -> None:
    # The parser itself mends UTF-8 that was taken for ISO 8859-1; what that cannot hold shows who was believed
    name = "Zoë" if written.startswith("iso") else "Zoë €"
    item = f"<item><guid>1</guid><title>{name}</title></item>"
    text = f'<?xml version="1.0" encoding="{declared}"?>' + rss(item).decode()
    feed.has(text.encode(written), content_type=content_type)

    report = await feed.files.run()

    assert (report.status, (await rows(sql))[0][1]) == ("succeeded", name)
    assert [one["code"] for one in await findings(sql)] == (["ill_formed"] if noted else [])


async def test_a_packed_feed_is_read_and_one_that_is_too_large_is_refused(feed: Feed, sql: asyncpg.Connection) -> None:
    feed.has(gzip.compress(atom(entry(1))), content_type="application/x-gzip")
    packed = await feed.files.run()
    feed.has(gzip.compress(atom(entry(2)) + b" " * 17 * 1024 * 1024), content_type="application/x-gzip")

    bomb = await feed.files.run()

    assert (packed.status, packed.counts.inserted, bomb.status) == ("succeeded", 1, "failed")
    assert "raise client.max_response_bytes" in await sql.fetchval(
        "SELECT error_message FROM etl_runs ORDER BY id DESC LIMIT 1"
    )


async def test_a_feed_on_disk_is_read_and_known_again(feed: Feed) -> None:
    path = feed.files.folder / "news.xml"
    path.write_bytes(atom(entry(1)))
    os.utime(path, (1_700_000_000, 1_700_000_000))  # what was just written may change within the same tick
    feed.files.write('name = "s"\ntype = "rss"\n[[resources]]\nname = "entries"\nfeed = { url = "news.xml" }\n')

    report = await feed.files.run()
    again = await feed.files.run()

    assert (report.status, report.counts.inserted, again.outcome) == ("succeeded", 1, "not_modified")
    feed.files.write('name = "s"\ntype = "rss"\n[[resources]]\nname = "entries"\nfeed = { url = "../../etc/hosts" }\n')
    with pytest.raises(ConfigError, match=r"entries\.feed\.url: \.\./\.\./etc/hosts is outside of"):
        feed.files.catalog().select(["s"])


async def test_a_private_address_is_refused_unless_the_file_allows_it(
    feed: Feed, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    feed.files.write(
        f'name = "s"\ntype = "rss"\n[[resources]]\nname = "entries"\nfeed = {{ url = "{source_server.url}/feed" }}\n'
    )

    report = await feed.files.run()

    assert report.status == "failed"
    assert "allow_private_networks" in await sql.fetchval("SELECT error_message FROM etl_runs")
    assert source_server.seen == []


async def test_a_mended_mapping_is_replayed_without_the_feed(
    feed: Feed, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    feed.has(atom(entry(1), entry(2)))
    await feed.files.run()
    feed.means(keys='mapping = { name = "summary", description = "link", updated_at = "updated" }')
    source_server.fault("/feed", Fault(status=503))

    done = await replays.replay(feed.resources, [feed.spec], ReplayRange())

    assert done["s"] is not None
    assert done["s"].report.counts.updated == 2
    assert [row[:3] for row in await rows(sql)] == [
        (f"urn:{n}", f"s{n}", f"https://status.example.com/{n}") for n in (1, 2)
    ]
    assert len(source_server.requests("/feed")) == 1


async def test_a_link_is_resolved_without_what_may_be_a_credential(feed: Feed, sql: asyncpg.Connection) -> None:
    feed.files.write(
        'name = "s"\ntype = "rss"\nclient = { allow_private_networks = true }\n[[resources]]\nname = "entries"\n'
        f'feed = {{ url = "{feed.server.url}/feed?token=s3cret" }}\n'
    )
    feed.has(rss('<item><guid>1</guid><link>/a</link><description>&lt;a href="#x"&gt;y&lt;/a&gt;</description></item>'))

    await feed.files.run()

    payload = await sql.fetchval("SELECT payload::text FROM raw_api_data")
    assert json.loads(payload)["link"] == f"{feed.server.url}/a"
    assert "s3cret" not in payload


async def test_check_preview_and_config_know_a_feed(feed: Feed) -> None:
    feed.has(ILL_FORMED)
    spec = feed.spec

    report = await check(spec, feed.resources.fetcher)
    sample = await preview(spec, feed.resources.fetcher, limit=1)
    tree = resolved(spec, feed.resources.settings)

    assert (report.ok, report.records, report.keys_missing, report.empty_columns) == (True, 2, 0, [])
    assert (report.found["format"], report.found["encoding"]) == ("atom10", "utf-8")
    assert (sample[0].source_id, sample[0].becomes) == ("urn:1", "loaded")
    assert tree["resource"]["mapping"]["name"]["path"] == {"value": "title", "origin": "default"}
    assert tree["resource"]["feed"]["url"]["origin"] == "file"
    assert tree["client"]["max_response_bytes"] == {"value": 16 * 1024 * 1024, "origin": "default"}


@pytest.fixture
async def client(feed: Feed) -> AsyncIterator[httpx2.AsyncClient]:
    feed.resources.settings = load_settings(SOURCES_DIR=feed.files.folder, OPERATOR_TOKEN="operate")
    feed.resources.catalog = feed.files.catalog()
    async with api_client(feed.resources, headers={"Authorization": "Bearer operate"}) as client:
        yield client


async def test_a_posted_feed_is_looked_at(feed: Feed, client: httpx2.AsyncClient) -> None:
    feed.has(atom(entry(1)))
    tree = {
        "name": "news",
        "type": "rss",
        "client": {"allow_private_networks": True},
        "resources": [{"name": "entries", "feed": {"url": f"{feed.server.url}/feed"}}],
    }

    answer = (await client.post("/sources/preview", json=tree)).json()
    elsewhere = await client.post(
        "/sources/check", json={**tree, "resources": [{"name": "entries", "feed": {"url": "http://10.0.0.1/feed"}}]}
    )

    assert answer[0]["row"]["name"] == "t1"
    assert (elsewhere.status_code, "no source of this service may ask" in elsewhere.text) == (422, True)
    listed = {one["name"]: one for one in (await client.get("/sources")).json()}
    assert (listed["s"]["type"], listed["s"]["reads"]) == ("rss", f"{feed.server.url}/feed")
