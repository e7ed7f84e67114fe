"""A feed's bytes → its entries, as records. No I/O: the parser is given bytes, and asks for nothing."""

import hashlib
import io
import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, cast
from xml.sax import SAXParseException

from app.errors import SourceMalformedError
from app.extract.feed_text import narrowed, tame, with_short_declaration, without_surrogates
from app.extract.http_errors import redact
from app.extract.json_records import add_record, glimpse
from app.extract.overtime import within
from app.records import Records

GIVEN: Final = "_given"
"""Ends the name of what was written where a time stands."""

_HTML: Final = re.compile(rb"\s*(?:<\?xml[^>]{0,200}>\s*)?<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_FAULTS: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, RecursionError)
"""What the parser's own code has raised over input that it did not foresee."""

_MAX_DEPTH: Final = 50

SECONDS: Final = 5.0
SECONDS_PER_MIB: Final = 4.0
"""That the parser may take. Feeds as they are take 1.2 s for a MiB."""


@dataclass(frozen=True, slots=True)
class Feed:
    """What the parser understood."""

    entries: list[dict[str, Any]]
    version: str | None
    """`rss20`, `atom10`, …; None: entries without the root of any known format."""
    encoding: str | None
    ill_formed: str | None
    """What is wrong with the feed; None: nothing is."""


def parse_feed(
    body: bytes,
    *,
    what: str,
    content_type: str | None = None,
    content_language: str | None = None,
    base_url: str | None = None,
) -> Feed:
    """
    Understand a feed, be it well-formed or not.

    Args:
        what: names it in errors.
        base_url: what its relative links are relative to (RFC 3986 §5.1.3).

    Raises:
        SourceMalformedError: it is no feed, or its entities would make it grow beyond measure.
    """
    if not body.strip():
        raise SourceMalformedError(f"{what}: an empty body where a feed was expected")
    seconds = SECONDS + SECONDS_PER_MIB * len(body) / (1024 * 1024)
    try:
        text, found, parsed = within(seconds, partial(_parsed, body, what, content_type, content_language, base_url))
    except TimeoutError:
        raise SourceMalformedError(
            f"{what}: not parsed within {seconds:.0f} s, several times what a feed of its size takes"
        ) from None
    except _FAULTS as error:
        raise SourceMalformedError(f"{what}: the feed cannot be parsed: {type(error).__name__}: {error}") from error
    version, entries = parsed.get("version") or None, parsed["entries"]
    if not version and (not entries or _HTML.match(body)):
        raise SourceMalformedError(f"{what}: no feed (RSS, RDF or Atom): {_instead(text, parsed)}")
    fault = parsed.get("bozo_exception") or found.get("bozo_exception")
    is_bozo = parsed.get("bozo") or found.get("bozo")
    return Feed(
        entries=[_plain(entry, 0) for entry in entries],
        version=version,
        encoding=found["encoding"],
        ill_formed=_told(fault) if is_bozo else None,
    )


def _parsed(
    body: bytes, what: str, content_type: str | None, content_language: str | None, base_url: str | None
) -> tuple[bytes, dict[str, Any], Any]:
    """The text in UTF-8, what was found out about its encoding, and what the parser made of it."""
    # 60 ms, and most sources are no feeds
    import feedparser  # type: ignore[import-untyped]  # noqa: PLC0415
    from feedparser.encodings import convert_to_utf8  # type: ignore[import-untyped]  # noqa: PLC0415

    found: dict[str, Any] = {}
    narrow, kind, encoding = narrowed(body, content_type)
    narrow = with_short_declaration(narrow, what=what)
    text = tame(convert_to_utf8({"content-type": kind} if kind else {}, narrow, found), what=what)
    text, fault = without_surrogates(text)
    if fault is not None:
        found |= {"bozo": True, "bozo_exception": fault}
    found["encoding"] = encoding or found["encoding"] or None
    headers = {"content-type": "application/xml; charset=utf-8"}
    headers |= {"content-location": base_url} if base_url else {}
    headers |= {"content-language": content_language} if content_language else {}
    return text, found, feedparser.parse(io.BytesIO(text), response_headers=headers)


def read_entries(feed: Feed, identity: Sequence[str]) -> Records:
    """
    The entries as records, each with its `id`, and `id_from`: what that was taken from.

    An id of its own that is not used is kept as `guid`. The payload is JSON whose keys are in order, so
    that the same entry is the same text each time.

    Args:
        identity: keys of an entry; the first that it has names it, else the BLAKE2b hash of what it holds.
    """
    records = Records()
    for entry in feed.entries:
        named = _named(entry, identity)
        add_record(records, _json(named), named)
    return records


def findings(feed: Feed, records: Records) -> tuple[dict[str, Any], ...]:
    """What is to be said of a feed in its run."""
    told: list[dict[str, Any]] = []
    if feed.ill_formed is not None:
        told.append({"code": "ill_formed", "detail": feed.ill_formed})
    origins = Counter(entry["id_from"] for entry in records.fields)
    others = {"link": "their link", "content": "the hash of their content"}
    named = [f"{origins[key]} by {text}" for key, text in others.items() if origins[key]]
    if named:
        told.append(
            {"code": "entries_without_id", "detail": f"of {len(records)} entries, {' and '.join(named)} are named"}
        )
    return tuple(told)


def _named(entry: Mapping[str, Any], identity: Sequence[str]) -> dict[str, Any]:
    given = {key: value for key in identity if isinstance(value := entry.get(key), str) and value.strip()}
    origin = next(iter(given), "content")
    name = given.get(origin) or hashlib.blake2b(_json(entry).encode(), digest_size=16).hexdigest()
    own = entry.get("id")
    kept = {} if own in {None, "", name} else {"guid": own}
    return {**entry, **kept, "id": name, "id_from": origin}


def _json(entry: Mapping[str, Any]) -> str:
    text = json.dumps(entry, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, written as a character reference
        return json.dumps(entry, sort_keys=True, separators=(",", ":"))
    return text


def _plain(value: Any, depth: int) -> Any:
    """What JSON can say of it; of a time, the moment, and the text given beside it."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        return _table(value, depth)
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, float) and value - value != 0:  # neither NaN nor an infinity is JSON
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _table(given: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    # Not given.items() alone: the parser's own dict answers for names that it does not hold
    held = cast("dict[Any, Any]", given)
    items: dict[str, Any] = {str(key): value for key, value in dict.items(held)}
    # Links are resolved already; a base that comes with the answer would change each entry with each mirror
    table = {
        key: _plain(value, depth + 1) for key, value in items.items() if key != "base" and not key.endswith("_parsed")
    }
    for key in [key for key in items if key.endswith("_parsed")]:
        name = key.removesuffix("_parsed")
        text, moment = table.get(name), _moment(table.get(name), items[key])
        if moment is not None:
            table[name] = moment
            if text is not None:
                table[name + GIVEN] = text
    return table


def _moment(text: Any, parsed: Any) -> str | None:
    """ISO 8601 in UTC; None: it is no moment that a calendar has."""
    if not isinstance(parsed, time.struct_time):
        return None
    try:
        moment = _exact(text) or datetime(*parsed[:6], tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return moment.isoformat().replace("+00:00", "Z")


def _exact(text: Any) -> datetime | None:
    """The moment that a text names in ISO 8601 with an offset: the parser itself knows whole seconds only."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, AttributeError, OverflowError):
        return None


def _told(fault: Any) -> str:
    if fault is None:
        return "ill-formed"
    if isinstance(fault, SAXParseException):
        return f"near line {fault.getLineNumber()}: {fault.getMessage()}"
    told = str(fault)[:300].encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return told or type(fault).__name__


def _instead(text: bytes, parsed: Mapping[str, Any]) -> str:
    start = text.decode("utf-8", "replace").removeprefix("<?xml version='1.0' encoding='utf-8'?>").strip()
    if start.startswith(("{", "[")):
        return f'JSON ({start[:40]!r}); a JSON Feed is a source of type rest_api with endpoint.data_selector = "items"'
    links = [link for link in parsed["feed"].get("links", ()) if link.get("rel") == "alternate"]
    feeds = [link["href"] for link in links if "rss" in link.get("type", "") or "atom" in link.get("type", "")]
    told = glimpse(start)
    return f"{told}; it names a feed: {redact(str(feeds[0]))[:200]}" if feeds else told
