"""Bytes read as choices first and as raw matter last, so that any input means something and a small change of it a small change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Source:
    """When the bytes are used up, every choice is the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, below: int) -> int:
        self._at += 1
        return self._data[self._at - 1] % below if self._at <= len(self._data) else 0

    def pick(self, options: Sequence[T]) -> T:
        return options[self.number(len(options))]

    def flag(self) -> bool:
        return self.number(2) == 1

    def sizes(self) -> list[int]:
        """How long pieces are, over and over."""
        return [self.number(256) + 1 for _ in range(self.number(6) + 1)]

    def take(self, at_most: int = 255) -> bytes:
        """Some bytes, as many as the next byte says."""
        size = self.number(at_most + 1)
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> bytes:
        return self._data[self._at :]


def pieces(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The data cut into pieces of these sizes, over and over."""
    found, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        found.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return found


def text(data: bytes) -> str:
    """Any text, half characters included."""
    return data.decode("utf-8", "surrogateescape")
