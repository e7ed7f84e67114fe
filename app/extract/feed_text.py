"""The text of a feed before it is parsed: in which encoding it is, and what in it would cost more than it says."""

import codecs
import re
from collections import Counter
from typing import Final

from app.errors import SourceMalformedError

MAX_EXPANSION_BYTES: Final = 1024 * 1024
"""That the entities which a feed declares may add to it."""

MAX_TAGS: Final = 1_200_000
"""What 100,000 entries of five elements each have. Each costs the parser up to 30 µs and, nested, half a kilobyte."""

MAX_LINE_BYTES: Final = 4096
"""Of the line with the XML declaration, as the parser's own pattern sees it."""

_WIDE: Final = (
    (codecs.BOM_UTF32_LE, 4, "utf-32le"),  # before UTF-16 LE, which begins the same
    (codecs.BOM_UTF32_BE, 4, "utf-32be"),
    (codecs.BOM_UTF16_LE, 2, "utf-16le"),
    (codecs.BOM_UTF16_BE, 2, "utf-16be"),
    (b"<\0\0\0", 0, "utf-32le"),
    (b"\0\0\0<", 0, "utf-32be"),
    (b"<\0", 0, "utf-16le"),
    (b"\0<", 0, "utf-16be"),
    (b"\x4c\x6f\xa7\x94", 0, "cp037"),
)
"""How a text in no superset of ASCII begins (XML 1.0, appendix F), and how much of that is a byte order mark."""

_SAYS_UTF8: Final = re.compile(rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']utf-?8["']""", re.IGNORECASE)
_FIRST_ELEMENT: Final = re.compile(rb"<\w")
_BLANK: Final = re.compile(rb"\s+")
_ENTITY: Final = re.compile(rb"""<!ENTITY\s+([^\s"'<>&]+)\s+(?:"([^"]*)"|'([^']*)')""")
_SURROGATE: Final = re.compile(
    rb"&#(?:x0*d[89a-f][0-9a-f]{2}|0*(?:5529[6-9]|55[3-9]\d\d|56\d{3}|57[0-2]\d\d|573[0-3]\d|5734[0-3]));?",
    re.IGNORECASE,
)
_PLAIN_GUID: Final = re.compile(rb"<guid>(?=\s*+(?:<!\[CDATA\[\s*+)?[^\s<>/:#?&\[\]]++\s*+(?:\]\]>\s*+)?</guid>)")
_REFERENCE: Final = re.compile(rb"&([^\s;&<>\"'#]+)")


def narrowed(body: bytes, content_type: str | None) -> tuple[bytes, str | None, str | None]:
    """
    The body in a superset of ASCII, its Content-Type as it is to be understood today, and what it was in if that is
    certain.

    A byte order mark says what a body is in, whatever else does (RFC 7303 §3). `text/xml` is `application/xml` (§9.2),
    without the default of US-ASCII that RFC 3023 gave it. And a body that is UTF-8, and says so itself, is not what a
    server's default charset says.
    """
    kind, _, parameters = (content_type or "").partition(";")
    kind = kind.strip().lower()
    if kind == "text/xml" or (kind.startswith("text/") and kind.endswith("+xml")):
        kind = "application/xml"
    wide = next((found for found in _WIDE if body.startswith(found[0])), None)
    if wide is not None:
        _, mark_bytes, encoding = wide
        text = body[mark_bytes:].decode(encoding, "replace").encode("utf-8", "replace")
        return text, f"{kind or 'application/xml'}; charset=utf-8", encoding
    if not kind:
        return body, None, None
    says_utf8 = body.startswith(codecs.BOM_UTF8) or _SAYS_UTF8.match(body)
    if says_utf8 and "charset" in parameters.lower() and not body.isascii() and _is_utf8(body):
        return body, f"{kind}; charset=utf-8", None
    return body, f"{kind};{parameters}" if parameters.strip() else kind, None


def with_short_declaration(body: bytes, *, what: str) -> bytes:
    """
    The same, its XML declaration on a line of its own if that line is long: the parser's pattern takes cubic time.

    Raises:
        SourceMalformedError: the declaration itself is that long.
    """
    if not body.removeprefix(codecs.BOM_UTF8).startswith(b"<?") or len(body.partition(b"\n")[0]) <= MAX_LINE_BYTES:
        return body
    end = body.find(b"?>", 0, MAX_LINE_BYTES)
    if end < 0:
        raise SourceMalformedError(f"{what}: its XML declaration is longer than {MAX_LINE_BYTES} bytes")
    return body[: end + 2] + b"\n" + body[end + 2 :]


def tame(text: bytes, *, what: str) -> bytes:
    """
    The same feed, without long blank runs before its root, over each line of which another pattern goes anew.

    Args:
        text: UTF-8.

    Raises:
        SourceMalformedError: it has more tags than can be parsed in reasonable time, or declares entities that would
            make it grow beyond measure.
    """
    tags = text.count(b"<") + text.count(b"&lt;")
    if tags > MAX_TAGS:
        raise SourceMalformedError(
            f"{what}: it has {tags} tags, more than {MAX_TAGS}; it was not parsed; ask for one with fewer entries"
        )
    first = _FIRST_ELEMENT.search(text)
    end = first.start() if first else len(text)
    head = _BLANK.sub(lambda found: found[0] if len(found[0]) < 100 else b"\n", text[:end])
    if b"<!ENTITY" in head:
        _refuse_growth(head, text, what=what)
    return head + text[end:]


def without_surrogates(text: bytes) -> tuple[bytes, str | None]:
    """
    References to half a surrogate pair as U+FFFD: XML 1.0 §2.2 has no such character, and the parser stumbles over it.

    Returns:
        The text, and what was wrong with it; None where nothing was.
    """
    text, count = _SURROGATE.subn(b"&#xFFFD;", text)
    return text, f"{count} references to half a surrogate pair" if count else None


def with_plain_guids(text: bytes) -> bytes:
    """
    The same, each guid that is a word and no URL marked as one: the parser would resolve it as a relative link, and
    each entry would be a new one where the feed moves to another address.
    """
    return _PLAIN_GUID.sub(b'<guid isPermaLink="false">', text)


def _refuse_growth(head: bytes, text: bytes, *, what: str) -> None:
    sizes = {name: len(double or single) for name, double, single in _ENTITY.findall(head)}
    uses = Counter(found[1] for found in _REFERENCE.finditer(text)) if sizes else Counter[bytes]()
    growth = sum(size * uses[name] for name, size in sizes.items())
    if growth > MAX_EXPANSION_BYTES:
        raise SourceMalformedError(
            f"{what}: its entities would add {growth} bytes to it, more than {MAX_EXPANSION_BYTES}; it was not parsed"
        )


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
