"""Secrets for source files: `ETL_SECRET_NAME` in the environment or `.env`, or the file `/run/secrets/NAME`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from pydantic import SecretStr

PREFIX: Final = "ETL_SECRET_"
FOLDER: Final = Path("/run/secrets")


def read_secrets() -> Mapping[str, SecretStr]:
    """All secrets there are, by name; the environment wins over `.env`, and both over files."""
    found: dict[str, SecretStr] = {}
    if FOLDER.is_dir():
        for path in sorted(FOLDER.iterdir()):
            try:
                found[path.name] = SecretStr(path.read_text().rstrip("\r\n"))
            except (OSError, UnicodeDecodeError):
                continue  # named when a source asks for it: there is no such secret
    for values in (dotenv_values(".env"), os.environ):
        found |= {
            name.removeprefix(PREFIX): SecretStr(value)
            for name, value in values.items()
            if name.startswith(PREFIX) and value
        }
    return found
