"""What a body says about how much there is beside it."""

from typing import Any

import pytest

from app.extract.signs import signs_of_more


@pytest.mark.parametrize(
    ("body", "sign"),
    [
        ({"object": "list", "data": [], "has_more": True}, "has_more is true"),
        ({"content": [], "last": False, "totalPages": 3}, "last is false"),
        ({"items": [], "total_pages": 3, "page": 1}, "total_pages is 3, and 1 was read"),
        (
            {"hits": {"total": {"value": 501, "relation": "eq"}, "hits": []}},
            "hits.total.value is 501, and 100 were read",
        ),
        ({"hits": {"total": 501, "hits": []}}, "hits.total is 501, and 100 were read"),
        ({"meta": {"pagination": {"total": 101}}}, "meta.pagination.total is 101, and 100 were read"),
        ({"value": [], "@odata.nextLink": "https://x"}, "there is something at @odata.nextLink"),
        ({"rows": [], "next": "abc"}, "there is something at next"),
        (
            {"data": [], "has_more": False, "next": None, "total": 100, "count": 100, "total_pages": 1, "last": True},
            None,
        ),
        ({"data": [], "next": "", "total": "many", "pages": 7}, None),
        ({"data": [], "next_cursor": "c9", "meta": {"has_more": False}}, None),
        ({"data": [{"has_more": True, "total": 9999}]}, None),
        ([{"has_more": True}], None),
        ("text", None),
        ({"total": True}, None),
    ],
)
def test_a_body_that_says_there_is_more(body: Any, sign: str | None) -> None:
    assert signs_of_more(body, records_read=100, pages_read=1) == sign
