"""`etl serve` and `etl demo`: the service, until it is told to stop."""

import asyncio
import contextlib
import errno
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import typer
import uvicorn

from app.cli.process import run_async
from app.demo import sample_sources
from app.errors import ConfigError
from app.resources import Resources, open_resources
from app.settings import Settings, load_settings

BuildApp = Callable[[Resources], Any]
"""Makes the ASGI application; which framework that is, is not this room's business."""

GRACE_SECONDS: Final = 4
"""For requests that are being answered when the service is told to stop."""

Host = Annotated[str | None, typer.Option(help="Address to listen on (HOST).", show_default="127.0.0.1")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (PORT).", show_default="8000")]


def serve(context: typer.Context, host: Host = None, port: Port = None) -> int:
    """Run the service: a tick every ETL_INTERVAL seconds, and the API."""
    settings = load_settings(HOST=host, PORT=port)
    return run_async(_serve(settings, context.obj, welcome=_address), settings)


def demo(context: typer.Context, host: Host = None, port: Port = None) -> int:
    """The service on its own sample sources, in a database of its own; works offline."""
    plain = load_settings()
    with sample_sources() as samples:
        settings = load_settings(
            HOST=host,
            PORT=port,
            API_HOST=samples.api_url,
            CSV_URL=samples.csv_url,
            ETL_DATA_DIR=plain.embedded.data_dir / "demo",
            ETL_INTERVAL=30,
        )
        return run_async(_serve(settings, context.obj, welcome=_tour), settings)


async def _serve(settings: Settings, build_app: BuildApp, *, welcome: Callable[[str], str]) -> int:
    with _listening(settings) as listener:
        async with open_resources(settings) as resources:
            await resources.prepare_schema()  # here, so that a refusal is one line and exit code 2
            config = uvicorn.Config(
                build_app(resources),
                log_config=None,
                access_log=False,
                lifespan="on",
                timeout_graceful_shutdown=GRACE_SECONDS,
                server_header=False,
            )
            host, port = listener.getsockname()[:2]
            shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 -- compared, not bound
            server = _Server(config, welcome=welcome(f"http://{shown}:{port}"))
            await server.serve(sockets=[listener])
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """uvicorn, with an exit code of 0 when it is told to stop, and a word once it answers."""

    def __init__(self, config: uvicorn.Config, *, welcome: str) -> None:
        super().__init__(config)
        self._welcome = welcome

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again once it has stopped, which would cut short the closing
        # of everything else. The handlers stay: a signal that comes during that closing changes nothing.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._welcome, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """
    The port, taken before anything else is started.

    Raises:
        ConfigError: it cannot be had.
    """
    host, port = settings.server.host, settings.server.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"HOST={host}: {error.strerror}; for example HOST=127.0.0.1") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            # Now, not when serving begins: a second process must fail here, before it touches the database
            listener.listen(2048)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(f"PORT={port}: in use on {host}; for example --port {port + 1}") from error
            raise ConfigError(f"HOST={host} PORT={port}: {error.strerror}; for example --port 8001") from error
        yield listener


def _address(url: str) -> str:
    return f"etl: serving on {url} (docs: {url}/docs)"


def _tour(url: str) -> str:
    return f"""
  etl demo is running, with two sample sources. In another terminal:

    curl '{url}/data?page=1&page_size=10'
    curl '{url}/data?search=river&source=csv'
    curl '{url}/health'
    curl '{url}/stats'

  or open {url}/docs in a browser. Ctrl-C stops it.
"""
