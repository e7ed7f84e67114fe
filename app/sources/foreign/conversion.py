"""What another tool's file became: sources of ours, what was left out, and what was refused, each with its place."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Lost(NamedTuple):
    """Something of the other tool's that our file does not say; without it the stream brings the same records."""

    path: str
    reason: str


class Refused(NamedTuple):
    """A stream that would be wrong."""

    name: str
    path: str
    """Of the part that cannot be said."""
    reason: str


class CannotSayError(Exception):
    """
    A part without which a stream would be wrong.

    Args:
        path: where it stands in the other tool's file.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


@dataclass(slots=True)
class Stream:
    name: str
    resource: dict[str, Any]
    lost: list[Lost] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Comments above the resource."""
    client: dict[str, Any] = field(default_factory=dict)
    """`base_url`, `headers` and `auth`, as this stream needs them."""


@dataclass(slots=True)
class Converted:
    name: str
    tree: dict[str, Any]
    """As `read_source` takes it, without resources."""
    streams: list[Stream] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    """Of the source as a whole."""

    @contextmanager
    def refusing(self, name: str) -> Iterator[None]:
        """What cannot be said about a stream refuses that stream, and no other."""
        try:
            yield
        except CannotSayError as error:
            self.refused.append(Refused(name, error.path, error.reason))
