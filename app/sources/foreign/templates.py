"""Jinja as Airbyte's manifests use it: the few expressions that mean something of ours. Nothing is evaluated."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.sources.foreign.conversion import CannotSayError
from app.sources.json_paths import path_step

_PART: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_ROOT: Final = re.compile(
    r"(config|parameters|response|last_record|headers|stream_partition|stream_slice|stream_interval|next_page_token|record)"
)
_STEP: Final = re.compile(
    r"""\s*(?:\.get\(\s*(['"])(?P<got>[^'"]+)\1\s*(?:,\s*(?P<default>'[^']*'|"[^"]*"|\{\s*\}|None|none|[\d.]+|\[\s*\]|false|true)\s*)?\)"""
    r"""|\[\s*(['"])(?P<key>[^'"]+)\4\s*\]|\.(?P<name>[A-Za-z_]\w*)(?!\w*\()|\[\s*(?P<at>-?\d+)\s*\])"""
)
_OR: Final = re.compile(r"""\s*(?:or|\|\s*default\(|,)\s*('[^']*'|"[^"]*")\s*\)?\s*""")


@dataclass(frozen=True, slots=True)
class Expression:
    root: str
    """`config`, `response`, …"""
    steps: tuple[str, ...]
    default: str | None = None
    """The text that it stands for where there is no value."""

    @property
    def dotted(self) -> str:
        return ".".join(self.steps)


def parse(text: str) -> list[str | Expression | None]:
    """Literal parts and expressions; None is an expression that means nothing here."""
    found: list[str | Expression | None] = []
    at = 0
    for part in _PART.finditer(text):
        if part.start() > at:
            found.append(text[at : part.start()])
        found.append(read_expression(part[1]))
        at = part.end()
    if at < len(text):
        found.append(text[at:])
    return [None] if "{%" in text or "{#" in text else found


def read_expression(text: str) -> Expression | None:
    """A path from a known root, with a default at most; None for anything more."""
    text = text.strip()
    root = _ROOT.match(text)
    if root is None:
        return None
    at, steps, default = root.end(), [], None
    while step := _STEP.match(text, at):
        steps.append(step["got"] or step["key"] or step["name"] or f"[{step['at']}]")
        given = step["default"]
        default = given[1:-1] if given and given[0] in "'\"" else None
        at = step.end()
    rest = text[at:].strip()
    if rest and (fallback := _OR.fullmatch(text[at:])):
        default, rest = fallback[1][1:-1], ""
    if rest in {"| string", "|string", "| int", "|int"}:
        rest = ""
    return Expression(root[0], tuple(steps), default) if not rest and steps else None


def only(text: Any) -> Expression | None:
    """The one expression that a text consists of."""
    parts = parse(text.strip()) if isinstance(text, str) else []
    return parts[0] if len(parts) == 1 and isinstance(parts[0], Expression) else None


def jmespath_of(steps: tuple[str, ...]) -> str:
    path = ""
    for step in steps:
        if re.fullmatch(r"\[-?\d+\]", step):
            path += step
        else:
            path += f".{path_step(step)}" if path else path_step(step)
    return path


def secret_of(steps: tuple[str, ...]) -> str:
    """The reference that stands for `config['credentials']['api_key']`."""
    name = re.sub(r"\W+", "_", steps[-1], flags=re.ASCII).strip("_").upper() or "SECRET"
    return f"{{secrets.{name if not name[0].isdigit() else 'S_' + name}}}"


@dataclass(frozen=True, slots=True)
class Renderer:
    """
    Texts of a manifest → texts of ours.

    Args:
        config: values of the user's, by dotted name.
        secret: names that hold credentials.
    """

    config: Mapping[str, str]
    secret: frozenset[str] = frozenset()

    def render(
        self,
        value: Any,
        where: str,
        parameters: Mapping[str, Any],
        *,
        stands_for: Callable[[Expression], str | None] = lambda _: None,
        secrets: bool = False,
    ) -> str:
        """
        Args:
            stands_for: what other expressions become.
            secrets: an input that has no value here may be given as a secret.

        Raises:
            CannotSayError: an expression means nothing of ours, or needs a value of the user's.
        """
        text = str(value)
        return "".join(self._part(part, text, where, parameters, stands_for, secrets) for part in parse(text))

    def _part(
        self,
        part: str | Expression | None,
        text: str,
        where: str,
        parameters: Mapping[str, Any],
        stands_for: Callable[[Expression], str | None],
        secrets: bool,
    ) -> str:
        if isinstance(part, str):
            return part.replace("{", "{{").replace("}", "}}")
        if part is None:
            raise CannotSayError(where, f"an expression that is computed: {text[:100]}")
        if part.root == "parameters":
            given = parameters.get(part.steps[0])
            if len(part.steps) != 1 or given is None:
                if part.default is not None:
                    return part.default
                raise CannotSayError(where, f"there is no parameter {part.dotted}")
            return self.render(given, where, parameters, stands_for=stands_for, secrets=secrets)
        if part.root == "config":
            return self._input(part, where, secrets=secrets)
        said = stands_for(part)
        if said is None:
            raise CannotSayError(where, f"{part.root} {part.dotted} means nothing in this place")
        return said

    def _input(self, part: Expression, where: str, *, secrets: bool) -> str:
        value = self.config.get(part.dotted, self.config.get(part.steps[-1]))
        is_secret = part.steps[-1] in self.secret
        if value is not None and not (is_secret and secrets):
            return value.replace("{", "{{").replace("}", "}}")
        if secrets:
            return secret_of(part.steps)
        if is_secret:
            raise CannotSayError(where, f"the secret {part.dotted} can stand in headers and client.auth only")
        if part.default is not None:
            return part.default
        raise CannotSayError(where, f"needs an input: say --config {part.dotted}=VALUE")
