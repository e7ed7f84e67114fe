"""The members of a JSON body, and JMESPath to them. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def path_step(key: str) -> str:
    """A key as JMESPath has it: quoted where it is no identifier."""
    return key if _PLAIN.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def path_of(keys: Sequence[str]) -> str:
    return ".".join(map(path_step, keys))


def members(tree: Any, depth: int, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """
    What stands in an object and in the objects inside it, each with the keys that lead there.

    Args:
        depth: of objects within objects, of which the deepest are told whole; lists are not looked into.
    """
    if not isinstance(tree, Mapping):
        return
    for key, value in tree.items():
        here = (*above, key)
        if isinstance(value, Mapping) and len(here) < depth:
            yield from members(value, depth, here)
        else:
            yield here, value
