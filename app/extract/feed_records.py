"""A feed's body → its entries as records, parsed in a process of its own."""

from collections import Counter
from functools import partial
from typing import Any, Final

from app.errors import SourceError, SourceMalformedError
from app.extract.apart import Allowance, apart
from app.extract.feed_entries import Feed, parse_feed
from app.extract.http_errors import redact
from app.extract.json_lines import cut_lines
from app.extract.json_records import glimpse
from app.records import Records
from app.sources.feed import FeedSpec

MIB: Final = 1024 * 1024
CPU_SECONDS: Final = 1.75
CPU_SECONDS_PER_MIB: Final = 4.0
"""Beyond the first. Feeds as they are take 1.5 s for a MiB."""
MEMORY_BYTES: Final = 48 * MIB
MEMORY_BYTES_PER_MIB: Final = 32 * MIB
"""Beyond the first. Feeds as they are take 5 MiB for a MiB, and of the smallest entries 23."""


def allowance(feed_bytes: int, max_parse_seconds: float | None) -> Allowance:
    """What the parser may take for a feed of this size."""
    more = max(0.0, feed_bytes / MIB - 1)
    seconds = max_parse_seconds or CPU_SECONDS + CPU_SECONDS_PER_MIB * more
    return Allowance(seconds, MEMORY_BYTES + int(MEMORY_BYTES_PER_MIB * more))


async def understand(
    body: bytes,
    spec: FeedSpec,
    *,
    what: str,
    content_type: str | None,
    content_language: str | None,
    base_url: str | None,
) -> Feed:
    """
    See `parse_feed`.

    Raises:
        SourceMalformedError: it is no feed, or takes more time or memory than a feed of its size may.
        SourceError: no process could parse it.
    """
    may = allowance(len(body), spec.max_parse_seconds)
    parse = partial(
        parse_feed,
        body,
        spec.identity,
        what=what,
        content_type=content_type,
        content_language=content_language,
        base_url=base_url,
    )
    try:
        feed = await apart(may, parse)
    except TimeoutError:
        raise SourceMalformedError(
            f"{what}: not parsed within {may.cpu_seconds:g} s of processor time, more than a feed of its {len(body)} "
            "bytes takes; if it means no harm, raise feed.max_parse_seconds"
        ) from None
    except MemoryError:
        raise SourceMalformedError(
            f"{what}: parsing it takes more than {may.memory_bytes // MIB} MiB of memory, more than a feed of its "
            f"{len(body)} bytes needs; ask its publisher for one with fewer entries"
        ) from None
    except ChildProcessError as error:
        raise SourceError(
            f"{what}: the process that parses it: {error}; see whether this service has the memory and the processes "
            "that it needs; the next run tries again"
        ) from error
    if feed.instead is not None:
        raise SourceMalformedError(f"{what}: no feed (RSS, RDF or Atom): {_instead(feed)}")
    return feed


def read_entries(feed: Feed) -> Records:
    return cut_lines(feed.entries.decode())


def findings(feed: Feed, records: Records) -> tuple[dict[str, Any], ...]:
    """What is to be said of a feed in its run."""
    told: list[dict[str, Any]] = []
    if feed.ill_formed is not None:
        told.append({"code": "ill_formed", "detail": feed.ill_formed})
    origins = Counter(entry["id_from"] for entry in records.fields if entry is not None)
    others = {"link": "by their link", "content": "by the hash of their content"}
    known = [f"{origins[key]} {text}" for key, text in others.items() if origins[key]]
    if known:
        without = sum(origins[key] for key in others)
        detail = f"{without} of {len(records)} entries have no id and are known otherwise: {' and '.join(known)}"
        told.append({"code": "entries_without_id", "detail": detail})
    return tuple(told)


def _instead(feed: Feed) -> str:
    start = feed.instead or ""
    if start.startswith(("{", "[")):
        return f'JSON ({start[:40]!r}); a JSON Feed is a source of type rest_api with endpoint.data_selector = "items"'
    hint = f"it names a feed: {redact(feed.names)[:200]}" if feed.names else "see whether feed.url is right"
    return f"{glimpse(start)}; {hint}"
