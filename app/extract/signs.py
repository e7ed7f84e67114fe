"""What a body says about how much there is beside it: evidence that a walk ended too early. Pure."""

from collections.abc import Iterator
from typing import Any, Final

_MORE: Final = {
    "has_more",
    "hasmore",
    "has_next",
    "hasnext",
    "has_next_page",
    "hasnextpage",
    "is_truncated",
    "istruncated",
}
_LAST: Final = {"last", "is_last", "islast", "is_last_page", "islastpage"}
_NEXT: Final = {
    "next", "next_url", "next_page", "nextpage", "next_cursor", "nextcursor", "next_page_token", "nextpagetoken",
    "next_link", "nextlink", "@odata.nextlink", "next_page_url",
}  # fmt: skip
_RECORDS: Final = {
    "total", "total_count", "totalcount", "total_results", "totalresults", "total_items", "totalitems",
    "total_records", "totalrecords", "total_rows", "count", "@odata.count", "num_found", "numfound",
}  # fmt: skip
_PAGES: Final = {
    "total_pages",
    "totalpages",
    "page_count",
    "pagecount",
    "num_pages",
    "numpages",
    "last_page",
    "lastpage",
}

MAX_DEPTH: Final = 3
"""Of tables within tables; lists are records, and not looked into."""


def signs_of_more(body: Any, *, records_read: int, pages_read: int) -> str | None:
    """
    What in the last body of a walk says that there is more; None when nothing does.

    Args:
        records_read: in the whole walk.
        pages_read: likewise.
    """
    for path, value in _members(body, "", MAX_DEPTH):
        name = path.rpartition(".")[2].lower()
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if (name in _MORE and value is True) or (name in _LAST and value is False):
            return f"{path} is {str(value).lower()}"
        if name in _NEXT and value not in {None, "", False}:
            return f"there is something at {path}"
        if name in _RECORDS and is_number and value > records_read:
            return f"{path} is {value}, and {records_read} were read"
        if path.lower() == "hits.total.value" and is_number and value > records_read:
            return f"{path} is {value}, and {records_read} were read"
        if name in _PAGES and is_number and value > pages_read:
            return f"{path} is {value}, and {pages_read} {'was' if pages_read == 1 else 'were'} read"
    return None


def _members(tree: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict) or depth == 0:
        return
    for key, value in tree.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict):
            yield from _members(value, here, depth - 1)
        elif not isinstance(value, list):
            yield here, value
