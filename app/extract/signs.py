"""What a body says about how much there is beside it: evidence that a walk ended too early. Pure."""

from typing import Any, Final

from app.sources.json_paths import members

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
    "next_link", "nextlink", "@odata.nextlink", "next_page_url", "nexturl", "nextpageurl",
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


def signs_of_more(body: Any, *, records_read: int, pages_read: int, depth: int = MAX_DEPTH) -> str | None:
    """
    What in the last body of a walk says that there is more; None when nothing does.

    Args:
        records_read: in the whole walk.
        pages_read: likewise.
    """
    told = [(keys, value) for keys, value in members(body, depth) if not isinstance(value, dict | list)]
    # Some send a cursor with every page, and say apart from it whether there is more
    says_end = any(
        (_name(keys) in _MORE and value is False) or (_name(keys) in _LAST and value is True) for keys, value in told
    )
    for keys, value in told:
        path, name = ".".join(keys), _name(keys)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if (name in _MORE and value is True) or (name in _LAST and value is False):
            return f"{path} is {str(value).lower()}"
        if name in _NEXT and value not in {None, "", False} and not says_end:
            return f"there is something at {path}"
        if (name in _RECORDS or path.lower() == "hits.total.value") and is_number and value > records_read:
            return f"{path} is {value}, and {records_read} were read"
        if name in _PAGES and is_number and value > pages_read:
            return f"{path} is {value}, and {pages_read} {'was' if pages_read == 1 else 'were'} read"
    return None


def _name(keys: tuple[str, ...]) -> str:
    return keys[-1].lower()
