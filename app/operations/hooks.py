"""Where deliveries come in: each path with its verifier, its limit and its receiver, for as long as a service runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import structlog

from app.errors import EtlError, StoreError
from app.extract.limits import Bucket
from app.extract.webhook import Verifier
from app.pipeline.hooks import Receiver
from app.pipeline.ledger import RunOrder
from app.pipeline.replay import needs_replay, replay_source
from app.resources import Resources
from app.scheduler import close_orphans
from app.sources.resource import ResourceSpec
from app.sources.webhook import WebhookSpec

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Hook:
    webhook: WebhookSpec
    verifier: Verifier
    receiver: Receiver
    bucket: Bucket | None
    """None: as fast as they come."""


class Hooks:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._hooks: dict[str, Hook] = {}
        self.held_bytes = 0
        """Of bodies that are coming."""

    def find(self, path: str) -> Hook | None:
        return self._hooks.get(path)

    def open(self) -> None:
        """Begin to receive, for each resource that is delivered to; one that cannot be hinders no other."""
        for spec in self._resources.catalog:
            if spec.webhook is None:
                continue
            try:
                hook = _open(spec, spec.webhook, self._resources)
            except EtlError as error:
                log.error("hook_not_opened", source=spec.name, path=spec.webhook.path, reason=str(error))
                continue
            self._hooks[spec.webhook.path] = hook

    async def close(self) -> None:
        hooks, self._hooks = list(self._hooks.values()), {}
        await asyncio.gather(*(hook.receiver.close() for hook in hooks))

    async def keep(self) -> None:
        """What ticks do for sources that are run: where nothing is, there are none."""
        if not self._hooks:
            return
        lease_seconds = self._resources.settings.schedule.lease_seconds
        old = [spec for spec in self._resources.catalog if spec.is_pushed]
        while True:
            old = [spec for spec in old if not await self._renew(spec)]
            await asyncio.sleep(lease_seconds)
            await close_orphans(self._resources)

    async def _renew(self, spec: ResourceSpec) -> bool:
        """Rows that another mapping made are made anew from raw; False: the database would not, try again."""
        resources = self._resources
        try:
            if not await resources.prepare_schema():
                return False
            if await needs_replay(spec, resources.database):
                order = RunOrder(spec, uuid4(), "replay", resources.settings.schedule.lease_seconds)
                await replay_source(order, database=resources.database, presence=resources.presence)
        except EtlError as error:
            log.warning("replay_failed", source=spec.name, reason=str(error))
            return not isinstance(error, StoreError)
        return True


def _open(spec: ResourceSpec, webhook: WebhookSpec, resources: Resources) -> Hook:
    """
    Raises:
        ConfigError: its mapping cannot work, or a secret is not there.
    """
    limit = spec.rate_limit
    bucket = None
    if limit is not None and spec.is_pushed:
        bucket = Bucket(requests=limit.requests, per_seconds=limit.per, burst=limit.burst or limit.requests)
    verifier = Verifier(webhook, webhook.read_keys(spec.secrets.fill))
    given = resources.settings.schedule
    receiver = Receiver(
        spec,
        resources.database,
        holder=resources.presence.holder,
        interval_seconds=given.interval_seconds,
        lease_seconds=given.lease_seconds,
    )
    return Hook(webhook, verifier, receiver, bucket)


@asynccontextmanager
async def receiving(resources: Resources) -> AsyncIterator[Hooks]:
    """While the block runs; what was taken by its end is written."""
    hooks = Hooks(resources)
    hooks.open()
    keeping = asyncio.create_task(hooks.keep(), name="hooks")
    try:
        yield hooks
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
        await hooks.close()
