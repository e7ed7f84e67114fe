"""What an answer means, where the source's file says so: `response_actions`."""

from collections.abc import Sequence

from app.errors import SourceError, SourceMalformedError, SourceRefusedError
from app.sources.rest import ResponseAction


def find_action(actions: Sequence[ResponseAction], status: int, body: bytes) -> ResponseAction | None:
    """The first that matches; None where the status means what HTTP says."""
    text = body.decode("utf-8", "replace") if any(action.content for action in actions) else ""
    return next((action for action in actions if _matches(action, status, text)), None)


def failure(what: str, action: ResponseAction) -> SourceError:
    text = f"{what}: response_actions says fail"
    if action.error_class == "transient_error":
        return SourceError(text)
    return SourceMalformedError(text) if action.error_class == "data_error" else SourceRefusedError(text)


def _matches(action: ResponseAction, status: int, text: str) -> bool:
    given = action.status_code
    fits = given is None or given == status or given == f"{status // 100}xx"
    return fits and (action.content is None or action.content in text)
