"""What routes ask for."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Depends, Request

from app.api.problems import ProblemError
from app.db.engine import ReadSession
from app.errors import ConfigError
from app.resources import Resources
from app.sources.resource import ResourceSpec

READ_TIMEOUT_SECONDS: Final = 10.0


# Dependencies are coroutines also where they wait for nothing: others are run in a thread, which costs 100 µs each
async def get_resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


async def get_read_session(request: Request) -> AsyncIterator[ReadSession]:
    """One snapshot for the whole request; a read that takes too long is given up."""
    async with asyncio.timeout(READ_TIMEOUT_SECONDS), request.app.state.resources.database.read() as session:
        yield session


def select_sources(resources: Resources, name: str) -> list[ResourceSpec]:
    """
    Raises:
        ProblemError: 404, naming the sources there are, or where it is disabled.
    """
    try:
        return resources.catalog.select([name])
    except ConfigError as error:
        raise ProblemError(HTTPStatus.NOT_FOUND, str(error)) from error


def look_up_sources(resources: Resources, name: str) -> list[ResourceSpec]:
    """The same for what is only read: a disabled source, too."""
    try:
        return resources.catalog.look_up([name])
    except ConfigError as error:
        raise ProblemError(HTTPStatus.NOT_FOUND, str(error)) from error


ResourcesDep = Annotated[Resources, Depends(get_resources)]
# scope="function": the session is closed before the answer is sent, so a slow client holds no snapshot
ReadSessionDep = Annotated[ReadSession, Depends(get_read_session, scope="function")]
