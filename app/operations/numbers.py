"""Numbers as text, as clients and commands write them: not all that Python takes for one, `1_0` and ` 1 ` among it."""

import re
from typing import Any, Final

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_WHOLE: Final = re.compile(r"-?[0-9]+")
_DECIMAL: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def _check_whole(given: Any) -> Any:
    if isinstance(given, str) and not _WHOLE.fullmatch(given):
        raise PydanticCustomError("int_parsing", "Input should be a valid integer, in digits alone")
    return given


def _check_decimal(given: Any) -> Any:
    if isinstance(given, str) and not _DECIMAL.fullmatch(given):
        raise PydanticCustomError("float_parsing", "Input should be a valid number, as 12, -0.5 or 1e3")
    return given


# After the bounds, in an annotation: before them they would hide those from the JSON schema
IN_DIGITS: Final = BeforeValidator(_check_whole)
AS_DECIMAL: Final = BeforeValidator(_check_decimal)
