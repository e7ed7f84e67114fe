"""The columns of /data: their conditions as OpenAPI describes them, their values as they are sent."""

from collections.abc import Iterable, Sequence
from typing import Any

from app.db.data_query import DataQuery, Operator
from app.operations.questions import FILTERS, LISTS, MAX_LISTED, MAX_TEXT, chosen_columns, column_adapter


def describe_filters() -> dict[str, Any]:
    """The filters, as OpenAPI describes parameters whose names are properties of an object."""
    properties = {name: _schema(column, operator) for name, (column, operator) in FILTERS.items()}
    return {
        "name": "filters",
        "in": "query",
        "required": False,
        "style": "form",
        "explode": True,
        "description": "Conditions on columns, each a parameter of its own: `value__gte=10&name__contains=river`. "
        "Text is compared without case by contains, startswith and endswith, exactly by the others.",
        "schema": {"type": "object", "properties": properties, "additionalProperties": False},
        "example": {},
    }


def _schema(column: str, operator: Operator) -> dict[str, Any]:
    if operator == "isnull":
        return {"type": "boolean"}
    schema = column_adapter(column).json_schema()
    if operator != "in":
        return schema
    said = f"Separated by commas, or a JSON array of texts; at most {MAX_LISTED}."
    return {"type": "string", "maxLength": MAX_TEXT, "pattern": LISTS[column], "description": said}


def objects(rows: Iterable[Sequence[Any]], query: DataQuery, fields: str | None) -> list[dict[str, Any]]:
    """Rows of the query's columns, as they are sent; of these, the chosen ones."""
    columns = tuple(query.columns)
    if fields is None:
        return [dict(zip(columns, row, strict=True)) for row in rows]
    places = {name: columns.index(name) for name in chosen_columns(query, fields)}
    return [{name: row[at] for name, at in places.items()} for row in rows]
