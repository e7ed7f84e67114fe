"""What a verb is given on its command line."""

import pytest

from app.cli.main import run_cli


@pytest.mark.parametrize(
    "arguments",
    [
        ["lineage", "s", "\udcff"],
        ["runs", "show", str(2**63)],
        ["replay", "s", "--run", str(2**63)],
        ["replay", "s", "--since", "0001-01-01T00:00:00+14:00"],
        ["replay", "s", "--fingerprint", "' or 1"],
        ["rejects", "--fingerprint", "zzz"],
        ["runs", "list", "--status", "bogus"],
    ],
)
def test_an_argument_that_the_database_cannot_take_is_wrong_usage(arguments: list[str]) -> None:
    assert run_cli(arguments, build_app=lambda _: None) == 2
