"""What RateLimit headers say, in the spellings that are met."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from app.extract.rate_headers import Budget, read_budget

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("headers", "budget"),
    [
        ({"RateLimit": '"default";r=50;t=30'}, Budget(50, 30.0)),
        ({"RateLimit": '"default"; r=50; t=30', "RateLimit-Policy": '"default";q=100;w=60'}, Budget(50, 30.0, 100)),
        ({"RateLimit": "default;r=50", "RateLimit-Policy": "default;q=100;w=60"}, Budget(50, 60.0, 100)),
        ({"RateLimit": '"burst";r=9;t=1, "day";r=100;t=40000'}, Budget(100, 40000.0)),
        ({"RateLimit": '"a,b;r=1;t=1";r=50;t=30'}, Budget(50, 30.0)),
        ({"RateLimit": '"a";r=50;t=30, "remaining=1, reset=1";r=60;t=30'}, Budget(50, 30.0)),
        ({"RateLimit": "limit=100, remaining=50, reset=5"}, Budget(50, 5.0, 100)),
        ({"RateLimit-Limit": "100, 100;w=60", "RateLimit-Remaining": "7", "RateLimit-Reset": "20"}, Budget(7, 20, 100)),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(EPOCH + 90)}, Budget(0, 90.0)),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "1.5"}, Budget(3, 1.5)),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": str(EPOCH - 5)}, Budget(3, 0.0)),
        ({"X-Rate-Limit-Limit": "15", "X-Rate-Limit-Remaining": "14", "X-Rate-Limit-Reset": "60"}, Budget(14, 60, 15)),
        ({"X-RateLimit-Remaining": "-4", "X-RateLimit-Reset": "1"}, Budget(0, 1.0)),
        ({"X-RateLimit-Remaining": "49.0", "X-RateLimit-Reset": "1"}, Budget(49, 1.0)),
        ({"X-RateLimit-Limit": "0", "X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "1"}, Budget(1, 1.0)),
        (
            {
                "RateLimit-Remaining": "9",
                "RateLimit-Reset": "1",
                "X-RateLimit-Remaining": "1",
                "X-RateLimit-Reset": "60",
            },
            Budget(1, 60.0),
        ),
        ({"X-RateLimit-Remaining": "3"}, None),
        ({"X-RateLimit-Reset": "3"}, None),
        ({"X-RateLimit-Remaining": "many", "X-RateLimit-Reset": "3"}, None),
        ({"X-RateLimit-Remaining": "9" * 5000, "X-RateLimit-Reset": "3"}, None),
        ({"RateLimit": "r=" + "9" * 5000 + ";t=1"}, None),
        ({"RateLimit": '"default"'}, None),
        ({"RateLimit": ""}, None),
        ({}, None),
    ],
)
def test_a_budget_is_read(headers: dict[str, str], budget: Budget | None) -> None:
    assert read_budget(headers, now=NOW) == budget


def test_a_header_that_comes_twice_is_one_list() -> None:
    headers = CIMultiDict([("RateLimit", '"burst";r=900;t=1'), ("RateLimit", '"day";r=1;t=40000')])

    assert read_budget(headers, now=NOW) == Budget(1, 40000.0)


@given(
    st.dictionaries(
        st.sampled_from(
            ["RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]
        ),
        st.text() | st.text('";,=rtqw019.- '),
    )
)
def test_no_header_raises(headers: dict[str, str]) -> None:
    budget = read_budget(headers, now=NOW)

    assert budget is None or (budget.remaining >= 0 and budget.reset_seconds >= 0)
