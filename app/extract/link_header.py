"""The `Link` header (RFC 8288). No I/O."""

import re
from typing import Final
from urllib.parse import urljoin, urlsplit

# What cannot be read as a link is passed over up to the next comma; a quoted text may hold commas
_LINK: Final = re.compile(r"""\s*<([^>]*)>((?:[^,"]|"(?:[^"\\]|\\.)*")*)""")
_PARAM: Final = re.compile(r""";\s*([!#$&+.^_`|~0-9A-Za-z*-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?""")
_ESCAPED: Final = re.compile(r"\\(.)")


def parse_links(value: str, *, base: str) -> dict[str, str]:
    """
    Targets by relation, absolute; of two links with one relation the first counts.

    Names of parameters and relations have no case, and a link may have several relations (§2.1.1, §3.3).

    Args:
        value: of all Link headers, joined by commas.
        base: the URL that was asked.

    Raises:
        ValueError: a target is no URL.
    """
    found: dict[str, str] = {}
    at = 0
    while at < len(value):
        link = _LINK.match(value, at)
        if link is None:
            at = value.find(",", at) + 1 or len(value)
            continue
        at = link.end()
        for relation in _relations(link[2]):
            found.setdefault(relation, _absolute(base, link[1]))
    return found


def _relations(params: str) -> list[str]:
    for param in _PARAM.finditer(params):
        if param[1].lower() == "rel":  # a second one is not looked at (§3.3)
            text = _ESCAPED.sub(r"\1", param[2]) if param[2] is not None else param[3] or ""
            return text.lower().split()
    return []


def _absolute(base: str, target: str) -> str:
    url = urljoin(base, target.strip())
    _ = urlsplit(url).port  # raises ValueError, as no other look at it does
    return url
