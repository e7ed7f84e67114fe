"""Which URLs go through a proxy."""

import pytest

from app.settings.proxies import proxy_for


def test_a_proxy_is_used_for_its_scheme_and_not_where_it_is_bypassed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_for("https://example.com/") is None

    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    monkeypatch.setenv("no_proxy", "localhost,.internal.example.com")

    assert proxy_for("https://example.com/a") == "http://proxy.example.com:3128"
    assert proxy_for("http://example.com/a") is None
    assert proxy_for("https://db.internal.example.com/") is None
    assert proxy_for("https://localhost:8443/") is None
