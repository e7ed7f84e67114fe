"""The tables and plots of docs/performance.md, from results; what stands around them is written by hand."""

import json
import platform
import re
from collections.abc import Iterable, Sequence
from math import log10
from pathlib import Path
from typing import Any, Final

from benchmarks.cluster import ROOT
from benchmarks.loading import Loaded, from_json, middle

PAGE: Final = ROOT / "docs" / "performance.md"
_TOLD: Final = {"cpu_seconds": "CPU s of the client", "server_cpu_seconds": "CPU s of PostgreSQL", "wal_mb": "WAL MB"}
PLOT: Final = ROOT / "docs" / "performance-curve.svg"


def write_report(results: Path) -> None:
    text = PAGE.read_text()
    if (results / "load.json").exists():
        text = _put(text, "load", _load_table(from_json((results / "load.json").read_text())))
    if (results / "curve.json").exists():
        curve = from_json((results / "curve.json").read_text())
        text = _put(text, "curve", _curve_table(curve))
        PLOT.write_text(_plot(curve))
    if (results / "read.json").exists():
        text = _put(text, "read", _read_table(json.loads((results / "read.json").read_text())))
    PAGE.write_text(_put(text, "machine", _machine()))


def _put(text: str, name: str, block: str) -> str:
    """Between `<!-- name -->` and `<!-- /name -->`."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}{block}\n{found[2]}", text)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _load_table(loads: list[Loaded]) -> str:
    rows = []
    for step in dict.fromkeys(load.step for load in loads):
        floor = middle(loads, "floor that skips" if step in {"again", "changed"} else "floor", step)
        for who in dict.fromkeys(load.who for load in loads if load.step == step):
            seconds = middle(loads, who, step) or 0.0
            ratio = f"{seconds / floor:.2f}" if floor else "-"
            told = [f"{middle(loads, who, step, what) or 0:,.0f}" for what in _TOLD]
            peak = middle(loads, who, step, "peak_mb")
            rows.append((step, who, ratio, f"{seconds:.1f}", *told, f"{peak:,.0f}" if peak else "-"))
    count = max(load.round for load in loads)
    table = _table(("step", "who", "of the floor", "s", *_TOLD.values(), "peak MB"), rows)
    return f"{table}\n\n{loads[0].rows:,} rows, medians of {count} rounds."


def _curve_table(loads: list[Loaded]) -> str:
    rows = []
    for count in dict.fromkeys(load.rows for load in loads):
        some = [load for load in loads if load.rows == count]
        for step in ("first", "again", "changed"):
            ours, floor = middle(some, "ours", step) or 0.0, middle(some, "floor", step) or 1.0
            peak = middle(some, "ours", step, "peak_mb") or 0.0
            rows.append((f"{count:,}", step, f"{ours / floor:.2f}", f"{ours / count * 1e6:.1f}", f"{peak:,.0f}"))
    return _table(("rows", "step", "of the floor", "µs a row, start included", "peak MB"), rows)


def _read_table(found: dict[str, Any]) -> str:
    reads = found["reads"]
    tutorial = {read["case"]: read["requests_per_second"] for read in reads if read["who"] == "tutorial"}
    rows = [
        (
            read["case"],
            read["who"] + (", a run loads" if read["loading"] else ""),
            str(read["clients"]),
            f"{read['requests_per_second']:,.{0 if read['requests_per_second'] >= 10 else 1}f}",
            f"{read['requests_per_second'] / tutorial[read['case']]:,.0f}" if read["case"] in tutorial else "-",
            f"{read['p50_ms']:.1f}",
            f"{read['p99_ms']:.1f}",
            f"{read['hit_ratio']:.0%}",
            str(read["errors"]),
        )
        for read in sorted(reads, key=lambda read: (read["case"].startswith("100 rows"), read["loading"]))
    ]
    head = ("page", "who", "clients", "requests/s", "times the tutorial's", "p50 ms", "p99 ms", "kept", "not 200")
    told = [f"{form}: {rate:,.0f} rows/s, {size:.0f} MB/s" for form, (rate, size) in found["exports"].items()]
    return f"{_table(head, rows)}\n\nExports of all rows through HTTP, one client: {'; '.join(told)}."


def _machine() -> str:
    return f"{platform.system()}, {platform.machine()}, {_cores()} cores, Python {platform.python_version()}."


def _cores() -> int:
    return sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines())


def _plot(loads: list[Loaded]) -> str:
    """Microseconds a row against rows, both axes logarithmic."""
    sizes = sorted({load.rows for load in loads})
    width, height, left, top = 640, 320, 60, 20
    inner_width, inner_height = width - left - 120, height - top - 50
    series = {}
    for who, step in (("floor", "first"), ("ours", "first"), ("ours", "again"), ("ours", "changed")):
        points = [
            (size, seconds / size * 1e6)
            for size in sizes
            if (seconds := middle([load for load in loads if load.rows == size], who, step)) is not None
        ]
        series[f"{who}, {step}"] = points
    costs = [cost for points in series.values() for _, cost in points]
    low, high = log10(min(costs)), log10(max(costs))

    def place(size: float, cost: float) -> str:
        x = left + inner_width * (log10(size) - log10(sizes[0])) / max(log10(sizes[-1]) - log10(sizes[0]), 1e-9)
        y = top + inner_height * (1 - (log10(cost) - low) / max(high - low, 1e-9))
        return f"{x:.0f},{y:.0f}"

    form = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {form}>']
    for size in sizes:
        x, _, _ = place(size, min(costs)).partition(",")
        parts.append(f'<text x="{x}" y="{height - 30}" text-anchor="middle">{size:,}</text>')
    for cost in sorted({min(costs), max(costs)}):
        _, _, y = place(sizes[0], cost).partition(",")
        parts.append(f'<text x="{left - 8}" y="{y}" text-anchor="end">{cost:.0f} µs</text>')
    for color, (name, points) in zip(("#888", "#06c", "#0a0", "#c60"), series.items(), strict=True):
        line = " ".join(place(*point) for point in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        x, _, y = place(*points[-1]).partition(",")
        parts.append(f'<text x="{int(x) + 6}" y="{y}" fill="{color}">{name}</text>')
    parts.append(
        f'<text x="{left}" y="{height - 8}">rows; microseconds a row, start of the process included</text></svg>'
    )
    return "\n".join(parts) + "\n"
