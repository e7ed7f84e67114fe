"""The service as a process of its own, to be killed."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import app

PACKAGE_PARENT: Final = Path(app.__file__).resolve().parents[1]


async def start_command(*arguments: str, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    """
    `etl ARGUMENTS`, with the code that runs here; stdout and stderr are piped.

    Args:
        environment: the whole of it.
    """
    paths = [str(PACKAGE_PARENT), *filter(None, [environment.get("PYTHONPATH")])]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, "PYTHONPATH": ":".join(paths)},
    )
