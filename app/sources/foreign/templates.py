"""Jinja as Airbyte's manifests use it: the few expressions that mean something of ours. Nothing is evaluated."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.sources.foreign.conversion import CannotSayError
from app.sources.json_paths import path_step

_PART: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_ROOT: Final = re.compile(
    r"(config|parameters|response|last_record|headers|stream_partition|stream_slice|stream_interval|stream_state|next_page_token|record)"
)
_STEP: Final = re.compile(
    r"""\s*(?:\.get\(\s*(['"])(?P<got>[^'"]+)\1\s*(?:,\s*(?P<default>'[^']*'|"[^"]*"|\{\s*\}|None|none|[\d.]+|\[\s*\]|false|true)\s*)?\)"""
    r"""|\[\s*(['"])(?P<key>[^'"]+)\4\s*\]|\.(?P<name>[A-Za-z_]\w*)(?!\w*\()|\[\s*(?P<at>-?\d+)\s*\])"""
)
_OR: Final = re.compile(r"""\s*(?:or|\|\s*default\(|,)\s*('[^']*'|"[^"]*")\s*\)?\s*""")


_TESTED: Final = r"""config(?:\.get\([^()]*\)|\[[^\]]*\]|\.\w+)+"""
_LITERAL: Final = r"""'[^']*'|"[^"]*\""""
_CONDITIONAL: Final = re.compile(
    rf"\s*(?P<then>{_LITERAL}|{_TESTED})\s*\bif\s+(?P<tested>{_TESTED})"
    rf"(?:\s*(?P<op>==|!=)\s*(?P<value>{_LITERAL}|[Tt]rue|[Ff]alse))?(?:\s*\belse\b\s*(?P<other>.+?))?\s*",
    re.DOTALL,
)


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


@dataclass(frozen=True, slots=True)
class Conditional:
    """One text or another, as an input of the connector says."""

    tested: Expression
    value: str | bool | None
    """That the input is compared with; None: it is asked whether it is true."""
    is_negated: bool
    then: "Part"
    other: "Part"


Part = str | Expression | Conditional | None
"""A text, an expression that means something here, or None for one that does not."""


def parse(text: str) -> list[Part]:
    """The literal parts and the expressions of a text."""
    found: list[Part] = []
    at = 0
    for part in _PART.finditer(text):
        if part.start() > at:
            found.append(text[at : part.start()])
        found.append(read_expression(part[1]) or _read_conditional(part[1]))
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


def _read_conditional(text: str) -> Conditional | None:
    found = _CONDITIONAL.fullmatch(text)
    tested = read_expression(found["tested"]) if found else None
    if found is None or tested is None:
        return None
    then, other = _read_branch(found["then"]), _read_branch(found["other"] or "''")
    if then is None or other is None:
        return None
    value = found["value"]
    literal = None if value is None else value[1:-1] if value[0] in "'\"" else value.lower() == "true"
    return Conditional(tested, literal, found["op"] == "!=", then, other)


def _read_branch(text: str) -> Part:
    text = text.strip()
    if text[:1] == "(" and text[-1:] == ")":
        text = text[1:-1].strip()
    if re.fullmatch(_LITERAL, text):
        return text[1:-1]
    return read_expression(text) or _read_conditional(text)


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
        flags: defaults of inputs that are true or false, by dotted name.
    """

    config: Mapping[str, str]
    secret: frozenset[str] = frozenset()
    flags: Mapping[str, bool] = field(default_factory=dict)

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
        part: Part,
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
        if isinstance(part, Conditional):
            chosen = part.then if self._holds(part, where) else part.other
            return self._part(chosen, text, where, parameters, stands_for, secrets)
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

    def _holds(self, part: Conditional, where: str) -> bool:
        name, last = part.tested.dotted, part.tested.steps[-1]
        value: str | bool | None = self.config.get(name, self.config.get(last, self.flags.get(name)))
        if value is None or last in self.secret:
            raise CannotSayError(where, f"depends on an input: say --config {name}=VALUE")
        if isinstance(value, str) and not isinstance(part.value, str) and value.lower() in {"true", "false"}:
            value = value.lower() == "true"
        return (bool(value) if part.value is None else value == part.value) is not part.is_negated

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
