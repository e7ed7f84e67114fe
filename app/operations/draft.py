"""What a probe found out about a source, on its way to a source file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.sources.address import Address
from app.sources.guess.columns import Column
from app.sources.guess.keys import KeyGuess, guess_key
from app.sources.guess.mapping import guess_mapping
from app.sources.writing import inline, write_source


@dataclass(slots=True)
class Draft:
    """
    A source file that is not written yet.

    Args:
        tree: as `read_source` takes it.
    """

    name: str
    tree: dict[str, Any]
    comments: dict[str, list[str]] = field(default_factory=dict)
    """See `write_source`."""
    missing: list[str] = field(default_factory=list)
    """What was not found out, and is left to the reader."""
    secrets: Mapping[str, SecretStr] = field(default_factory=dict)
    """Those that were typed in clear: used for looking, written nowhere."""
    root: Path | None = None
    """The folder of a file that does not lie below the source file's: FILE_ROOTS must name it."""
    requests: int = 0
    """That were made to find it out, retries included."""

    @property
    def resource(self) -> dict[str, Any]:
        first: dict[str, Any] = self.tree["resources"][0]
        return first

    def say(self, path: str, *lines: str) -> None:
        """Put comments at a dotted path; of the resource, where it begins with a dot."""
        self.comments.setdefault(f"resources.0{path}" if path.startswith(".") else path, []).extend(lines)

    def text(self) -> str:
        """The file's."""
        for line in self.missing:
            self.comments.setdefault("", []).append(f"NOT FOUND: {line}")
        return write_source(self.tree, self.comments)


def open_draft(address: Address, type_: str, *, private: bool) -> Draft:
    """A source of that address, with the one resource, and how it is asked."""
    tree: dict[str, Any] = {"name": address.name, "type": type_}
    draft = Draft(address.name, tree, secrets=address.secrets)
    client: dict[str, Any] = {"base_url": address.base_url} if type_ == "rest_api" else {}
    client |= address.client
    if private:
        client["allow_private_networks"] = True
        draft.say("client.allow_private_networks", "its host has an address that is not public")
    if client:
        tree["client"] = client
    tree["resources"] = [{"name": address.name}]
    return draft


def describe_columns(
    draft: Draft, columns: Sequence[Column], *, records: int, empty: str, is_single: bool = False
) -> None:
    """
    Say what the key and the mapping may be, and why.

    Args:
        records: in the sample.
        empty: what there is none of, when there is none.
        is_single: the resource is one record, and no list of one.
    """
    if not records:
        draft.missing.append(f"{empty}, so key and mapping are yours to say")
        return
    key = guess_key(columns, resource=draft.name, records=records, is_single=is_single)
    _describe_key(draft, key, columns, is_single=is_single)
    guess = guess_mapping(columns, key=key.paths)
    order = ("name", "value", "description", "created_at", "updated_at")
    mapping = {column: guess.mapping[column] for column in order if column in guess.mapping}
    if mapping:
        draft.resource["mapping"] = mapping
        for column in mapping:
            draft.say(f".mapping.{column}", guess.reasons[column])
        draft.say(".mapping.*", *guess.left)
    else:
        draft.missing.append("what the columns name, value, description, created_at, updated_at are; say mapping")
        draft.say("resources.0", *guess.left)
    unused = [column.path for column in columns if column.path not in {*key.paths, *_used(mapping)}]
    if unused:
        draft.say(
            ".mapping.*" if mapping else "resources.0",
            f"kept in raw, and not mapped: {', '.join(unused[:40])}{', …' if len(unused) > 40 else ''}",
        )


def _describe_key(draft: Draft, key: KeyGuess, columns: Sequence[Column], *, is_single: bool) -> None:
    if not key.paths:
        draft.missing.append("a primary key: no field is there in every record and unique; say primary_key")
        draft.say("resources.0", *key.doubts, f"fields: {', '.join(column.path for column in columns[:40])}")
        return
    draft.resource["primary_key"] = key.paths[0] if len(key.paths) == 1 else list(key.paths)
    draft.say(".primary_key", key.reason, *key.doubts)
    if key.others:
        draft.say(".primary_key", f"unique in the sample, too: {', '.join(key.others)}")
    if not key.is_named:
        fear = "may change, and be another row then" if is_single else f"is {key.reason}, and may repeat"
        draft.missing.append(f"a field with the name of a key: {' and '.join(key.paths)} {fear}; check primary_key")


def as_comment(key: str, value: Any) -> str:
    """A key that a reader may take over."""
    return f"{key} = {inline(value)}"


def _used(mapping: Mapping[str, Any]) -> set[str]:
    return {value if isinstance(value, str) else value["path"] for value in mapping.values()}
