"""`etl sources import`: from another tool's file to source files of ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from app.cli.output import to_json
from app.cli.process import CONFIGURATION
from app.cli.source_init import write_file
from app.errors import ConfigError
from app.operations.importing import Import, import_file
from app.settings import load_settings
from app.settings.secrets import PREFIX


def import_sources(
    file: Annotated[Path, typer.Argument(help="An Airbyte manifest (YAML, JSON), or a dlt configuration (JSON, .py).")],
    output: Annotated[Path | None, typer.Option("--output", help="The folder; SOURCES_DIR when omitted.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the source; that of the file when omitted.")] = None,
    config: Annotated[
        list[str] | None, typer.Option("--config", help="KEY=VALUE, repeatable: an input that is no secret.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Convert a dlt or Airbyte configuration. 0 all of it, 2 something was refused, and is said with its reason."""
    folder = output or load_settings().sources.folder
    found = import_file(file, name=name, config=dict(map(_pair, config or ())))
    paths = [folder / f"{one.name}.toml" for one in found]
    there = [path for path, one in zip(paths, found, strict=True) if one.text is not None and path.exists()]
    if there and not force:
        raise ConfigError(
            f"{there[0]}: is there already; --force writes over it, --name or --output writes another file"
        )
    for path, one in zip(paths, found, strict=True):
        if one.text is not None:
            write_file(path, one.text)
    if as_json:
        print(to_json([_as_tree(path, one) for path, one in zip(paths, found, strict=True)]))
    else:
        for path, one in zip(paths, found, strict=True):
            print("\n".join(_as_text(path, one)))
    return CONFIGURATION if any(one.refused for one in found) or not any(one.text for one in found) else 0


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ConfigError(f"--config {text}: is written KEY=VALUE")
    return key, value


def _as_tree(path: Path, one: Import) -> dict[str, object]:
    return {
        "name": one.name,
        "file": str(path) if one.text is not None else None,
        "streams": one.streams,
        "refused": [item._asdict() for item in one.refused],
        "left_out": [item._asdict() for item in one.lost],
        "secrets": one.secrets,
    }


def _as_text(path: Path, one: Import) -> Sequence[str]:
    total = len(one.streams) + len(one.refused)
    lines = [f"{path if one.text is not None else one.name}: {len(one.streams)} of {total} streams converted"]
    lines += [f"  refused: {item.name}: {item.path}: {item.reason}" for item in one.refused]
    lines += [f"  left out: {item.path}: {item.reason}" for item in one.lost]
    if one.text is not None:
        lines += [
            "next:",
            *(f"  export {PREFIX}{secret}=…" for secret in one.secrets),
            f"  etl sources check {one.name}",
        ]
    else:
        lines.append("  nothing was written")
    return lines
