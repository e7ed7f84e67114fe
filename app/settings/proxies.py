"""Which proxy a URL is asked through: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, as curl reads them."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_for(url: str) -> str | None:
    """None: the host is asked directly."""
    parts = urlsplit(url)
    proxies = getproxies()
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")
