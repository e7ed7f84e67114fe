"""`etl sources`: what there is to pull, and a look before pulling it."""

import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from app.cli.looks import check_lines, preview_lines
from app.cli.output import to_json
from app.cli.process import CONFIGURATION, run_async
from app.cli.source_import import import_sources
from app.cli.source_init import init
from app.db import migrate
from app.errors import ConfigError
from app.extract.http import Fetcher
from app.operations import config
from app.operations import sources as operations
from app.resources import open_database
from app.settings import Settings, load_settings
from app.settings.secrets import read_secrets
from app.sources.auth import OAuth2RefreshToken
from app.sources.catalog import Catalog, WrongFile, open_catalog, resolve, why_not
from app.sources.reading import json_schema, read_source_file
from app.sources.resource import ResourceSpec

T = TypeVar("T")


cli = typer.Typer(help="Sources: list, check and preview them.", no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(help="Names of sources, or paths of source files; all by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@cli.command("list")
def list_sources(as_json: AsJson = False) -> int:
    """Print every resource there is, and what is wrong with files that are."""
    catalog = open_catalog(load_settings())
    listed = [operations.describe(spec) for spec in catalog]
    wrong = [operations.describe_wrong(file) for file in catalog.wrong]
    if as_json:
        print(to_json([*listed, *wrong]))
        return 0
    width = max((len(item.name or "?") for item in [*listed, *wrong]), default=0)
    for item in listed:
        print(f"{item.name:<{width}}  {item.type:<8}  {item.schedule:<10}  {item.reads}  ({item.where})")
    for item in wrong:
        for line in (item.error or "").splitlines():
            print(f"{item.name or '?':<{width}}  wrong     {line}")
    return 0


@cli.command("schema")
def print_schema(_as_json: AsJson = True) -> int:
    """Print the JSON Schema of a source file, for editors."""
    print(json.dumps(json_schema(), indent=2))
    return 0


@cli.command("config")
def print_config(
    name: Annotated[str, typer.Argument(help="Name of a source or a resource.")],
    resolved: Annotated[bool, typer.Option("--resolved", help="Each value with its origin.")] = False,
    as_json: AsJson = False,
) -> int:
    """Print a source as it is understood, defaults and all; with --json by resource, in one object."""
    settings = load_settings()
    catalog = open_catalog(settings)
    specs = catalog.look_up([name])
    _warn(catalog)
    if as_json:
        trees = {spec.name: config.resolved(spec, settings) if resolved else config.understood(spec) for spec in specs}
        print(to_json(trees, indent=2))
        return 0
    for spec in specs:
        if resolved:
            print("\n".join(_with_origins(spec, settings)))
        else:
            print(to_json(config.understood(spec), indent=2))
    return 0


@cli.command("check")
def check(names: Names = None, as_json: AsJson = False) -> int:
    """Ask each source for its first page and look at it; nothing is written. 1 when one fails, 2 for a wrong file."""
    settings = load_settings()

    async def look(spec: ResourceSpec, fetcher: Fetcher, among: Sequence[ResourceSpec]) -> operations.Check:
        return await operations.check(spec, fetcher, among=among)

    reports, wrong = _each(settings, names or [], look)
    reports += [operations.check_wrong(file) for file in wrong]
    if as_json:
        print(to_json(reports))
    else:
        for report in reports:
            print("\n".join(check_lines(report)))
    return CONFIGURATION if wrong else 0 if all(report.ok for report in reports) else 1


@cli.command("preview")
def preview(
    names: Names = None,
    rows: Annotated[int, typer.Option("--rows", min=1, max=1000, help="How many records.")] = 5,
    as_json: AsJson = False,
) -> int:
    """Show the first records as received and as they would be loaded; nothing is written."""
    settings = load_settings()

    async def look(
        spec: ResourceSpec, fetcher: Fetcher, among: Sequence[ResourceSpec]
    ) -> tuple[str, list[operations.PreviewRow]]:
        return spec.name, await operations.preview(spec, fetcher, limit=rows, among=among)

    found, wrong = _each(settings, names or [], look)
    if as_json:
        print(to_json(dict(found)))
        return CONFIGURATION if wrong else 0
    for name, shown in found:
        print("\n".join(preview_lines(name, shown)))
    return CONFIGURATION if wrong else 0


def _each(
    settings: Settings,
    names: list[str],
    look: Callable[[ResourceSpec, Fetcher, Sequence[ResourceSpec]], Coroutine[Any, Any, T]],
) -> tuple[list[T], list[WrongFile]]:
    """What the looks found; and, where all sources were asked for, the files that are wrong."""
    specs, catalog = _select(settings, names)
    among = [*catalog, *specs]
    _warn(catalog)

    async def all_of_them() -> list[T]:
        async with AsyncExitStack() as stack:
            database = None
            # A refresh token that is used up is lost, unless the next one is kept
            if any(isinstance(spec.client.auth, OAuth2RefreshToken) for spec in specs):
                database = await stack.enter_async_context(open_database(settings))
                await migrate.upgrade(database)
            fetcher = await stack.enter_async_context(Fetcher(settings.http, database))
            return [await look(spec, fetcher, among) for spec in specs]

    found = run_async(all_of_them(), settings, quiet=True)
    return found, [] if names else catalog.wrong


def _select(settings: Settings, names: list[str]) -> tuple[list[ResourceSpec], Catalog]:
    """
    Names from the catalogue; what ends in .toml is a file that need not be in the folder yet.

    Returns:
        What is selected, and the catalogue.
    """
    paths = [Path(name) for name in names if name.endswith(".toml")]
    others = [name for name in names if not name.endswith(".toml")]
    catalog = open_catalog(settings) if others or not paths else Catalog([])
    specs = catalog.select(others) if others or not paths else []
    for path in paths:
        source = read_source_file(path)
        found = partial(resolve, source, secrets=read_secrets(), where=str(path))
        selected = found(folder=path.absolute().parent, settings=settings) if source.enabled else []
        if not selected:
            raise ConfigError(why_not([*found(), *found(selected=False)][0]))
        specs += selected
    return specs, catalog


def _warn(catalog: Catalog) -> None:
    for file in catalog.wrong:
        for line in file.reason.splitlines():
            print(f"etl: {line}", file=sys.stderr)


def _with_origins(spec: ResourceSpec, settings: Settings) -> list[str]:
    shown = [
        (f"{'.'.join(path)} = {json.dumps(given.value, ensure_ascii=False)}", given.origin)
        for path, given in config.values(spec, settings)
    ]
    width = min(60, max(len(text) for text, _ in shown))
    return [f"{spec.name}: {spec.where}", *(f"  {text:<{width}}  {origin}" for text, origin in shown)]


cli.command("init")(init)
cli.command("import")(import_sources)
