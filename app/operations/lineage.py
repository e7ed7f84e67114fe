"""`lineage`: what a served row was made of."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.db import lineage as tables
from app.db.engine import ReadSession
from app.operations.sources import describe
from app.sources.catalog import Catalog

_SERVED = ("id", "source", "source_id", "name", "value", "description", "created_at", "updated_at")
_INTERNAL = ("raw_id", "run_id", "loaded_at", "deleted_at")
_OF_NORMALIZING = ("id", "tick_id", "trigger", "status", "started_at", "finished_at", "mapping_version")


@dataclass(frozen=True, slots=True)
class BroughtBy:
    """The request that brought a record: of the run that landed it, whatever replays have made of it since."""

    asked: dict[str, Any] | None
    """As the run's ledger has it."""
    reason: str | None
    """Why it is not told."""
    resource_url: str | None
    """What the resource reads now; None when no source describes it any more."""


@dataclass(frozen=True, slots=True)
class Lineage:
    row: dict[str, Any]
    """As it is served, with when it was loaded or deleted."""
    received: dict[str, Any] | None
    """The record as received, where it stood and what was coerced; None when it was pruned."""
    run: dict[str, Any] | None
    """The run that brought it, with the header, dialect and encoding of a file."""
    normalized_by: dict[str, Any] | None
    """The run that made the row as it is served: the same one, or a replay; None when it was pruned."""
    request: BroughtBy
    earlier: list[dict[str, Any]]
    """The versions before, newest first."""
    set_aside: list[dict[str, Any]]
    """Versions that were not loaded, with the reason."""


async def trace(
    session: ReadSession, catalog: Catalog, *, row_id: int | None = None, source: str = "", source_id: str = ""
) -> Lineage | None:
    """Follow a row back, by its id, or by source and key; None when there is none."""
    row = await tables.find_row(session, row_id=row_id, source=source, source_id=source_id)
    if row is None:
        return None
    versions = await tables.read_versions(session, source=row["source"], raw_id=row["raw_id"])
    received = versions[0] if versions else None
    run = await tables.read_run_behind(session, received["run_id"]) if received else None
    same = run is not None and run["id"] == row["run_id"]
    latest = run if same else await tables.read_run_behind(session, row["run_id"])
    ledger = run.pop("request_ledger") if run else None
    asked, reason = _find_request(received, run, ledger)
    url = next((describe(spec).reads for spec in catalog if spec.name == row["source"]), None)
    return Lineage(
        row={name: row[name] for name in (*_SERVED, *_INTERNAL)},
        received=received,
        run=run,
        normalized_by=latest and {name: latest[name] for name in _OF_NORMALIZING},
        request=BroughtBy(asked, reason, url),
        earlier=versions[1:],
        set_aside=await tables.read_set_aside(session, source=row["source"], source_id=row["source_id"]),
    )


def _find_request(
    received: dict[str, Any] | None, run: dict[str, Any] | None, ledger: dict[str, Any] | None
) -> tuple[dict[str, Any] | None, str | None]:
    """The entry of the ledger, or why there is none."""
    if received is None:
        return None, "the record as received was pruned"
    if run is None:
        return None, f"run {received['run_id']}, which landed it, was pruned"
    if run["trigger"] == "hook":
        return None, f"it was delivered, in run {run['id']}, and not asked for"
    if ledger is None:
        if run["finished_at"] is None:
            return None, f"run {run['id']} is in progress; its requests are told when it is closed"
        return None, f"run {run['id']} was not closed by its own process, so its requests were not written"
    page = received["page"]
    found = [one for one in ledger["requests"] if one["page"] is not None and one["page"] <= page <= one["last_page"]]
    # A pass that began again asked for a page twice; what was landed before is from the first time
    before = [one for one in found if datetime.fromisoformat(one["at"]) <= received["extracted_at"]]
    if found:
        return (before or found)[-1], None
    kept = f"; it made {ledger['left_out'] + len(ledger['requests']):,} requests, {ledger['left_out']:,} are left out"
    return None, f"run {run['id']} has no request for page {page} in its ledger{kept}"
