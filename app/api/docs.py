"""`/docs`, from files that ship with us: it works without the internet, and tells nobody that it is read."""

from html import escape
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

STATIC: Final = Path(__file__).parent / "static" / "swagger-ui"

POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{root}/static/swagger-ui/favicon-32x32.png">
<link rel="stylesheet" href="{root}/static/swagger-ui/swagger-ui.css">
</head>
<body>
<div id="swagger-ui" data-openapi-url="{root}/openapi.json"></div>
<script src="{root}/static/swagger-ui/swagger-ui-bundle.js"></script>
<script src="{root}/static/swagger-ui/swagger-init.js"></script>
</body>
</html>
"""


def mount_docs(app: FastAPI) -> None:
    """Serve Swagger UI at `/docs`; whoever opens the bare address is led there."""
    app.mount("/static/swagger-ui", StaticFiles(directory=STATIC), name="swagger-ui")

    @app.get("/docs", include_in_schema=False)
    async def get_docs(request: Request) -> HTMLResponse:
        root = escape(_root(request), quote=True)
        page = PAGE.format(title=escape(f"{app.title} API"), root=root)
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    @app.get("/", include_in_schema=False)
    async def get_root(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{_root(request)}/docs")


def _root(request: Request) -> str:
    """Where a proxy has put us."""
    return str(request.scope.get("root_path", "")).rstrip("/")
