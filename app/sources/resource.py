"""One resource of one source, resolved: what the pipeline is given to run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote, quote_plus

from pydantic import SecretStr

from app.errors import ConfigError
from app.records import BackfillRange, RawKind, RefreshScope
from app.sources.limits import RateLimit, Retry
from app.sources.rest import parent_fields
from app.sources.tables import AnyResource, Client, CsvResource, RestResource, RssResource, Schedule, WebhookResource
from app.sources.values import Spec, fill
from app.sources.webhook import WebhookSpec

SHORTEST_HIDDEN: Final = 4
"""Characters; to hide shorter ones would garble every message."""
BUILT_IN: Final = "built in"
"""Where the sources that the environment configures are from."""
Origin = Literal["default", "resource_defaults", "file", "env"]
"""Where a value is from."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The values behind `{secrets.NAME}`; looked up when they are used, never stored."""

    values: Mapping[str, SecretStr] = field(default_factory=dict)
    where: str = ""
    """The source file, for errors."""

    def fill(self, text: str) -> str:
        """
        The text with each `{secrets.NAME}` replaced by its value.

        Raises:
            ConfigError: there is no such secret.
        """
        return fill(text, self._value)

    def hide(self, text: str) -> str:
        """The text without any secret that a server may have repeated, be it encoded for a URL."""
        for value in self.values.values():
            secret = value.get_secret_value()
            if len(secret) >= SHORTEST_HIDDEN:
                for form in (secret, quote(secret, safe=""), quote(secret), quote_plus(secret)):
                    text = text.replace(form, "***")
        return text

    def _value(self, name: str) -> str:
        _, found, name = name.partition("secrets.")
        if not found or name not in self.values:
            raise ConfigError(
                f"{self.where}: there is no secret {name}; "
                f"set the variable ETL_SECRET_{name} or the file /run/secrets/{name}"
            )
        return self.values[name].get_secret_value()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceSpec:
    """
    A resource with everything its source says about it.

    One run extracts one resource; its rows carry `name` in the column `source`.
    """

    source: str
    """The source file's `name`."""
    table: AnyResource
    single: bool
    """The only resource of its source."""
    parent_table: AnyResource | None = None
    """Of the resource that `parent` names."""
    client: Client = field(default_factory=Client)
    rate_limit: RateLimit | None = None
    retry: Retry | None = None
    schedule: Schedule = field(default_factory=Schedule)
    secrets: Secrets = field(default_factory=Secrets)
    where: str = BUILT_IN
    """The file it was read from, for errors."""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Where a key (`client.base_url`, `resource.filter`) and what is below it is from, if not from the file itself."""
    backfill: BackfillRange | None = None
    """It is run for this range only, beside its live checkpoint."""
    refresh: RefreshScope | None = None
    """It is read from its beginning, whatever its checkpoint says."""
    private_hosts: frozenset[str] | None = None
    """Those that may be asked although they are not public; None: what `allow_private_networks` says of all."""

    @property
    def name(self) -> str:
        """`source`, or `source.resource` where a source has several."""
        return self.source if self.single else f"{self.source}.{self.table.name}"

    @property
    def resource(self) -> str:
        return self.table.name

    @property
    def raw_kind(self) -> RawKind:
        if isinstance(self.table, RssResource):
            return "feed"
        if isinstance(self.table, WebhookResource):
            return "hook"
        return "csv" if isinstance(self.table, CsvResource) else "rest"

    @property
    def is_pushed(self) -> bool:
        """It is delivered, and never asked for."""
        return isinstance(self.table, WebhookResource)

    def demand_asked(self) -> None:
        """
        Raises:
            ConfigError: it is delivered, and there is nobody to ask.
        """
        if isinstance(self.table, WebhookResource):
            raise ConfigError(f"{self.name} is delivered, to /hooks/{self.table.webhook.path}: there is nobody to ask")

    @property
    def webhook(self) -> WebhookSpec | None:
        """Where deliveries for it come in."""
        return self.table.webhook if isinstance(self.table, RestResource | WebhookResource) else None

    @property
    def body_url(self) -> str | None:
        """The URL or path of a file or a feed; None for what is read from an endpoint."""
        if isinstance(self.table, RssResource):
            return self.table.feed.url
        return self.table.file.url if isinstance(self.table, CsvResource) else None

    @property
    def parent(self) -> str | None:
        """The resource whose rows this one is asked for, by its name in the catalogue."""
        name = parent_name(self.table)
        return None if name is None else f"{self.source}.{name}"

    @property
    def is_incremental(self) -> bool:
        """Its runs ask only for what changed."""
        return isinstance(self.table, RestResource) and self.table.endpoint.incremental is not None

    def asks_for_part(self, state: Mapping[str, Any]) -> bool:
        """Whether a run that begins in this state of its checkpoint asks only for what changed, or for a range."""
        begun = self.is_incremental and not {"cursor_value", "cursor_values"}.isdisjoint(state)
        return begun or self.backfill is not None

    @property
    def keeps_fingerprints(self) -> bool:
        """
        Its unchanged stretches may be skipped.

        Not where a pass must see every record, and not with "append": what a repeated key
        becomes there depends on which records share a batch.
        """
        is_merged = self.table.write_disposition == "merge" and not self.table.needs_every_key
        return isinstance(self.table, CsvResource) and is_merged

    @property
    def mapping_hash(self) -> str:
        """Changes when the same records would normalize to other rows."""
        part = _said(self.table, include={"primary_key", "mapping", "filter", "schema_contract"})
        if self.table.deletes.mode == "none":
            part["deletes"] = {"mode": "none"}
        if isinstance(self.table, CsvResource):
            part["null_values"] = self.table.format.null_values
        return _hash(part)

    @property
    def request_hash(self) -> str:
        """
        Changes when another body is asked for; cursor and validators belong to one.

        Of a child it changes with what its parents' keys are, too: by these it knows where it stands with each, and
        they may be dealt out anew.
        """
        if isinstance(self.table, CsvResource):
            asked = _said(self.table, include={"file", "format"})
        elif isinstance(self.table, RssResource):
            asked = _said(self.table, include={"feed"})
        elif isinstance(self.table, WebhookResource):
            asked = {}
        else:
            asked = _said(self.table.endpoint, exclude={"response_actions", "headers"})
        if self.parent_table is not None:
            keys = _said(self.parent_table, include={"primary_key", "mapping"})
            asked["parent_keys"] = [keys.get("primary_key"), keys.get("mapping", {}).get("source_id")]
        return _hash({"base_url": self.client.base_url, **asked})


def parent_name(table: AnyResource) -> str | None:
    """The resource of its source for whose rows it is asked."""
    parents = (
        [parent for parent, _ in parent_fields(table.endpoint).values()] if isinstance(table, RestResource) else []
    )
    return parents[0] if parents else None


def _said(table: Spec, **only: set[str]) -> dict[str, Any]:
    """What the file says; defaults left out, so that a key added to the format changes no hash."""
    include, exclude = only.get("include"), only.get("exclude")
    return table.model_dump(mode="json", exclude_defaults=True, include=include, exclude=exclude)


def _hash(tree: object) -> str:
    return hashlib.blake2b(json.dumps(tree, sort_keys=True).encode(), digest_size=12).hexdigest()
