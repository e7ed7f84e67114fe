"""Parsed record → DataRecord or Rejection, with notes of what was coerced. Pure."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from app.normalize.coerce import scrub, to_moment, to_number, to_text
from app.normalize.identity import key_column, read_key
from app.records import DataRecord, Note, Rejection
from app.sources.spec import ApiSource, CsvSource, SourceSpec
from app.sources.spec import Mapping as FieldMapping


class Normalized(NamedTuple):
    record: DataRecord
    notes: tuple[Note, ...]


Coerce = Callable[[str, object], tuple[Any, Note | None]]

COERCIONS: Final[dict[str, Coerce]] = {
    "name": to_text,
    "value": to_number,
    "description": to_text,
    "created_at": to_moment,
    "updated_at": to_moment,
}


class Normalizer:
    """
    One source's mapping, ready to be applied to record after record.

    Args:
        key: the key's value of a parsed record.
        read: the mapped fields of a parsed record, as received.
    """

    def __init__(self, *, key: Callable[[Any], object], read: Callable[[Any], dict[str, Any]]) -> None:
        self._key = key
        self._read = read

    def read_key(self, fields: Any) -> str | Rejection:
        return read_key(self._key(fields))

    def normalize(self, source_id: str, fields: Any) -> Normalized | Rejection:
        """What does not parse becomes null with a note; only a record that cannot stand at all is rejected."""
        values = self._read(fields)
        notes: list[Note] = []
        for field, given in values.items():
            values[field], note = COERCIONS[field](field, given)
            if note is not None:
                notes.append(note)
        values["source_id"] = source_id
        if values.get("name") is None:
            values["name"] = ""
        try:
            return Normalized(DataRecord.model_validate(values), tuple(notes))
        except ValidationError as error:
            return _mend(values, notes, error)


def _mend(values: dict[str, Any], notes: list[Note], error: ValidationError) -> Normalized | Rejection:
    """Text that PostgreSQL cannot hold is replaced, with a note; anything else rejects."""
    for item in error.errors(include_url=False):
        field = str(item["loc"][0])
        if not isinstance(values.get(field), str) or field == "source_id":
            return Rejection("invalid", field, str(item["msg"]))
        values[field], note = scrub(field, values[field])
        notes.append(note)
    try:
        return Normalized(DataRecord.model_validate(values), tuple(notes))
    except ValidationError as again:
        first = again.errors(include_url=False)[0]
        return Rejection("invalid", str(first["loc"][0]), str(first["msg"]))


def open_normalizer(source: SourceSpec, page_input: Mapping[str, Any]) -> Normalizer:
    """
    The normalizer of a source.

    Args:
        page_input: of the source's first page; a CSV file's mapping needs its header.

    Raises:
        ConfigError: the file has no column that identifies a row.
    """
    if isinstance(source, CsvSource):
        return _of_columns(source, page_input["header"])
    return _of_objects(source)


def _of_objects(source: ApiSource) -> Normalizer:
    paths = _mapped(source.mapping)
    key = source.primary_key or "id"

    def read(record: dict[str, Any]) -> dict[str, Any]:
        return {
            field: next((record[name] for name in names if record.get(name) is not None), None)
            for field, names in paths.items()
        }

    return Normalizer(key=lambda record: record.get(key), read=read)


def _of_columns(source: CsvSource, header: Sequence[str]) -> Normalizer:
    lowered = [name.strip().lower() for name in header]
    key = key_column(header, primary_key=source.primary_key, source=source.name, setting="CSV_ID_COLUMN")
    columns: dict[str, int] = {}
    for field, names in _mapped(source.mapping).items():
        found = next((lowered.index(name.lower()) for name in names if name.lower() in lowered), None)
        if found is not None:
            columns[field] = found
    fields = tuple(columns)
    # Two columns at least, so that itemgetter gives a tuple; zip drops the second
    take = itemgetter(*columns.values(), key, key)

    def read(row: Sequence[str]) -> dict[str, Any]:
        # An empty cell says nothing: it is no text, no number and no time
        return {field: cell or None for field, cell in zip(fields, take(row), strict=False)}

    return Normalizer(key=lambda row: row[key] if key < len(row) else None, read=read)


def _mapped(mapping: FieldMapping) -> dict[str, tuple[str, ...]]:
    return {field: names for field, names in mapping if names}
