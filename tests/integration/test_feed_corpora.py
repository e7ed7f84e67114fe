"""
Feeds that others collected, understood as their collectors expect.

The folder `feeds` below `$ETL_CORPORA` is not part of this repository: the
feeds of feedparser's own tests, each with what is expected of it in a comment,
and the XML bombs of defusedxml.
"""

import ast
import io
import json
import os
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import feedparser  # type: ignore[import-untyped]
import pytest

from app.errors import SourceMalformedError
from app.extract.feed_entries import GIVEN, Feed, parse_feed
from app.extract.feed_records import read_entries
from app.land import Landed, land_records
from app.normalize.rows import open_normalizer
from app.records import Records
from app.sources.catalog import resolve
from app.sources.reading import read_source

ROOT: Final = Path(os.environ.get("ETL_CORPORA") or "no corpora") / "feeds"

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="ETL_CORPORA names no folder with feeds")

SPEC: Final = resolve(
    read_source(
        {"name": "f", "type": "rss", "resources": [{"name": "e", "feed": {"url": "https://example.com/"}}]}, where="f"
    ),
    secrets={},
    where="f",
)[0]
HEADER: Final = re.compile(rb"^\s*Header:\s+([^:\s]+):(.*)$", re.MULTILINE)
EXPECT: Final = re.compile(rb"^\s*Expect:\s+(.+)$", re.MULTILINE)
NEEDS: Final = re.compile(rb"^\s*SkipUnless:\s+__import__\('chardet'\)", re.MULTILINE)
OWN_SERVER: Final = "http://127.0.0.1:8097/"
"""Where the collectors serve them from."""

ASKED: Final = {"bozo", "entries", "encoding", "len"}
"""What an expectation may name to be asked of us; `feed` is about the feed as a whole, which is no row."""


class Case:
    """One file: the feed, the headers that go with it, and what is expected."""

    def __init__(self, path: Path) -> None:
        self.name = str(path.relative_to(ROOT))
        self.body = path.read_bytes()
        text = self.body
        for encoding, mark in (("utf-16", (b"\xff\xfe", b"\xfe\xff")), ("utf-32", (b"\xff\xfe\0\0", b"\0\0\xfe\xff"))):
            if text.startswith(mark):
                text = text.decode(encoding, "replace").encode()
        text = text.replace(b"\0", b"")
        self.headers = {name.decode().lower(): value.decode().strip() for name, value in HEADER.findall(text)}
        found = EXPECT.search(text)
        self.expect = found[1].decode("utf-8", "replace").strip() if found else ""
        self.needs_a_detector = NEEDS.search(text) is not None

    @property
    def is_about_rows(self) -> bool:
        try:
            tree = ast.parse(self.expect, mode="eval")
        except SyntaxError:
            return False
        return bool(self.expect) and {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} <= ASKED

    def understood(self) -> tuple[Feed, Records]:
        base = self.headers.get("content-location") or (OWN_SERVER if OWN_SERVER in self.expect else None)
        feed = parse_feed(
            self.body,
            SPEC.table.feed.identity,  # type: ignore[union-attr]
            what=self.name,
            content_type=self.headers.get("content-type"),
            content_language=self.headers.get("content-language"),
            base_url=base,
        )
        if feed.instead is not None:
            raise SourceMalformedError(f"{self.name}: {feed.instead}")
        return feed, read_entries(feed)

    def holds(self, feed: Feed, records: Records) -> bool:
        said = {
            "bozo": feed.ill_formed is not None,
            "entries": [as_given(json.loads(payload)) for payload in records.payloads],
            "encoding": feed.encoding,
            "len": len,
        }
        return bool(eval(self.expect, {"__builtins__": {}}, said))


def as_given(value: Any) -> Any:
    """A record in the words of the parser, whose expectations these are."""
    if isinstance(value, list):
        return [as_given(item) for item in value]
    if not isinstance(value, dict):
        return value
    table = feedparser.FeedParserDict()
    for key, item in value.items():
        if key.endswith(GIVEN) or key in {"id_from", "guid"} or (key == "id" and value.get("id_from", "id") != "id"):
            continue
        dict.__setitem__(table, key, value.get(key + GIVEN) or as_given(item))
        if key + GIVEN in value:
            moment = datetime.fromisoformat(item).utctimetuple()
            dict.__setitem__(table, f"{key}_parsed", moment)
        elif key in {"published", "updated", "created", "expired"}:
            dict.__setitem__(table, f"{key}_parsed", None)
    return table


def cases() -> list[Case]:
    return [Case(path) for path in sorted((ROOT / "feedparser").rglob("*")) if path.suffix in {".xml", ".json"}]


def why_not(case: Case) -> str | None:
    """Why what is expected does not hold, where that is meant so."""
    if "['base']" in case.expect:
        return "the base of a text is not kept: its links are resolved"
    if "coordinates" in case.expect:
        return "JSON has lists, not tuples"
    if case.needs_a_detector:
        return "needs a package that guesses encodings"
    if case.headers.get("content-type", "").startswith("text/") and "encoding ==" in case.expect:
        return "text/xml is application/xml since RFC 7303"
    if case.name.endswith("rss_empty_document.xml"):
        return "no feed at all, which is an error here"
    plain = feedparser.parse(io.BytesIO(case.body), response_headers=case.headers)
    said = {"bozo": bool(plain.bozo), "entries": plain.entries, "encoding": plain.get("encoding"), "len": len}
    if not eval(case.expect, {"__builtins__": {}}, said):
        return f"feedparser {feedparser.__version__} does not, either"
    return None


def test_every_feed_is_read_and_normalized_without_a_crash() -> None:
    normalizer = open_normalizer(SPEC, {})
    counts: Counter[str] = Counter()
    unread: list[str] = []
    for case in cases():
        counts["files"] += 1
        try:
            feed, records = case.understood()
        except SourceMalformedError:
            unread.append(case.name)
            continue
        landed = Landed()
        land_records(landed, 1, records, read_keys=normalizer.read_keys)
        normalized = normalizer.normalize([key or "" for key in landed.source_ids], landed.fields)
        assert landed.rejections == {}, case.name
        assert normalized.rejections == {}, case.name
        counts["entries"] += len(records)
        counts["ill-formed"] += feed.ill_formed is not None
        assert case.understood()[1].payloads == records.payloads, case.name

    print(dict(counts), unread)
    assert counts["files"] >= 2_107


def test_what_is_expected_of_an_entry_holds() -> None:
    counts: Counter[str] = Counter()
    broken: list[str] = []
    for case in cases():
        if not case.is_about_rows:
            counts["not about rows"] += 1
            continue
        try:
            held = case.holds(*case.understood())
        except (SourceMalformedError, KeyError):
            held = False
        reason = None if held else why_not(case)
        counts["hold" if held else reason or "broken"] += 1
        if not held and reason is None:
            broken.append(f"{case.name}: {case.expect}")
    print(dict(counts))
    assert broken == []
    assert counts["hold"] >= 1_200
