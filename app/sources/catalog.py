"""Every resource there is: the two built-in sources, and those of the folder of source files."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from app.errors import ConfigError
from app.settings import Settings
from app.settings.secrets import read_secrets
from app.sources.csv_format import FileSpec
from app.sources.feed import FeedSpec
from app.sources.reading import read_name, read_source, read_source_file
from app.sources.resource import BUILT_IN, Origin, ResourceSpec, Secrets, parent_name
from app.sources.tables import AnyResource, AnySource, CsvResource, RssResource

_DEFAULTS: Final[Origin] = "resource_defaults"

Body = TypeVar("Body", FileSpec, FeedSpec)


@dataclass(frozen=True, slots=True)
class WrongFile:
    """A source file that nothing is read with until somebody mends it."""

    where: str
    name: str | None
    """Of its source, as far as that can be told."""
    reason: str
    """One line for each fault, each beginning with the file."""


class Catalog:
    """
    Args:
        disabled: known by name, and otherwise as if they were not there; those that their source does not select, too.
        wrong: files of which no more than that is known.
    """

    def __init__(
        self,
        resources: Iterable[ResourceSpec],
        *,
        disabled: Iterable[ResourceSpec] = (),
        wrong: Iterable[WrongFile] = (),
    ) -> None:
        self._resources = {resource.name: resource for resource in resources}
        self._disabled = list(disabled)
        self.wrong = list(wrong)

    def __iter__(self) -> Iterator[ResourceSpec]:
        return iter(self._resources.values())

    def has(self, name: str) -> bool:
        """Whether there is a resource of this name; or may be, once the file of its source is mended."""
        return name in self._resources or any(file.name == name.partition(".")[0] for file in self.wrong)

    def select(self, names: Iterable[str]) -> list[ResourceSpec]:
        """
        The resources of these names, or of the sources of these names; all of them when none is named.

        Raises:
            ConfigError: a name is not in the catalogue, or disabled, or of a file that is wrong.
        """
        wanted = list(dict.fromkeys(names))
        meant = {name.partition(".")[0] for name in wanted}
        faults = [file.reason for file in self.wrong if file.name in meant]
        if faults:
            raise ConfigError("\n".join(faults))
        active = {one.source for one in self}
        for one in self._disabled:
            if one.name in wanted or (one.source in wanted and one.source not in active):
                raise ConfigError(why_not(one))
        unknown = [name for name in wanted if not any(name in {one.name, one.source} for one in self)]
        if unknown:
            there = f"unknown source {', '.join(unknown)}; there are: {', '.join(self._resources)}"
            raise ConfigError("\n".join([there, *(file.reason for file in self.wrong)]))
        return [one for one in self if not wanted or one.name in wanted or one.source in wanted]

    def look_up(self, names: Iterable[str]) -> list[ResourceSpec]:
        """The same for what asks no source and writes nothing: disabled ones, too."""
        return Catalog([*self, *self._disabled], wrong=self.wrong).select(names)

    def demand_right(self) -> None:
        """
        Raises:
            ConfigError: a file is wrong; one line for each fault of each.
        """
        if self.wrong:
            raise ConfigError("\n".join(file.reason for file in self.wrong))


def open_catalog(settings: Settings) -> Catalog:
    """
    Read the source files anew; one that is wrong hinders no other.

    But a name that it has, too, is nobody's: whose the rows of that name are cannot be told from here, and the other
    one's next pass might take them for its own.
    """
    secrets = read_secrets()
    built_in = {"api": _builtin_api, "csv": _builtin_csv}
    resources = [spec for name in settings.sources.built_in for spec in built_in[name](settings)]
    disabled: list[ResourceSpec] = []
    wrong: list[WrongFile] = []
    places = {name: f"the built-in source {name}; see BUILT_IN_SOURCES" for name in settings.sources.built_in}
    hooks: dict[str, str] = {}
    for path in _source_files(settings.sources.folder):
        faults: list[str] = []
        try:
            source = read_source_file(path)
            if source.name in places:
                faults.append(f"{path}: name: {source.name} is taken by {places[source.name]}; neither is used")
            places[source.name] = str(path)
            found = partial(resolve, source, secrets=secrets, where=str(path))
            if source.enabled:
                there = found(folder=path.parent, settings=settings)
                faults += _hook_faults(there, hooks)
                resources += there
            else:  # its files are not looked for: where they lie hinders nobody
                disabled += found()
            disabled += found(selected=False)
        except ConfigError as error:
            faults.append(str(error))
        if faults:
            wrong.append(WrongFile(str(path), read_name(path), "\n".join(faults)))
    nobodys = {file.name for file in wrong}
    return Catalog(
        (spec for spec in resources if spec.source not in nobodys),
        disabled=(spec for spec in disabled if spec.source not in nobodys),
        wrong=wrong,
    )


def resolve(
    source: AnySource,
    *,
    secrets: Mapping[str, SecretStr],
    where: str,
    folder: Path | None = None,
    settings: Settings | None = None,
    origins: Mapping[str, Origin] | None = None,
    selected: bool = True,
) -> list[ResourceSpec]:
    """
    The resources that a source file selects, whether it is enabled or not; or those that it does not.

    Args:
        folder: below which its files may lie, beside the folders in FILE_ROOTS.
        origins: of what did not stand in the file; see `ResourceSpec`.

    Raises:
        ConfigError: a path lies elsewhere.
    """
    tables: dict[str, AnyResource] = {table.name: table for table in source.resources}
    roots = [*([folder] if folder else []), *(settings.sources.file_roots if settings else ())]
    return [
        ResourceSpec(
            source=source.name,
            table=_placed(table, roots, where) if folder else table,
            single=len(source.resources) == 1,
            parent_table=tables.get(parent_name(table) or ""),
            client=source.client,
            rate_limit=source.rate_limit,
            retry=source.retry,
            schedule=source.schedule,
            secrets=Secrets(secrets, where),
            where=where,
            origins={
                **dict.fromkeys((f"resource.{key}" for key in source.inherited.get(table.name, ())), _DEFAULTS),
                **(origins or {}),
            },
        )
        for table in source.resources
        if table.selected is selected
    ]


def why_not(one: ResourceSpec) -> str:
    """Why a resource that is known does not run."""
    if not one.table.selected:
        return f"{one.name} is not selected: selected = false in {one.where}"
    return f"{one.source} is disabled: enabled = false in {one.where}"


def _hook_faults(specs: Iterable[ResourceSpec], taken: dict[str, str]) -> Iterator[str]:
    """Why nobody could deliver: a path that another resource has, a secret that is not there, or none."""
    for spec in specs:
        if (webhook := spec.webhook) is None:
            continue
        key = f"{spec.where}: {spec.resource}.webhook"
        if webhook.path in taken:
            yield f"{key}.path: /hooks/{webhook.path} is taken by {taken[webhook.path]}"
        taken[webhook.path] = spec.name
        try:
            webhook.read_keys(spec.secrets.fill)
        except ConfigError as error:
            yield str(error)
        except ValueError as error:
            yield f"{key}.verify: {error}"


def _source_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.toml")) if folder.is_dir() else []


def _placed(table: AnyResource, roots: list[Path], where: str) -> AnyResource:
    """A file's or a feed's path made absolute; one outside of the roots is refused, links followed."""
    if isinstance(table, CsvResource):
        return table.model_copy(update={"file": _in_place(table.file, roots, f"{where}: {table.name}.file.url")})
    if isinstance(table, RssResource):
        return table.model_copy(update={"feed": _in_place(table.feed, roots, f"{where}: {table.name}.feed.url")})
    return table


def _in_place(body: Body, roots: list[Path], key: str) -> Body:
    url = body.url
    scheme, found, rest = url.partition("://")
    if scheme.lower() in {"http", "https"}:
        return body
    try:
        path = (roots[0] / Path(rest if found and scheme.lower() == "file" else url).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a user or a NUL that no path has, links in a circle
        raise ConfigError(f"{key}: {url!r} is no path of a file: {error}") from None
    if not any(path.is_relative_to(root.resolve()) for root in roots):
        raise ConfigError(f"{key}: {url} is outside of {roots[0]}; name its folder in FILE_ROOTS")
    return body.model_copy(update={"url": str(path)})


def _builtin(name: str) -> dict[str, Any]:
    return tomllib.loads((files("app.sources") / "builtin" / f"{name}.toml").read_text("utf-8"))


def _builtin_api(settings: Settings) -> list[ResourceSpec]:
    given = settings.sources
    tree = _builtin("api")
    parts = urlsplit(endpoint(given.api_host))
    tree["client"] = {"base_url": given.api_host, "allow_private_networks": True}
    tree["resources"][0]["endpoint"]["path"] = urlunsplit(parts)
    secrets: dict[str, SecretStr] = {}
    if given.api_key is not None:
        secrets["API_KEY"] = given.api_key
        tree["client"]["auth"] = {"type": "bearer", "token": "{secrets.API_KEY}"}
    host: Origin = _said(settings, "api_host")
    origins: dict[str, Origin] = {
        "client.base_url": host,
        "client.allow_private_networks": "default",
        "client.auth": "env",
        "resource.endpoint.path": host,
    }
    return resolve(read_source(tree, where="API_HOST"), secrets=secrets, where=BUILT_IN, origins=origins)


def _builtin_csv(settings: Settings) -> list[ResourceSpec]:
    given = settings.sources
    tree = _builtin("csv")
    tree["client"] = {"allow_private_networks": True}
    tree["resources"][0]["file"]["url"] = given.csv_url
    if given.csv_id_column is not None:
        tree["resources"][0]["primary_key"] = [given.csv_id_column]
    origins: dict[str, Origin] = {
        "client.allow_private_networks": "default",
        "resource.file.url": _said(settings, "csv_url"),
        "resource.primary_key": "env",
    }
    return resolve(read_source(tree, where="CSV_URL"), secrets={}, where=BUILT_IN, origins=origins)


def _said(settings: Settings, name: str) -> Origin:
    return "env" if name in settings.sources.model_fields_set else "default"


def endpoint(api_host: str) -> str:
    """`/posts` of a host; a URL that has a path of its own is taken as it is."""
    parts = urlsplit(api_host)
    return api_host if parts.path.strip("/") else urlunsplit(parts._replace(path="/posts"))
