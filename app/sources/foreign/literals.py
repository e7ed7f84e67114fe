"""The dictionaries of a Python file, read and never run: what is computed there stays unknown, and is named."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_SECRET_CALLS: Final = ("dlt.secrets", "os.environ", "os.getenv")


@dataclass(frozen=True, slots=True)
class Unknown:
    """An expression that nobody evaluates."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Input:
    """A value that is given when it is run: a secret, or an argument of the function around it."""

    name: str


@dataclass(frozen=True, slots=True)
class Made:
    """An object that is made of literals: `OffsetPaginator(limit=100)`."""

    kind: str
    arguments: Mapping[str, Any]
    positional: tuple[Any, ...] = ()


def configurations(source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """
    Each dictionary with the keys `client` and `resources`, with its line.

    Raises:
        SyntaxError: it is no Python.
        RecursionError: it is nested too deep.
    """
    tree = ast.parse(source)
    names = _constants(tree)
    for function, node in _dictionaries(tree, None):
        keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
        if {"client", "resources"} <= keys:
            known = {**names, **(_constants(function) if function is not None else {})}
            value = _read(node, {**known, **_arguments(function)})
            yield node.lineno, value


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _dictionaries(node: ast.AST, function: Function | None) -> Iterator[tuple[Function | None, ast.Dict]]:
    for child in ast.iter_child_nodes(node):
        inside = child if isinstance(child, Function) else function
        if isinstance(child, ast.Dict):
            yield inside, child
        yield from _dictionaries(child, inside)


def _constants(tree: ast.AST) -> dict[str, Any]:
    """Names that stand for a literal, once and for all, at this level."""
    found: dict[str, Any] = {}
    for node in getattr(tree, "body", ()):
        target = (
            node.targets[0]
            if isinstance(node, ast.Assign) and len(node.targets) == 1
            else node.target
            if isinstance(node, ast.AnnAssign)
            else None
        )
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.expr):
            read = _read(value, found)
            # Assigned twice, it may be either
            found[target.id] = Unknown(target.id, node.lineno) if target.id in found else read
    return found


def _arguments(function: Function | None) -> dict[str, Any]:
    if function is None:
        return {}
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    defaults: list[ast.expr | None] = [*([None] * (len(every) - len(given.kwonlyargs) - len(given.defaults)))]
    defaults += [*given.defaults, *given.kw_defaults]
    found: dict[str, Any] = {}
    for argument, default in zip(every, defaults, strict=False):
        value = _read(default, {}) if default is not None else None
        found[argument.arg] = value if isinstance(value, str | int | float | bool) else Input(argument.arg)
    return found


def _read(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Dict():
            return _read_dict(node, names)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_read(item, names) for item in items]
        case ast.Name(id=name):
            return names.get(name, Unknown(name, node.lineno))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.JoinedStr():
            return _read_formatted(node, names)
    return _read_call(node, names)


def _read_call(node: ast.expr, names: Mapping[str, Any]) -> Any:
    if (name := _input_name(node)) is not None:
        return Input(name)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        keywords = {item.arg: _read(item.value, names) for item in node.keywords if item.arg is not None}
        kind = ast.unparse(node.func).rpartition(".")[2]
        if len(keywords) == len(node.keywords):
            return Made(kind, keywords, tuple(_read(item, names) for item in node.args))
    return Unknown(ast.unparse(node)[:120], node.lineno)


def _read_dict(node: ast.Dict, names: Mapping[str, Any]) -> Any:
    found: dict[str, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None or not isinstance(key, ast.Constant):
            inner = _read(value, names) if key is None else None
            if not isinstance(inner, dict):
                return Unknown(ast.unparse(node)[:120], node.lineno)
            found |= inner
        else:
            found[str(key.value)] = _read(value, names)
    return found


def _read_formatted(node: ast.JoinedStr, names: Mapping[str, Any]) -> Any:
    parts = []
    for part in node.values:
        value = _read(part.value, names) if isinstance(part, ast.FormattedValue) else _read(part, names)
        if not isinstance(value, str | int):
            return Unknown(ast.unparse(node)[:120], node.lineno)
        parts.append(str(value))
    return "".join(parts)


def _input_name(node: ast.expr) -> str | None:
    """The last name of `dlt.secrets["sources.crm.api_key"]`, `os.environ["CRM_KEY"]` and their kin."""
    text = ast.unparse(node)
    if not text.startswith((*_SECRET_CALLS, "dlt.config")):
        return None
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            return inner.value.rpartition(".")[2] or inner.value
    return None
