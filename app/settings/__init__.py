"""
Settings: environment and `.env`, read once.

`.env.example` lists the variables; a test holds the two together.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from app.errors import ConfigError
from app.settings.base import Group
from app.settings.groups import (
    GROUPS,
    DatabaseSettings,
    EmbeddedSettings,
    ExportSettings,
    LogSettings,
    RetentionSettings,
    ScheduleSettings,
    ServerSettings,
)
from app.settings.sources import HttpSettings, SourceSettings

G = TypeVar("G", bound=Group)

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
"""HOST of a service that serves this machine alone."""


class Settings:
    """All groups, read once. Build it with `load_settings`."""

    def __init__(self, overrides: Mapping[str, Any] | None = None) -> None:
        given = {name: value for name, value in (overrides or {}).items() if value is not None}
        self.database = _read(DatabaseSettings, given)
        self.embedded = _read(EmbeddedSettings, given)
        self.sources = _read(SourceSettings, given)
        self.http = _read(HttpSettings, given)
        self.schedule = _read(ScheduleSettings, given)
        self.retention = _read(RetentionSettings, given)
        self.server = _read(ServerSettings, given)
        self.exports = _read(ExportSettings, given)
        self.log = _read(LogSettings, given)
        if given:
            raise ConfigError(f"unknown settings: {', '.join(sorted(given))}")
        if self.http.fault_relay is not None and self.server.host not in LOOPBACK:
            raise ConfigError(
                f"FAULT_RELAY: spoils answers on purpose, and is refused where others are served "
                f"(HOST={self.server.host}); unset it, or set HOST=127.0.0.1"
            )


def load_settings(**overrides: Any) -> Settings:
    """
    Read the settings.

    Args:
        overrides: by variable name (`PORT=8001`); they win over environment and `.env`.

    Raises:
        ConfigError: one line for each wrong variable, with a right example.
    """
    return Settings(overrides)


def variables() -> dict[str, FieldInfo]:
    """Every variable the service reads, with its field; in the order of the groups."""
    return {str(field.validation_alias): field for group in GROUPS for field in group.model_fields.values()}


def _read(group: type[G], given: dict[str, Any]) -> G:
    names = [str(field.validation_alias) for field in group.model_fields.values()]
    try:
        return group(**{name: given.pop(name) for name in names if name in given})
    except ValidationError as error:
        raise ConfigError("\n".join(_one_line(group, dict(item)) for item in error.errors())) from None
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(f".env: cannot be read ({error}); it is UTF-8 text, NAME=value on each line") from None


def _one_line(group: type[Group], item: dict[str, Any]) -> str:
    fault = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return fault
    name = str(item["loc"][0])
    field = next(field for field in group.model_fields.values() if field.validation_alias == name)
    example = f"{name}={(field.examples or [field.default])[0]}"
    # A URL may carry a password: only values that cannot hold a secret are shown.
    harmless = field.annotation is not None and field.annotation not in {SecretStr | None, str}
    shown = f"={item['input']!s:.60}" if harmless and isinstance(item.get("input"), str | int | float) else ""
    return f"{name}{shown}: {fault[:1].lower()}{fault[1:]}; for example {example}"
