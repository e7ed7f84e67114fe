"""Faults in a database of their own: what the tables say at once, after a restart, and after another run."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from app.clock import monotonic
from app.db.dsn import server_of, through
from app.db.invariants import AT_ANY_MOMENT, WHEN_COMPLETE, Fact, Invariants, Violation, open_invariants
from app.db.scratch import Scratch, settle
from app.faults.child import start_command
from app.faults.plans import PAGE_EDGES, Action, Edge, Fault, Plan, SourceAction
from app.faults.proxy import Proxy, Upstream
from app.faults.relay import Relay
from app.operations.listing import Listing
from app.settings.environment import child_environment

RESTARTS: Final = 10
RUN_SECONDS: Final = 1800.0
"""For one run of the sources; one that takes longer is killed, and counts as one that does not end."""
DECEIVING: Final[frozenset[Action]] = frozenset({"dup_page", "reorder"})
"""Faults after which a run may be complete, and its source has told it something else than it has."""
COMPLETE: Final = frozenset({"succeeded", "suspect"})


@dataclass(frozen=True, slots=True)
class Ended:
    """`etl run`, when it has ended."""

    code: int
    """-9: killed."""
    result: Mapping[str, Any]
    """What it printed as JSON; empty when it did not come to that."""
    last_words: str

    @property
    def is_complete(self) -> bool:
        runs = self.result.get("runs", [])
        whole = not self.result.get("locked") and not self.result.get("not_opened")
        return bool(runs) and whole and all(run["status"] in COMPLETE for run in runs)


@dataclass(slots=True)
class Trial:
    """What a fault, or a plan of several, came to."""

    fault: str
    """How `etl prove --at`, or `--plan`, names it."""
    struck: bool = False
    """False: the run ended before it came to this edge."""
    planned: int = 1
    """Faults that were to happen."""
    not_reached: list[str] = field(default_factory=list)
    """Of these, the ones that did not."""
    healed: list[str] = field(default_factory=list)
    """The first keys that were missing after a source hid them, until the run after it."""
    exit_code: int | None = None
    restarts: int = 0
    asked_again: int = 0
    """Requests to the sources beyond those of the undisturbed run, where a relay counted them."""
    violations: list[Violation] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Reference:
    """A run that nobody disturbed."""

    counted: Mapping[Edge, int]
    """Edges that it passed."""
    pages: Sequence[str]
    """Addresses that it asked its sources for, in this order; empty where no relay stood before them."""
    requests: int
    """For them; some may have been repeated."""
    able: Mapping[SourceAction, Sequence[int]]
    """Numbers of the pages at which each fault can happen."""
    facts: Sequence[Fact]
    rows: int
    seconds: float
    violations: Sequence[Violation]


class NotCompleteError(Exception):
    """The sources cannot be run to their end even undisturbed; says why."""


class Laboratory:
    """
    Runs sources in databases of their own.

    Args:
        names: of the sources, as `etl run` takes them.
        settings: of the processes, beside the environment.
        relayed: pages are counted, and faults between the sources and us can happen.
        seed: of what a relay makes of a page.
    """

    def __init__(
        self,
        scratch: Scratch,
        listing: Listing,
        names: Sequence[str],
        settings: Mapping[str, str],
        *,
        relayed: bool = False,
        seed: int = 1,
    ) -> None:
        self._scratch = scratch
        self._listing = listing
        self._names = names
        self._settings = settings
        self._relayed = relayed
        self._seed = seed

    async def refer(self) -> Reference:
        """
        Raises:
            NotCompleteError: it fails by itself.
        """
        began = monotonic()
        async with self._scratch.database() as dsn:
            async with Proxy(Upstream(*server_of(dsn))) as proxy, self._relaying() as relay:
                ended = await self._run(dsn, proxy, relay)
            if not ended.is_complete:
                raise NotCompleteError(ended.last_words)
            seconds = monotonic() - began
            async with self._open(dsn, None) as invariants:
                violations = await self._check_complete(invariants, dsn, None)
                facts = await invariants.facts()
        rows = sum(run["counts"]["extracted"] for run in ended.result["runs"])
        pages, requests, able = (relay.pages, relay.asked.total(), relay.able) if relay else ((), 0, {})
        asked = dict.fromkeys(("page", *PAGE_EDGES), len(pages))
        return Reference({**proxy.counted, **asked}, pages, requests, able, facts, rows, seconds, violations)

    async def attempt(self, plan: Plan, reference: Reference) -> Trial:
        """Let its faults happen, look each time that a run ends early, go on as a user would, and look again."""
        began, trial, faults = monotonic(), Trial(str(plan), planned=len(plan.wishes)), plan.faults
        unsure = plan.actions & DECEIVING
        async with self._scratch.database() as dsn, self._open(dsn, reference) as invariants:
            at_store = [fault for fault in faults if not fault.is_at_source]
            async with Proxy(Upstream(*server_of(dsn)), *at_store) as proxy, self._relaying(faults, reference) as relay:
                ended = await self._run(dsn, proxy, relay)
                trial.exit_code = ended.code
                while not ended.is_complete:
                    await self._look(invariants, trial, deceived=bool(unsure))
                    if trial.restarts == RESTARTS:
                        break
                    trial.restarts += 1
                    ended = await self._run(dsn, proxy, relay)
            struck = [*proxy.struck, *(relay.struck if relay else ())]
            trial.asked_again = max(0, relay.asked.total() - reference.requests) if relay else 0
            trial.struck = bool(struck)
            trial.not_reached = list(map(str, (Counter(plan.wishes) - Counter(struck)).elements()))
            if ended.is_complete and unsure:
                # The source has said in good form what it does not have: only its next answer can be better
                hidden = await invariants.violations(["I1 nothing lost"])
                trial.healed = [key for violation in hidden for key in violation.keys]
                ended = await self._run(dsn)
            if ended.is_complete:
                trial.violations += await self._check_complete(invariants, dsn, reference)
            else:
                trial.violations.append(Violation("goes on by itself", "etl run", [ended.last_words]))
        trial.seconds = round(monotonic() - began, 3)
        return trial

    async def _look(self, invariants: Invariants, trial: Trial, *, deceived: bool) -> None:
        """What holds at any moment; of a source that deceived us, not what takes its word."""
        await settle(invariants.connection)
        names = [name for name in AT_ANY_MOMENT if not (deceived and name.startswith("I3"))]
        trial.violations += await invariants.violations(names)

    def _relaying(
        self, faults: Sequence[Fault] = (), reference: Reference | None = None
    ) -> AbstractAsyncContextManager[Relay | None]:
        if not self._relayed:
            return nullcontext()
        return Relay(
            [fault for fault in faults if fault.is_at_source],
            pages=reference.pages if reference else (),
            seed=self._seed,
        )

    def _open(self, dsn: str, reference: Reference | None) -> Any:
        return open_invariants(
            dsn,
            sources=self._listing.sources,
            listing=self._listing.records,
            reference=reference.facts if reference else None,
        )

    async def _check_complete(self, invariants: Invariants, dsn: str, reference: Reference | None) -> list[Violation]:
        names = [*WHEN_COMPLETE, *(["I8 the same tables"] if reference else [])]
        found = await invariants.violations(names)
        await invariants.remember_versions()
        again = await self._run(dsn)
        if not again.is_complete:
            found.append(Violation("I7 a second run writes nothing", "etl run", [again.last_words]))
        return found + await invariants.violations(["I7 a second run writes nothing", "I4 every run balances"])

    async def _run(self, dsn: str, proxy: Proxy | None = None, relay: Relay | None = None) -> Ended:
        """`etl run` to its end, by way of proxy and relay where there are."""
        host, port = ("127.0.0.1", proxy.port) if proxy else (None, None)
        url = through(dsn, host=host, port=port) if host and port else dsn
        environment = child_environment(**self._settings, DATABASE_URL=url, **(_by_way_of(relay) if relay else {}))
        process = await start_command("run", *self._names, "--json", environment=environment)
        between = [one for one in (proxy, relay) if one is not None]
        for one in between:
            one.pid = process.pid
        try:
            async with asyncio.timeout(RUN_SECONDS):
                output, log = await process.communicate()
        except TimeoutError:
            return Ended(-9, {}, f"etl run did not end in {RUN_SECONDS:.0f} s")
        finally:
            for one in between:
                one.pid = None
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Ended(process.returncode, _result(output), _last_words(process.returncode, output, log))


def _by_way_of(relay: Relay) -> dict[str, str]:
    # One source after another, for pages to get the same numbers each time
    return {"FAULT_RELAY": relay.url, "HOST": "127.0.0.1", "NO_PROXY": "*", "MAX_CONCURRENT_RUNS": "1"}


def _result(output: bytes) -> Mapping[str, Any]:
    lines = output.decode(errors="replace").splitlines()
    try:
        result = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return result if isinstance(result, dict) else {}


def _last_words(code: int, output: bytes, log: bytes) -> str:
    """Why it ended as it did, in a line."""
    told = [
        f"{run['source']}: {run['status']}: {run['error_message'] or ''}"
        for run in _result(output).get("runs", [])
        if run["status"] not in COMPLETE
    ]
    lines = log.decode(errors="replace").strip().splitlines()
    return f"etl run ended with {code}: " + ("; ".join(told) or (lines[-1][:500] if lines else "it said nothing"))
