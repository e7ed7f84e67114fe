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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--where", "valu__gte=3"], "--where valu__gte: no such parameter; there are: filters as value__gte"),
        (["--where", "value__like=3"], "--where value__like: no such parameter; of value there are: value, value__not"),
        (["--where", "value__gte=x"], "--where value__gte: "),
        (["--where", "value__gte"], "--where value__gte: write a condition as NAME=VALUE"),
        (["--where", "_value=3"], "--where _value=3: write a condition as NAME=VALUE"),
        (["--where", "updated_at__gte=yesterday"], "write a time with its offset"),
        (["--sort", "description"], "--sort: up to four columns"),
        (["--sort", ""], "--sort: up to four columns"),
        (["--fields", "id,secret"], "--fields: columns, separated by commas: id"),
    ],
)
def test_an_export_of_what_there_is_not_says_so(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_cli(["export", "--format", "csv", *arguments], build_app=lambda _: None)

    assert code == 2
    assert said in capsys.readouterr().err
