"""What the fields of a sample are taken for, and what is left to the reader."""

from collections.abc import Sequence
from typing import Any

import pytest

from app.sources.address import name_of, read_address
from app.sources.guess.columns import Column, columns_of_objects
from app.sources.guess.forms import number_form, time_form
from app.sources.guess.keys import guess_key
from app.sources.guess.mapping import cursor_candidates, guess_mapping


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (["2026-01-01T10:00:00Z", "2026-01-01T10:00:00.5+02:00"], {"type": "datetime"}),
        (["2026-01-01"], {"type": "date"}),
        (["Thu, 01 Jan 2026 10:00:00 GMT"], {"type": "datetime", "format": "rfc2822"}),
        ([1767225600, 1767225601.5], {"type": "datetime", "format": "unix"}),
        (["1767225600000"], {"type": "datetime", "format": "unix_ms"}),
        (["31.12.2025", "1.1.2026"], {"type": "date", "format": "%d.%m.%Y"}),
        (["31/12/2025"], {"type": "date", "format": "%d/%m/%Y"}),
        (["20251231"], {"type": "date", "format": "%Y%m%d"}),
    ],
)
def test_a_time_is_known_by_its_form(values: Sequence[Any], options: dict[str, str]) -> None:
    form = time_form(values)

    assert form is not None
    assert (form.options, form.missing) == (options, None)


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        (["2026-01-01 10:00"], "timezone"),
        (["31.12.2025 10:00"], "timezone"),
        (["01/02/2026", "03/04/2026"], "%d/%m/%Y or %m/%d/%Y"),
    ],
)
def test_what_a_time_does_not_say_is_asked_for(values: Sequence[Any], missing: str) -> None:
    form = time_form(values)

    assert form is not None
    assert missing in (form.missing or "")


@pytest.mark.parametrize("values", [[], [5, 6], ["soon"], [True], ["2026-13-01"], [1767225600, None], [{}]])
def test_what_is_no_time_is_none(values: Sequence[Any]) -> None:
    assert time_form(values) is None


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ([1, 2.5], {}),
        (["1", "-2.5", "1e3"], {}),
        (["1,5", "2,25"], {"decimal": ","}),
        (["1.234,5", "2"], {"decimal": ",", "thousands": "."}),
        (["1,234.5", "12"], {"thousands": ","}),
        (["5", "n/a", "7"], {"null_values": ["n/a"]}),
    ],
)
def test_a_number_is_known_by_its_marks(values: Sequence[Any], options: dict[str, Any]) -> None:
    form = number_form(values)

    assert form is not None
    assert (form.options, form.missing) == (options, None)


def test_a_mark_that_may_be_either_is_asked_for() -> None:
    form = number_form(["1,234", "5,678"])

    assert form is not None
    assert "decimal" in (form.missing or "")


@pytest.mark.parametrize("values", [[], [True], ["a"], [[1]], ["n/a", "n/a", "5"]])
def test_what_is_no_number_is_none(values: Sequence[Any]) -> None:
    assert number_form(values) is None


@pytest.mark.parametrize(
    ("records", "paths"),
    [
        ([{"title": "a", "id": 1}, {"title": "b", "id": 2}], ("id",)),
        ([{"id": 1, "uuid": "a"}, {"id": 1, "uuid": "b"}], ("uuid",)),
        ([{"thing_id": 1, "owner_id": 7}, {"thing_id": 2, "owner_id": 8}], ("thing_id",)),
        ([{"price": 1.5, "name": "a"}, {"price": 2.5, "name": "b"}], ("name",)),
        ([{"attributes": {"id": 1}}, {"attributes": {"id": 2}}], ("attributes.id",)),
        ([{"a-b": 1}, {"a-b": 2}], ('"a-b"',)),
        ([{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1}], ("a", "b")),
        ([{"a": 1}, {"a": 1}], ()),
        ([{"id": 1}, {"id": None}], ()),
        ([{"id": True}, {"id": False}], ()),
    ],
)
def test_a_key_is_there_in_every_record_and_unique(records: list[dict[str, Any]], paths: tuple[str, ...]) -> None:
    assert guess_key(columns_of_objects(records), resource="things", records=len(records)).paths == paths


def test_a_column_is_taken_once_and_references_are_no_values() -> None:
    records = [{"id": at, "userId": at, "name": "a", "title": "b", "created": "2026-01-01"} for at in range(3)]

    guess = guess_mapping(columns_of_objects(records), key=("id",))

    assert guess.mapping == {"name": "name", "created_at": {"path": "created", "type": "date"}}


def test_the_order_of_a_cursor_is_told() -> None:
    (found,) = cursor_candidates([Column("updated", "updated", ["2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"])])

    assert (found.path, found.share, found.order) == ("updated", 1.0, "descending")


@pytest.mark.parametrize(
    ("path", "host", "name"),
    [
        ("/v2/contacts", "api.example.com", "contacts"),
        ("/collections/photos/records", "x", "photos"),
        ("/export/prices.csv.gz", "x", "prices"),
        ("/api/v1/", "api.weather.example", "weather"),
        ("/", "127.0.0.1", "source"),
        ("/2026/Größe (alt).csv", "x", "gr_e_alt"),
    ],
)
def test_a_source_is_named_after_what_it_brings(path: str, host: str, name: str) -> None:
    assert name_of(path, host) == name


def test_a_user_in_the_url_is_a_credential() -> None:
    address = read_address("https://me:p%40ss@example.com/a/b?x=1&x=two")

    auth = {"type": "http_basic", "username": "me", "password": "{secrets.B_PASSWORD}"}
    assert (address.url, address.client["auth"]) == ("https://example.com/a/b?x=1&x=two", auth)
    assert address.secrets["B_PASSWORD"].get_secret_value() == "p@ss"
    assert address.params == {"x": [1, "two"]}
