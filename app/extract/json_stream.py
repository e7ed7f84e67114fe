"""
A JSON body → its records, cut while it comes: neither its text nor its tree is ever held whole.

The same cutter as for whole bodies (`app.extract.json_records`), fed part by
part. What stands around the records' array is kept, for the paginator.
"""

import codecs
import hashlib
import re
from collections.abc import Generator, Sequence
from json import JSONDecodeError
from typing import Any, Final, overload

from app.errors import SourceMalformedError
from app.extract.json_body import ARRAY, PLAIN, WHOLE, after_member, at_key, find_out, nothing_at, rank
from app.extract.json_records import add_record, glimpse, scan, skip
from app.records import Records

_NUMBER_ENDS: Final = re.compile(r"[0-9.eE+-]*\Z")
_LONGEST_MARK: Final = 16
"""A fault this near to the end may only be a literal or an escape that is not complete yet."""

Steps = Generator[None, None, Any]


class Tail(Sequence[Any]):
    """A list of which only the length and the last item are known."""

    def __init__(self) -> None:
        self.size = 0
        self.last: Any = None

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if index == -1 and self.size:
            return self.last
        raise IndexError("only the last record of a large page is known")


class StreamCutter:
    """
    Args:
        selector: `[]`, or a plain dotted path.
        found_out: the path was found in the beginning; the whole body must bear it out.
        max_value_bytes: of one record, and of anything beside the records.

    Raises (from `feed`):
        SourceMalformedError: not JSON, no records at the selector, or a value that is too large.
    """

    def __init__(self, selector: str, *, found_out: bool, what: str, max_value_bytes: int) -> None:
        self.body: Any = None
        """At the end: all of it but the records, of which the last one stands for all."""
        self.records = Tail()
        self.digest = hashlib.blake2b(digest_size=16)
        """Of the payloads."""
        self._selector, self._found_out = selector, found_out
        self._what, self._max = what, max_value_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at, self._dropped = "", 0, 0
        self._final = False
        self._begun = False
        self._cut = Records()
        self._steps = self._whole()

    def feed(self, data: bytes, *, final: bool = False) -> Records:
        """The records that are complete with this part."""
        more = self._decoder.decode(data, final)
        if not self._begun and more:
            more, self._begun = more.removeprefix("\ufeff"), True
        self._dropped += self._at
        self._text, self._at, self._final = self._text[self._at :] + more, 0, final
        try:
            next(self._steps, None)
        except RecursionError:
            raise SourceMalformedError(f"{self._what}: a record is nested too deeply to be read") from None
        except ValueError as error:
            raise SourceMalformedError(f"{self._what}: not valid JSON: {error}") from None
        cut, self._cut = self._cut, Records()
        return cut

    def _whole(self) -> Steps:
        opening = yield from self._mark()
        if opening == "[" and self._selector in {ARRAY, WHOLE}:
            yield from self._array()
            self.body = self._shown()
        elif opening == "{" and PLAIN.fullmatch(self._selector):
            self.body, found = yield from self._object(self._selector.split("."))
            if not found:
                raise SourceMalformedError(f"{self._what}: {nothing_at(self._selector, self.body)}")
        else:
            raise SourceMalformedError(
                f"{self._what}: expected a JSON array of records, got {glimpse(self._text[self._at : self._at + 200])}"
            )
        if (yield from self._mark()):
            raise self._fault("more text after its end")
        if self._found_out and self._selector != ARRAY and find_out(self.body, what=self._what)[0] != self._selector:
            raise SourceMalformedError(
                f"{self._what}: records were taken from {self._selector}, and what follows them has others; "
                "say which with endpoint.data_selector"
            )

    def _object(self, path: list[str]) -> Generator[None, None, tuple[dict[str, Any], bool]]:
        tree: dict[str, Any] = {}
        found = False
        self._at += 1
        opening = yield from self._mark()
        while opening != "}":
            if opening != '"':
                raise self._fault("expected a key in double quotes")
            key, _ = yield from self._value()
            if (yield from self._mark()) != ":":
                raise self._fault("expected ':'")
            self._at += 1
            opening = yield from self._mark()
            if key == path[0] and found:
                raise SourceMalformedError(f"{self._what}: {self._selector} comes twice")
            if key == path[0] and len(path) > 1 and opening == "{":
                tree[key], found = yield from self._object(path[1:])
            elif key == path[0] and len(path) == 1 and opening == "[":
                yield from self._array()
                tree[key], found = self._shown(), True
            else:
                tree[key], payload = yield from self._value()
                if key == path[0] and len(path) == 1:
                    found = True
                    if tree[key] is not None:
                        self._add(payload, tree[key])  # a single object is one record, null is none
            opening = yield from self._separated("}")
            if opening == "," and (yield from self._mark(1)) == "}":
                raise self._fault("expected a key")
            opening = yield from self._mark()
        self._at += 1
        return tree, found

    def _array(self) -> Steps:
        self._at += 1
        opening = yield from self._mark()
        while opening != "]":
            value, payload = yield from self._value()
            self._add(payload, value)
            opening = yield from self._separated("]")
            if opening == ",":
                yield from self._mark(1)
        self._at += 1

    def _separated(self, closing: str) -> Generator[None, None, str]:
        mark = yield from self._mark()
        if mark not in {",", closing}:
            raise self._fault(f"expected ',' or '{closing}'")
        return mark

    def _add(self, payload: str, value: Any) -> None:
        self.records.size += 1
        self.records.last = value
        self.digest.update(payload.encode("utf-8", "surrogateescape"))
        add_record(self._cut, payload, value, position=self.records.size)

    def _shown(self) -> list[Any]:
        return [self.records.last] if self.records.size else []

    def _mark(self, past: int = 0) -> Generator[None, None, str]:
        """The next character that is no blank, waiting for it; empty at the end."""
        self._at += past
        while True:
            self._at = skip(self._text, self._at)
            if self._at < len(self._text) or self._final:
                return self._text[self._at : self._at + 1]
            yield

    def _value(self) -> Generator[None, None, tuple[Any, str]]:
        """A value and its text, waiting until it is complete."""
        while True:
            text, at = self._text, self._at
            try:
                value, end = scan(text, at)
            except StopIteration as error:
                if self._final or error.value < len(text) - _LONGEST_MARK:
                    raise self._fault("no value", error.value) from None
            except JSONDecodeError as error:
                near = error.pos >= len(text) - _LONGEST_MARK or error.msg.startswith("Unterminated string")
                if self._final or not near:
                    raise self._fault(error.msg, error.pos) from None
            else:
                # A number's digits may go on in the next part
                if self._final or text[at] not in "-0123456789" or not _NUMBER_ENDS.match(text, end):
                    self._at = end
                    return value, text[at:end]
            yield from self._wait_for_more(len(text) - at)

    def _wait_for_more(self, held: int) -> Steps:
        """Until there is twice as much: a value that spans many parts is not looked at with each of them."""
        if held > self._max:
            raise SourceMalformedError(
                f"{self._what}: a single value of more than {self._max} bytes; "
                "raise client.max_response_bytes or HTTP_MAX_PAGE_BYTES"
            )
        while True:
            yield
            if self._final or len(self._text) - self._at >= min(2 * held, self._max + 1):
                return

    def _fault(self, why: str, at: int | None = None) -> ValueError:
        return ValueError(f"{why} at character {self._dropped + (self._at if at is None else at)}")


class _EndsWithinError(Exception):
    """A text ends within a list of objects."""


def find_open_list(beginning: str) -> str | None:
    """
    The path of the list of objects within which the beginning of a body ends.

    Returns:
        None where that list may not be the records: it has no usual name, or
        another one before it has a better.
    """
    lists: dict[str, bool] = {}
    try:
        _look_into(beginning, skip(beginning, 0), "", 3, lists)
    except _EndsWithinError as ends:
        path = str(ends)
        best = min(lists, key=rank)
        return path if rank(path) < rank(None) and best == path else None
    except (ValueError, StopIteration, RecursionError):
        pass
    return None


def _look_into(text: str, at: int, path: str, depth: int, lists: dict[str, bool]) -> int:
    at = skip(text, at + 1)
    while text[at : at + 1] != "}":
        key, at = at_key(text, at)
        here = f"{path}.{key}" if path else key
        opening = text[at : at + 1]
        if opening == "{" and depth > 1:
            at = _look_into(text, at, here, depth - 1, lists)
        elif opening == "[":
            at = _look_along(text, at, here, lists)
        else:
            at = scan(text, at)[1]
        at = after_member(text, at)
    return at + 1


def _look_along(text: str, at: int, path: str, lists: dict[str, bool]) -> int:
    """Item by item: to scan the list in one call would hold up everything else."""
    only_objects = empty = True
    try:
        at = skip(text, at + 1)
        while text[at : at + 1] != "]":
            value, at = scan(text, at)
            only_objects, empty = only_objects and isinstance(value, dict), False
            at = skip(text, at)
            if text[at : at + 1] == ",":
                at = skip(text, at + 1)
    except (ValueError, StopIteration):
        if empty or not only_objects or not PLAIN.fullmatch(path):
            raise
        lists[path] = True
        raise _EndsWithinError(path) from None
    if only_objects and not empty and PLAIN.fullmatch(path):
        lists[path] = False
    return at + 1
