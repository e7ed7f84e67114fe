"""What is asked for one page, and the same as text for a checkpoint."""

import json
from dataclasses import dataclass, field, replace
from typing import Any, Self

Params = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Given:
    """The part of a request that the source file says word for word, and that may hold a literal secret."""

    url: str | None = None
    """None: it depends on a placeholder."""
    params: Params = ()
    form: Params = ()
    json: Any = None

    @classmethod
    def shared(cls, one: "PageRequest", other: "PageRequest") -> Self:
        """
        What two requests have in common.

        Args:
            other: built as the first was, each placeholder with another value.
        """
        return cls(
            url=one.url if one.url == other.url else None,
            params=tuple(pair for pair in one.params if pair in other.params),
            form=tuple(pair for pair in one.form or () if pair in (other.form or ())),
            json=_common(one.json, other.json),
        )


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What is asked for one page, before authentication."""

    url: str
    params: Params = ()
    json: Any = None
    form: Params | None = None
    method: str = "GET"
    given: Given = field(default_factory=Given, compare=False)

    def param(self, name: str) -> str | None:
        return next((value for key, value in self.params if key == name), None)

    def with_param(self, name: str, value: object) -> "PageRequest":
        kept = tuple((key, old) for key, old in self.params if key != name)
        return replace(self, params=(*kept, (name, str(value))))

    def without_param(self, name: str | None) -> "PageRequest":
        return replace(self, params=tuple((key, value) for key, value in self.params if key != name))

    def with_body_value(self, path: str, value: object) -> "PageRequest":
        """Set a value at a dotted path of the JSON body."""
        body = json.loads(json.dumps(self.json if isinstance(self.json, dict) else {}))
        at = body
        *tables, last = path.split(".")
        for name in tables:
            at = at.setdefault(name, {})
        at[last] = value
        return replace(self, json=body)

    def number(self, name: str, body_path: str | None) -> Any:
        """What stands for a page in the query, or in the body where a path is given; None when nothing does."""
        if body_path is None:
            return self.param(name)
        at = self.json
        for part in body_path.split("."):
            at = at.get(part) if isinstance(at, dict) else None
        return at

    def with_number(self, name: str, body_path: str | None, value: int) -> "PageRequest":
        return self.with_param(name, value) if body_path is None else self.with_body_value(body_path, value)

    @property
    def identity(self) -> str:
        """The whole request as text: what it is known by within the process; no checkpoint holds it."""
        parts = {"url": self.url, "params": self.params, "json": self.json, "form": self.form}
        return json.dumps({key: value for key, value in parts.items() if value}, separators=(",", ":"))

    @property
    def token(self) -> str:
        """
        The request as text, for a checkpoint.

        What the source file says word for word is left out, for it may be a
        secret: a parameter as its index in `given`, the rest by its absence.
        What placeholders stood for is kept: it may be another value when the
        pass goes on.
        """
        given = self.given
        parts = {
            "url": None if self.url == given.url else self.url,
            "params": _referring(self.params, given.params),
            "json": _difference(self.json, given.json),
            "form": _referring(self.form or (), given.form),
        }
        return json.dumps({key: value for key, value in parts.items() if value}, separators=(",", ":"))

    def at(self, token: str) -> "PageRequest":
        """
        The request that a token stands for.

        Args:
            token: of a request with the same `given`; one that says everything itself is understood as well.
        """
        parts, given = json.loads(token), self.given
        form = _resolved(parts.get("form", ()), given.form)
        return replace(
            self,
            url=parts.get("url") or given.url or self.url,
            params=_resolved(parts.get("params", ()), given.params),
            json=_merged(given.json, parts.get("json")),
            form=None if self.form is None and not form else form,
        )


def pairs(items: Any) -> Params:
    return tuple((str(key), str(value)) for key, value in items)


def _referring(items: Params, given: Params) -> list[int | tuple[str, str]]:
    return [given.index(pair) if pair in given else pair for pair in items]


def _resolved(items: Any, given: Params) -> Params:
    return pairs(given[item] if isinstance(item, int) else item for item in items)


def _common(one: Any, other: Any) -> Any:
    """What two trees of the same shape have in common."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: _common(one[key], other[key]) for key in one if key in other and _alike(one[key], other[key])}
    return one if one == other else None


def _alike(one: Any, other: Any) -> bool:
    return one == other or (isinstance(one, dict) and isinstance(other, dict))


def _difference(tree: Any, given: Any) -> Any:
    """What of a tree is not given."""
    if not isinstance(tree, dict) or not isinstance(given, dict):
        return None if tree == given else tree
    return {
        key: _difference(value, given.get(key)) if key in given else value
        for key, value in tree.items()
        if key not in given or value != given[key]
    }


def _merged(given: Any, changed: Any) -> Any:
    if not isinstance(given, dict) or not isinstance(changed, dict):
        return given if changed is None else changed
    return {**given, **{key: _merged(given.get(key), value) for key, value in changed.items()}}
