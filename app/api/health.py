"""`/health`, `/livez`, `/readyz`: they answer in time whatever the database does."""

import asyncio
from dataclasses import asdict
from datetime import datetime
from http import HTTPStatus
from typing import Final, NamedTuple

from fastapi import APIRouter, Request, Response

from app.api.deps import ResourcesDep
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import Health, Liveness, Readiness, WrongFileItem
from app.clock import utc_now
from app.db.engine import Database
from app.db.reads import TickSummary, read_last_tick, read_successes
from app.errors import StoreError, StoreUnavailableError
from app.operations.freshness import freshness

router = APIRouter(tags=["health"])

PATIENCE_SECONDS: Final = 1.5


class Vitals(NamedTuple):
    tick: TickSummary
    successes: dict[str, datetime]
    """When each resource was last brought up to date."""


class HealthCheck:
    """
    Asks the database how things are, one question at a time.

    A question that hangs is not cancelled (that, too, would wait for the
    database): later callers share it, and stop waiting when their time is up.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asking: asyncio.Task[Vitals] | None = None

    async def look(self) -> Vitals:
        """
        Raises:
            StoreError: the database did not answer in time, or not at all.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        asking = self._asking
        await asyncio.wait({asking}, timeout=PATIENCE_SECONDS)
        if not asking.done():
            raise StoreUnavailableError("no answer", reason=f"the database did not answer within {PATIENCE_SECONDS} s")
        return asking.result()

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking}, timeout=PATIENCE_SECONDS)

    async def _ask(self) -> Vitals:
        async with self._database.read() as session:
            return Vitals(await read_last_tick(session), await read_successes(session))


@router.get("/health", responses={503: {"model": Health, "description": "No database."}})
async def get_health(request: Request, response: Response, resources: ResourcesDep) -> Health:
    check: HealthCheck = request.app.state.health_check
    wrong = [WrongFileItem(**asdict(file)) for file in resources.catalog.wrong]
    try:
        found = await check.look()
    except StoreError as error:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return Health(
            status="unhealthy",
            db_connected=False,
            last_etl_run=None,
            etl_status="never",
            detail=error.reason,
            stale_sources=[],
            wrong_files=wrong,
        )
    tick, now = found.tick, utc_now()
    stale = [
        spec.name
        for spec in resources.catalog
        if freshness(spec, found.successes.get(spec.name), since=resources.opened_at, now=now).stale
    ]
    trouble = resources.database.trouble
    status = "degraded" if stale or wrong or trouble or tick.status in {"partial", "failed"} else "healthy"
    return Health(
        status=status,
        db_connected=True,
        last_etl_run=tick.at,
        etl_status=tick.status,
        detail=trouble,
        stale_sources=stale,
        wrong_files=wrong,
    )


@router.get("/livez")
async def get_liveness() -> Liveness:
    """The process answers; a database that is away is no reason to restart it."""
    return Liveness(status="alive")


@router.get("/readyz", responses=problem_responses(_503="Not now; the detail says why."))
async def get_readiness(request: Request, resources: ResourcesDep) -> Readiness:
    """The database answers and its schema is there."""
    if not resources.schema_ready:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE, "the schema is not there yet: the database was not reached so far"
        )
    check: HealthCheck = request.app.state.health_check
    try:
        await check.look()
    except StoreError as error:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, error.reason, headers={"Retry-After": "5"}) from error
    return Readiness(status="ready")
