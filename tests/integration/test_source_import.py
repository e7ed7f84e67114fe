"""`etl sources import`: what is converted loads the same records, and what cannot be said is refused by name."""

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConfigError
from app.operations.importing import Import, import_file
from app.resources import Resources
from app.sources.reading import read_source
from tests.processes import run
from tests.source_files import SourceFiles
from tests.source_server import Reply, Seen, SourceServer

MANIFEST = """
version: 6.1.0
type: DeclarativeSource
check: { type: CheckStream, stream_names: [teams] }
definitions:
  requester:
    type: HttpRequester
    url_base: "URL/v1"
    http_method: GET
    authenticator: { type: BearerAuthenticator, api_token: "{{ config['api_key'] }}" }
    error_handler:
      type: DefaultErrorHandler
      response_filters:
        - { type: HttpResponseFilter, http_codes: [404], action: IGNORE }
  selector:
    type: RecordSelector
    extractor: { type: DpathExtractor, field_path: ["{{ parameters['field'] }}"] }
  pages:
    type: DefaultPaginator
    page_token_option: { type: RequestOption, inject_into: request_parameter, field_name: page }
    page_size_option: { type: RequestOption, inject_into: request_parameter, field_name: per_page }
    pagination_strategy: { type: PageIncrement, page_size: 2, start_from_page: 1 }
  retriever:
    type: SimpleRetriever
    requester: { $ref: "#/definitions/requester" }
    record_selector: { $ref: "#/definitions/selector" }
    paginator: { $ref: "#/definitions/pages" }
  teams:
    type: DeclarativeStream
    $parameters: { name: teams, path: teams, field: data, primary_key: id }
    retriever: { $ref: "#/definitions/retriever" }
  members:
    type: DeclarativeStream
    primary_key: [id]
    $parameters: { name: members, field: data }
    retriever:
      $ref: "#/definitions/retriever"
      requester:
        $ref: "#/definitions/requester"
        path: "teams/{{ stream_partition.team }}/members"
      partition_router:
        type: SubstreamPartitionRouter
        parent_stream_configs:
          - { type: ParentStreamConfig, parent_key: id, partition_field: team, stream: { $ref: "#/definitions/teams" } }
streams:
  - $ref: "#/definitions/teams"
  - $ref: "#/definitions/members"
  - { type: DeclarativeStream, name: odd, retriever: { type: CustomRetriever, class_name: source.Odd } }
api_budget:
  type: HTTPAPIBudget
  policies: [{ type: MovingWindowCallRatePolicy, rates: [{ limit: 50, interval: PT1S }], matchers: [] }]
spec:
  type: Spec
  connection_specification: { properties: { api_key: { type: string, airbyte_secret: true } } }
"""

CONFIGURATION = '''
"""A pipeline."""
import dlt
from dlt.sources.rest_api import RESTAPIConfig, rest_api_source

BASE = "URL/v1"
raise SystemExit("nobody runs this")


def source(token=dlt.secrets.value, since="2026-01-01T00:00:00Z"):
    config: RESTAPIConfig = {
        "client": {"base_url": f"{BASE}/", "auth": {"type": "bearer", "token": token}},
        "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
        "resources": [
            {
                "name": "teams",
                "endpoint": {
                    "path": "teams",
                    "data_selector": "$.data[*]",
                    "paginator": PageNumberPaginator(base_page=1, total_path=None),
                    "params": {"per_page": 2},
                },
            },
            {
                "name": "members",
                "endpoint": {
                    "path": "teams/{team}/members",
                    "params": {"team": {"type": "resolve", "resource": "teams", "field": "id"}, "per_page": 2},
                    "data_selector": "data",
                    "paginator": {"type": "page_number", "base_page": 1},
                },
            },
            {
                "name": "changes",
                "endpoint": {
                    "path": "changes",
                    "params": {"since": {"type": "incremental", "cursor_path": "at", "initial_value": since}},
                },
            },
            {"name": "odd", "endpoint": {"path": "odd"}, "processing_steps": [{"filter": lambda x: x["ok"]}]},
            made_by_a_function(),
        ],
    }
    yield from rest_api_source(config)
'''


def teams(seen: Seen) -> Reply:
    if seen.headers.get("Authorization") != "Bearer k3y":
        return Reply({}, status=401)
    number, size = int(seen.query.get("page", 1)), int(seen.query.get("per_page", 10))
    records = [{"id": at} for at in range(1, 6)]
    return Reply({"data": records[(number - 1) * size : number * size]})


def members(seen: Seen) -> Reply:
    team = seen.path.split("/")[3]
    return Reply({"data": [{"id": f"{team}-{at}"} for at in (1, 2)] if seen.query.get("page", "1") == "1" else []})


@pytest.fixture
def files(resources: Resources, tmp_path: Path, source_server: SourceServer) -> SourceFiles:
    source_server.put_script("/v1/teams", teams)
    for team in range(1, 5):
        source_server.put_script(f"/v1/teams/{team}/members", members)
    # Team 5 has none: its 404 is ignored by the manifest
    return SourceFiles(resources, tmp_path / "sources", source_server.url)


def converted(path: Path, text: str, **given: Any) -> list[Import]:
    path.write_text(text)
    return import_file(path, name=None, config={}, **given)


def tree_of(found: Import) -> dict[str, Any]:
    """The tree of the file, which our own reader takes."""
    assert found.text is not None
    tree = tomllib.loads(found.text)
    read_source(dict(tree), where="imported")
    return tree


@pytest.mark.parametrize(("name", "text"), [("crm.yaml", MANIFEST), ("crm.py", CONFIGURATION)])
async def test_what_was_converted_loads_parents_and_children(
    name: str,
    text: str,
    source_server: SourceServer,
    files: SourceFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETL_SECRET_API_KEY", "k3y")
    monkeypatch.setenv("ETL_SECRET_TOKEN", "k3y")
    if name.endswith(".py"):
        source_server.put_script("/v1/teams/5/members", members)
    (found,) = converted(tmp_path / name, text.replace("URL", source_server.url))
    assert found.text is not None
    files.write(found.text, name="crm")

    reports = await files.run_all("crm.teams", "crm.members")

    assert {name: (report.status, report.counts.inserted) for name, report in reports.items()} == {
        "crm.teams": ("succeeded", 5),
        "crm.members": ("succeeded", 8 if name.endswith(".yaml") else 10),
    }


def test_a_manifest_is_told_as_it_is(tmp_path: Path) -> None:
    (found,) = converted(tmp_path / "crm.yaml", MANIFEST.replace("URL", "https://api.example.com"))

    tree = tree_of(found)
    assert tree["client"] == {
        "base_url": "https://api.example.com/v1",
        "auth": {"type": "bearer", "token": "{secrets.API_KEY}"},
    }
    assert tree["rate_limit"] == {"requests": 50, "per": "PT1S"}
    assert tree["resources"][1] == {
        "name": "members",
        "primary_key": "id",
        "endpoint": {
            "path": "teams/{resources.teams.id}/members",
            "data_selector": "data",
            "paginator": {
                "type": "page_number", "page_param": "page", "base_page": 1, "limit": 2, "limit_param": "per_page",
            },
            "response_actions": [{"status_code": 404, "action": "ignore"}],
        },
    }  # fmt: skip
    assert [(one.name, one.path) for one in found.refused] == [("odd", "streams[2].retriever")]
    assert found.secrets == ["API_KEY"]


def test_a_python_file_is_read_and_never_run(tmp_path: Path) -> None:
    (found,) = converted(tmp_path / "crm_pipeline.py", CONFIGURATION.replace("URL", "https://api.example.com"))

    tree = tree_of(found)
    assert tree["name"] == "crm"
    assert tree["client"]["auth"] == {"type": "bearer", "token": "{secrets.TOKEN}"}
    assert tree["resources"][0]["endpoint"]["data_selector"] == "data"
    assert tree["resources"][2]["endpoint"]["params"] == {"since": "{incremental.start_value}"}
    assert {one.name: one.reason.partition(":")[0] for one in found.refused} == {
        "odd": "a filter that is a function",
        "4": "is made by a program",
    }


STREAM = """
version: 6.1.0
check: {{ stream_names: [things] }}
streams:
  - type: DeclarativeStream
    name: things
    primary_key: id
    retriever:
      type: SimpleRetriever
      requester: {{ type: HttpRequester, url_base: "https://api.example.com", path: things {requester} }}
      record_selector: {{ extractor: {{ field_path: {field_path} }} {selector} }}
      {retriever}
    {stream}
"""


def stream(
    requester: str = "", retriever: str = "", stream: str = "", field_path: str = "[data]", selector: str = ""
) -> str:
    return STREAM.format(
        requester=f", {requester}" if requester else "",
        retriever=retriever,
        stream=stream,
        field_path=field_path,
        selector=f", {selector}" if selector else "",
    )


def paginated(
    strategy: str, option: str = "{ inject_into: request_parameter, field_name: after }", more: str = ""
) -> str:
    return stream(
        retriever=f"paginator: {{ pagination_strategy: {{ {strategy} }}, page_token_option: {option} {more} }}"
    )


PATH = "{ type: RequestPath }"
CURSOR = "type: CursorPagination, cursor_value: "
PAGES: list[tuple[str, dict[str, Any]]] = [
    (
        paginated("type: OffsetIncrement, page_size: 50"),
        {"type": "offset", "limit": 50, "offset_param": "after", "limit_param": ""},
    ),
    (
        paginated(CURSOR + "\"{{ response.get('meta', {}).get('next', {}) }}\""),
        {"type": "cursor", "cursor_path": "meta.next", "cursor_param": "after"},
    ),
    (
        paginated(CURSOR + "'{{ response.next }}', stop_condition: '{{ not response.next }}'", PATH),
        {"type": "json_link", "next_url_path": "next"},
    ),
    (
        paginated(
            CURSOR + "'{{ response.meta.next }}', stop_condition: \"{{ 'next' not in response['meta'] or "
            "response.meta.next == '' }}\"",
            PATH,
        ),
        {"type": "json_link", "next_url_path": "meta.next"},
    ),
    (
        paginated(CURSOR + "\"{{ headers['link']['next']['url'] }}\"", PATH),
        {"type": "header_link", "links_next_key": "next"},
    ),
    (
        paginated(CURSOR + "\"{{ last_record['id'] }}\", stop_condition: '{{ not response.has_more }}'"),
        {"type": "keyset", "cursor_path": "id", "cursor_param": "after", "has_more_path": "has_more"},
    ),
    (
        paginated(CURSOR + "'{{ response.c }}'", "{ inject_into: body_json, field_name: c }"),
        {"type": "cursor", "cursor_path": "c", "cursor_body_path": "c"},
    ),
    (stream(), {"type": "single_page"}),
]


@pytest.mark.parametrize(("text", "paginator"), PAGES, ids=[paginator["type"] for _, paginator in PAGES])
def test_a_paginator_becomes_ours(text: str, paginator: dict[str, Any], tmp_path: Path) -> None:
    (found,) = converted(tmp_path / "x.yaml", text)

    assert found.refused == []
    assert tree_of(found)["resources"][0]["endpoint"]["paginator"] == paginator


AUTHS: list[tuple[str, dict[str, Any]]] = [
    (
        "authenticator: { type: ApiKeyAuthenticator, api_token: \"{{ config['key'] }}\", header: X-Key }",
        {"auth": {"type": "api_key", "name": "X-Key", "api_key": "{secrets.KEY}", "location": "header"}},
    ),
    (
        "authenticator: { type: ApiKeyAuthenticator, api_token: \"Token {{ config['key'] }}\", header: Authorization }",
        {"headers": {"Authorization": "Token {secrets.KEY}"}},
    ),
    (
        "authenticator: { type: BasicHttpAuthenticator, username: \"{{ config['key'] }}\" }",
        {"auth": {"type": "http_basic", "username": "{secrets.KEY}"}},
    ),
    (
        (
            "authenticator: { type: OAuthAuthenticator, token_refresh_endpoint: 'https://a.example.com/t', "
            "client_id: \"{{ config['client_id'] }}\", client_secret: \"{{ config['client_secret'] }}\", "
            "grant_type: client_credentials, scopes: [a, b] }"
        ),
        {
            "auth": {
                "type": "oauth2_client_credentials",
                "access_token_url": "https://a.example.com/t",
                "client_id": "{secrets.CLIENT_ID}",
                "client_secret": "{secrets.CLIENT_SECRET}",
                "scope": "a b",
            }
        },
    ),
]


@pytest.mark.parametrize(("given", "client"), AUTHS)
def test_an_authenticator_becomes_ours(given: str, client: dict[str, Any], tmp_path: Path) -> None:
    (found,) = converted(tmp_path / "x.yaml", stream(given))

    assert tree_of(found)["client"] == {"base_url": "https://api.example.com", **client}


def test_a_cursor_becomes_ours(tmp_path: Path) -> None:
    sync = (
        "incremental_sync: { type: DatetimeBasedCursor, cursor_field: updated, datetime_format: '%Y-%m-%d', "
        "start_datetime: { datetime: '2026-01-01' }, step: P1M, cursor_granularity: P1D, lookback_window: P2D, "
        "start_time_option: { inject_into: request_parameter, field_name: since }, "
        "end_time_option: { inject_into: request_parameter, field_name: until } }"
    )

    (found,) = converted(tmp_path / "x.yaml", stream(stream=sync))

    endpoint = tree_of(found)["resources"][0]["endpoint"]
    assert endpoint["params"] == {"since": "{incremental.start_value}", "until": "{incremental.end_value}"}
    assert {key: str(value) for key, value in endpoint["incremental"].items()} == {
        "cursor_path": "updated",
        "cursor_format": "date",
        "initial_value": "2026-01-01 00:00:00+00:00",
        "step": "P30D",
        "lookback_window": "P2D",
    }
    assert found.text is not None
    assert "# step P1M is said as P30D" in found.text


def test_times_may_come_otherwise_than_they_are_sent(tmp_path: Path) -> None:
    sync = (
        "incremental_sync: { type: DatetimeBasedCursor, cursor_field: updated, datetime_format: '%Y-%m-%d', "
        "cursor_datetime_formats: ['%Y-%m-%dT%H:%M:%S.%f%z', '%s'] }"
    )

    (found,) = converted(tmp_path / "x.yaml", stream(stream=sync))

    said = tree_of(found)["resources"][0]["endpoint"]["incremental"]
    assert said == {"cursor_path": "updated", "cursor_format": "date"}


def test_the_state_of_a_stream_is_the_value_to_ask_from(tmp_path: Path) -> None:
    sync = (
        "incremental_sync: { type: DatetimeBasedCursor, cursor_field: updated, datetime_format: '%Y-%m-%d', "
        "start_datetime: '2026-01-01', step: P30D }"
    )
    text = stream("request_parameters: { since: \"{{ stream_state['updated'] }}\" }", stream=sync)

    (found,) = converted(tmp_path / "x.yaml", text)

    endpoint = tree_of(found)["resources"][0]["endpoint"]
    assert endpoint["params"] == {"since": "{incremental.start_value}"}
    assert endpoint["incremental"] == {"cursor_path": "updated", "cursor_format": "date"}
    assert found.text is not None
    assert "is left out: the first run reads everything" in found.text


CHOICE = "url_base: \"{{ 'https://test.example.com' if config.TEST else 'https://example.com' }}\""


@pytest.mark.parametrize(
    ("tested", "config", "base_url"),
    [
        ("sandbox", {}, "https://example.com"),
        ("sandbox", {"sandbox": "true"}, "https://test.example.com"),
        ("sandbox", {"sandbox": "False"}, "https://example.com"),
        ("sandbox != true", {}, "https://test.example.com"),
        ("place == 'far away'", {"place": "far away"}, "https://test.example.com"),
        ("place == 'far away'", {"place": "near"}, "https://example.com"),
    ],
)
def test_an_input_chooses_between_two_texts(tested: str, config: dict[str, str], base_url: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    spec = "spec: { connection_specification: { properties: { sandbox: { type: boolean, default: false } } } }\n"
    path.write_text(stream(CHOICE.replace("TEST", tested)) + spec)

    (found,) = import_file(path, name="shop", config=config)

    assert tree_of(found)["client"]["base_url"] == base_url


REFUSED: list[tuple[str, str]] = [
    (stream("request_parameters: { day: \"{{ now_utc().strftime('%Y') }}\" }"), "computed"),
    (stream("request_parameters: { org: \"{{ config['org'] }}\" }"), "--config org=VALUE"),
    (stream("authenticator: { type: CustomAuthenticator, class_name: x }"), "CustomAuthenticator"),
    (stream("authenticator: { type: JwtAuthenticator }"), "JwtAuthenticator"),
    (stream(retriever="decoder: { type: XmlDecoder }"), "XmlDecoder"),
    (stream(selector="record_filter: { condition: '{{ record.a + 1 > 2 }}' }"), "a condition that a filter cannot say"),
    (stream(selector="record_filter: { condition: '{{ record.a }}' }"), "a filter cannot say: {{ record.a }}"),
    (
        stream(selector="record_filter: { condition: '{{ record.a == 1 and record.b > stream_interval.start }}' }"),
        "a filter cannot say: {{ record.a == 1 and",
    ),
    (stream(field_path="[a, '*', b, '*']"), "more than one"),
    (stream(stream="transformations: [{ type: AddFields, fields: [{ path: [id], value: 1 }] }]"), "in no record"),
    (
        paginated(CURSOR + "'{{ response.c }}', stop_condition: '{{ response.total < 5 }}'"),
        "an end that a paginator cannot say",
    ),
    (paginated("type: PageIncrement", "{ inject_into: header, field_name: X }"), "put into header"),
    (
        stream(retriever="partition_router: [{ type: ListPartitionRouter, values: [a], cursor_field: c }]"),
        "partitions are parameters",
    ),
    (stream("url_base: 'https://{{ config.shop }}.example.com'"), "--config shop=VALUE"),
    (stream(CHOICE.replace("TEST", "sandbox")), "depends on an input: say --config sandbox=VALUE"),
    (stream(CHOICE.replace("TEST", "a and config.b")), "computed"),
    (stream("request_parameters: { since: '{{ stream_state.updated }}' }"), "stream_state updated means nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_a_stream_that_would_be_wrong_is_refused_with_its_place(text: str, reason: str, tmp_path: Path) -> None:
    (found,) = converted(tmp_path / "x.yaml", text)

    assert found.text is None
    assert found.refused[0].path.startswith("streams[0].")
    assert reason in found.refused[0].reason


def test_a_filter_of_one_comparison_is_kept(tmp_path: Path) -> None:
    condition = "record_filter: { condition: \"{{ record['the-state'] != 'gone' }}\" }"

    (found,) = converted(tmp_path / "x.yaml", stream(selector=condition))

    assert tree_of(found)["resources"][0]["filter"] == [{"path": '"the-state"', "op": "ne", "value": "gone"}]


def test_an_answer_that_succeeded_is_never_ignored(tmp_path: Path) -> None:
    filters = (
        "error_handler: { type: DefaultErrorHandler, response_filters: ["
        "{ type: HttpResponseFilter, http_codes: [200, 404], action: SUCCESS }, "
        "{ type: HttpResponseFilter, error_message_contains: gone, action: IGNORE }] }"
    )

    (found,) = converted(tmp_path / "x.yaml", stream(filters))

    assert tree_of(found)["resources"][0]["endpoint"]["response_actions"] == [
        {"status_code": 404, "action": "ignore"},
        {"status_code": "4xx", "action": "ignore", "content": "gone"},
        {"status_code": "5xx", "action": "ignore", "content": "gone"},
    ]


def test_inputs_that_are_given_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(stream("url_base: 'https://{{ config.shop }}.example.com'"))

    (found,) = import_file(path, name="shop", config={"shop": "acme"})

    assert tree_of(found)["client"]["base_url"] == "https://acme.example.com"


BAD_FILES: dict[str, tuple[str, str]] = {
    "nothing.yaml": ("a: 1", "neither a manifest"),
    "broken.yaml": ("a: [", "not valid YAML"),
    "broken.json": ("{", "not valid JSON"),
    "broken.py": ("def", "is no Python"),
    "plain.py": ("x = 1", "no dictionary with client and resources"),
    "deep.json": ("[" * 100_000, "not valid JSON"),
    "tagged.yaml": ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    "aliases.yaml": (
        "check: 1\nstreams: &a0 [1]\n" + "".join(f"a{at + 1}: &a{at + 1} [*a{at}, *a{at}]\n" for at in range(40)),
        "its aliases unfolded",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_says_why(name: str, tmp_path: Path) -> None:
    text, said = BAD_FILES[name]
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(ConfigError, match=said):
        import_file(path, name=None, config={})


@pytest.mark.parametrize(
    ("references", "said"),
    [
        ("{ a: { $ref: '#/definitions/x' }, b: { $ref: '#/definitions/x' } }", "leads to itself"),
        ("{ $ref: '#/definitions/nothing' }", "leads nowhere"),
    ],
)
def test_references_that_never_end_refuse_the_stream(references: str, said: str, tmp_path: Path) -> None:
    text = stream(retriever="x: { $ref: '#/definitions/x' }") + f"\ndefinitions:\n  x: {references}\n"

    (found,) = converted(tmp_path / "x.yaml", text)

    assert said in found.refused[0].reason


def test_without_the_package_for_yaml_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)

    with pytest.raises(ConfigError, match=r"etl-river\[yaml\]"):
        converted(tmp_path / "x.yaml", stream())


async def test_the_command_prints_what_it_refused(tmp_path: Path) -> None:
    (tmp_path / "crm.yaml").write_text(MANIFEST.replace("URL", "https://api.example.com"))

    code, output = await run("sources", "import", "crm.yaml")
    again, said = await run("sources", "import", "crm.yaml")
    shown, listed = await run("sources", "list")

    assert code == 2
    assert "sources/crm.toml: 2 of 3 streams converted" in output
    assert "refused: odd: streams[2].retriever: CustomRetriever has no counterpart here" in output
    assert "export ETL_SECRET_API_KEY=…" in output
    assert (again, "is there already" in said) == (2, True)
    assert (shown, "crm.members" in listed) == (0, True)
