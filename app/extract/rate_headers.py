"""What a server says of the requests it will still answer. Pure; junk says nothing."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from app.clock import utc_now
from app.extract.retry import parse_retry_after


class Budget(NamedTuple):
    """What is left until the server counts anew."""

    remaining: int
    reset_seconds: float
    limit: int | None = None
    """Of the whole span; None when the server does not say."""


# In the order of trust: the draft's own names first
_TRIPLES: Final = ("ratelimit-", "x-ratelimit-", "x-rate-limit-")
_ITEM: Final = re.compile(r'(?:"[^"]*"|[^",])+')
_QUOTED: Final = re.compile(r'(^|,)\s*"[^"]*"')
_PARAMETER: Final = re.compile(r"([a-z]+)\s*=\s*\"?(-?\d+(?:\.\d+)?)", re.IGNORECASE | re.ASCII)
_NUMBER: Final = re.compile(r"\s*(-?\d+)(?:\.\d*)?\s*(?:[,;].*)?", re.ASCII | re.DOTALL)
_MOST_DIGITS: Final = 15


def read_budget(headers: Mapping[str, str], *, now: datetime | None = None) -> Budget | None:
    """
    The scarcest budget that the headers of an answer name; None when they name none.

    Read are `RateLimit` (draft-ietf-httpapi-ratelimit-headers, from -07 on) with
    its `RateLimit-Policy`, and the triples -Limit, -Remaining, -Reset after
    `RateLimit`, `X-RateLimit` and `X-Rate-Limit`. A reset is seconds, a moment
    since 1970, or a date; `now` is what they are counted from, the present when omitted.
    """
    now = now or utc_now()
    lines: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        lines[key] = f"{lines[key]}, {value}" if key in lines else value
    budgets = list(_structured(lines.get("ratelimit", ""), lines.get("ratelimit-policy", "")))
    if not budgets:
        budgets = [budget for prefix in _TRIPLES if (budget := _triple(lines, prefix, now))]
    # The one that would be used up first, were it asked evenly
    return min(budgets, key=lambda budget: budget.remaining / max(budget.reset_seconds, 1.0), default=None)


def _structured(text: str, policy: str) -> Iterator[Budget]:
    """`"default";r=50;t=30` (draft -08 on), `limit=100, remaining=50, reset=30` (draft -07)."""
    old = _parameters(text)
    if "remaining" in old and "reset" in old:
        yield _budget(old["remaining"], old["reset"], old.get("limit"))
        return
    policies = {_name(item): _parameters(item) for item in _ITEM.findall(policy)}
    for item in _ITEM.findall(text):
        found = _parameters(item)
        promised = policies.get(_name(item), {})
        # -08 makes `t` optional; the whole window is the longest that it can be
        reset = found.get("t", promised.get("w"))
        if "r" in found and reset is not None:
            yield _budget(found["r"], reset, promised.get("q"))


def _triple(lines: Mapping[str, str], prefix: str, now: datetime) -> Budget | None:
    remaining = _number(lines.get(f"{prefix}remaining", ""))
    reset = parse_retry_after(lines.get(f"{prefix}reset", "").partition(";")[0], now=now)
    if remaining is None or reset is None:
        return None
    return _budget(remaining, reset, _number(lines.get(f"{prefix}limit", "")))


def _budget(remaining: float, reset: float, limit: float | None) -> Budget:
    # Some servers count below nothing once the limit is passed
    return Budget(max(0, int(remaining)), max(0.0, reset), int(limit) if limit is not None and limit > 0 else None)


def _name(item: str) -> str:
    return item.partition(";")[0].strip().strip('"')


def _parameters(text: str) -> dict[str, float]:
    # A quoted name may hold what looks like a parameter
    plain = _QUOTED.sub(r"\1", text)
    return {name.lower(): float(value) for name, value in _PARAMETER.findall(plain) if len(value) <= _MOST_DIGITS}


def _number(text: str) -> int | None:
    match = _NUMBER.fullmatch(text)
    return int(match[1]) if match and len(match[1]) <= _MOST_DIGITS else None
