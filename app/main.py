"""`create_app`: the only place that joins the edges."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from app import __version__
from app.api import (
    checkpoint,
    data,
    deletes,
    exports,
    health,
    hooks,
    lineage,
    posted,
    rejects,
    replay,
    runs,
    sources,
    stats,
)
from app.api.data_reader import open_data_reader
from app.api.docs import mount_docs
from app.api.head import HeadAsGet
from app.api.openapi import describe
from app.api.operator import Reader
from app.api.problems import install_problem_handlers
from app.api.repeated import Unrepeated
from app.api.request_log import RequestLog
from app.observability.logs import configure_logs
from app.operations.hooks import receiving
from app.resources import Resources, open_resources
from app.scheduler import running_scheduler
from app.settings import Settings, load_settings


def create_app(settings: Settings | None = None, *, resources: Resources | None = None) -> FastAPI:
    """
    The service: its scheduler runs for as long as its lifespan does.

    Args:
        settings: None reads environment and `.env`.
        resources: already open, and closed by the caller; None opens them in the lifespan.

    Raises:
        ConfigError: a setting is wrong.
    """
    settings = settings or (resources.settings if resources else load_settings())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            opened = resources
            if opened is None:
                configure_logs(level=settings.log.level, style=settings.log.format)
                opened = await stack.enter_async_context(open_resources(settings))
            app.state.resources = opened
            app.state.health_check = health.HealthCheck(opened.database)
            app.state.data_reader = open_data_reader(opened)
            stack.push_async_callback(app.state.health_check.close)
            app.state.hooks = await stack.enter_async_context(receiving(opened))
            await stack.enter_async_context(running_scheduler(opened))
            # Half a second of work, that the first reader of /docs would make everybody wait for
            describing = asyncio.create_task(asyncio.to_thread(app.openapi), name="openapi")
            stack.callback(describing.cancel)
            yield

    app = FastAPI(
        title="etl-river",
        version=__version__,
        summary="Sources in PostgreSQL, and an honest API over them.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(data.router, dependencies=[Reader, Unrepeated])
    app.include_router(hooks.router)  # early: each router before it is looked through for each delivery
    for router in (
        exports.router,  # before /data/{row_id}
        lineage.router,
        stats.router,
        posted.router,
        sources.router,
        deletes.router,
        checkpoint.router,
        replay.router,
        runs.router,
        rejects.router,
    ):
        app.include_router(router, dependencies=[Reader, Unrepeated])
    app.include_router(health.router)
    describe(app, reading_is_closed=settings.server.read_token is not None)
    mount_docs(app)
    install_problem_handlers(app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.server.cors_origins,
        allow_methods=["GET", "HEAD", "OPTIONS"],
        allow_headers=["Authorization", "If-None-Match", "Cache-Control"],
        expose_headers=["Link", "ETag", "X-Data-As-Of", "X-Source-Lag-Seconds", "Retry-After", "Cache-Status"],
        allow_credentials=False,
    )
    app.add_middleware(RequestLog)
    return app
