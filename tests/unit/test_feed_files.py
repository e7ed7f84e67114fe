"""What a source file may say of a feed."""

import tomllib

import pytest

from app.errors import ConfigError
from app.sources.reading import json_schema, read_source
from app.sources.tables import AnySource

FEED = """
name = "news"
type = "rss"
{top}
[[resources]]
name = "entries"
{keys}
[resources.feed]
url = "https://blog.example.com/feed.xml"
{feed}
"""


def read(*, top: str = "", keys: str = "", feed: str = "") -> AnySource:
    return read_source(tomllib.loads(FEED.format(top=top, keys=keys, feed=feed)), where="news.toml")


def test_what_is_left_out_has_a_mapping_that_fits_a_feed() -> None:
    mapping = read().resources[0].mapping

    paths = {column: given.paths for column in type(mapping).model_fields if (given := mapping.of(column)) is not None}
    assert paths == {
        "source_id": ("id",),
        "name": ("title",),
        "description": ("summary",),
        "created_at": ("published", "updated"),
        "updated_at": ("updated", "published"),
    }
    assert read(keys='mapping = { name = "title" }').resources[0].mapping.description is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"keys": 'deletes = { detect = "snapshot" }'}, "those that fall off were not deleted"),
        ({"feed": 'identity = ["published"]'}, "resources.entries.feed.identity"),
        ({"feed": 'identity = ["id", "id"]'}, "names one thing twice"),
        ({"feed": 'on_bozo = "reject"'}, "resources.entries.feed.on_bozo"),
        ({"feed": "max_parse_seconds = 0"}, "resources.entries.feed.max_parse_seconds"),
        ({"feed": 'uri = "x"'}, "feed has identity, max_parse_seconds, on_bozo, url"),
        ({"top": 'client = { base_url = "https://x.example" }'}, "write the whole URL into feed.url"),
        ({"top": 'client = { paginator = { type = "single_page" } }'}, "a feed, which is one body"),
        ({"keys": 'endpoint = { path = "x" }'}, "endpoint: unknown key in a source of this type"),
    ],
)
def test_what_makes_no_sense_of_a_feed_is_refused_with_its_reason(given: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(**given)

    assert told in str(raised.value)


def test_the_schema_has_the_keys_of_a_feed() -> None:
    schema = json_schema()["$defs"]

    assert set(schema["FeedSpec"]["properties"]) == {"url", "identity", "on_bozo", "max_parse_seconds"}
    assert "resource_defaults" in schema["RssSource"]["properties"]
