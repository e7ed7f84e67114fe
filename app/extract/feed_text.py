"""The text of a feed before it is parsed: in which encoding it is, and what in it would cost more than it says."""

import re
from collections import Counter
from typing import Final

from app.errors import SourceMalformedError

MAX_EXPANSION_BYTES: Final = 1024 * 1024
"""That the entities which a feed declares may add to it."""

_BOM: Final = b"\xef\xbb\xbf"
_SAYS_UTF8: Final = re.compile(rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']utf-?8["']""", re.IGNORECASE)
_FIRST_ELEMENT: Final = re.compile(rb"<\w")
_BLANK: Final = re.compile(rb"\s+")
_ENTITY: Final = re.compile(rb"""<!ENTITY\s+([^\s"'<>&]+)\s+(?:"([^"]*)"|'([^']*)')""")
_REFERENCE: Final = re.compile(rb"&([^\s;&<>\"'#]+)")
_MAX_LINE_BYTES: Final = 4096


def media_type(given: str | None, body: bytes) -> str | None:
    """
    The Content-Type of a feed, as it is to be understood today.

    `text/xml` is `application/xml` (RFC 7303 §9.2), without the default of US-ASCII that RFC 3023 gave it. And a
    body that is UTF-8, and says so itself, is not what a server's default charset says.
    """
    if not given:
        return None
    kind, _, parameters = given.partition(";")
    kind = kind.strip().lower()
    if kind == "text/xml" or (kind.startswith("text/") and kind.endswith("+xml")):
        kind = "application/xml"
    charset = "charset" in parameters.lower()
    if charset and not body.isascii() and (body.startswith(_BOM) or _SAYS_UTF8.match(body)) and _is_utf8(body):
        return f"{kind}; charset=utf-8"
    return f"{kind};{parameters}" if parameters.strip() else kind


def tame(text: bytes, *, what: str) -> bytes:
    """
    The same feed, without what makes the parser's own patterns slow: blank runs and long lines before its root.

    Args:
        text: UTF-8.

    Raises:
        SourceMalformedError: it declares entities that would make it grow beyond measure.
    """
    first = _FIRST_ELEMENT.search(text)
    end = first.start() if first else len(text)
    head = text[:end]
    # Two of the parser's patterns try each blank line, and each `encoding=` of the first line, anew
    head = _BLANK.sub(lambda found: found[0] if len(found[0]) < 100 else b"\n", head)
    if b"<!ENTITY" in head:
        _refuse_growth(head, text, what=what)
    if len(text.partition(b"\n")[0]) > _MAX_LINE_BYTES:
        head = head.replace(b"?>", b"?>\n", 1)
    return head + text[end:]


def _refuse_growth(head: bytes, text: bytes, *, what: str) -> None:
    sizes = {name: len(double or single) for name, double, single in _ENTITY.findall(head)}
    if not sizes:
        return
    uses = Counter(found[1] for found in _REFERENCE.finditer(text))
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
