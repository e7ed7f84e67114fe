"""A resource as it is run once by order: for a range only, or from its beginning."""

from dataclasses import replace
from datetime import datetime
from typing import Final

from app.errors import ConfigError, OrderError
from app.extract.increments import is_before, read_value
from app.pipeline.moves import demand_cursor
from app.pipeline.snapshot import GUARD_RATIO
from app.records import BackfillRange, RefreshScope
from app.sources.resource import ResourceSpec
from app.sources.tables import RestResource

LONGEST_VALUE: Final = 200
"""Characters of a range's ends: they are part of a key."""


def choose_range(
    source: ResourceSpec, begin: str, end: str | None, *, step_seconds: float | None, now: datetime
) -> BackfillRange:
    """
    Args:
        begin: inclusive; a value of its cursor as somebody writes it.
        end: exclusive; None: now, where the cursor is a time.

    Raises:
        ConfigError: it has no cursor, or cannot be asked step by step.
        OrderError: these are no ends of a range of it, or the step is none.
    """
    spec = demand_cursor(source, instead="a refresh reads everything again")
    if end is None and spec.cursor_type != "datetime":
        raise OrderError(f"{source.name}: name the end of the range, too (to); only for times it is now")
    first = read_value(spec, begin)
    last = now.replace(microsecond=0).isoformat() if end is None else read_value(spec, end)
    if max(len(first), len(last)) > LONGEST_VALUE:
        raise OrderError(f"{source.name}: a value of at most {LONGEST_VALUE} characters, please")
    if not is_before(spec, first, last):
        raise OrderError(f"{source.name}: the range [{first}, {last}) is empty; its end is exclusive")
    if step_seconds is not None:
        _refuse_step(source, step_seconds)
    return BackfillRange(first, last, step_seconds)


def for_range(source: ResourceSpec, chosen: BackfillRange) -> ResourceSpec:
    """The same resource, asked for this range only."""
    assert isinstance(source.table, RestResource)
    endpoint = source.table.endpoint
    assert endpoint.incremental is not None
    ends = [chosen.begin, chosen.end]
    first, last = map(int, ends) if endpoint.incremental.cursor_type == "integer" else ends
    incremental = endpoint.incremental.model_copy(
        update={
            "initial_value": first,
            "end_value": last,
            "step": chosen.step_seconds or endpoint.incremental.step,
            "lookback_window": 0.0,
            "range_start": "closed",
        }
    )
    table = source.table.model_copy(update={"endpoint": endpoint.model_copy(update={"incremental": incremental})})
    return replace(source, table=table, backfill=chosen)


def from_beginning(source: ResourceSpec, scope: RefreshScope) -> ResourceSpec:
    """
    The same resource, read from its beginning.

    Except with "state", what its pass does not bring is deleted at its end,
    in one transaction with all that it does bring.

    Raises:
        ConfigError: there is nobody to ask, or what the pass does not bring may have been delivered meanwhile.
    """
    source.demand_asked()
    if scope == "state":
        return replace(source, refresh=scope)
    if source.webhook is not None:
        raise ConfigError(
            f"{source.name}: a pass does not bring what is delivered meanwhile, to /hooks/{source.webhook.path}, and "
            "would delete it; refresh with the scope state"
        )
    guard = source.table.deletes.guard_ratio
    deletes = source.table.deletes.model_copy(
        update={"detect": "flag", "guard_ratio": GUARD_RATIO if guard is None else guard}
    )
    table = source.table.model_copy(update={"write_disposition": "replace", "deletes": deletes})
    return replace(source, table=table, refresh=scope)


def _refuse_step(source: ResourceSpec, step_seconds: float) -> None:
    assert isinstance(source.table, RestResource)
    endpoint = source.table.endpoint
    assert endpoint.incremental is not None
    if step_seconds < 1:
        raise OrderError(f"{source.name}: a step is a duration of at least PT1S")
    if endpoint.incremental.cursor_type != "datetime":
        raise ConfigError(f"{source.name}: a step needs a cursor that is a time")
    stepped = endpoint.incremental.model_copy(update={"step": step_seconds})
    if endpoint.model_copy(update={"incremental": stepped}).window_seconds is None:
        raise ConfigError(
            f"{source.name}: a step needs a request that says {{incremental.end_value}}; without it each would bring "
            "all that follows"
        )
    if endpoint.partitions or source.parent:
        raise ConfigError(f"{source.name}: parents, partitions and a step cannot be combined; leave the step out")
