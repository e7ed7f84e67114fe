"""CSV resources of source files, run for real."""

import gzip
import io
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from app.records import RunReport
from app.resources import Resources
from app.scheduler import run_tick
from app.sources.catalog import open_catalog
from tests.source_server import Fault, SourceServer

Run = Callable[..., Awaitable[RunReport]]

PRICES = (
    "Preisliste\r\nStand heute\r\nsku;warehouse;Bezeichnung;Preis;Stand\r\n"
    '001;A;Tür;1.234,50;29.03.2026 02:30\r\n001;B;"Schloss; groß";n/a;01.02.2026 08:00\r\n'
    "002;A;zu;viele;Felder;hier\r\n"
)
EXAMPLE_D = """
primary_key = ["sku", "warehouse"]
[resources.format]
delimiter = ";"
encoding = "windows-1252"
skip_rows_before_header = 2
null_values = ["", "NULL", "n/a"]
[resources.mapping]
source_id = { template = "{sku}:{warehouse}" }
name = "Bezeichnung"
value = { path = "Preis", type = "decimal", decimal = ",", thousands = "." }
updated_at = { path = "Stand", type = "datetime", format = "%d.%m.%Y %H:%M", timezone = "Europe/Berlin" }
"""


@pytest.fixture
def run(resources: Resources) -> Run:
    async def once(url: str, more: str = "") -> RunReport:
        Path("sources").mkdir(exist_ok=True)
        Path("sources/f.toml").write_text(
            'name = "f"\ntype = "csv"\nclient = { allow_private_networks = true }\n'
            f'[[resources]]\nname = "rows"\nfile = {{ url = "{url}" }}\n{more}\n'
        )
        report = (await run_tick(resources, open_catalog(resources.settings).select(["f"]), trigger="command")).reports[
            0
        ]
        assert report.counts.balanced
        return report

    return once


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("prices.csv", data)
    return file.getvalue()


@pytest.mark.parametrize("packed", [bytes, gzip.compress, zipped])
async def test_an_odd_dialect_is_read_as_it_is_described(
    run: Run, source_server: SourceServer, sql: asyncpg.Connection, packed: Callable[[bytes], bytes]
) -> None:
    url = source_server.put("/prices", packed(PRICES.encode("cp1252")), content_type="application/octet-stream")

    report = await run(url, EXAMPLE_D)

    assert (report.status, report.counts.inserted, report.counts.rejected) == ("succeeded", 2, 1)
    rows = await sql.fetch("SELECT source_id, name, value, updated_at::text FROM normalized_data ORDER BY source_id")
    assert [tuple(row) for row in rows] == [
        ("001:A", "Tür", 1234.5, "2026-03-29 01:30:00+00"),
        ("001:B", "Schloss; groß", None, "2026-02-01 07:00:00+00"),
    ]
    bad = await sql.fetchrow("SELECT payload, position, reject_code FROM raw_csv_data WHERE disposition = 'rejected'")
    assert tuple(bad or ()) == ("002;A;zu;viele;Felder;hier", 6, "ragged_row")
    noted = await sql.fetchval("SELECT notes->0->>'code' FROM raw_csv_data WHERE notes IS NOT NULL")
    assert noted == "ambiguous_time"
    again = await run(url, EXAMPLE_D)
    assert (again.counts.written, again.counts.raw_rows) == (0, 0)


@pytest.mark.parametrize(
    ("encoding", "found"),
    [("utf-16", "utf-16"), ("utf-8-sig", "utf-8"), ("shift_jis", "cp932"), ("cp1252", "cp1252")],
)
async def test_an_encoding_is_found_out_and_recorded(
    run: Run, source_server: SourceServer, sql: asyncpg.Connection, encoding: str, found: str
) -> None:
    words = "東京の天気は晴れです" if encoding == "shift_jis" else "Zoë"
    text = "id\tname\n" + "".join(f"{n}\t{words}{n}\n" for n in range(200))
    url = source_server.put("/odd", text.encode(encoding))

    report = await run(url, '[resources.mapping]\nname = "name"')

    assert (report.status, report.counts.inserted) == ("succeeded", 200)
    assert await sql.fetchval("SELECT name FROM normalized_data WHERE source_id = '7'") == f"{words}7"
    held = await sql.fetchrow("SELECT input->>'delimiter', input->>'encoding' FROM etl_runs")
    assert held is not None
    assert (held[0], held[1].removesuffix("-le")) == ("\t", found)


async def test_a_broken_download_of_a_packed_file_goes_on_where_it_stands(
    run: Run, source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    lines = "".join(f"{n};{'x' * 90}{n}\n" for n in range(30_000))
    body = gzip.compress(f"id;name\n{lines}".encode("utf-16"), compresslevel=0)
    url = source_server.put("/big", body)
    source_server.fault("/big", Fault(cut_after=len(body) * 2 // 3))

    broken = await run(url, '[resources.mapping]\nname = "name"')
    whole = await run(url, '[resources.mapping]\nname = "name"')

    assert (broken.status, whole.status) == ("partial", "succeeded")
    assert 0 < broken.counts.inserted < 30_000
    assert broken.counts.inserted + whole.counts.inserted == 30_000
    assert whole.counts.extracted < 30_000
    assert await sql.fetchval("SELECT count(DISTINCT source_id) FROM normalized_data") == 30_000


async def test_a_path_that_leads_nowhere_lists_the_headers(run: Run, source_server: SourceServer) -> None:
    report = await run(source_server.put("/a", b"id,title\n1,x\n"), '[resources.mapping]\nname = "Titel"')

    assert (report.status, report.error_class) == ("failed", "config_error")
    assert "title" in str(report.error_message)


async def test_a_file_beside_its_source_file_needs_no_permission(run: Run) -> None:
    Path("sources").mkdir()
    Path("sources/own.csv").write_text("key;name\na;b\n")

    assert (await run("own.csv")).counts.inserted == 1
