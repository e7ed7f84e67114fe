"""Resources and values for the tests of `app.normalize`."""

from typing import Any

from hypothesis import strategies as st

from app.sources.resource import ResourceSpec
from app.sources.tables import CsvResource, RestResource

ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
"""Any JSON value, and what Python's parser gives beyond JSON: NaN, Infinity, lone surrogates."""


def rest_spec(mapping: dict[str, Any] | None = None, **keys: Any) -> ResourceSpec:
    table = RestResource.model_validate({"name": "contacts", "mapping": mapping or {}, **keys})
    return ResourceSpec(source="crm", table=table, single=True, where="sources/crm.toml")


def csv_spec(
    mapping: dict[str, Any] | None = None, *, source: str = "prices", where: str = "sources/prices.toml", **keys: Any
) -> ResourceSpec:
    table = CsvResource.model_validate({"name": "rows", "file": {"url": "x.csv"}, "mapping": mapping or {}, **keys})
    return ResourceSpec(source=source, table=table, single=True, where=where)
