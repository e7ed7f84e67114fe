"""Of a manifest's stream: what stands for what, where its records are, and for what it is asked again and again."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.sources.address import slug
from app.sources.foreign.components import Component
from app.sources.foreign.conversion import CannotSayError, Lost, Stream
from app.sources.foreign.templates import Expression, Renderer, jmespath_of, read_expression

_DECODERS: Final = {"", "JsonDecoder", "JsonlDecoder", "IterableDecoder", "GzipDecoder", "GzipJsonDecoder"}
_COMPARED: Final = re.compile(
    r"""\{\{\s*(not\s+)?record((?:\[\s*['"][^'"]+['"]\s*\]|\.\w+)+)\s*(==|!=|>=|<=|>|<|in|not in)?\s*"""
    r"""('[^']*'|"[^"]*"|-?\d+(?:\.\d+)?|true|false|True|False|\[[^\]]*\])?\s*\}\}"""
)
_OPS: Final = {"==": "eq", "!=": "ne", ">": "gt", ">=": "ge", "<": "lt", "<=": "le", "in": "in", "not in": "not_in"}


@dataclass(slots=True)
class Context:
    """
    One stream on its way.

    Args:
        stream: gets what is found.
    """

    stream: Stream
    renderer: Renderer
    partitions: dict[str, str] = field(default_factory=dict)
    """By the name of a partition: the placeholder that stands for it."""
    interval: dict[str, str] = field(default_factory=dict)
    """`start_time` and `end_time`: the placeholders that stand for them."""
    params: dict[str, Any] = field(default_factory=dict)
    """That come from elsewhere than the request itself."""
    body: dict[str, Any] = field(default_factory=dict)
    """The same in its JSON."""

    walks: list[dict[str, Any]] = field(default_factory=list)
    """`partitions`."""
    increment: dict[str, Any] | None = None
    """`incremental`."""

    def stands_for(self, expression: Expression) -> str | None:
        if expression.root in {"stream_partition", "stream_slice", "stream_interval"} and len(expression.steps) == 1:
            name = expression.steps[0]
            return self.interval.get(name) or self.partitions.get(name)
        if expression.root == "stream_state" and self.increment and expression.dotted == self.increment["cursor_path"]:
            # The first run asks for everything there, whatever its slices begin with
            for name in {"initial_value", "step"} & self.increment.keys():
                self.stream.notes.append(
                    f"{name} {self.increment.pop(name)} is left out: the first run reads everything"
                )
            return "{incremental.start_value}"
        return None

    def text(self, value: Any, component: Component, name: str, *, secrets: bool = False) -> str:
        where = component.at(name)
        return self.renderer.render(value, where, component.parameters, stands_for=self.stands_for, secrets=secrets)

    def tree(self, value: Any, component: Component, name: str) -> Any:
        """A tree with each text in our words."""
        if isinstance(value, Mapping):
            return {str(key): self.tree(item, component, f"{name}.{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self.tree(item, component, name) for item in value]
        return self.text(value, component, name) if isinstance(value, str) else value

    def lose(self, component: Component, reason: str) -> None:
        self.stream.lost.append(Lost(component.path, reason))

    def finish(self, endpoint: dict[str, Any]) -> None:
        """Put what came from elsewhere into the request."""
        if self.params:
            endpoint["params"] = {**endpoint.get("params", {}), **self.params}
        if self.body:
            endpoint["json"] = {**endpoint.get("json", {}), **self.body}
        if self.walks:
            endpoint["partitions"] = self.walks
        if self.increment is not None:
            endpoint["incremental"] = self.increment

    def inject(self, option: Component, value: Any) -> None:
        """
        A value that a RequestOption puts into the request.

        Raises:
            CannotSayError: it goes to where we put nothing.
        """
        name, place = option.get("field_name"), option.get("inject_into")
        path = option.get("field_path")
        if place == "request_parameter" and name:
            self.params[self.text(name, option, "field_name")] = value
        elif place == "body_json" and (name or path):
            at = self.body
            *tables, last = path or [name]
            for table in tables:
                at = at.setdefault(str(table), {})
            at[str(last)] = value
        else:
            raise option.refuse(f"is put into {place or 'the path'}, where a source file puts nothing")


def take_selector(context: Context, retriever: Component, endpoint: dict[str, Any]) -> None:
    """Where the records are, and which of them count."""
    selector = retriever.child("record_selector")
    if selector.type not in {"RecordSelector", ""}:
        raise selector.refuse()
    extractor = selector.child("extractor")
    if extractor.type not in {"DpathExtractor", ""} or extractor.has("record_expander"):
        raise extractor.refuse()
    for decoder in (retriever.child("decoder"), retriever.child("requester").child("decoder")):
        inner = decoder.child("decoder") if decoder.type == "GzipDecoder" else decoder
        if decoder.type not in _DECODERS or inner.type not in _DECODERS:
            raise decoder.refuse()
    steps = [context.text(step, extractor, "field_path") for step in extractor.get("field_path", [])]
    endpoint["data_selector"] = _selector([step for step in steps if step], extractor)
    if selector.has("record_filter"):
        _take_filter(context, selector.child("record_filter"))


def _selector(steps: list[str], extractor: Component) -> str:
    wild = [at for at, step in enumerate(steps) if "*" in step]
    if not wild:
        return jmespath_of(tuple(steps)) or "@"
    if len(wild) > 1 or steps[wild[0]] != "*":
        raise CannotSayError(extractor.at("field_path"), f"{steps}: more than one `*` cannot be said for sure")
    before, after = jmespath_of(tuple(steps[: wild[0]])), jmespath_of(tuple(steps[wild[0] + 1 :]))
    below = f".{after}[]" if after else ""
    # dpath's `*` takes the items of a list, and the values of an object
    return f"{before}.*{below} || {before}[]{below}" if before else f"*{below} || [*]{below}"


def _take_filter(context: Context, component: Component) -> None:
    condition = str(component.get("condition", "")).strip()
    if component.type not in {"RecordFilter", ""}:
        raise component.refuse()
    if not condition:
        return
    found = _COMPARED.fullmatch(condition)
    if found is None:
        is_alone = re.search(r"\b(and|or|if)\b", condition) is None
        if is_alone and re.search(r"stream_interval|stream_slice|stream_state", condition):
            context.lose(component, "leaves out what an earlier run had; here it is read again, and is unchanged")
            return
        raise CannotSayError(component.at("condition"), f"a condition that a filter cannot say: {condition[:120]}")
    negated, path, op, value = found.groups()
    expression = read_expression(f"record{path}")
    if negated or op is None or value is None or expression is None:
        raise CannotSayError(component.at("condition"), f"a condition that a filter cannot say: {condition[:120]}")
    said = {"path": jmespath_of(expression.steps), "op": _OPS[op], "value": _literal(value)}
    context.stream.resource["filter"] = [said]


def _literal(text: str) -> Any:
    if text[:1] == "[":
        return [_literal(item.strip()) for item in text[1:-1].split(",") if item.strip()]
    if text[:1] in "'\"":
        return text[1:-1]
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    return float(text) if "." in text else int(text)


def take_partitions(context: Context, retriever: Component) -> None:
    """
    Parents and lists.

    Raises:
        CannotSayError: both, several, or of another kind.
    """
    routers = list(retriever.children("partition_router")) if retriever.has("partition_router") else []
    if len(routers) > 1:
        raise CannotSayError(retriever.at("partition_router"), "several partitions multiplied with one another")
    for router in routers:
        if router.type == "ListPartitionRouter":
            _take_list(context, router)
        elif router.type == "SubstreamPartitionRouter":
            _take_parent(context, router)
        else:
            raise router.refuse()


def _take_list(context: Context, router: Component) -> None:
    values, name = router.get("values"), str(router.get("cursor_field", ""))
    if not isinstance(values, list):
        raise CannotSayError(router.at("values"), "a list that depends on an input")
    if not router.has("request_option"):
        raise CannotSayError(router.path, f"stands in the path or the body ({name}); partitions are parameters here")
    option = router.child("request_option")
    if option.get("inject_into") != "request_parameter":
        raise option.refuse(f"a partition in {option.get('inject_into')}; partitions are parameters here")
    field_name = str(option.get("field_name"))
    context.walks = [{field_name: value} for value in values]


def _take_parent(context: Context, router: Component) -> None:
    parents = list(router.children("parent_stream_configs"))
    if len(parents) != 1:
        raise CannotSayError(router.at("parent_stream_configs"), f"{len(parents)} parents; there can be one here")
    parent = parents[0]
    stream = Component.of(parent.own("stream"), parent.at("stream"), {})
    name = slug(str(stream.get("name", "")))
    key = context.text(parent.get("parent_key", ""), parent, "parent_key")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", key, re.ASCII):
        raise CannotSayError(parent.at("parent_key"), f"{key!r} is no plain path")
    placeholder = f"{{resources.{name}.{key}}}"
    context.partitions[str(parent.get("partition_field", ""))] = placeholder
    if parent.has("request_option"):
        context.inject(parent.child("request_option"), placeholder)
