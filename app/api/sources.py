"""`/sources`: what there is to pull; check and preview, for the operator."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query

from app.api.deps import ResourcesDep, look_up_sources, select_sources
from app.api.operator import LOCKED, Inspector, Operator
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import CheckReport, PreviewedRow, SourceItem
from app.clock import utc_now
from app.db.reads import read_successes
from app.errors import EtlError, StoreError
from app.operations import config
from app.operations import sources as operations
from app.operations.freshness import freshness, freshness_of_wrong
from app.operations.numbers import IN_DIGITS
from app.sources.reading import json_schema

router = APIRouter(prefix="/sources", tags=["sources"])


@router.get("")
async def list_sources(resources: ResourcesDep) -> list[SourceItem]:
    """Every resource, by its name in `/data?source=`, and how fresh it is; and each file that is wrong."""
    try:
        async with resources.database.read() as session:
            successes = await read_successes(session)
    except StoreError:
        successes = {}  # what there is to pull can be told all the same
    since, now = resources.opened_at, utc_now()
    listed = [
        SourceItem(
            **asdict(operations.describe(spec, resources.fetcher)),
            **asdict(freshness(spec, successes.get(spec.name), since=since, now=now)),
        )
        for spec in resources.catalog
    ]
    return listed + [
        SourceItem(**asdict(operations.describe_wrong(file)), **asdict(freshness_of_wrong(file, successes, now=now)))
        for file in resources.catalog.wrong
    ]


@router.get("/schema")
async def get_schema() -> dict[str, Any]:
    """JSON Schema of a source file, for editors."""
    return json_schema()


@router.get("/{name}/config", dependencies=[Inspector], responses=LOCKED)
async def get_config(
    name: str,
    resources: ResourcesDep,
    resolved: Annotated[
        bool,
        Query(
            description="Each value as `{value, origin}`: from the file, its resource_defaults, the environment, or by "
            "default; what a setting decides is filled in."
        ),
    ] = False,
) -> list[dict[str, Any]]:
    """A source as it is understood, defaults and all; secrets stay references."""
    found = look_up_sources(resources, name)
    if resolved:
        return [config.resolved(spec, resources.settings) for spec in found]
    return [config.understood(spec) for spec in found]


@router.post("/{name}/check", dependencies=[Operator], responses=LOCKED)
async def check_source(name: str, resources: ResourcesDep) -> list[CheckReport]:
    """Ask for the first page and look at it; nothing is written."""
    found = select_sources(resources, name)
    reports = [await operations.check(spec, resources.fetcher, among=resources.catalog) for spec in found]
    return [CheckReport(**asdict(report)) for report in reports]


@router.post(
    "/{name}/preview",
    dependencies=[Operator],
    responses=LOCKED | problem_responses(_502="The source did not deliver."),
)
async def preview_source(
    name: str, resources: ResourcesDep, rows: Annotated[int, Query(ge=1, le=100), IN_DIGITS] = 5
) -> list[PreviewedRow]:
    """The first records as received, and as they would be loaded; nothing is written."""
    shown: list[PreviewedRow] = []
    for spec in select_sources(resources, name):
        try:
            found = await operations.preview(spec, resources.fetcher, limit=rows, among=resources.catalog)
        except EtlError as error:
            raise ProblemError(HTTPStatus.BAD_GATEWAY, spec.secrets.hide(str(error))) from error
        shown += [PreviewedRow(source=spec.name, **asdict(row)) for row in found]
    return shown
