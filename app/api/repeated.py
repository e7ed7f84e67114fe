"""A parameter that is given twice, where one is meant: which of them was, nobody can tell."""

from collections import Counter
from typing import Any

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError


async def refuse_repeated(request: Request) -> None:
    """
    Raises:
        RequestValidationError: names each that the route's description has as one value.
    """
    counts = Counter(name for name, _ in request.query_params.multi_items())
    if counts.total() == len(counts):
        return
    operations = request.app.openapi()["paths"].get(request.scope["route"].path_format, {})
    described = operations.get(request.method.lower(), {}).get("parameters", ())
    single = {item["name"] for item in described if item["in"] == "query" and not _is_list(item)}
    faults = [
        {"loc": ("query", name), "msg": f"given {count} times; give it once", "type": "repeated"}
        for name, count in counts.items()
        if count > 1 and name in single
    ]
    if faults:
        raise RequestValidationError(faults)


def _is_list(parameter: dict[str, Any]) -> bool:
    schema = parameter["schema"]
    return any(one.get("type") == "array" for one in (schema, *schema.get("anyOf", ())))


Unrepeated = Depends(refuse_repeated)
