"""A source's tree as TOML: it reads back as it was, whatever its texts hold."""

import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sources.writing import write_source

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.one_of(
        TEXTS,
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.datetimes(timezones=st.just(UTC)),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
TABLES = st.dictionaries(TEXTS.filter(lambda key: key != "resources"), VALUES, max_size=4)
RESOURCES = st.lists(
    st.fixed_dictionaries(
        {"name": TEXTS}, optional={"endpoint": st.dictionaries(TEXTS, VALUES, max_size=3), "mapping": TABLES}
    ),
    min_size=1,
    max_size=3,
)


@given(TABLES, RESOURCES, TEXTS)
def test_a_tree_reads_back_as_it_was(table: dict[str, Any], resources: list[dict[str, Any]], said: str) -> None:
    tree = {**table, "resources": resources}
    comments = {path: [said] for path in ("", "resources.0", "resources.0.*", "resources.0.mapping.*", "*")}

    assert tomllib.loads(write_source(tree, comments)) == tree


def test_a_comment_stands_above_its_key() -> None:
    tree = {"name": "a", "resources": [{"name": "b", "endpoint": {"path": "c", "incremental": {"cursor_path": "d"}}}]}
    comments = {"resources.0.endpoint.incremental.cursor_path": ["why", "so"], "resources.0.endpoint": ["where"]}

    assert write_source(tree, comments).splitlines()[5:] == [
        "# where",
        "[resources.endpoint]",
        'path = "c"',
        "",
        "[resources.endpoint.incremental]",
        "# why",
        "# so",
        'cursor_path = "d"',
    ]


def test_a_long_list_has_a_line_for_each_item() -> None:
    actions = [{"status_code": number, "action": "ignore"} for number in range(400, 404)]

    text = write_source({"name": "a", "actions": actions, "at": datetime(2026, 1, 1, tzinfo=UTC)})

    assert '  { status_code = 401, action = "ignore" },\n' in text
    assert "at = 2026-01-01T00:00:00Z\n" in text
    assert tomllib.loads(text)["actions"] == actions


def test_what_toml_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        write_source({"name": None})
