"""A checkpoint that an operator moves: planned, compared with what is there, and recorded as a run."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.db import checkpoints, runs
from app.db.engine import Database
from app.db.locks import Presence
from app.errors import ConfigError, OrderError
from app.extract.increments import is_before, read_value
from app.pipeline.checkpoint import begin_anew
from app.pipeline.ledger import RunOrder, open_run
from app.records import Checkpoint, RunReport
from app.sources.resource import ResourceSpec
from app.sources.rest import Incremental
from app.sources.tables import RestResource

log = structlog.get_logger()


def cursor_of(source: ResourceSpec) -> Incremental | None:
    """How its runs ask for what changed; None where they read everything."""
    return source.table.endpoint.incremental if isinstance(source.table, RestResource) else None


def demand_cursor(source: ResourceSpec, *, instead: str) -> Incremental:
    """
    Raises:
        ConfigError: it has none.
    """
    source.demand_asked()
    spec = cursor_of(source)
    if spec is None:
        raise ConfigError(f"{source.name} has no cursor (endpoint.incremental): each pass reads everything; {instead}")
    return spec


def value_before(stored: Checkpoint, source: ResourceSpec, seconds: float) -> str:
    """
    The value that lies so long before the checkpoint's.

    Raises:
        ConfigError: it has no time from which to go back.
        OrderError: there is no such time.
    """
    spec = demand_cursor(source, instead="rewind it to its beginning")
    held = [stored.state.get("cursor_value"), *stored.state.get("cursor_values", {}).values()]
    values = [datetime.fromisoformat(one) for one in held if one] if spec.cursor_type == "datetime" else []
    if not values:
        raise ConfigError(f"{source.name}: its checkpoint holds no time from which to go back; name a value instead")
    try:
        return (min(values) - timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        raise OrderError(f"{source.name}: that is before the year 1; name a value instead") from None


def plan_move(
    stored: Checkpoint, source: ResourceSpec, value: str | None, *, only_back: bool, now: datetime
) -> Checkpoint:
    """
    The checkpoint as it would be: the next run begins a pass from `value`, or from the beginning.

    Args:
        value: of the cursor, as somebody writes it; None: the beginning.
        only_back: it may not skip what was not read yet.

    Raises:
        ConfigError: it cannot be moved there.
        OrderError: it is no value of its cursor, or lies in the future.
    """
    source.demand_asked()
    anew = replace(begin_anew(stored, keeps_found=True), request_hash=source.request_hash)
    if value is None:
        return anew
    spec = demand_cursor(source, instead="only its beginning can be gone back to")
    written = read_value(spec, value)
    if spec.cursor_type == "datetime" and datetime.fromisoformat(written) > now:
        raise OrderError(f"{value} lies in the future: nothing would be read until then")
    held = [stored.state.get("cursor_value"), *stored.state.get("cursor_values", {}).values()]
    furthest = [one for one in held if one is not None]
    if only_back and not any(is_before(spec, written, one) for one in furthest):
        where = f"stands at {furthest[0]}" if furthest else "has not read anything yet"
        raise ConfigError(f"{source.name} {where}: {value} is not behind it; `etl checkpoint set` moves it forward")
    # One value for all partitions and parents: each goes on from it
    return replace(anew, state={**anew.state, "cursor_value": written})


def shown(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a move changes, for people and for the run that records it."""
    state: Mapping[str, Any] = checkpoint.state
    several = state.get("cursor_values", {})
    return {
        "cursor_value": state.get("cursor_value"),
        "cursor_values": dict(sorted(several.items())[:10]),
        "scopes": len(several),
        "page": checkpoint.cursor.page,
        "position": checkpoint.cursor.position,
        "byte_offset": checkpoint.cursor.byte_offset,
        "validators": len(checkpoint.validators),
    }


async def move_by_hand(
    order: RunOrder,
    plan: Callable[[Checkpoint], Checkpoint],
    *,
    database: Database,
    presence: Presence,
) -> RunReport | None:
    """
    Move it, in a run of its own whose findings say from where to where.

    Args:
        plan: see `plan_move`; it is asked again once the lease is held.

    Returns:
        How it ended; None when another process is running the resource.

    Raises:
        StoreError: the run could not even be opened.
    """
    source = order.source
    async with open_run(order, database=database, presence=presence) as run:
        if run is None:
            return None
        run.reads_source = False
        before = run.checkpoint
        after = plan(before)
        async with database.write() as session:
            await runs.beat(session, run.run_id)  # its row first: the order in which a batch locks them
            run.checkpoint = await checkpoints.move_checkpoint(session, before, after, new_rows=0, wrote=False)
        run.findings.append({"code": "checkpoint_moved", "before": shown(before), "after": shown(after)})
        log.info("checkpoint_set", source=source.name, before=shown(before), after=shown(after))
    return run.report
