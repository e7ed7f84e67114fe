"""
What is delivered → the tables, many deliveries in one transaction; each is answered once that is committed.

While one batch is written the next deliveries wait together: the busier the senders, the larger the batches.
No lease is needed: there may be a receiver in each process, and a run that reads the source beside them.
"""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from app.db import checkpoints, runs
from app.db.engine import Database, ReadSession, WriteSession
from app.db.errors import ContendedError, KeyTakenError
from app.db.ids import normalized_ids, raw_ids
from app.db.locks import take_turn
from app.db.raw_data import known_deliveries
from app.errors import EtlError, StoreError, StoreUnavailableError
from app.extract.deliveries import Delivery, read_delivery
from app.land import Landed, land
from app.load import StagedBatch, load_batch
from app.normalize.rows import Normalizer, open_normalizer
from app.pipeline.beside import turn_of
from app.pipeline.held import Held
from app.pipeline.known import keep_delivery_keys
from app.pipeline.rolling import RollingRun, Run
from app.pipeline.staging import StagingRules, stage
from app.records import Counts, Records
from app.sources.resource import ResourceSpec

log = structlog.get_logger()

T = TypeVar("T")

MAX_DELIVERIES: Final = 1_000
"""Of one transaction."""
MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
WRITE_ATTEMPTS: Final = 5
BEAT_SECONDS: Final = 5.0
FEW: Final = 100
FEW_BYTES: Final = 4096
"""So many records of so many bytes hold up the event loop for no more than some milliseconds."""


@dataclass(slots=True)
class _Waiting:
    delivery: Delivery
    done: asyncio.Future[None]


class _RunClosedError(Exception):
    """After a silence of a lease another process closed the run that is open here: what is taken needs a new one."""


class Receiver:
    """
    Takes the deliveries of one resource, until `close`.

    Args:
        holder: this process.
        interval_seconds: how long one run lasts.
        lease_seconds: without a sign of life for so long, a run counts as crashed.
    """

    def __init__(
        self,
        spec: ResourceSpec,
        database: Database,
        *,
        holder: str,
        interval_seconds: float,
        lease_seconds: float,
    ) -> None:
        assert spec.webhook is not None
        self.spec = spec
        self._webhook = spec.webhook
        self._database = database
        self._beat_seconds = min(BEAT_SECONDS, lease_seconds / 3)
        self._normalizer: Normalizer = open_normalizer(spec, {})
        self._raw_ids, self._row_ids = raw_ids(database), normalized_ids(database)
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._closing = False
        self._runs = RollingRun(spec, database, holder, seconds=interval_seconds)
        self._writing = asyncio.create_task(self._write_all(), name=f"hook {spec.name}")

    async def deliver(self, delivery: Delivery) -> None:
        """
        Returns once it is committed.

        Raises:
            StoreError: it is not, and the sender should try again.
        """
        full = len(self._waiting) >= MAX_WAITING or self._waiting_bytes >= MAX_WAITING_BYTES
        if full or self._closing:
            reason = "the service is stopping" if self._closing else "as many deliveries wait as may"
            raise StoreUnavailableError(f"/hooks/{self._webhook.path}: {reason}", reason=reason)
        waiting = _Waiting(delivery, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._waiting_bytes += len(delivery.body)
        self._arrived.set()
        await waiting.done

    async def close(self) -> None:
        """What waits is written first; the run is closed."""
        self._closing = True
        self._arrived.set()
        await self._writing

    async def _write_all(self) -> None:
        while not self._closing or self._waiting:
            silent = False
            try:
                async with asyncio.timeout(self._beat_seconds):
                    await self._arrived.wait()
            except TimeoutError:
                silent = True
            self._arrived.clear()
            while self._waiting:
                taken, self._waiting = self._waiting[:MAX_DELIVERIES], self._waiting[MAX_DELIVERIES:]
                self._waiting_bytes -= sum(len(one.delivery.body) for one in taken)
                await self._write_and_answer(taken)
            await self._runs.keep(silent=silent)
        await self._runs.close()

    async def _write_and_answer(self, taken: list[_Waiting]) -> None:
        error: EtlError | None = None
        try:
            await self._write([one.delivery for one in taken])
        except StoreUnavailableError as expected:
            error = expected
        except Exception as fault:
            if len(taken) > 1:
                # One that cannot be stored keeps no other from it
                for one in taken:
                    await self._write_and_answer([one])
                return
            error = fault if isinstance(fault, EtlError) else StoreError(f"unexpected {type(fault).__name__}")
            log.error("delivery_not_stored", source=self.spec.name, exc_info=fault)
        if isinstance(error, StoreUnavailableError):
            log.warning("deliveries_not_stored", source=self.spec.name, deliveries=len(taken), reason=str(error))
        for one in taken:
            if one.done.done():
                continue  # its sender left
            if error is None:
                one.done.set_result(None)
            else:
                one.done.set_exception(error)

    async def _write(self, deliveries: list[Delivery]) -> None:
        attempt = 1
        while True:
            run = await self._runs.open()
            try:
                await self._write_once(deliveries, run)
            except _RunClosedError:
                self._runs.forget()
            except (KeyTakenError, ContendedError) as error:
                if attempt == WRITE_ATTEMPTS:
                    raise
                log.info("batch_again", attempt=attempt, records=len(deliveries), reason=str(error))
                await asyncio.sleep(0.02 * attempt)
                attempt += 1
            else:
                return

    async def _write_once(self, deliveries: list[Delivery], run: Run) -> None:
        spec = self.spec
        size = sum(len(delivery.body) for delivery in deliveries)
        read = await _aside(max(len(deliveries), size // FEW_BYTES), self._read, deliveries)
        records = sum(map(len, read))
        await self._raw_ids.reserve(2 * records)  # one that takes an id may have to be landed as repeated, too
        await self._row_ids.reserve(records)
        async with self._database.write() as session:
            # One after another: two writers of one key would each take the same row for the current one
            await take_turn(session, turn_of(spec))
            new = await self._find_new(session, deliveries)
            parts = [(run.counts.pages + at + 1, deliveries[at].key, read[at]) for at in new]
            landed = await _aside(records, self._land, parts)
            staged = await self._stage(session, landed, pages=len(deliveries))
            counts = await load_batch(
                session,
                staged,
                kind="hook",
                source=spec.name,
                run_id=run.run_id,
                hard_deletes=spec.table.deletes.mode == "hard",
            )
            again = records - len(landed)
            counts.extracted += again
            counts.duplicate += again
            if not await runs.add_counts(session, run.run_id, counts):
                raise _RunClosedError
            await checkpoints.count_delivered(
                session,
                source=spec.name,
                resource=spec.resource,
                new_rows=staged.net_rows,
                wrote=staged.wrote,
                as_of=spec.is_pushed,
            )
        run.counts.add(counts)
        run.traffic.requests += len(deliveries)
        run.traffic.bytes_received += size

    def _read(self, deliveries: list[Delivery]) -> list[Records]:
        return [read_delivery(delivery, self._webhook.data_selector) for delivery in deliveries]

    async def _find_new(self, session: WriteSession, deliveries: list[Delivery]) -> list[int]:
        """Indexes of those that were not landed before, and do not come twice here."""
        keys = [delivery.key for delivery in deliveries if delivery.key is not None]
        seconds = self._webhook.dedupe.retention
        known: set[str] = set()
        if keys:
            known = await known_deliveries(session, source=self.spec.name, keys=keys, retention_seconds=seconds)
        new: list[int] = []
        for at, delivery in enumerate(deliveries):
            if delivery.key is None or delivery.key not in known:
                new.append(at)
            if delivery.key is not None:
                known.add(delivery.key)
        return new

    def _land(self, parts: list[tuple[int, str | None, Records]]) -> Landed:
        """Each delivery is a page; the first of its records has its key."""
        landed = land(((page, records) for page, _, records in parts), read_keys=self._normalizer.read_keys)
        landed.delivery_keys = [key if at == 0 else None for _, key, records in parts for at in range(len(records))]
        return landed

    async def _stage(self, session: WriteSession, landed: Landed, *, pages: int) -> StagedBatch:
        if not landed:
            return StagedBatch(Counts(pages=pages))
        rules = StagingRules(
            normalizer=self._normalizer,
            kind="hook",
            remap=False,
            append=self.spec.table.write_disposition == "append",
            trusted=False,
            take_raw_ids=self._raw_ids.take,
            take_row_ids=self._row_ids.take,
        )
        held = Held(self.spec, lambda: nullcontext(ReadSession(session)), fresh=False, wary=True)
        _, current = await held.compare(landed, anew=True)
        staged = await _aside(len(landed), partial(stage, rules=rules, pages=pages), landed, current)
        await held.settle(staged, current, replaced={})
        if not rules.append:
            keep_delivery_keys(staged, landed, take_raw_ids=self._raw_ids.take)
        return staged


async def _aside(size: int, work: Callable[..., T], *given: Any) -> T:
    """In a thread, unless it is done sooner than a thread is found."""
    return work(*given) if size <= FEW else await asyncio.to_thread(work, *given)
