"""`etl prove`: nothing lost, shown on one's own sources."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from app.cli.process import run_async
from app.demo import sample_sources
from app.faults.plans import parse_fault, parse_plan
from app.operations.prove import Certificate, Edges, OnStep, ProofOrder, prove
from app.settings import load_settings

EXIT_CODES: Final = {"proven": 0, "violated": 1, "inconclusive": 3}


def prove_sources(
    sources: Annotated[list[str] | None, typer.Argument(help="Names of sources; all when none is given.")] = None,
    *,
    plan: Annotated[
        str | None, typer.Option(metavar="'FAULT; FAULT; ...'", help="All of these faults in one trial: see above.")
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="FAULT", help="This fault alone, with its place; may be given again, each is a trial."),
    ] = None,
    kills: Annotated[
        int, typer.Option(min=1, help="Without --plan and --at: kills at most; each is two or three runs.")
    ] = 20,
    edges: Annotated[
        Edges,
        typer.Option(
            help="Without --plan and --at: kill around each COMMIT; at any chunk sent to the database or received; or "
            "at any of these sockets and the sources'."
        ),
    ] = "commits",
    seed: Annotated[
        int, typer.Option(help="Chooses the kills where there are more than --kills, and a plan's places.")
    ] = 1,
    ids: Annotated[
        Path | None, typer.Option(help="File with the keys that the source has, one a line; else it is asked.")
    ] = None,
    samples: Annotated[bool, typer.Option("--demo", help="The bundled sample sources; works offline.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,
) -> int:
    """
    Let faults happen to runs of the sources, and ask by SQL whether anything was lost.

    Each trial is real: `etl run` as a process, in a throw-away database, stopped where the fault says and started
    again until it completes. Invariants I1 to I8 are asked in between and at the end, against the source's own
    listing and the tables of an undisturbed run. Without --plan or --at, a trial is one kill at the edge of a COMMIT.

    \b
    Faults between us and the database, at an edge:
      kill@after_commit:2   SIGKILL; also stop, reset, hole, delay
                            at before_commit, after_commit, sent, received
    Faults between a source and us, at a page (the n-th address it is asked for):
      http_500@page3        the answer is a 500
      cut_body@page4        half of the body, then the connection ends
      dup_page@page2        the page before comes again in its place
      slow@page1            the body dribbles in for 3 s
      reorder@page5         the records of a JSON page in another order
      kill@asked:3          SIGKILL when the page has been asked for; kill@answered:3: when half of it has come

    A plan is several of them, separated by semicolons. A fault without a place gets one from the seed; the
    certificate prints the plan with its places, and so it happens again.

    \b
    etl prove orders --kills 40
    etl prove orders --at http_500@page3
    etl prove orders --plan 'http_500@page3; cut_body; kill@after_commit:2; dup_page; slow; seed=7'
    etl prove --demo --plan 'kill; cut_body; reorder'

    \b
    Exit codes:
      0  proven          1  violated, with the query and the keys
      3  inconclusive    2  wrong order or configuration
    """
    faults = [parse_fault(text) for text in at or []]
    with sample_sources() if samples else nullcontext() as served:
        given = {"API_HOST": served.api_url, "CSV_URL": served.csv_url} if served else {}
        settings = load_settings(**given)
        order = ProofOrder(
            sources or [], seed, kills, edges, faults, parse_plan(plan) if plan is not None else None, ids, given
        )
        with _progress(shown=sys.stderr.isatty() and not as_json) as on_step:
            certificate = run_async(prove(settings, order, on_step=on_step), settings, quiet=True)
    print(json.dumps(asdict(certificate)) if as_json else _as_text(certificate))
    return EXIT_CODES[certificate.result]


@contextmanager
def _progress(*, shown: bool) -> Iterator[OnStep | None]:
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)
        yield lambda done, total, doing: bars.update(task, completed=done, total=total or None, description=doing)


def _as_text(certificate: Certificate) -> str:
    commit = f", commit {certificate.commit[:12]}" if certificate.commit else ""
    struck = certificate.planned - certificate.not_reached
    missed = [fault for trial in certificate.trials for fault in trial.not_reached]
    edges = ", ".join(f"{count:,} {name}" for name, count in sorted(certificate.edges.items()))
    lines = [
        f"etl prove: {certificate.result.upper()}",
        f"  version      etl-river {certificate.version}{commit}",
        f"  sources      {', '.join(certificate.sources)}",
        f"  records      {certificate.records:,} listed by the source, {certificate.rows:,} extracted undisturbed",
        f"  edges        {edges or 'none'}",
        f"  faults       {struck} of {certificate.planned} happened, seed {certificate.seed}",
        *([f"  plan         {certificate.plan}"] if certificate.plan else []),
        *(f"  {page:<12} {address}" for page, address in certificate.pages.items()),
        *([f"  not reached  {', '.join(missed[:10])}{', …' if len(missed) > 10 else ''}"] if missed else []),
        f"  restarts     {certificate.restarts} at most in one trial",
        f"  time         {certificate.seconds:,.1f} s; one run undisturbed {certificate.reference_seconds:.1f} s",
    ]
    if certificate.asked_again is not None:
        lines.append(f"  asked again  {certificate.asked_again} requests more than undisturbed, at most in one trial")
    if certificate.healed:
        lines.append(
            f"  healed       hidden by the source in one run, there after the next: {', '.join(certificate.healed)}"
        )
    if certificate.reason:
        lines.append(f"  inconclusive {certificate.reason}")
    if certificate.result == "proven":
        lines += [f"  holds        {name}" for name in certificate.checked]
    for fault, violation in certificate.violations:
        lines += ["", f"  VIOLATED     {violation.invariant}, after {fault}", *(f"    {key}" for key in violation.keys)]
        lines += [f"    | {line}" for line in violation.sql.splitlines()]
        if fault != "no fault":
            again = f"--plan '{fault}'" if ";" in fault else f"--at {fault}"
            lines.append(f"    again with: etl prove {' '.join(certificate.sources)} {again}")
    return "\n".join(lines)
