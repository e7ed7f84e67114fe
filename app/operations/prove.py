"""`prove`: kill the sources' runs at the edges of their commits, and let SQL say whether anything was lost."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import structlog

from app import __version__
from app.clock import monotonic
from app.db.invariants import QUERIES, Violation
from app.db.scratch import open_scratch
from app.embedded import running_postgres
from app.errors import ConfigError, SourceError
from app.extract.http_errors import redact
from app.faults.child import PACKAGE_PARENT
from app.faults.plans import CHUNK_EDGES, COMMIT_EDGES, PAGE_EDGES, Edge, Fault, Plan, place_faults, plan_faults
from app.operations.listing import Listing, given_listing, read_listing
from app.operations.trial import DECEIVING, Laboratory, NotCompleteError, Reference, Trial
from app.settings import Settings
from app.sources.catalog import Catalog, open_catalog
from app.sources.resource import ResourceSpec

log = structlog.get_logger()

Edges = Literal["commits", "chunks", "sockets"]
Result = Literal["proven", "violated", "inconclusive"]
OnStep = Callable[[int, int, str], None]
"""Trials done, trials in all, and what is being done now."""

EDGES: Final[Mapping[Edges, tuple[Edge, ...]]] = {
    "commits": COMMIT_EDGES,
    "chunks": CHUNK_EDGES,
    "sockets": CHUNK_EDGES + PAGE_EDGES,
}


@dataclass(frozen=True, slots=True)
class ProofOrder:
    """
    What is to be proven.

    Args:
        names: of sources; all of them when none is named.
        kills: at most.
        at: these faults, each in a trial of its own, instead of kills at edges.
        plan: these faults together, in one trial more.
        ids: file with the keys that the source has, where its own listing is not to be trusted.
        child_settings: of the processes that are killed, beside the environment.
    """

    names: Sequence[str]
    seed: int = 1
    kills: int = 20
    edges: Edges = "commits"
    at: Sequence[Fault] = ()
    plan: Plan | None = None
    ids: Path | None = None
    child_settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_relayed(self) -> bool:
        """Something is to go wrong between a source and us, or its place is still to be chosen."""
        at_source = any(fault.is_at_source for fault in self.at)
        return self.plan is not None or at_source or (self.edges == "sockets" and not self.at)

    @property
    def deceives(self) -> bool:
        planned = self.plan.actions if self.plan else set()
        return bool(DECEIVING & (planned | {fault.action for fault in self.at}))


@dataclass(slots=True)
class Certificate:
    """What was done, and what came of it."""

    version: str
    commit: str | None
    """Of a checkout; None for an installed package."""
    seed: int
    sources: list[str]
    result: Result = "inconclusive"
    reason: str | None = None
    """Why it is inconclusive."""
    rows: int = 0
    """Records that an undisturbed run extracts."""
    records: int = 0
    """Records that the source lists."""
    edges: dict[str, int] = field(default_factory=dict)
    """That an undisturbed run passes."""
    plan: str | None = None
    """As it was carried out, each fault with its place: what `etl prove --plan` is to be given for the same again."""
    pages: dict[str, str] = field(default_factory=dict)
    """What the pages are at which something happened: `page3` → `GET https://host/path?query`."""
    reference_seconds: float = 0.0
    trials: list[Trial] = field(default_factory=list)
    planned: int = 0
    """Faults that were to happen."""
    not_reached: int = 0
    """Of these, the ones to whose place no run came."""
    healed: list[str] = field(default_factory=list)
    """Keys that a source hid with one answer, and that came with the next run."""
    restarts: int = 0
    """Most that a trial needed."""
    asked_again: int | None = None
    """Most requests to the sources that a trial needed beyond the undisturbed run's; None where none were counted."""
    checked: list[str] = field(default_factory=lambda: list(QUERIES))
    violations: list[tuple[str, Violation]] = field(default_factory=list)
    """Each with the fault after which it was found."""
    seconds: float = 0.0


async def prove(settings: Settings, order: ProofOrder, *, on_step: OnStep | None = None) -> Certificate:
    """
    Run the sources undisturbed, then once for each fault or plan, each in a throw-away database.

    Raises:
        ConfigError: a name is unknown, or a file of all is wrong, or the database cannot be used for this.
        StoreError: the database cannot be reached.
    """
    tell = on_step or (lambda _done, _all, _doing: None)
    began, catalog = monotonic(), open_catalog(settings)
    if not order.names:
        catalog.demand_right()  # "every source" was asked for: without one of them it would be no proof
    specs = _with_parents(catalog, order.names)
    names = [spec.name for spec in specs]
    if order.ids is not None and len(specs) > 1:
        raise ConfigError(f"--ids: holds the keys of one resource, and there are {', '.join(names)}; name one")
    seed = order.seed if order.plan is None or order.plan.seed is None else order.plan.seed
    certificate = Certificate(__version__, read_commit(PACKAGE_PARENT), seed, names)
    try:
        tell(0, 0, "reading the sources' own listings")
        before = await read_listing(specs, settings)
        listing = given_listing(specs[0], order.ids) if order.ids else before
        listing = listing.unplaced() if order.deceives else listing
        certificate.records = len(listing.records)
        async with _server(settings) as dsn, open_scratch(dsn) as scratch:
            laboratory = Laboratory(scratch, listing, names, order.child_settings, relayed=order.is_relayed, seed=seed)
            await _experiment(laboratory, order, certificate, tell)
        tell(len(certificate.trials), len(certificate.trials), "reading the listings again")
        _judge(certificate, before, await read_listing(specs, settings))
    except (SourceError, NotCompleteError) as error:
        certificate.reason = str(error)
    except asyncio.CancelledError:
        # Hours may have gone into it: what was found so far is told
        if certificate.violations:
            certificate.result = "violated"
        certificate.reason = f"stopped after {len(certificate.trials)} trials; the same order begins with them again"
    certificate.seconds = round(monotonic() - began, 1)
    return certificate


async def _experiment(laboratory: Laboratory, order: ProofOrder, certificate: Certificate, tell: OnStep) -> None:
    tell(0, 0, "running them undisturbed")
    reference = await laboratory.refer()
    certificate.rows = reference.rows
    certificate.edges = {str(edge): count for edge, count in reference.counted.items() if count}
    certificate.reference_seconds = round(reference.seconds, 3)
    certificate.violations += [("no fault", violation) for violation in reference.violations]
    trials = _choose(order, reference, certificate)
    for done, plan in enumerate(trials):
        tell(done, len(trials), str(plan))
        trial = await laboratory.attempt(plan, reference)
        certificate.trials.append(trial)
        certificate.planned += trial.planned
        certificate.not_reached += len(trial.not_reached)
        certificate.healed += trial.healed
        certificate.restarts = max(certificate.restarts, trial.restarts)
        if order.is_relayed:
            certificate.asked_again = max(certificate.asked_again or 0, trial.asked_again)
        certificate.violations += [(trial.fault, violation) for violation in trial.violations]
        for violation in trial.violations:  # there may be hours of others to come
            log.error("invariant_violated", fault=trial.fault, invariant=violation.invariant, keys=violation.keys)


def _choose(order: ProofOrder, reference: Reference, certificate: Certificate) -> list[Plan]:
    """What is to happen in each trial; a plan is told to the certificate, with the places that its faults got."""
    trials = [Plan((fault,)) for fault in order.at]
    if order.plan is not None:
        trials.append(place_faults(order.plan, reference.counted, reference.able, seed=certificate.seed))
        certificate.plan = str(trials[-1])
    if not trials:
        kills = plan_faults(reference.counted, EDGES[order.edges], most=order.kills, seed=order.seed)
        trials = [Plan((fault,)) for fault in kills]
    numbers = {fault.number for plan in trials for fault in plan.faults if fault.is_at_source}
    for number in sorted(number for number in numbers if number <= len(reference.pages)):
        method, url, *_ = reference.pages[number - 1].split(" ")
        certificate.pages[f"page{number}"] = f"{method} {redact(url)}"
    return trials


def _judge(certificate: Certificate, before: Listing, after: Listing) -> None:
    if not before.same_as(after):
        certificate.reason = "the source changed meanwhile: its listings before and after differ; try when it is quiet"
    elif certificate.violations:
        certificate.result = "violated"
    elif not any(trial.struck for trial in certificate.trials):
        certificate.reason = "no fault happened: no run came to the place that was chosen"
    else:
        certificate.result = "proven"


def _with_parents(catalog: Catalog, names: Sequence[str]) -> list[ResourceSpec]:
    """The resources named, and those whose rows they are asked for; parents first."""
    wanted = {spec.name: spec for spec in catalog.select(names)}
    queue = list(wanted.values())
    while queue:
        parent = queue.pop().parent
        if parent is not None and parent not in wanted:
            wanted |= {spec.name: spec for spec in catalog if spec.name == parent}
            queue += [spec for spec in catalog if spec.name == parent]
    left, ordered = list(wanted.values()), list[ResourceSpec]()
    while left:
        ready = [spec for spec in left if spec.parent not in {other.name for other in left}]
        ordered += ready or left
        left = [spec for spec in left if spec not in ready] if ready else []
    return ordered


@asynccontextmanager
async def _server(settings: Settings) -> AsyncIterator[str]:
    """The DSN of a server on which databases may be made: the one in DATABASE_URL, or one of our own, for now."""
    if settings.database.url is not None:
        yield settings.database.url.get_secret_value()
        return
    running = _temporary_server(settings.embedded.pg_bin)
    dsn = await asyncio.to_thread(running.__enter__)
    try:
        yield dsn
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


@contextmanager
def _temporary_server(pg_bin: Path | None) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="etl-prove-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # as root the server runs as another user, who must get in
        with running_postgres(Path(folder) / "pg", pg_bin=pg_bin) as server:
            yield server.dsn


def read_commit(folder: Path) -> str | None:
    """The commit that is checked out in a folder; None when it is no checkout."""
    git = folder / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        name = head.removeprefix("ref: ")
        if name == head:
            return head
        if (git / name).is_file():
            return (git / name).read_text().strip()
        packed = (line.split() for line in (git / "packed-refs").read_text().splitlines())
        return next((words[0] for words in packed if words[1:] == [name]), None)
    except OSError:
        return None
