"""The command line: a verb each."""

from app.cli.main import BuildApp, run_cli

__all__ = ["BuildApp", "run_cli"]
