"""What `docs/sources.md` says of source files is true of the model."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from app.sources.reading import json_schema, read_source

DOC = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", DOC, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_source(example: str) -> None:
    assert read_source(tomllib.loads(example), where="docs/sources.md").resources


def test_every_key_is_named_and_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
    schema: dict[str, Any] = json_schema()["$defs"]
    keys = {key for table in schema.values() for key in table.get("properties", {})}
    # Named by a table of their own, or explained where their table is
    assert sorted(key for key in keys if not re.search(rf"\b{re.escape(key)}\b", DOC)) == []
