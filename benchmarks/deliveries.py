"""
`python -m benchmarks.deliveries`: signed deliveries of a webhook, from several clients at once.

Each is another record with a signature of its own, made before. What counts is
what was answered with 202; afterwards the tables must hold as many rows.
"""

import argparse
import base64
import hashlib
import hmac
import json
import random
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.cluster import etl, etl_environment, running_cluster
from benchmarks.reading import serving

SCRIPT: Final = Path(__file__).with_name("deliveries.lua")
KEY: Final = bytes(range(24))
SOURCE: Final = """
name = "shop"
type = "webhook"
[[resources]]
name = "orders"
primary_key = "id"
webhook = { path = "orders", verify = { type = "standard_webhooks", secret = "{secrets.BENCH}" } }
mapping = { name = "reference", value = "total", description = "note", updated_at = "updated_at" }
"""


def presigned(file: Path, count: int, *, first: int, rng: random.Random) -> None:
    """Write deliveries of some 400 bytes each, which are signed for now."""
    moment = int(time.time())
    with file.open("w") as out:
        for number in range(first, first + count):
            note = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=250))
            record = {"id": number, "reference": f"A-{number}", "total": number / 7, "note": note}
            body = json.dumps({**record, "updated_at": "2026-01-01T10:00:00Z"})
            code = hmac.new(KEY, f"msg_{number}.{moment}.{body}".encode(), hashlib.sha256).digest()
            out.write(f"msg_{number}\t{moment}\tv1,{base64.b64encode(code).decode()}\t{body}\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deliveries", description=(__doc__ or "").split("\n")[1])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-most", type=int, default=4_000, help="deliveries a second that are made beforehand")
    given = parser.parse_args()
    rng = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="etl-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        (folder / "sources").mkdir()
        (folder / "sources" / "shop.toml").write_text(SOURCE)
        settings = {
            "SOURCES_DIR": str(folder / "sources"),
            "ETL_SECRET_BENCH": f"whsec_{base64.b64encode(KEY).decode()}",
        }
        with running_cluster(folder) as cluster:
            cluster.create("hooks")
            cluster.measure(etl("db", "upgrade"), environment=etl_environment(DATABASE_URL=cluster.dsn_of("hooks")))
            stored, first = 0, 1
            with serving(cluster, "hooks", **settings) as port:
                for number in range(1, given.rounds + 1):
                    count = given.at_most * given.seconds
                    presigned(folder / "deliveries", count, first=first, rng=rng)
                    first += count
                    stored += _measure(port, folder / "deliveries", given.clients, given.seconds, number)
            rows = int(cluster.psql("-c", "SELECT count(*) FROM normalized_data", database="hooks"))
            lost = max(0, stored - rows)
            print(f"answered 202: {stored:,}; rows: {rows:,}; acknowledged and not there: {lost}")


def _measure(port: int, file: Path, clients: int, seconds: int, number: int) -> int:
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT)]
    url = f"http://127.0.0.1:{port}/hooks/orders"
    done = subprocess.run([*command, url, "--", str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
    stored, microseconds, p50, p99, failed = map(int, done.stdout.strip().splitlines()[-1].split())
    print(
        f"round {number}: {stored * 1e6 / microseconds:,.0f} deliveries/s from {clients} clients, "
        f"p50 {p50 / 1000:.1f} ms, p99 {p99 / 1000:.1f} ms, not 202: {failed}",
        flush=True,
    )
    return stored


if __name__ == "__main__":
    main()
