"""`{...}`: a value of the request or of another part, found by JMESPath.

A reference is one expression over the names it may use: path parameters, `query`, `header`, and the other parts. What it
reads is known when the file is loaded, and that is all the order of the parts there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions

from fairlead.errors import ConfigError

Values = Mapping[str, Any]
"""What references read: path parameters, `query`, `header`, and each part that has a value."""

_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII).fullmatch
_FIELD: Final = re.compile(r"(query|header)\.([\w-]+)", re.ASCII).fullmatch
_HYPHENATED: Final = re.compile(r"[A-Za-z_]\w*(?:-\w+)+", re.ASCII).match
_FUNCTIONS: Final[Mapping[str, Mapping[str, Any]]] = Functions.FUNCTION_TABLE
_LEFTMOST: Final = {
    "subexpression", "index_expression", "projection", "value_projection", "filter_projection", "flatten", "pipe",
}  # fmt: skip
"""Of these only the first child reads from the top; the others read from what it found."""


class Absent(Exception):
    """A reference found null."""

    def __init__(self, reference: Reference) -> None:
        super().__init__(f"{{{reference.written}}} is null")
        self.names = reference.names


class Unfit(ValueError):
    """A reference found what cannot stand where it is written."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One `{...}`: the names it reads, and how to find its value. A null is None, whatever the reason for it."""

    written: str
    names: frozenset[str]
    find: Callable[[Values], Any] = field(repr=False, compare=False)

    def __call__(self, values: Values) -> Any:
        try:
            return self.find(values)
        except Exception:  # JMESPath's own errors, and what its arithmetic raises
            raise Unfit(f"{{{self.written}}} does not fit what was answered") from None


def reference(written: str) -> Reference:
    """The reference between the braces; raises ConfigError for what is not JMESPath."""
    expression = written.strip()
    if expression in {"query", "header"}:
        raise ConfigError(f'"{{{written}}}" reads everything at once: name one, as in {{{expression}.x}}')
    if _NAME(expression):
        return Reference(expression, frozenset({expression}), lambda values: values.get(expression))
    if found := _FIELD(expression):
        whose, name = found[1], found[2] if found[1] == "query" else found[2].lower()
        return Reference(expression, frozenset({whose}), lambda values: values[whose].get(name))
    if hyphenated := _HYPHENATED(expression):  # a part may be called so, and JMESPath wants such a name quoted
        expression = f'"{hyphenated[0]}"{expression[hyphenated.end() :]}'
    try:
        compiled = jmespath.compile(expression)
    except JMESPathError:
        raise ConfigError(
            f'"{{{written}}}" is not JMESPath: write a name and a path into it, as in {{orders[*].sku}}'
        ) from None
    names = frozenset(_names(compiled.parsed, written))
    if not names:
        raise ConfigError(f'"{{{written}}}" refers to nothing: begin with a part, a path parameter, query or header')
    return Reference(written, names, compiled.search)


def _names(node: Mapping[str, Any], written: str, *, top: bool = True) -> Iterator[str]:
    """The names an expression reads from the top; on the way, what would fail whatever the data raises ConfigError."""
    kind, children = node["type"], node["children"]
    if kind == "slice":
        return
    if top and kind in {"identity", "current"}:
        raise ConfigError(
            f'"{{{written}}}" reads everything at once: begin with a part, a path parameter, query or header'
        )
    if top and kind == "field":
        yield node["value"]
    if kind == "function_expression":
        _known(node["value"], len(children), written)
    for at, child in enumerate(children):
        inner = kind == "expref" or (kind in _LEFTMOST and at > 0)
        yield from _names(child, written, top=top and not inner)


def _known(function: str, given: int, written: str) -> None:
    if function not in _FUNCTIONS:
        raise ConfigError(f'"{{{written}}}": JMESPath has no function {function}()')
    signature = _FUNCTIONS[function]["signature"]
    variadic = bool(signature and signature[-1].get("variadic"))
    if given < len(signature) or (given > len(signature) and not variadic):
        raise ConfigError(f'"{{{written}}}": {function}() takes {len(signature)} values, and {given} are given')
