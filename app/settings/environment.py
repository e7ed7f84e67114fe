"""The environment that a child process gets."""

import os


def child_environment(**changes: str) -> dict[str, str]:
    """Ours, with changes; a child in the same directory reads the same settings."""
    return {**os.environ, **changes}
