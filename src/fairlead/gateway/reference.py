"""`{...}` in a call: a value of the request or of another part, found by JMESPath; and the paths such values stand in.

A reference is one expression over the names it may use: path parameters, `query`, `header`, and the other parts. What it
reads is known when the file is loaded, and that is all the order of the parts there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions

from fairlead.errors import ConfigError
from fairlead.gateway.exact import text
from fairlead.url import ready, segment

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
        except JMESPathError:
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


Pieces = tuple[str | Reference, ...]


def pieces(written: str) -> Pieces:
    """A text cut at its references: strings as they stand, and what is between braces compiled."""
    found: list[str | Reference] = []
    begin = 0
    while (opened := written.find("{", begin)) >= 0:
        closed = _closing(written, opened)
        if opened > begin:
            found.append(written[begin:opened])
        found.append(reference(written[opened + 1 : closed]))
        begin = closed + 1
    if begin < len(written):
        found.append(written[begin:])
    if any(isinstance(piece, str) and "}" in piece for piece in found):
        raise ConfigError(f'"{written}": a "}}" that closes nothing; write %7D for the character itself')
    return tuple(found)


def _closing(written: str, opened: int) -> int:
    """Where the brace ends that was opened there: not inside JMESPath's quotes, nor at a brace within."""
    depth, quoted = 0, ""
    at = opened
    while at < len(written):
        mark = written[at]
        if quoted:
            if mark == "\\":
                at += 1
            elif mark == quoted:
                quoted = ""
        elif mark in "'\"`":
            quoted = mark
        elif mark == "{":
            depth += 1
        elif mark == "}":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise ConfigError(f'"{written}": a "{{" without its "}}"; write %7B for the character itself')


def joined(some: Pieces, values: Values) -> str:
    """The pieces as one text, each value as it is; raises Absent and Unfit."""
    return "".join([piece if isinstance(piece, str) else _one(piece, values, text) for piece in some])


def names(some: Pieces) -> frozenset[str]:
    """What the references among the pieces read."""
    return frozenset().union(*(piece.names for piece in some if isinstance(piece, Reference)))


def _one(piece: Reference, values: Values, encode: Callable[[Any], str]) -> str:
    value = piece(values)
    if value is None:
        raise Absent(piece)
    return _fit(piece, value, encode)


def _fit(piece: Reference, value: Any, encode: Callable[[Any], str]) -> str:
    try:
        return encode(value)
    except ConfigError:
        raise Unfit(f"{{{piece.written}}} cannot be a path segment: it is empty or only dots") from None
    except UnicodeEncodeError:
        raise Unfit(f"{{{piece.written}}} is not text that can be sent") from None
    except ValueError as error:
        raise Unfit(f"{{{piece.written}}}: {error}") from None


def _as_segment(value: Any) -> str:
    return segment(text(value))


def _as_query(value: Any) -> str:
    return quote(text(value), safe="~")


@dataclass(frozen=True, slots=True)
class Target:
    """A path and a query with references in them, compiled once."""

    path: Pieces
    query: tuple[Pieces, ...]
    names: frozenset[str]

    def fill(self, values: Values) -> str:
        """The target for these values: a segment stays one segment, and a list repeats its parameter. Raises Absent and Unfit."""
        path = "".join([piece if isinstance(piece, str) else _one(piece, values, _as_segment) for piece in self.path])
        if not self.query:
            return path
        query = "&".join([pair for parameter in self.query for pair in _pairs(parameter, values)])
        return f"{path}?{query}" if query else path


def _pairs(parameter: Pieces, values: Values) -> Iterator[str]:
    if len(parameter) == 2 and isinstance(only := parameter[1], Reference):
        value = only(values)
        if value is None:
            raise Absent(only)
        for one in value if isinstance(value, list) else (value,):
            if one is not None:
                yield f"{parameter[0]}{_fit(only, one, _as_query)}"
    else:
        yield "".join([piece if isinstance(piece, str) else _one(piece, values, _as_query) for piece in parameter])


def target(written: str) -> Target:
    """The path and query of a call; raises ConfigError."""
    if written[:1] != "/" or written[:2] == "//":
        raise ConfigError(f'"{written}" is not a path: begin it with one "/"')
    if "\0" in written:
        raise ConfigError(f"{written!r} holds a NUL: remove it")
    found = pieces(written)
    # Each reference stands as one NUL while the text is cut, so that what is written inside it cannot be mistaken.
    marked = "".join([piece if isinstance(piece, str) else "\0" for piece in found])
    if "#" in marked:
        raise ConfigError(f'"{written}": what follows "#" is never sent; write %23 for the character itself')
    references = iter([piece for piece in found if isinstance(piece, Reference)])
    path, _, query = marked.partition("?")
    parameters = [one for one in query.split("&") if one]
    for one in parameters:
        if "\0" in one and "\0" not in one.partition("=")[2]:
            raise ConfigError(f'"{written}": a reference stands for a value: write name={{...}}')
        if "\0" in one.partition("=")[0]:
            raise ConfigError(f'"{written}": a reference cannot name a parameter: write name={{...}}')
    return Target(_restored(path, references), tuple([_restored(one, references) for one in parameters]), names(found))


def _restored(marked: str, references: Iterator[Reference]) -> Pieces:
    first, *others = marked.split("\0")
    restored: list[str | Reference] = [ready(first)]
    for literal in others:
        restored.append(next(references))
        if literal:
            restored.append(ready(literal))
    return tuple(restored)
