"""A path, a query or a header with references in it: what is found takes its place there, and no more than its place.

In a path it stays one segment, in a query one value; a list repeats its parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fairlead.errors import ConfigError
from fairlead.gateway.exact import text
from fairlead.gateway.reference import Absent, Reference, Unfit, Values, reference
from fairlead.url import ready, segment

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
