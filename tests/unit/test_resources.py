"""What makes a resource another one, and what does not."""

import pytest

from tests.normalizing import csv_spec, rest_spec


def test_what_a_file_leaves_out_changes_no_hash_and_is_in_none() -> None:
    said = rest_spec({"name": "title"}, endpoint={"path": "posts"})
    spelled_out = rest_spec(
        {"name": {"path": "title"}},
        endpoint={"path": "posts", "method": "GET", "partitions": []},
        deletes={"mode": "soft"},
    )

    assert said.request_hash == spelled_out.request_hash
    assert said.mapping_hash == spelled_out.mapping_hash


@pytest.mark.parametrize(
    "endpoint",
    [{"path": "pages"}, {"path": "posts", "params": {"a": 1}}, {"path": "posts", "paginator": {"type": "header_link"}}],
)
def test_another_request_is_another_walk(endpoint: dict[str, object]) -> None:
    assert rest_spec(endpoint=endpoint).request_hash != rest_spec(endpoint={"path": "posts"}).request_hash
    assert rest_spec(endpoint=endpoint).mapping_hash == rest_spec(endpoint={"path": "posts"}).mapping_hash


def test_another_mapping_key_filter_or_null_value_is_another_normalization() -> None:
    plain = rest_spec({"name": "a"})
    for other in (
        rest_spec({"name": "b"}),
        rest_spec({"name": "a"}, primary_key="uuid"),
        rest_spec({"name": "a"}, filter=[{"path": "x", "op": "exists"}]),
        rest_spec({"name": "a"}, schema_contract="reject_row"),
    ):
        assert other.mapping_hash != plain.mapping_hash
        assert other.request_hash == plain.request_hash
    assert csv_spec(format={"null_values": ["-"]}).mapping_hash != csv_spec().mapping_hash
    assert csv_spec(format={"delimiter": ";"}).request_hash != csv_spec().request_hash
