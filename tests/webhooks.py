"""Senders of webhooks: they sign as their standards say, in their own words, not in ours."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

from app.resources import Resources
from app.settings import load_settings
from app.sources.catalog import open_catalog

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # of the published vector
STANDARD = 'verify = { type = "standard_webhooks", secret = "{secrets.HOOK}" }'

SOURCE = """
name = "shop"
type = "webhook"
{source}
[[resources]]
name = "orders"
primary_key = "id"
{resource}
[resources.webhook]
path = "shop-orders"
{verify}
{webhook}
[resources.mapping]
name = "title"
value = "total"
{mapping}
"""


def source(
    *, verify: str = STANDARD, webhook: str = "", source: str = "", resource: str = "", mapping: str = ""
) -> str:
    return SOURCE.format(verify=verify, webhook=webhook, source=source, resource=resource, mapping=mapping)


def write(folder: Path, text: str, *, name: str = "shop") -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.toml").write_text(text)


def use(resources: Resources, folder: Path, text: str, *, name: str = "shop") -> None:
    """Write a source file, and let the service have its catalogue from that folder alone."""
    write(folder, text, name=name)
    resources.catalog = open_catalog(load_settings(SOURCES_DIR=str(folder), BUILT_IN_SOURCES="none"))
    assert [file.reason for file in resources.catalog.wrong] == []


def body(number: int, **more: Any) -> bytes:
    return json.dumps({"id": number, "title": f"order {number}", "total": number * 1.5, **more}).encode()


def signed(payload: bytes, *, id: str = "msg_1", at: int | None = None, secret: str = SECRET) -> dict[str, str]:  # noqa: A002
    """The headers of a Standard Webhooks delivery."""
    moment = int(time.time()) if at is None else at
    key = base64.b64decode(secret.removeprefix("whsec_"))
    code = hmac.new(key, b"%s.%d.%s" % (id.encode(), moment, payload), hashlib.sha256)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(moment),
        "webhook-signature": f"v1,{base64.b64encode(code.digest()).decode()}",
    }
