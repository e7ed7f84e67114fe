"""`etl replay`: normalize raw rows again, without asking the source."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from app.cli.output import MAX_ID, check_fingerprint, to_json
from app.cli.process import CONFIGURATION, LOCKED, run_async
from app.clock import in_utc
from app.operations import replay as operations
from app.pipeline.replay import ReplayDone
from app.records import Replayed, ReplayRange
from app.resources import open_ready
from app.settings import Settings, load_settings

_KINDS: Final = ("unchanged", "changed", "moved", "healed", "rejected", "filtered", "deleted", "overtaken")


def replay(
    name: Annotated[str, typer.Argument(help="Name of a source or a resource.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; nothing is written.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Rows landed at this time or later, in ISO 8601.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Rows landed before this time.")] = None,
    run: Annotated[int | None, typer.Option("--run", min=1, max=MAX_ID, help="Rows that this run landed.")] = None,
    source_id: Annotated[list[str] | None, typer.Option("--source-id", help="Rows with this key; repeatable.")] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Only rows that are rejected.")] = False,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            "--fingerprint", callback=check_fingerprint, help="Only rows rejected for this reason, see `etl rejects`."
        ),
    ] = None,
    print_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> int:
    """Normalize raw rows as the mapping says now; no source is asked. 0 done, 1 failed, 2 configuration, 75 locked."""
    settings = load_settings()
    keys = tuple(source_id or ())
    chosen = ReplayRange(_moment("--since", since), _moment("--until", until), run, keys, rejected, fingerprint)
    on_terminal = sys.stderr.isatty() and not print_json
    work = _replay(settings, name, chosen, dry_run=dry_run, print_json=print_json, shown=on_terminal)
    return run_async(work, settings, quiet=True)


async def _replay(
    settings: Settings, name: str, chosen: ReplayRange, *, dry_run: bool, print_json: bool, shown: bool
) -> int:
    on_progress = _show_progress if shown else None
    async with open_ready(settings) as resources:
        specs = resources.catalog.select([name])
        if chosen.fingerprint is not None:
            specs = await operations.rejected_for(resources, specs, chosen.fingerprint)
        if dry_run:
            found = await operations.preview(resources, specs, chosen, on_progress=on_progress)
            print(_as_json(found) if print_json else _as_text(found, dry_run=True))
            return 0
        done = await operations.replay(resources, specs, chosen, on_progress=on_progress)
    print(_done_as_json(done) if print_json else _done_as_text(done))
    return max(map(_exit_code, done.values()), default=0)


def _moment(option: str, given: str | None) -> datetime | None:
    if given is None:
        return None
    try:
        return in_utc(datetime.fromisoformat(given))
    except ValueError:
        raise typer.BadParameter(f"{option} takes a time as 2026-01-31T12:00:00Z; not {given!r}") from None


def _show_progress(name: str, walked: int) -> None:
    print(f"\r{name}: {walked:,} raw rows", end="", file=sys.stderr, flush=True)


def _exit_code(done: ReplayDone | None) -> int:
    if done is None:
        return LOCKED
    if done.report.status == "succeeded":
        return 0
    return CONFIGURATION if done.report.error_class == "config_error" else 1


def _as_json(found: Mapping[str, Replayed]) -> str:
    return to_json({name: as_tree(replayed) for name, replayed in found.items()})


def as_tree(replayed: Replayed) -> dict[str, Any]:
    tree = asdict(replayed)
    tree["samples"] = {kind: [sample._asdict() for sample in samples] for kind, samples in replayed.samples.items()}
    return tree


def _as_text(found: Mapping[str, Replayed], *, dry_run: bool) -> str:
    lines = []
    for name, replayed in found.items():
        told = ", ".join(f"{count:,} {kind}" for kind in _KINDS if (count := getattr(replayed, kind)))
        lines.append(f"{name}: {replayed.rows:,} raw rows{f': {told}' if told else ''}")
        for kind in _KINDS[1:] if dry_run else ():
            for sample in replayed.samples.get(kind, ()):
                lines.append(f"  {kind} {sample.source_id or 'without a key'} (raw row {sample.raw_id})")
                lines += _difference(sample.before, sample.after)
    return "\n".join(lines)


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [f"    {name}: {_text(before.get(name))} → {_text(after.get(name))}" for name in names]


def _text(value: Any) -> str:
    return to_json(value, readable=True)


def _done_as_json(done: Mapping[str, ReplayDone | None]) -> str:
    trees: dict[str, Any] = {}
    for name, one in done.items():
        trees[name] = None
        if one is not None:
            trees[name] = {"run": one.report.as_json(), "replayed": as_tree(one.replayed)}
    return to_json(trees)


def _done_as_text(done: Mapping[str, ReplayDone | None]) -> str:
    lines = []
    for name, one in done.items():
        if one is None:
            lines.append(f"{name}: locked, another process is running it")
            continue
        lines.append(_as_text({name: one.replayed}, dry_run=False))
        lines.append(f"  run {one.report.run_id}: {one.report.status} in {one.report.seconds:.1f} s")
        if one.report.error_message:
            lines.append(f"  {one.report.error_class}: {one.report.error_message}")
    return "\n".join(lines)
