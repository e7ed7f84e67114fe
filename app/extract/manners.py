"""What a source's file says about asking it, with the service's own settings where it says nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.extract.limits import DEFAULT_CONCURRENCY
from app.settings.sources import HttpSettings
from app.sources.resource import ResourceSpec
from app.sources.rest import ResponseAction
from app.sources.tables import RestResource


@dataclass(frozen=True, slots=True)
class Manners:
    """How one resource is asked; times in seconds, sizes in bytes."""

    headers: Mapping[str, str]
    connect_timeout_seconds: float
    read_timeout_seconds: float
    total_timeout_seconds: float
    file_timeout_seconds: float
    min_bytes_per_second: int
    max_page_bytes: int
    max_file_bytes: int
    allow_private_networks: bool
    actions: tuple[ResponseAction, ...]
    concurrency: int
    """Requests in flight."""

    @classmethod
    def of(cls, spec: ResourceSpec, settings: HttpSettings) -> "Manners":
        given, timeout = spec.client, spec.client.timeout
        endpoint = spec.table.endpoint if isinstance(spec.table, RestResource) else None
        headers = {**given.headers, **(endpoint.headers if endpoint else {})}
        return cls(
            headers={name: spec.secrets.fill(value) for name, value in headers.items()},
            connect_timeout_seconds=timeout.connect or settings.connect_timeout_seconds,
            read_timeout_seconds=timeout.read or settings.read_timeout_seconds,
            total_timeout_seconds=timeout.total or settings.total_timeout_seconds,
            file_timeout_seconds=timeout.total or settings.file_timeout_seconds,
            min_bytes_per_second=settings.min_bytes_per_second,
            max_page_bytes=given.max_response_bytes or settings.max_page_bytes,
            max_file_bytes=given.max_response_bytes or settings.max_file_bytes,
            allow_private_networks=given.allow_private_networks,
            actions=endpoint.response_actions if endpoint else (),
            concurrency=spec.rate_limit.concurrency if spec.rate_limit else DEFAULT_CONCURRENCY,
        )
