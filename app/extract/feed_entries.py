"""
A feed's bytes → its entries, each as JSON. No I/O: the parser is given bytes, and asks for nothing.

A process of its own imports this for each worker: it asks for no room that is slow to load.
"""

import hashlib
import io
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast
from xml.sax import SAXParseException

from app.errors import SourceMalformedError
from app.extract.feed_text import narrowed, tame, with_plain_guids, with_short_declaration, without_surrogates

GIVEN: Final = "_given"
"""Ends the name of what was written where a time stands."""

_HTML: Final = re.compile(rb"\s*(?:<\?xml[^>]{0,200}>\s*)?<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_FAULTS: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, RecursionError)
"""What the parser's own code has raised over input that it did not foresee."""

_FAR_YEAR: Final = re.compile(r"\s*\d{5,}-")
"""Of which the parser takes the first digits."""

_MAX_DEPTH: Final = 50


@dataclass(frozen=True, slots=True)
class Feed:
    """What the parser understood; quick to be handed from one process to another."""

    entries: bytes
    """A line of JSON for each, in UTF-8, with its `id`, and `id_from`: what that was taken from."""
    version: str | None
    """`rss20`, `atom10`, …; None: entries without the root of any known format."""
    encoding: str | None
    ill_formed: str | None
    """What is wrong with the feed; None: nothing is."""
    instead: str | None = None
    """How it begins, where it is no feed at all."""
    names: str | None = None
    """The feed that such a page says it has."""


def parse_feed(
    body: bytes,
    identity: Sequence[str],
    *,
    what: str,
    content_type: str | None = None,
    content_language: str | None = None,
    base_url: str | None = None,
) -> Feed:
    """
    Understand a feed, be it well-formed or not.

    An id of an entry that is not used is kept as `guid`. The keys of an entry are in order, so that the same entry is
    the same text each time.

    Args:
        identity: keys of an entry; the first that it has names it, else the BLAKE2b hash of what it holds.
        what: names it in errors.
        base_url: what its relative links are relative to (RFC 3986 §5.1.3).

    Raises:
        SourceMalformedError: it is empty, or its entities would make it grow beyond measure.
    """
    if not body.strip():
        raise SourceMalformedError(f"{what}: an empty body where a feed was expected")
    try:
        text, found, parsed = _parsed(body, what, content_type, content_language, base_url)
    except _FAULTS as error:
        raise SourceMalformedError(f"{what}: the feed cannot be parsed: {type(error).__name__}: {error}") from error
    version, entries = parsed.get("version") or None, parsed["entries"]
    if not version and (not entries or _HTML.match(body)):
        return Feed(b"", None, found["encoding"], None, instead=_beginning(text), names=_named_feed(parsed))
    fault = parsed.get("bozo_exception") or found.get("bozo_exception")
    is_bozo = parsed.get("bozo") or found.get("bozo")
    return Feed(
        entries="\n".join(_json(_named(_plain(entry, 0), identity)) for entry in entries).encode(),
        version=version,
        encoding=found["encoding"],
        ill_formed=_told(fault) if is_bozo else None,
    )


def _parsed(
    body: bytes, what: str, content_type: str | None, content_language: str | None, base_url: str | None
) -> tuple[bytes, dict[str, Any], Any]:
    """The text in UTF-8, what was found out about its encoding, and what the parser made of it."""
    # 60 ms and 12 MB, which the process that waits for this one does without
    import feedparser  # type: ignore[import-untyped]  # noqa: PLC0415
    from feedparser.encodings import convert_to_utf8  # type: ignore[import-untyped]  # noqa: PLC0415

    found: dict[str, Any] = {}
    narrow, kind, encoding = narrowed(body, content_type)
    narrow = with_short_declaration(narrow, what=what)
    text = tame(convert_to_utf8({"content-type": kind} if kind else {}, narrow, found), what=what)
    text, fault = without_surrogates(with_plain_guids(text))
    if fault is not None:
        found |= {"bozo": True, "bozo_exception": fault}
    found["encoding"] = encoding or found["encoding"] or None
    headers = {"content-type": "application/xml; charset=utf-8"}
    headers |= {"content-location": base_url} if base_url else {}
    headers |= {"content-language": content_language} if content_language else {}
    return text, found, feedparser.parse(io.BytesIO(text), response_headers=headers)


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
    if not isinstance(parsed, time.struct_time) or (isinstance(text, str) and _FAR_YEAR.match(text)):
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


def _beginning(text: bytes) -> str:
    return text[:500].decode("utf-8", "replace").removeprefix("<?xml version='1.0' encoding='utf-8'?>").strip()


def _named_feed(parsed: Mapping[str, Any]) -> str | None:
    links = [link for link in parsed["feed"].get("links", ()) if link.get("rel") == "alternate"]
    feeds = [link["href"] for link in links if "rss" in link.get("type", "") or "atom" in link.get("type", "")]
    return str(feeds[0]) if feeds else None
