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


EXAMPLE_A = """
name = "jsonplaceholder"
type = "rest_api"
[schedule]
interval = "PT15M"
max_staleness = "PT1H"
[client]
base_url = "https://jsonplaceholder.typicode.com"
[rate_limit]
requests = 5
per = "PT1S"
concurrency = 2
[resource_defaults]
primary_key = "id"
write_disposition = "merge"
[[resources]]
name = "posts"
[resources.endpoint]
path = "posts"
params = { _limit = 50 }
paginator = { type = "page_number", page_param = "_page", base_page = 1, stop_after_empty_page = true, max_pages = 50 }
[resources.mapping]
source_id = "id"
name = "title"
value = { path = "userId", type = "integer" }
description = "body"
[resources.deletes]
mode = "soft"
detect = "snapshot"
guard_ratio = 0.2
[resources.expect]
on_zero = "suspect"
unique = ["source_id"]
[[resources]]
name = "users"
endpoint = { path = "users", paginator = { type = "single_page" } }
[resources.mapping]
source_id = "id"
name = "name"
description = { template = "{email}, {company.name}, {address.city}" }
"""
EXAMPLE_B = r"""
name = "crm"
type = "rest_api"
[client]
base_url = "https://api.example.com/v2"
headers = { Accept = "application/json" }
auth = { type = "bearer", token = "{secrets.CRM_TOKEN}" }
[client.paginator]
type = "cursor"
cursor_path = "meta.next_cursor"
cursor_param = "cursor"
has_more_path = "meta.has_more"
[rate_limit]
requests = 100
per = "PT1M"
concurrency = 4
bucket = "crm-account"
[retry]
max_attempts = 6
max_elapsed = "PT10M"
max_retry_after = "PT5M"
[[resources]]
name = "contacts"
primary_key = "id"
write_disposition = "merge"
schema_contract = { columns = "evolve", data_type = "reject_row" }
[resources.endpoint]
path = "contacts"
data_selector = "data"
params = { limit = 100, sort = "updated_at", updated_since = "{incremental.start_value}" }
response_actions = [
  { status_code = 401, action = "refresh_auth" },
  { status_code = 404, action = "ignore" },
  { status_code = 200, content = "\"error\"", action = "fail", error_class = "config_error" },
]
[resources.endpoint.incremental]
cursor_path = "updated_at"
cursor_type = "datetime"
cursor_format = "iso8601"
initial_value = 2024-01-01T00:00:00Z
lookback_window = "PT15M"
step = "P7D"
row_order = "asc"
on_cursor_value_missing = "include"
[resources.mapping]
source_id = "id"
name = { coalesce = ["full_name", "email"] }
value = { path = "lifetime_value", type = "decimal", null_values = ["", "N/A"] }
description = "notes"
created_at = { path = "created_at", type = "datetime" }
updated_at = { path = "updated_at", type = "datetime" }
deleted = "is_deleted"
[resources.deletes]
mode = "soft"
detect = "flag"
[resources.expect]
max_reject_ratio = 0.01
volume_drop = 0.5
"""
EXAMPLE_C = """
name = "github"
type = "rest_api"
[client]
base_url = "https://api.github.com/repos/acme/widgets"
headers = { Accept = "application/vnd.github+json", "X-GitHub-Api-Version" = "2022-11-28" }
auth = { type = "bearer", token = "{secrets.GITHUB_TOKEN}" }
paginator = { type = "header_link", links_next_key = "next" }
[[resources]]
name = "issues"
primary_key = "id"
write_disposition = "merge"
[resources.endpoint]
path = "issues"
[resources.endpoint.params]
state = "all"
per_page = 100
sort = "updated"
direction = "asc"
since = "{incremental.start_value}"
[resources.endpoint.incremental]
cursor_path = "updated_at"
cursor_type = "datetime"
initial_value = 2024-01-01T00:00:00Z
row_order = "asc"
lookback_window = "PT5M"
[resources.mapping]
source_id = "id"
name = "title"
value = { path = "comments", type = "integer" }
description = "body"
created_at = "created_at"
updated_at = "updated_at"
[[resources]]
name = "issue_comments"
primary_key = "id"
write_disposition = "merge"
endpoint = { path = "issues/{resources.issues.number}/comments", params = { per_page = 100 } }
[resources.mapping]
source_id = "id"
name = "user.login"
description = "body"
created_at = "created_at"
updated_at = "updated_at"
"""
EXAMPLE_D = r"""
name = "price_list"
type = "csv"
[schedule]
cron = "15 6 * * *"
timezone = "Europe/Berlin"
[client]
auth = { type = "http_basic", username = "feed", password = "{secrets.FEED_PASSWORD}" }
timeout = { connect = 5, read = 60, total = 900 }
max_response_bytes = 2_000_000_000
[[resources]]
name = "prices"
primary_key = ["sku", "warehouse"]
write_disposition = "merge"
[resources.file]
url = "https://files.example.com/export/prices.csv.gz"
compression = "gzip"
[resources.format]
delimiter = ";"
quote_char = "\""
double_quote = true
encoding = "windows-1252"
skip_rows_before_header = 2
header_definition = "From CSV"
null_values = ["", "NULL", "n/a"]
on_bad_row = "reject"
[resources.mapping]
source_id = { template = "{sku}:{warehouse}" }
name = "Bezeichnung"
value = { path = "Preis", type = "decimal", decimal = ",", thousands = "." }
description = "Beschreibung"
updated_at = { path = "Stand", type = "datetime", format = "%d.%m.%Y %H:%M", timezone = "Europe/Berlin" }
[resources.deletes]
mode = "soft"
detect = "snapshot"
guard_ratio = 0.1
[resources.expect]
min_rows = 1000
max_rejects = 50
volume_drop = 0.3
"""
EXAMPLE_E = """
name = "status_feed"
type = "rss"
[schedule]
interval = "PT10M"
jitter = "PT1M"
[[resources]]
name = "entries"
primary_key = "id"
write_disposition = "merge"
feed = { url = "https://status.example.com/history.atom", identity = ["id", "link"], on_bozo = "accept_and_note" }
[resources.mapping]
source_id = "id"
name = "title"
description = { template = "{summary}\\n{link}" }
created_at = { coalesce = ["published", "updated"], type = "datetime" }
updated_at = { coalesce = ["updated", "published"], type = "datetime" }
"""

EXAMPLE_F = """
name = "shop_orders"
type = "webhook"
[rate_limit]
requests = 50
per = "PT1S"
[[resources]]
name = "orders"
primary_key = "order.id"
write_disposition = "merge"
[resources.webhook]
path = "shop-orders"
max_body_bytes = 1_048_576
respond = 202
[resources.webhook.verify]
type = "hmac"
header = "X-Shop-Signature"
prefix = "sha256="
algorithm = "sha256"
encoding = "hex"
secret = "{secrets.SHOP_WEBHOOK}"
previous_secret = "{secrets.SHOP_WEBHOOK_OLD}"
timestamp_header = "X-Shop-Timestamp"
signed_payload = "{timestamp}.{body}"
tolerance = "PT5M"
[resources.webhook.dedupe]
id_header = "X-Shop-Delivery"
body_hash = true
retention = "P7D"
[resources.mapping]
source_id = "order.id"
name = "order.reference"
value = { path = "order.total", type = "decimal" }
description = "order.note"
created_at = "order.created_at"
updated_at = "event_time"
"""

EXAMPLES = {"A": EXAMPLE_A, "B": EXAMPLE_B, "C": EXAMPLE_C, "D": EXAMPLE_D, "E": EXAMPLE_E, "F": EXAMPLE_F}
"""The worked examples of the format's description."""
