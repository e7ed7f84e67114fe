"""The tables of a source file, whole: what is shared, what each resource says, and the kinds of source."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from app.sources.auth import AuthSpec
from app.sources.csv_format import CsvFormat, FileSpec
from app.sources.feed import ENTRY_MAPPING, FeedSpec
from app.sources.limits import RateLimit, Retry, Timeouts
from app.sources.mapping import ContractSpec, Deletes, Expect, Filter, Mapping
from app.sources.paginators import PaginatorSpec
from app.sources.rest import Endpoint, parent_fields
from app.sources.values import Duration, Spec, check_timezone, refuse_literals
from app.sources.webhook import WebhookSpec

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$")]


def _one_is_a_list_of_one(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_one_is_a_list_of_one, json_schema_input_type=str | list[str])]


class Schedule(Spec):
    """When the source is due; by default with each tick, every ETL_INTERVAL."""

    interval: Duration | None = None
    cron: str | None = Field(None, description="Five fields.")
    timezone: str = Field("UTC", description="IANA name; of the cron expression.")
    max_staleness: Duration | None = Field(None, description="Older than this, its data are stale: /health says so.")
    jitter: Duration = Field("PT0S", validate_default=True, description="Up to this much later, drawn anew each time.")

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.interval is not None and self.cron is not None:
            raise ValueError("interval and cron are two schedules; give one")
        if self.interval is not None and self.interval < 1:
            raise ValueError("interval is at least PT1S")
        if self.max_staleness is not None and self.max_staleness < max(1, self.interval or 0):
            raise ValueError("max_staleness is at least PT1S, and not shorter than the interval")
        check_timezone(self.timezone)
        if self.cron is not None:
            try:
                CronSim(self.cron, datetime(2026, 1, 1, tzinfo=UTC))
            except CronSimError as error:
                raise ValueError(f'cron: {error}; five fields, for example "15 6 * * *" (06:15 each day)') from None
        return self


class Client(Spec):
    base_url: str | None = Field(None, pattern=r"^https?://[^/?#\s]+", description="What endpoint paths are below.")
    headers: dict[str, str] = Field(default_factory=dict, description="May hold {secrets.NAME}.")
    auth: AuthSpec | None = None
    paginator: PaginatorSpec | None = None
    timeout: Timeouts = Field(default_factory=Timeouts)
    max_response_bytes: int | None = Field(None, ge=1024, description="Decompressed.")
    allow_private_networks: bool = Field(default=False, description="May reach addresses that are not public.")
    conditional_requests: bool = True

    @field_validator("headers")
    @classmethod
    def _names_no_secret(cls, value: dict[str, str]) -> dict[str, str]:
        refuse_literals(value)
        return value


class _Resource(Spec):
    name: Name
    selected: bool = True
    primary_key: Names = ()
    write_disposition: Literal["merge", "append", "replace"] = "merge"
    schema_contract: ContractSpec = Field(default_factory=dict, validate_default=True)
    filter: tuple[Filter, ...] = ()
    mapping: Mapping = Field(default_factory=Mapping)
    deletes: Deletes = Field(default_factory=Deletes)
    expect: Expect = Field(default_factory=Expect)

    @property
    def is_whole(self) -> bool:
        """What a pass does not bring is gone: each must meet every record."""
        return self.write_disposition == "replace" or self.deletes.detect == "snapshot"

    @property
    def needs_every_key(self) -> bool:
        """A pass may skip no record, however well it is known."""
        return self.is_whole or "source_id" in self.expect.unique

    @model_validator(mode="after")
    def _deliveries_are_kept(self) -> Self:
        if self.schema_contract.data_type == "freeze" and getattr(self, "webhook", None) is not None:
            raise ValueError('schema_contract: "freeze" fails a run, and a delivery is kept; write "reject_row"')
        return self

    @model_validator(mode="after")
    def _absence_means_one_thing(self) -> Self:
        if self.deletes.detect == "snapshot" and self.write_disposition != "merge":
            raise ValueError(
                f'deletes.detect = "snapshot" goes with write_disposition = "merge"; {self.write_disposition} '
                + ("replaces what did not come by itself" if self.is_replaced else "leaves rows as they are")
            )
        if self.deletes.guard_ratio is not None and not self.is_whole:
            raise ValueError('deletes.guard_ratio needs deletes.detect = "snapshot" or write_disposition = "replace"')
        return self

    @property
    def is_replaced(self) -> bool:
        return self.write_disposition == "replace"


class RestResource(_Resource):
    endpoint: Endpoint = Field(default_factory=Endpoint)
    webhook: WebhookSpec | None = Field(None, description="Push for speed, beside polling for truth.")

    @model_validator(mode="after")
    def _absence_says_nothing_of_deliveries(self) -> Self:
        if self.is_whole and self.webhook is not None:
            key = 'write_disposition = "replace"' if self.is_replaced else 'deletes.detect = "snapshot"'
            raise ValueError(f"{key} would delete what was delivered while a pass went on; leave it, or webhook, out")
        return self

    @model_validator(mode="after")
    def _whole_passes_are_not_incremental(self) -> Self:
        if self.is_whole and self.endpoint.incremental is not None:
            key = 'write_disposition = "replace"' if self.is_replaced else 'deletes.detect = "snapshot"'
            raise ValueError(
                f"{key} needs passes that bring everything; endpoint.incremental asks only for what changed"
            )
        return self


class CsvResource(_Resource):
    file: FileSpec
    format: CsvFormat = Field(default_factory=CsvFormat)


class RssResource(_Resource):
    mapping: Mapping = ENTRY_MAPPING
    feed: FeedSpec

    @model_validator(mode="after")
    def _what_fell_off_is_not_deleted(self) -> Self:
        if self.deletes.detect == "snapshot":
            raise ValueError(
                'deletes.detect = "snapshot" means nothing for a feed: it lists its newest entries, and those that '
                "fall off were not deleted; leave it out"
            )
        return self


class WebhookResource(_Resource):
    webhook: WebhookSpec

    @model_validator(mode="after")
    def _deliveries_are_no_passes(self) -> Self:
        if self.is_whole:
            key = 'write_disposition = "replace"' if self.is_replaced else 'deletes.detect = "snapshot"'
            raise ValueError(f"{key} needs passes that bring everything; a webhook delivers one by one")
        if self.expect.model_fields_set:
            raise ValueError("expect judges passes over a source; deliveries are none: leave it out")
        return self


AnyResource = RestResource | CsvResource | RssResource | WebhookResource


class _Source(Spec):
    name: Name
    enabled: bool = True
    description: str | None = None
    schedule: Schedule = Field(default_factory=Schedule)
    client: Client = Field(default_factory=Client)
    rate_limit: RateLimit | None = None
    retry: Retry | None = None
    _inherited: Sequence[Sequence[str]] = PrivateAttr(())

    def note_inherited(self, keys: Sequence[Sequence[str]]) -> None:
        """
        Args:
            keys: for each resource, the dotted keys that it has from `resource_defaults`.
        """
        self._inherited = keys

    @property
    def inherited(self) -> dict[str, Sequence[str]]:
        """The same by the name of the resource."""
        names = [resource.name for resource in getattr(self, "resources", ())]
        return dict(zip(names, self._inherited, strict=False))

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [resource.name for resource in getattr(self, "resources", ())]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two resources are called {', '.join(twice)}")
        return self


class RestSource(_Source):
    type: Literal["rest_api"]
    resources: Annotated[tuple[RestResource, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _paths_lead_somewhere(self) -> Self:
        for resource in self.resources:
            path = resource.endpoint.path
            if self.client.base_url is None and not path.startswith(("http://", "https://")):
                raise ValueError(f"resource {resource.name}: client.base_url is missing, and its path is no full URL")
        return self

    @model_validator(mode="after")
    def _parents_are_there(self) -> Self:
        names = {resource.name for resource in self.resources if resource.selected}
        for resource in self.resources:
            for parent, _ in parent_fields(resource.endpoint).values():
                if parent == resource.name or parent not in names:
                    raise ValueError(f"resource {resource.name}: its parent {parent} is no selected resource here")
        return self


class CsvSource(_Source):
    type: Literal["csv"]
    resources: Annotated[tuple[CsvResource, ...], Field(min_length=1)]


class RssSource(_Source):
    type: Literal["rss"]
    resources: Annotated[tuple[RssResource, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _client_is_for_bodies(self) -> Self:
        if self.client.base_url is not None:
            raise ValueError("client.base_url means nothing for a feed; write the whole URL into feed.url")
        if self.client.paginator is not None:
            raise ValueError("client.paginator means nothing for a feed, which is one body; leave it out")
        return self


class WebhookSource(_Source):
    type: Literal["webhook"]
    resources: Annotated[tuple[WebhookResource, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _nobody_is_asked(self) -> Self:
        for name in ("client", "retry"):
            if name in self.model_fields_set:
                raise ValueError(f"{name} means nothing for a webhook: it asks nobody; leave it out")
        if self.schedule.model_fields_set - {"max_staleness"}:
            raise ValueError("schedule: a webhook is not run, it is delivered to; only max_staleness means something")
        return self


AnySource = RestSource | CsvSource | RssSource | WebhookSource
SourceTable = Annotated[AnySource, Field(discriminator="type")]
"""A whole source file."""
