"""Which aggregate a path belongs to: all patterns in one expression, the more literal first.

A path is matched as it was sent, so that an encoded slash stays inside its segment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from fairlead.errors import ConfigError

_PARAMETER: Final = re.compile(r"\{([A-Za-z_]\w*)\}", re.ASCII).fullmatch
_ANY: Final = r"((?!\.+(?:/|\Z))[^/]+)"
"""A segment that is not dots only: those would be another path (RFC 3986 section 5.2.4)."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path with parameters: each segment is a literal, canonically encoded, or (as None) a parameter."""

    written: str
    segments: tuple[str | None, ...]
    parameters: tuple[str, ...]


def pattern(written: str) -> Pattern:
    """The pattern of a path such as `/home/{id}`; raises ConfigError."""
    if written[:1] != "/" or written[:2] == "//":
        raise ConfigError(f'"{written}" is not a path: begin it with one "/"')
    if mark := re.search(r"[?#\s]", written):
        raise ConfigError(
            f'"{written}" is more than a path: leave out what begins with "{mark[0]}"; {{query.x}} reads the query'
        )
    segments: list[str | None] = []
    parameters: list[str] = []
    for segment in written[1:].split("/"):
        if found := _PARAMETER(segment):
            if found[1] in parameters:
                raise ConfigError(f'"{written}" has two parameters called "{found[1]}": rename one')
            if found[1] in {"query", "header"}:
                raise ConfigError(
                    f'"{written}": "{found[1]}" is what references call the request\'s own: rename the parameter'
                )
            parameters.append(found[1])
            segments.append(None)
        elif "{" in segment or "}" in segment:
            raise ConfigError(f'"{written}": "{segment}" is not a parameter: write a whole segment as {{name}}')
        elif segment in {".", ".."}:
            raise ConfigError(f'"{written}" has a segment of dots, which no client sends: remove it')
        else:
            segments.append(_canonical(segment))
    return Pattern(written, tuple(segments), tuple(parameters))


class Routes:
    """Finds the pattern of a path, and the values of its parameters."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        # Literal before parameter, from the left: the order of the file means nothing.
        order = sorted(range(len(patterns)), key=lambda at: [segment is None for segment in patterns[at].segments])
        branches = []
        for at in order:
            path = "".join(f"/{_ANY if segment is None else re.escape(segment)}" for segment in patterns[at].segments)
            branches.append(f"(?P<r{at}>{path})")
        self._match = re.compile("|".join(branches)).fullmatch
        self._patterns = patterns

    def find(self, path: str) -> tuple[int, Mapping[str, str]] | None:
        """The index of the pattern, and its parameters decoded; None where nothing matches."""
        if "%" in path:
            try:
                path = "/".join([_canonical(segment) for segment in path.split("/")])
            except UnicodeDecodeError:
                return None
        found = self._match(path)
        if found is None or found.lastgroup is None:
            return None
        at = int(found.lastgroup[1:])
        parameters = self._patterns[at].parameters
        if not parameters:
            return at, {}
        first = found.re.groupindex[found.lastgroup] + 1
        values = found.groups()[first - 1 : first - 1 + len(parameters)]
        return at, dict(zip(parameters, [unquote(value) if "%" in value else value for value in values], strict=True))


def _canonical(segment: str) -> str:
    """One spelling for each segment, so that `/caf%c3%a9` and `/café` are the same path."""
    return quote(unquote(segment, errors="strict"), safe="!$&'()*+,;=:@~")
