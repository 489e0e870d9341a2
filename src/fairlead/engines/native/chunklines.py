"""Chunk lines as llhttp reads them: blanks in an extension, which it refuses and RFC 9112 section 7.1.1 allows, are taken out.

Hardly anybody sends them, so nothing is looked at until llhttp stops at one; from that line on every line comes through here.
"""

from __future__ import annotations

import re
from typing import Final

HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
"""What a parser is given to begin at a chunk line."""
_BLANKS: Final = re.compile(rb"(?<=[;=])[ \t]+|[ \t]+(?=[;=])").sub
_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}").match


class ChunkLines:
    """What comes after a head, line by line and chunk by chunk."""

    __slots__ = ("_left", "_line", "_over")

    def __init__(self) -> None:
        self._left = 0
        """Bytes up to the next line."""
        self._line: list[bytes] = []
        """As much of a line as has come."""
        self._over = False

    def cleaned(self, data: bytes) -> bytes:
        """The same bytes without those blanks. A line is given out when all of it is here."""
        out = []
        while data:
            if self._over:  # trailers, or what is no chunk line: llhttp's to judge
                out.append(data)
                break
            if self._left:
                out.append(data[: self._left])
                self._left, data = max(0, self._left - len(data)), data[self._left :]
                continue
            end = data.find(b"\n") + 1
            if not end:
                self._line.append(data)
                break
            line, data = _BLANKS(b"", b"".join([*self._line, data[:end]])), data[end:]
            self._line.clear()
            out.append(line)
            size = int(found[0], 16) if (found := _SIZE(line)) is not None else 0
            self._over = size == 0
            self._left = size + 2
        return b"".join(out)


def where_it_stopped(raw: bytes, interim: int, size: int) -> int:
    """Where the line begins at which llhttp stopped, having read so many interim answers and so many bytes of body."""
    place = 0
    for _ in range(interim):
        place = raw.index(b"\r\n\r\n", place) + 4
        place = len(raw) - len(raw[place:].lstrip(b"\r\n"))
    place = raw.index(b"\r\n\r\n", place) + 4
    while size > 0:
        end = raw.index(b"\n", place) + 1
        chunk = int(raw[place:end].partition(b";")[0], 16)
        size -= chunk
        place = end + chunk + 2
    return place
