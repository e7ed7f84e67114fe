"""What is answered when runs were begun in the background."""

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import Response

from app.api.problems import ProblemError, problem_responses
from app.api.schemas import RunsStarted
from app.operations.runs import Started
from app.sources.resource import ResourceSpec

BUSY = problem_responses(_409="It is running already; `running` names the run.")


def tell_started(started: Started, specs: Sequence[ResourceSpec], response: Response) -> RunsStarted:
    """
    Where to look: `Location` names the run, or the runs of the tick where there are several.

    Raises:
        ProblemError: 409 when a run is in the way, 503 when none could be recorded.
    """
    if not started.run_ids:
        if started.running:
            name = specs[0].source if len(specs) > 1 else specs[0].name
            raise ProblemError(HTTPStatus.CONFLICT, f"{name} is running already", running=started.running)
        if started.reasons:
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "; ".join(started.reasons.values()))
    ids = list(started.run_ids.values())
    response.status_code = HTTPStatus.ACCEPTED
    response.headers["Location"] = (
        f"/runs/{ids[0]}" if len(specs) == len(ids) == 1 else f"/runs?tick_id={started.tick_id}"
    )
    return RunsStarted(tick_id=started.tick_id, runs=started.run_ids, running=started.running)
