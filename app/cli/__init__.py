"""The command line: a verb each."""

from app.cli.main import run_cli

__all__ = ["run_cli"]
