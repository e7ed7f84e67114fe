"""A manifest's error handlers and its budget → `response_actions` and `[rate_limit]`."""

import re
from typing import Any, Final

from app.sources.foreign.airbyte_parts import Context
from app.sources.foreign.components import Component
from app.sources.foreign.conversion import Lost

_ACTIONS: Final = {
    "IGNORE": "ignore", "SUCCESS": "ignore", "RETRY": "retry", "RATE_LIMITED": "retry", "FAIL": "fail",
    "REFRESH_TOKEN_THEN_RETRY": "refresh_auth",
}  # fmt: skip


def take_errors(context: Context, requester: Component, endpoint: dict[str, Any]) -> None:
    """Answers that mean something else than HTTP says."""
    if not requester.has("error_handler"):
        return
    handler = requester.child("error_handler")
    handlers = list(handler.children("error_handlers")) if handler.type == "CompositeErrorHandler" else [handler]
    actions: list[dict[str, Any]] = []
    for one in handlers:
        if one.type not in {"DefaultErrorHandler", ""}:
            context.lose(one, f"{one.type}: answers are understood as HTTP says")
            continue
        for condition in one.children("response_filters") if one.has("response_filters") else ():
            actions += _actions(context, condition)
        for wait in one.children("backoff_strategies") if one.has("backoff_strategies") else ():
            if not (wait.type == "WaitTimeFromHeader" and str(wait.get("header", "")).lower() == "retry-after"):
                context.lose(wait, f"{wait.type}: tries are as far apart as [retry] says, and as Retry-After asks")
    if actions:
        endpoint["response_actions"] = actions


def _actions(context: Context, condition: Component) -> list[dict[str, Any]]:
    action = _ACTIONS.get(str(condition.get("action", "FAIL")).upper())
    if action is None or condition.has("predicate") or condition.type not in {"HttpResponseFilter", ""}:
        context.lose(condition, "a condition on the body that response_actions cannot say")
        return []
    said: dict[str, Any] = {"action": action}
    if condition.has("error_message_contains"):
        said["content"] = str(condition.get("error_message_contains"))
    error_class = {"config_error": "config_error", "transient_error": "transient_error"}.get(
        str(condition.get("failure_type", ""))
    )
    if action == "fail" and error_class:
        said["error_class"] = error_class
    codes: list[int | str] = [int(code) for code in condition.get("http_codes", []) if str(code).isdecimal()]
    if not codes and "content" in said:
        # Airbyte looks at the message of an error; ours looks at any body, and a good one may hold that text
        codes = ["4xx", "5xx"]
    if condition.get("action") == "SUCCESS":
        codes = [code for code in codes if code not in range(200, 300)]
    return [{"status_code": code, **said} for code in codes]


def rate_limit(budget: Component) -> tuple[dict[str, Any] | None, list[Lost]]:
    """The strictest of a budget's policies, and what was left out: ours holds for the whole source."""
    found: list[tuple[float, dict[str, Any]]] = []
    lost: list[Lost] = []
    for policy in budget.children("policies"):
        rates = (
            [(policy.get("call_limit"), policy.get("period"))]
            if policy.type == "FixedWindowCallRatePolicy"
            else [(rate.get("limit"), rate.get("interval")) for rate in policy.children("rates")]
        )
        for limit, span in rates if policy.type in {"FixedWindowCallRatePolicy", "MovingWindowCallRatePolicy"} else ():
            if str(limit).isdecimal() and re.fullmatch(r"P(\d+D)?(T(\d+H)?(\d+M)?(\d+S)?)?", str(span)):
                found.append((int(limit) / _seconds(str(span)), {"requests": int(limit), "per": str(span)}))
            else:
                lost.append(Lost(policy.path, f"{limit} in {span}: no number and span that can be said"))
        if policy.has("matchers") and policy.get("matchers"):
            lost.append(Lost(policy.at("matchers"), "a limit of some requests: here it holds for the whole source"))
    return (min(found, key=lambda item: item[0])[1] if found else None), lost


def _seconds(span: str) -> float:
    days, hours, minutes, seconds = (
        int(found[1]) if (found := re.search(rf"(\d+){unit}", span)) else 0 for unit in "DHMS"
    )
    return max(1, ((days * 24 + hours) * 60 + minutes) * 60 + seconds)
