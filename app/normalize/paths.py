"""Where a value is: JMESPath in an object, a header in a CSV row. Compiled once, read column by column."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, Protocol, cast

import jmespath
from jmespath.exceptions import JMESPathTypeError
from jmespath.functions import Functions
from jmespath.visitor import TreeInterpreter

from app.errors import ConfigError
from app.sources.resource import ResourceSpec

Path = Callable[[Any], object]
"""A record → the value; None where there is none."""

Column = Callable[[Sequence[Any]], list[object]]
"""Records → the value of each; None where there is none, or no record."""

_NAME: Final = r'(?:[A-Za-z_][A-Za-z0-9_]*|"[^"\\\x00-\x1f]+")'
_PLAIN: Final = re.compile(rf"{_NAME}(?:\.{_NAME})*")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What a path gives where one of its functions does not take what the record holds."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class Paths(Protocol):
    """How the paths of a resource's mapping are understood."""

    def column(self, text: str) -> Column:
        """
        Raises:
            ConfigError: it cannot lead anywhere.
        """

    def find(self, text: str) -> Column | None:
        """One of several that may be there; None when it is not."""


class ObjectPaths:
    """JMESPath into JSON objects."""

    def column(self, text: str) -> Column:
        path = compile_path(text)
        if len(names := _plain_names(text)) != 1:
            return lambda records: list(map(path, records))
        name = names[0]

        def read(records: Sequence[Any]) -> list[object]:
            try:
                return [record.get(name) for record in records]
            except AttributeError:  # a record that did not parse
                return list(map(path, records))

        return read

    def find(self, text: str) -> Column | None:
        return self.column(text)


@dataclass(frozen=True, slots=True)
class HeaderPaths:
    """Headers of a CSV file."""

    header: Sequence[str]
    null_values: tuple[str, ...] = ("",)
    """Cells that are no value."""

    def column(self, text: str) -> Column:
        found = self.find(text)
        if found is None:
            raise ConfigError(f"{text!r} is not a header; there are: {shown(self.header)}")
        return found

    def find(self, text: str) -> Column | None:
        at = header_index(self.header, text)
        return None if at is None else cell_column(at, self.null_values)


@contextmanager
def config_fault(spec: ResourceSpec, key: str) -> Iterator[None]:
    """A ConfigError from inside is given its place: the file, the resource and the key."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{spec.where}: {spec.name}: {key}: {error}") from error


def shown(header: Sequence[str]) -> str:
    return ", ".join(header)[:1000]


def header_index(header: Sequence[str], name: str) -> int | None:
    """The header of exactly this text, else the only one that differs in case and outer blanks at most."""
    if name in header:
        return header.index(name)
    wanted = name.strip().lower()
    found = [at for at, given in enumerate(header) if given.strip().lower() == wanted]
    return found[0] if len(found) == 1 else None


def cell_column(at: int, null_values: Sequence[str]) -> Column:
    pick = itemgetter(at)
    nulls = frozenset(null_values)
    only_blank = nulls == {""}

    def read(rows: Sequence[Any]) -> list[object]:
        try:
            cells: list[object] = list(map(pick, rows))
        except (IndexError, TypeError):  # a ragged row may end before; a record that did not parse is None
            cells = [row[at] if row is not None and at < len(row) else None for row in rows]
        if only_blank:
            return [cell or None for cell in cells] if "" in cells else cells
        return cells if not nulls or nulls.isdisjoint(cells) else [None if cell in nulls else cell for cell in cells]

    return read


def compile_path(text: str) -> Path:
    """
    A JMESPath expression, ready to be applied to record after record.

    What it calls may refuse what a record holds (`sum` of texts): that gives
    `Unreadable`; where what it was given is null, None.

    Raises:
        ConfigError: it is not JMESPath.
    """
    if names := _plain_names(text):
        return _walk(names)
    try:
        compiled = jmespath.compile(text)
    except (ValueError, RecursionError) as error:
        fault = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        hint = 'a name that is not only letters, digits and _ is quoted: "first name"'
        raise ConfigError(f"{text!r} is no JMESPath: {fault}; {hint}") from error
    for fault in _faults(cast("dict[str, Any]", compiled.parsed)):
        raise ConfigError(f"{text!r} is no JMESPath: {fault}")

    # What `compiled.search` makes anew each time, at twice the cost of the search itself
    interpreter = TreeInterpreter()

    def search(record: Any) -> object:
        if record is None:
            return None
        try:
            return cast("object", interpreter.visit(compiled.parsed, record))
        except JMESPathTypeError as error:
            return None if error.actual_type == "null" else Unreadable(str(error))
        except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError, RecursionError) as error:
            return Unreadable(f"{type(error).__name__}: {error}")

    return search


def is_plain(text: str) -> bool:
    """Whether it only names fields, so that no record can make it fail."""
    return _PLAIN.fullmatch(text) is not None


def _plain_names(text: str) -> list[str]:
    return [name.strip('"') for name in re.findall(_NAME, text)] if is_plain(text) else []


def _walk(names: list[str]) -> Path:
    def walk(record: Any) -> object:
        for name in names:
            if not isinstance(record, dict):
                return None
            record = record.get(name)
        return cast("object", record)

    return walk


def _faults(node: dict[str, Any], *, argument: bool = False) -> Iterator[str]:
    """What jmespath itself would only find with the first record: functions it has not, and how many arguments."""
    if node["type"] == "expref" and not argument:
        yield "& is for arguments of functions"
    if node["type"] == "function_expression":
        known = Functions.FUNCTION_TABLE.get(node["value"])
        if known is None:
            yield f"there is no function {node['value']}()"
            return
        takes, given = len(known["signature"]), len(node["children"])
        variadic = any(part.get("variadic") for part in known["signature"])
        if given < takes or (given > takes and not variadic):
            yield f"{node['value']}() takes {takes} arguments, not {given}"
    for child in node["children"]:
        if isinstance(child, dict):
            yield from _faults(child, argument=node["type"] == "function_expression")
