"""What a source file may say, and what is answered to one that says it wrong."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.errors import ConfigError
from app.settings import load_settings
from app.sources.catalog import Catalog, open_catalog
from app.sources.paginators import Auto
from app.sources.reading import json_schema, read_source
from app.sources.resource import Secrets
from app.sources.tables import AnySource, CsvResource, RestResource
from app.sources.words import ALIASES, ELSEWHERE, VALUES
from tests.source_files import EXAMPLES

REST = """
name = "s"
type = "rest_api"
[client]
base_url = "https://api.example.com"
{client}
[[resources]]
name = "things"
{resource}
[resources.endpoint]
path = "things"
{endpoint}
"""
CSV = 'name = "f"\ntype = "csv"\n[[resources]]\nname = "rows"\nfile = {{ url = "{url}" }}\n'


def rest(client: str = "", resource: str = "", endpoint: str = "") -> str:
    return REST.format(client=client, resource=resource, endpoint=endpoint)


def read(text: str, hints: list[str] | None = None) -> AnySource:
    return read_source(tomllib.loads(text), where="s.toml", hints=hints)


def fault(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_manual_are_read(name: str) -> None:
    source = read_source(tomllib.loads(EXAMPLES[name]), where=name)

    assert [resource.primary_key for resource in source.resources]
    assert all(resource.mapping.source_id for resource in source.resources)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_fit_the_published_schema(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    tree = tomllib.loads(EXAMPLES[name])
    # As an editor sees it: TOML's datetimes are texts there
    plain = json.loads(json.dumps(tree, default=lambda value: value.isoformat()))

    jsonschema.Draft202012Validator.check_schema(json_schema())
    faults = [
        f"{item.json_path}: {item.message}"
        for item in jsonschema.Draft202012Validator(json_schema()).iter_errors(plain)
    ]

    assert faults == []


@pytest.mark.parametrize("alias", [(table, key, ours) for table, keys in ALIASES.items() for key, ours in keys.items()])
def test_an_alias_leads_to_a_key_that_exists(alias: tuple[str, str, str]) -> None:
    table, _, ours = alias
    text = json.dumps(json_schema())

    assert f'"{ours}": {{' in text, f"{table}.{ours}"


@pytest.mark.parametrize(
    ("text", "ours", "hint"),
    [
        (rest().replace("base_url", "url_base"), rest(), "client.url_base"),
        (rest(endpoint='http_method = "POST"'), rest(endpoint='method = "POST"'), "endpoint.http_method"),
        (rest(endpoint="request_parameters = { a = 1 }"), rest(endpoint="params = { a = 1 }"), "request_parameters"),
        (
            rest(endpoint='incremental = { cursor_field = "at", start_datetime = 2024-01-01T00:00:00Z }'),
            rest(endpoint='incremental = { cursor_path = "at", initial_value = 2024-01-01T00:00:00Z }'),
            "incremental.cursor_field",
        ),
        (
            rest(endpoint='incremental = { replication_key = "at", lag = "PT1H" }'),
            rest(endpoint='incremental = { cursor_path = "at", lookback_window = "PT1H" }'),
            "incremental.lag",
        ),
        (
            rest(endpoint='incremental = { update_key = "at" }'),
            rest(endpoint='incremental = { cursor_path = "at" }'),
            "incremental.update_key",
        ),
        (
            rest(endpoint='incremental = { incremental_key = "at" }'),
            rest(endpoint='incremental = { cursor_path = "at" }'),
            "incremental.incremental_key",
        ),
        (rest(resource='sync_mode = "append"'), rest(resource='write_disposition = "append"'), "resources.sync_mode"),
        (rest(resource='schema_contract = "discard_row"'), rest(resource='schema_contract = "reject_row"'), ""),
    ],
)
def test_a_word_of_another_tool_is_taken_for_ours(text: str, ours: str, hint: str) -> None:
    hints: list[str] = []

    assert read(text, hints) == read(ours)
    assert hint in "\n".join(hints)


@pytest.mark.parametrize(("key", "value"), VALUES)
def test_a_value_of_another_tool_is_taken_for_ours(key: str, value: str) -> None:
    table = 'schema_contract = { data_type = "VALUE" }' if key == "data_type" else f'{key} = "VALUE"'

    assert read(rest(resource=table.replace("VALUE", value))) == read(
        rest(resource=table.replace("VALUE", VALUES[key, value]))
    )


def test_a_word_beside_its_own_translation_is_refused() -> None:
    assert "keep base_url" in fault(rest(client='url_base = "https://x"'))


@pytest.mark.parametrize("word", ELSEWHERE)
def test_a_foreign_word_in_the_wrong_place_is_answered_with_where_it_belongs(word: str) -> None:
    known_there = word == "key"
    text = rest(resource=f'{word} = "x"') if known_there else f'{word} = "x"\n' + rest()

    assert f"{word}: unknown key: {ELSEWHERE[word]}" in fault(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            rest(endpoint='write_disposition = "append"'),
            "resources.things.endpoint.write_disposition: unknown key here; its place is resources.write_disposition",
        ),
        (rest(client="cron = 'x'"), "client.cron: unknown key: here [schedule] cron"),
        (rest(client='auths = { a = "b" }'), "client.auths: unknown key; did you mean auth?"),
        pytest.param(rest(client='header = { a = "b" }'), "client.header: unknown key; did you mean headers?"),
        (rest(resource="primarykey = 'id'"), "resources.things.primarykey: unknown key; did you mean primary_key?"),
        (rest(resource='mapping = { title = "x" }'), "mapping.title: unknown key; mapping has created_at, deleted"),
        (
            rest(resource='deletes = "snapshot"'),
            'deletes: expected a table, for example deletes = { detect = "snapshot" }',
        ),
        (
            rest(endpoint='paginator = { type = "PageIncrement" }'),
            "PageIncrement is another tool's name; here page_number",
        ),
        (rest(resource='file = { url = "x" }'), "file: unknown key in a source of this type"),
        (rest().replace("https://", ""), "client.base_url: is no URL"),
        (rest().replace("[[resources]]", "[resources]"), "resources: is a list of tables: write [[resources]]"),
        (rest(client='headers = { Authorization = "Bearer abc" }'), "client.headers: holds a literal in Authorization"),
        (rest(endpoint='params = { api_key = "abc" }'), "endpoint.params: holds a literal in api_key"),
        (rest(endpoint="zzzzzz = 1"), "endpoint.zzzzzz: unknown key; endpoint has data, data_selector"),
        (rest(endpoint='paginator = { type = "magic" }'), "endpoint.paginator.type: there is no magic; there are"),
        (rest(endpoint='params = { a = "{secrets.X}" }'), "{secrets.X} means nothing here"),
        (rest(endpoint='incremental = { cursor_path = "a", lookback_window = 60 }'), "has no unit"),
        (rest(endpoint="json = { a = 1 }"), 'a body needs method = "POST"'),
        (rest(endpoint='method = "POST"\njson = { a = 1 }\ndata = { a = 1 }'), "two bodies"),
        (rest().replace("[[resources]]", "[[resources]]\nname = 'things'\n[[resources]]"), "two resources are called"),
        ('name = "s"\ntype = "rest_api"\n', "resources: is missing"),
        (rest().replace('type = "rest_api"', ""), "type: is missing; there are"),
        (
            rest(endpoint='partitions = [{ a = "{resources.nobody.id}" }]'),
            "resources.things.endpoint: {resources.nobody.id}: partitions cannot name a parent's fields",
        ),
    ],
)
def test_a_fault_is_told_with_its_place_and_a_way_out(text: str, told: str) -> None:
    assert told in fault(text)


@pytest.mark.parametrize(
    "auth",
    [
        'type = "bearer", token = "abc"',
        'type = "bearer", token = "x{secrets.A}"',
        'type = "api_key", name = "k", api_key = "abc"',
        'type = "http_basic", username = "u", password = "abc"',
        'type = "hmac", secret = "abc"',
        'type = "oauth2_client_credentials", access_token_url = "https://x", client_id = "i", client_secret = "abc"',
        'type = "oauth2_refresh_token", access_token_url = "https://x", client_id = "i", refresh_token = "abc"',
    ],
)
def test_a_literal_is_refused_where_a_secret_belongs(auth: str) -> None:
    told = fault(rest(client=f"auth = {{ {auth} }}"))

    assert re.search(
        r"client\.auth\.(token|api_key|password|secret|client_secret|refresh_token): holds a literal", told
    )
    assert "abc" not in told


def test_a_missing_secret_is_named_with_both_of_its_places() -> None:
    secrets = Secrets({"OTHER": SecretStr("x")}, "s.toml")

    with pytest.raises(ConfigError, match=r"s\.toml: there is no secret A; .*ETL_SECRET_A.*/run/secrets/A"):
        secrets.fill("{secrets.A}")


def test_defaults_are_merged_table_by_table() -> None:
    defaults = """
[resource_defaults]
primary_key = "id"
[resource_defaults.endpoint]
params = { a = 1, b = 1 }
paginator = { type = "offset", limit = 5 }
[resource_defaults.mapping]
name = "title"
"""
    other = '[[resources]]\nname = "other"\nprimary_key = "key"\nendpoint = { paginator = { type = "auto" } }\n'
    things, others = read(rest(endpoint="params = { b = 2 }") + other + defaults).resources

    assert isinstance(things, RestResource)
    assert isinstance(others, RestResource)
    assert (things.primary_key, things.endpoint.params) == (("id",), {"a": 1, "b": 2})
    assert (others.primary_key, others.endpoint.paginator) == (
        ("key",),
        Auto(type="auto"),
    )
    assert things.mapping == others.mapping


# The catalogue


def opened(folder: Path, **files: str) -> Catalog:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, "utf-8")
    return open_catalog(load_settings(SOURCES_DIR=folder, FILE_ROOTS=str(folder.parent / "exports")))


def test_resources_carry_the_name_of_their_source(tmp_path: Path) -> None:
    two = rest() + '[[resources]]\nname = "other"\n[[resources]]\nname = "off"\nselected = false\n'
    catalog = opened(tmp_path, one=rest().replace('"s"', '"single"'), two=two)

    assert [one.name for one in catalog.select(["single", "s"])] == ["single", "s.things", "s.other"]


def test_a_disabled_source_is_named_as_such_and_can_be_looked_up(tmp_path: Path) -> None:
    off = "enabled = false\n" + CSV.format(url="/elsewhere/rows.csv")
    catalog = opened(tmp_path, s=rest(), f=off)

    with pytest.raises(ConfigError, match=r"^f is disabled: enabled = false in .*/f\.toml$"):
        catalog.select(["s", "f"])
    assert [one.name for one in catalog.look_up(["f"])] == ["f"]
    assert "f" not in {one.name for one in catalog}
    with pytest.raises(ConfigError, match="unknown source g"):
        catalog.look_up(["g"])


def test_what_is_not_selected_is_named_as_such_and_can_be_looked_up(tmp_path: Path) -> None:
    off = '[[resources]]\nname = "off"\nselected = false\n'
    alone = CSV.format(url="/elsewhere/rows.csv").replace("[[resources]]", "[[resources]]\nselected = false")
    catalog = opened(tmp_path, s=rest() + off, f=alone)

    for name in ("s.off", "f"):
        with pytest.raises(ConfigError, match=rf"^{name} is not selected: selected = false in \S*/{name[0]}\.toml$"):
            catalog.select([name])
        assert [one.name for one in catalog.look_up([name])] == [name]
    assert [one.name for one in catalog.select(["s"])] == ["s.things"]


@pytest.mark.parametrize(
    "wrong",
    [
        'name = "t"\n[client',
        'name = "t"\ntype = "nothing"\n',
        pytest.param('name = "t"\nx = ' + "[" * 5_000, id="a list too deep"),
        pytest.param('name = "t"\n' + "x." * 2_000 + "x = 1", id="tables too deep"),
        pytest.param('name = "t"\nx = ' + "9" * 5_000, id="a number too long"),
    ],
)
def test_a_wrong_file_hinders_no_other_and_is_known_by_its_name(tmp_path: Path, wrong: str) -> None:
    catalog = opened(tmp_path, s=rest(), t=wrong)

    assert [one.name for one in catalog.select(["s"])] == ["s"]
    for name in ("t", "t.things"):
        with pytest.raises(ConfigError, match=r"^\S*/t\.toml: "):
            catalog.select([name])
    with pytest.raises(ConfigError, match=r"unknown source u; there are: .*\n\S*/t\.toml: "):
        catalog.look_up(["u"])


def test_a_name_that_a_wrong_file_has_too_is_nobodys(tmp_path: Path) -> None:
    """Whose the rows of that name are cannot be told: the other one's next pass might delete them as absent."""
    catalog = opened(tmp_path, s=rest(), s_old='name = "s"\n[client')

    assert "s" not in {one.name for one in catalog}


@pytest.mark.parametrize("taken", ["s", "api", "csv"])
def test_two_sources_with_one_name_are_refused(tmp_path: Path, taken: str) -> None:
    text = rest().replace('"s"', f'"{taken}"')

    catalog = opened(tmp_path, a=text, b=text)

    with pytest.raises(ConfigError, match=f"b.toml: name: {taken} is taken by"):
        catalog.select([taken])
    assert taken not in {one.name for one in catalog}


def test_every_fault_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    catalog = opened(tmp_path, a=rest(endpoint="x = 1\ny = 1").replace('"s"', '"t"'), b="name = ", c=rest())

    with pytest.raises(ConfigError) as caught:
        catalog.demand_right()
    assert [line.partition(": ")[0].rpartition("/")[2] for line in str(caught.value).splitlines()] == [
        "a.toml",
        "a.toml",
        "b.toml",
    ]


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("rows.csv", True),
        ("deeper/rows.csv", True),
        ("../exports/rows.csv", True),
        ("https://example.com/rows.csv", True),
        ("../rows.csv", False),
        ("/etc/passwd", False),
        ("../exports/../rows.csv", False),
        ("../exports2/rows.csv", False),
        ("link/passwd", False),
        ("~/rows.csv", False),
        pytest.param("file:///etc/passwd", False),
        pytest.param("FILE:///etc/passwd", False),
    ],
)
def test_a_file_lies_below_its_source_file_or_a_named_folder(tmp_path: Path, url: str, *, is_allowed: bool) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "link").symlink_to("/etc")
    text = CSV.format(url=url)

    if is_allowed:
        assert [one.name for one in opened(folder, f=text).select(["f"])] == ["f"]
    else:
        with pytest.raises(ConfigError, match="FILE_ROOTS"):
            opened(folder, f=text).select(["f"])


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/rows.csv",
        pytest.param("HTTPS://example.com/rows.csv"),
    ],
)
def test_a_url_is_left_as_it_is(tmp_path: Path, url: str) -> None:
    (one,) = opened(tmp_path, f=CSV.format(url=url)).select(["f"])

    assert isinstance(one.table, CsvResource)
    assert one.table.file.url == url
