"""`list`, `check`, `preview`: what there is to pull, and what would become of it. Nothing is written."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from app.clock import utc_now
from app.errors import ConfigError, EtlError, SourceRefusedError
from app.extract.breaker import BreakerState
from app.extract.http import Fetcher
from app.extract.http_errors import redact
from app.extract.kinds import read_pages
from app.land import Landed, land_records
from app.normalize.rows import Normalized, open_normalizer
from app.records import Checkpoint, Cursor, Page, Traffic
from app.sources.catalog import WrongFile
from app.sources.resource import ResourceSpec
from app.sources.tables import RestResource

SAMPLE_ROWS: Final = 1_000
"""Records that a check looks at."""
SAMPLE_PARENTS: Final = 10
"""Parents that are tried for a child's first record."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A resource; or a file that is wrong, of which `error` is told, and no more than its name where that can be."""

    name: str | None
    source: str | None
    where: str
    """The source file."""
    resource: str | None = None
    type: str | None = None
    reads: str | None = None
    schedule: str | None = None
    breaker: str | None = None
    """None while its host answers; otherwise what is wrong with it, and when it is asked again."""
    error: str | None = None


@dataclass(slots=True)
class Check:
    """What a source answered to one request."""

    name: str
    ok: bool = False
    error: str | None = None
    error_class: str | None = None
    records: int = 0
    """Of the first page."""
    more_pages: bool = False
    found: dict[str, Any] = field(default_factory=dict)
    """What was found out about it: records path, paginator, dialect, encoding, header."""
    keys_missing: int = 0
    keys_repeated: int = 0
    coerced: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    """Records that would be rejected, by code."""
    filtered: int = 0
    empty_columns: list[str] = field(default_factory=list)
    """Mapped columns without a value in any record: most likely a path that leads nowhere."""
    requests: int = 0
    bytes_received: int = 0


@dataclass(slots=True)
class PreviewRow:
    position: int
    raw: str
    """As received."""
    source_id: str | None
    row: dict[str, Any] | None
    """Normalized; None when it would not be loaded."""
    notes: list[dict[str, str]] = field(default_factory=list)
    becomes: str = "loaded"
    rejection: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Sample:
    page: Page
    following: Page | None
    """The page after it, where that was asked for."""
    landed: Landed
    normalized: Normalized
    indexes: list[int]
    """Of the landed records that were normalized."""
    traffic: Traffic


def describe(spec: ResourceSpec, fetcher: Fetcher | None = None) -> Listed:
    """
    Args:
        fetcher: of the process that asks the source; knows how its host is doing.
    """
    schedule = spec.schedule
    if schedule.cron:
        due = f"cron {schedule.cron} {schedule.timezone}"
    else:
        due = f"every {schedule.interval:g} s" if schedule.interval else "each tick"
    table = spec.table
    if isinstance(table, RestResource):
        path = table.endpoint.path
        reads = (
            redact(path) if "://" in path else f"{redact(spec.client.base_url or '').rstrip('/')}/{path.lstrip('/')}"
        )
    elif spec.is_pushed and spec.webhook is not None:
        reads, due = f"/hooks/{spec.webhook.path}", "delivered"
    else:
        reads = redact(spec.body_url or "")
    return Listed(
        name=spec.name,
        source=spec.source,
        resource=spec.resource,
        type={"rest": "rest_api", "feed": "rss", "hook": "webhook"}.get(spec.raw_kind, spec.raw_kind),
        where=spec.where,
        reads=reads,
        schedule=due,
        breaker=_trouble(fetcher.breaker(reads)) if fetcher is not None and "://" in reads else None,
    )


def describe_wrong(file: WrongFile) -> Listed:
    return Listed(file.name, file.name, file.where, error=file.reason)


def _trouble(state: BreakerState) -> str | None:
    if state.state == "closed":
        return None
    since = state.since.isoformat(timespec="seconds") if state.since else "?"
    again = state.next_try_at.isoformat(timespec="seconds") if state.next_try_at else "with the next request"
    return f"{state.failures} failures in a row since {since}, the last: {state.reason}; asked again {again}"


def check_wrong(file: WrongFile) -> Check:
    """What a check says of a file that is wrong; its source is not asked."""
    return Check(file.name or file.where, error=file.reason, error_class=ConfigError.error_class)


async def check(spec: ResourceSpec, fetcher: Fetcher, *, among: Iterable[ResourceSpec] = ()) -> Check:
    """
    Ask the source for its first pages, one and the next, and look at what came.

    Args:
        among: where the resource's parent is; its own first page says what to ask for.
    """
    report = Check(spec.name)
    traffic = Traffic()
    try:
        if spec.is_pushed:
            open_normalizer(spec, {})
            report.ok = True
            return report
        sample = await _sample(spec, fetcher, traffic, limit=SAMPLE_ROWS, among=among, further=True)
    except EtlError as error:
        said = f"; it says: {error.said}" if isinstance(error, SourceRefusedError) and error.said else ""
        # Cut only once nothing is hidden in it any more
        report.error, report.error_class = spec.secrets.hide(f"{error}{said}")[:500], error.error_class
    else:
        _tell(report, sample, spec)
    report.requests, report.bytes_received = traffic.requests, traffic.bytes_received
    return report


async def preview(
    spec: ResourceSpec, fetcher: Fetcher, *, limit: int = 5, among: Iterable[ResourceSpec] = ()
) -> list[PreviewRow]:
    """
    The first records as they came, and as they would be loaded.

    Args:
        among: see `check`.

    Raises:
        EtlError: the source does not deliver, or its mapping does not fit.
    """
    sample = await _sample(spec, fetcher, Traffic(), limit=limit, among=among)
    landed, normalized = sample.landed, sample.normalized
    at_of = {index: at for at, index in enumerate(sample.indexes)}
    rows = []
    for index in range(min(limit, len(landed))):
        at = at_of.get(index)
        row = PreviewRow(landed.positions[index], landed.payloads[index], landed.source_ids[index], None)
        rejection = landed.rejections.get(index) or (None if at is None else normalized.rejections.get(at))
        if rejection is not None:
            row.becomes, row.rejection = "rejected", rejection._asdict()
        elif index in landed.filtered or at in normalized.filtered:
            row.becomes = "filtered"
        elif at in normalized.deleted:
            row.becomes = "deleted"
        elif at is not None:
            row.row = {name: getattr(normalized, name)[at] for name in ("name", "value", "description")}
            row.row |= {
                name: moment.isoformat() if (moment := getattr(normalized, name)[at]) else None
                for name in ("created_at", "updated_at")
            }
        if at is not None:
            row.notes = [note._asdict() for note in normalized.notes.get(at, ())]
        rows.append(row)
    return rows


async def _sample(
    spec: ResourceSpec,
    fetcher: Fetcher,
    traffic: Traffic,
    *,
    limit: int,
    among: Iterable[ResourceSpec],
    further: bool = False,
) -> _Sample:
    page, following = await _first_pages(spec, fetcher, traffic, among, further=further)
    landed = Landed()
    records = page.records.part(0, limit)
    if not len(records) and not page.input:
        return _Sample(page, following, landed, Normalized([], [], [], [], []), [], traffic)
    normalizer = open_normalizer(spec, page.input)
    land_records(landed, page.number, records, read_keys=normalizer.read_keys)
    indexes = [at for at in range(len(landed)) if at not in landed.rejections and at not in landed.filtered]
    normalized = normalizer.normalize(
        [landed.source_ids[at] or "" for at in indexes], [landed.fields[at] for at in indexes]
    )
    return _Sample(page, following, landed, normalized, indexes, traffic)


async def _first_pages(
    spec: ResourceSpec, fetcher: Fetcher, traffic: Traffic, among: Iterable[ResourceSpec], *, further: bool = False
) -> tuple[Page, Page | None]:
    """The first page that holds records, or the last there is; and, if `further`, the one that follows it."""
    parent = next((one for one in among if one.name == spec.parent), None)

    async def read_parents(_name: str, _begin: str) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        if parent is not None:
            records = (await _first_pages(parent, fetcher, traffic, among))[0].records
            for at, record in enumerate(records.fields[:SAMPLE_PARENTS]):
                yield str(at), record or {}

    found = read_pages(spec, nowhere(spec), fetcher=fetcher, traffic=traffic, now=utc_now(), read_parents=read_parents)
    first: Page | None = None
    async with aclosing(found) as pages:
        async for page in pages:
            if first is not None and len(first.records):
                return first, page
            first = page
            if page.last or (len(page.records) and not further):
                break
    assert first is not None
    return first, None


def _tell(report: Check, sample: _Sample, spec: ResourceSpec) -> None:
    landed, normalized = sample.landed, sample.normalized
    report.ok = True
    report.records = len(sample.page.records)
    report.more_pages = not sample.page.last
    doubt = sample.page.doubt or (sample.following.doubt if sample.following else None)
    if doubt is not None:
        report.ok, report.error, report.error_class = False, doubt, "data_error"
    report.found = {**(sample.page.state or {}), **sample.page.input}
    for progress in ("cursor_value", "cursor_values", "pending_cursor_value", "pending_shared_value", "scope"):
        report.found.pop(progress, None)
    report.keys_missing = sum(key is None for key in landed.source_ids)
    report.keys_repeated = len(landed) - report.keys_missing - len(landed.keys)
    report.coerced = len(normalized.notes)
    report.filtered = len(landed.filtered) + len(normalized.filtered)
    rejections = [*landed.rejections.values(), *normalized.rejections.values()]
    for rejection in rejections:
        report.rejected[rejection.code] = report.rejected.get(rejection.code, 0) + 1
    if 0 < len(rejections) == len(landed):
        report.ok, report.error_class = False, "data_error"
        report.error = f"each of {len(landed)} records would be rejected; the first: {rejections[0].detail}"
    if sample.indexes:
        report.empty_columns = [
            name
            for name in ("name", "value", "description", "created_at", "updated_at")
            if spec.table.mapping.of(name) is not None and not any(_present(getattr(normalized, name)))
        ]


def _present(column: list[Any]) -> list[bool]:
    return [value not in {None, ""} for value in column]


def nowhere(spec: ResourceSpec) -> Checkpoint:
    """Of a resource that was never run."""
    return Checkpoint(
        source=spec.name,
        resource=spec.resource,
        holder="",
        epoch=0,
        batch_seq=0,
        row_count=0,
        cursor=Cursor(),
        validators={},
        request_hash=None,
        pass_mapping_hash=None,
        mapping_hash=None,
    )
