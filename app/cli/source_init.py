"""`etl sources init`: from a URL to a source file that works."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import SecretStr

from app.cli.looks import check_lines, preview_lines
from app.cli.process import CONFIGURATION, run_async
from app.errors import ConfigError, EtlError
from app.extract.http import Fetcher
from app.operations import sources as operations
from app.operations.draft import Draft
from app.operations.init import draft_source, name_for
from app.settings import Settings, load_settings
from app.settings.secrets import PREFIX, read_secrets
from app.sources.catalog import resolve
from app.sources.reading import read_source_file
from app.sources.resource import ResourceSpec

PREVIEW_ROWS: Final = 2
PREVIEW_CHARACTERS: Final = 160


def init(
    url: Annotated[str, typer.Argument(help="Of a JSON API, a CSV file or a feed; or the path of a CSV file.")],
    name: Annotated[str | None, typer.Option("--name", help="Of the source; made of the URL when omitted.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="The file to write; SOURCES_DIR/NAME.toml when omitted.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", help='"Name: value", repeatable; may hold {secrets.NAME}.')
    ] = None,
    auth_secret: Annotated[
        str | None, typer.Option("--auth-secret", help="Send the secret of this name as a bearer token.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> int:
    """Ask a URL a few questions and write its source file. 0 it works, 1 the source does not deliver, 2 edit first."""
    settings = load_settings()
    path = output or settings.sources.folder / f"{name or name_for(url)}.toml"
    if path.exists() and not force:
        raise ConfigError(f"{path}: is there already; --force writes over it, --name or --output writes another file")
    drafting = draft_source(
        url, settings, name=name, headers=header or (), token_secret=auth_secret, folder=path.absolute().parent
    )
    draft = run_async(drafting, settings, quiet=True)
    write_file(path, draft.text())
    asked = f", after {draft.requests} request{'' if draft.requests == 1 else 's'}" if draft.requests else ""
    print(f"{path}: written{asked}")
    for line in draft.missing:
        print(f"  not found: {line}")
    roots = _missing_roots(draft, settings)
    code = _look(path, draft, load_settings(FILE_ROOTS=roots) if roots else settings)
    _say_what_next(path, draft, settings, code, roots=roots)
    return code


def write_file(path: Path, text: str) -> None:
    """
    Put a source file in its place, whole.

    Raises:
        ConfigError: it cannot be written there.
    """
    # The catalogue reads *.toml: nobody meets half a file
    beside = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, "utf-8")
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; choose another place with --output") from None


def _missing_roots(draft: Draft, settings: Settings) -> str | None:
    """FILE_ROOTS as it is to be; None where it need not change. Who types a path means that it may be read."""
    known = settings.sources.file_roots
    if draft.root is None or any(draft.root.is_relative_to(one.absolute()) for one in known):
        return None
    return ",".join(map(str, (*known, draft.root)))


def _look(path: Path, draft: Draft, settings: Settings) -> int:
    """Say what `check` and `preview` say of the file; the exit code."""
    try:
        specs = _resolved(path, draft.secrets, settings)
    except ConfigError as error:
        print(f"{draft.name}: {error.error_class}: {error}")
        return CONFIGURATION

    async def looks() -> list[tuple[operations.Check, list[operations.PreviewRow]]]:
        found = []
        async with Fetcher(settings.http) as fetcher:
            for spec in specs:
                report = await operations.check(spec, fetcher, among=specs)
                shown: list[operations.PreviewRow] = []
                if report.ok:
                    try:
                        shown = await operations.preview(spec, fetcher, limit=PREVIEW_ROWS, among=specs)
                    except EtlError as error:
                        report.ok, report.error, report.error_class = False, str(error), error.error_class
                found.append((report, shown))
        return found

    reports = run_async(looks(), settings, quiet=True)
    for report, shown in reports:
        print("\n".join(check_lines(report)))
        if shown:
            print("\n".join(map(_short, preview_lines(f"{report.name}, its first rows", shown))))
    if all(report.ok for report, _ in reports) and (any(report.records for report, _ in reports) or not draft.missing):
        return 0
    return CONFIGURATION if draft.missing or any(one.error_class == "config_error" for one, _ in reports) else 1


def _short(line: str) -> str:
    """A record in one line, as far as a terminal is wide."""
    indent = line[: len(line) - len(line.lstrip())]
    return (indent + " ".join(line.split()))[:PREVIEW_CHARACTERS]


def _resolved(path: Path, secrets: Mapping[str, SecretStr], settings: Settings) -> list[ResourceSpec]:
    known = {**read_secrets(), **secrets}
    source = read_source_file(path)
    return resolve(source, secrets=known, where=str(path), folder=path.absolute().parent, settings=settings)


def _say_what_next(path: Path, draft: Draft, settings: Settings, code: int, *, roots: str | None) -> None:
    lines = [f"export {PREFIX}{secret}=…" for secret in draft.secrets]
    lines += [f"export FILE_ROOTS={shlex.quote(roots)}"] if roots else []
    folder = settings.sources.folder
    if code:
        lines = [f"edit {path}", *lines, f"etl sources check {path}"]
    elif path.absolute().parent == folder.absolute():
        lines.append(f"etl run {draft.name}")
    else:
        lines += [f"mv {path} {folder}/", f"etl run {draft.name}"]
    print("next:")
    print("\n".join(f"  {line}" for line in lines))
