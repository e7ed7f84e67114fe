"""`python -m app` and the console script `etl`."""

import sys
from typing import TYPE_CHECKING, Any

from app.cli import run_cli

if TYPE_CHECKING:
    from app.resources import Resources


def build_app(resources: "Resources") -> Any:
    # Here and not above: `etl run` need not wait for FastAPI
    from app.main import create_app

    return create_app(resources=resources)


def main() -> None:
    sys.exit(run_cli(sys.argv[1:], build_app=build_app))


if __name__ == "__main__":
    main()
