"""Source files written for a test, loaded as the service loads them, and run against the test's database."""

from pathlib import Path
from typing import Any

from app.records import RunReport
from app.resources import Resources
from app.scheduler import run_tick
from app.settings import load_settings
from app.sources.catalog import Catalog, open_catalog

IMPATIENT = "[retry]\nmax_attempts = 2\nbackoff_factor = 0.01\n"


def resource(
    endpoint: str = "",
    *,
    name: str = "things",
    path: str | None = None,
    mapping: str = 'name = "title"',
    keys: str = "",
) -> str:
    """
    One `[[resources]]` of a REST source.

    Args:
        endpoint: keys of its endpoint, the path apart.
        path: by default the resource's name.
        keys: of the resource itself.
    """
    return f"""
[[resources]]
name = "{name}"
primary_key = "id"
{keys}
[resources.endpoint]
path = "{name if path is None else path}"
{endpoint}
[resources.mapping]
{mapping}
"""


class SourceFiles:
    """
    A folder of source files, and the pipeline that runs them.

    Args:
        url: of the server that they ask.
    """

    def __init__(self, resources: Resources, folder: Path, url: str) -> None:
        self.folder = folder
        self._resources = resources
        self._url = url
        folder.mkdir(exist_ok=True)

    def write(self, text: str, *, name: str = "s") -> Path:
        path = self.folder / f"{name}.toml"
        path.write_text(text, "utf-8")
        return path

    def rest(self, *tables: str, client: str = "", top: str = IMPATIENT, name: str = "s") -> None:
        """Write a REST source that may ask the server."""
        self.write(
            f"""
name = "{name}"
type = "rest_api"
{top}
[client]
{"" if "base_url" in client else f'base_url = "{self._url}"'}
allow_private_networks = true
{client}
{"".join(tables)}
""",
            name=name,
        )

    def catalog(self, **settings: Any) -> Catalog:
        return open_catalog(load_settings(SOURCES_DIR=self.folder, **settings))

    async def run_all(self, *names: str) -> dict[str, RunReport]:
        """Run what the files say, once; the reports by the names of resources, all of them balanced."""
        self._resources.catalog = self.catalog()
        chosen = [one for one in self._resources.catalog.select(names) if names or one.source not in {"api", "csv"}]
        tick = await run_tick(self._resources, chosen, trigger="command")
        assert tick.unopened == {}
        assert all(report.counts.balanced for report in tick.reports)
        return {report.source: report for report in tick.reports}

    async def run(self, name: str = "s") -> RunReport:
        """Run the one resource of a source."""
        return (await self.run_all(name))[name]
