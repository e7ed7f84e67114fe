"""A manifest's components, with references followed and parameters handed down, as Airbyte does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.sources.foreign.conversion import CannotSayError

MAX_PARTS: Final = 500_000
"""Of a component, its references followed; more is no configuration."""


def follow(tree: Any, root: Mapping[str, Any]) -> Any:
    """
    The tree with every `$ref` (and `#/…` text) replaced by what it leads to.

    Raises:
        CannotSayError: a reference leads nowhere, or to itself; or there is no end of them.
    """
    return _Follower(root).follow(tree, ())


class _Follower:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = MAX_PARTS

    def follow(self, tree: Any, chain: tuple[str, ...]) -> Any:
        """
        Args:
            chain: the references that led here.
        """
        self._left -= 1
        if self._left < 0:
            raise CannotSayError("$ref", f"its references lead to more than {MAX_PARTS} parts")
        if isinstance(tree, list):
            return [self.follow(item, chain) for item in tree]
        if isinstance(tree, str) and tree.startswith("#/"):
            return self._behind(tree, chain)
        if not isinstance(tree, Mapping):
            return tree
        own = {
            key: value if key == "schema" else self.follow(value, chain) for key, value in tree.items() if key != "$ref"
        }
        if "$ref" not in tree:
            return own
        base = self._behind(tree["$ref"], chain)
        if not isinstance(base, Mapping):
            return base
        parameters = {**base.get("$parameters", {}), **own.get("$parameters", {})}
        return {**base, **own, **({"$parameters": parameters} if parameters else {})}

    def _behind(self, reference: Any, chain: tuple[str, ...]) -> Any:
        if reference in chain:
            raise CannotSayError("$ref", f"{reference} leads to itself")
        return self.follow(_target(reference, self._root), (*chain, str(reference)))


def _target(reference: Any, root: Mapping[str, Any]) -> Any:
    at: Any = root
    if not isinstance(reference, str) or not reference.startswith("#/"):
        raise CannotSayError("$ref", f"{reference!r} is no reference within the file")
    for step in reference[2:].split("/"):
        if isinstance(at, Mapping) and step in at:
            at = at[step]
        elif isinstance(at, list) and step.isdecimal() and int(step) < len(at):
            at = at[int(step)]
        else:
            raise CannotSayError("$ref", f"{reference} leads nowhere")
    return at


@dataclass(frozen=True, slots=True)
class Component:
    tree: Mapping[str, Any]
    path: str
    """Where it stands, for what is said about it."""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, tree: Any, path: str, above: Mapping[str, Any] | None = None) -> "Component":
        tree = tree if isinstance(tree, Mapping) else {}
        return cls(tree, path, {**tree.get("$parameters", {}), **(above or {}), **tree.get("$parameters", {})})

    @property
    def type(self) -> str:
        return str(self.tree.get("type", ""))

    def get(self, name: str, default: Any = None) -> Any:
        """A key's value; a parameter of that name stands for it where there is none."""
        value = self.tree.get(name, self.parameters.get(name))
        return default if value is None else value

    def own(self, name: str, default: Any = None) -> Any:
        """The same without parameters."""
        value = self.tree.get(name)
        return default if value is None else value

    def has(self, name: str) -> bool:
        return self.tree.get(name) is not None

    def child(self, name: str) -> "Component":
        return Component.of(self.get(name), self.at(name), self.parameters)

    def children(self, name: str) -> Iterator["Component"]:
        """Of a list, or of one that stands for a list of one."""
        given = self.get(name, [])
        for number, item in enumerate(given if isinstance(given, list) else [given]):
            yield Component.of(item, f"{self.at(name)}[{number}]", self.parameters)

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def refuse(self, what: str = "") -> CannotSayError:
        """Of a kind that we do not have."""
        return CannotSayError(self.path, what or f"{self.type or 'this'} has no counterpart here")
