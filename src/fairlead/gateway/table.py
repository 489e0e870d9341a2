"""A TOML table being read: its keys are known beforehand, and whatever is wrong is told with its place, its value and the mend.

Converters are plain functions that raise ValueError (or ConfigError) with the end of the message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from fairlead.errors import ConfigError

T = TypeVar("T")
D = TypeVar("D")

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s)").fullmatch
_BARE: Final = re.compile(r"[\w-]+", re.ASCII).fullmatch
_NAME: Final = re.compile(r"[A-Za-z_][\w-]*", re.ASCII).fullmatch
_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")


class Table:
    """One table. A key outside `keys` is an error; one that is in `later` is told to wait. With neither, any key may stand."""

    def __init__(
        self, place: str, given: object, keys: tuple[str, ...] = (), later: frozenset[str] = frozenset()
    ) -> None:
        if not isinstance(given, dict):
            raise ConfigError(f"{place}: {shown(given)} is not a table; write {{ key = value }}")
        self.place = place
        self.given: Mapping[str, Any] = given
        for key in given:
            if key in later:
                raise ConfigError(f"{self.at(key)}: belongs to a later version; remove it for now")
            if keys and key not in keys:
                raise ConfigError(f"{self.at(key)}: no such key{meant(key, keys)}")

    def at(self, key: str) -> str:
        written = key if _BARE(key) else json.dumps(key)
        return f"{self.place}.{written}" if self.place else written

    def take(self, key: str, convert: Callable[[Any], T], default: D) -> T | D:
        """The value of a key, or the default where it is not written."""
        return self.need(key, convert, "") if key in self.given else default

    def need(self, key: str, convert: Callable[[Any], T], example: str) -> T:
        """The value of a key that has to be there."""
        if key not in self.given:
            place = f"{self.place}: " if self.place else ""
            raise ConfigError(f"{place}{key} is missing; write {example}")
        try:
            return convert(self.given[key])
        except ConfigError as error:
            raise ConfigError(f"{self.at(key)}: {error.message}") from None
        except ValueError as error:
            raise ConfigError(f"{self.at(key)}: {shown(self.given[key])} {error}") from None

    def tables(self, key: str, example: str) -> Iterator[tuple[str, str, object]]:
        """The tables under a key: name, place and value of each."""
        found = Table(self.at(key), self.need(key, lambda value: value, example))
        if not found.given:
            raise ConfigError(f"{found.place}: nothing is in it; write {example}")
        for name, value in found.given.items():
            if not _NAME(name):
                raise ConfigError(
                    f"{found.at(name)}: not a name; use letters, digits, _ and -, and begin with a letter"
                )
            yield name, found.at(name), value


def secrets(value: object) -> object:
    """A table of what may be secret: where it is none, it is not shown."""
    if not isinstance(value, dict):
        raise ConfigError('not a table; write { name = "..." }')
    return value


def string(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError('is not a text; write it in quotes: "..."')
    return value


def flag(value: object) -> bool:
    if value is not True and value is not False:
        raise ValueError("is not a yes or no; write true or false")
    return value


def number(least: int) -> Callable[[object], int]:
    def convert(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"is not a whole number from {least} up")
        return value

    return convert


def duration(value: object) -> float:
    """Seconds."""
    seconds = 0.0
    if isinstance(value, str) and (found := _DURATION(value)):
        seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    if not 0 < seconds < float("inf"):
        raise ValueError('is not a duration above 0; write "300ms", "2s" or a number of seconds')
    return seconds


def filled(environ: Mapping[str, str]) -> Callable[[object], str]:
    """A text in which `${NAME}` stands for a variable of the environment, so that secrets stay out of the file."""

    def variable(found: re.Match[str]) -> str:
        value = environ.get(found[1])
        if not value:
            raise ConfigError(f"{found[0]} is not set; set {found[1] or 'a named variable'} in the environment")
        return value

    return lambda value: _VARIABLE.sub(variable, string(value))


def hidden(convert: Callable[[object], T]) -> Callable[[object], T]:
    """The same conversion, whose errors do not show the value: it may be a secret."""

    def told(value: object) -> T:
        try:
            return convert(value)
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"the value {error}") from None

    return told


def shown(value: object) -> str:
    """A value as TOML has it, more or less, and never at length."""
    written = json.dumps(value, default=str, ensure_ascii=False)
    return written if len(written) <= 80 else f"{written[:77]}..."


def meant(name: str, among: tuple[str, ...]) -> str:
    """The end of a message that suggests what was meant."""
    if close := get_close_matches(name, among, n=1):
        return f'; did you mean "{close[0]}"?'
    return f"; use one of {', '.join(sorted(among))}" if 0 < len(among) <= 12 else ""
