"""A progress bar per source, on a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.pipeline.progress import OnProgress, Progress


@contextmanager
def progress_bars(*, shown: bool) -> Iterator[OnProgress | None]:
    """Bars that fill by bytes where the size is known, and count rows in any case."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def show(progress: Progress) -> None:
            if progress.source not in tasks:
                tasks[progress.source] = bars.add_task(progress.source, total=None, rows=0)
            bars.update(
                tasks[progress.source],  # type: ignore[arg-type]
                completed=progress.body_bytes,
                total=progress.body_bytes if progress.complete else progress.size_bytes,
                rows=progress.counts.extracted,
            )

        yield show
