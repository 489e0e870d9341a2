"""Chunk lines with blanks in their extensions: the blanks go, everything else stays, however it is cut."""

from __future__ import annotations

import pytest

from fairlead.engines.native.chunklines import ChunkLines, where_it_stopped

LINES = {
    b"5\r\nhello\r\n0\r\n\r\n": b"5\r\nhello\r\n0\r\n\r\n",
    b"5 ; a = b\r\nhello\r\n0;\tc\r\n\r\n": b"5;a=b\r\nhello\r\n0;c\r\n\r\n",
    b"4; a\r\n; = \r\n4;b\r\n\n; \n\r\n0\r\n\r\n": b"4;a\r\n; = \r\n4;b\r\n\n; \n\r\n0\r\n\r\n",
    b'2;a="b ; c"\r\nok\r\n0\r\nX: a; b = c\r\n\r\n': b'2;a="b;c"\r\nok\r\n0\r\nX: a; b = c\r\n\r\n',
    b"5 5\r\nhello": b"5 5\r\nhello",
    b"5;a b\r\nhello": b"5;a b\r\nhello",
    b"x; y\r\nz; z": b"x;y\r\nz; z",
}


@pytest.mark.parametrize("given", LINES)
@pytest.mark.parametrize("cut", [1, 2, 3, 100])
def test_blanks_round_semicolons_and_equals_signs_go(given: bytes, cut: int) -> None:
    lines = ChunkLines()
    assert b"".join([lines.cleaned(given[start : start + cut]) for start in range(0, len(given), cut)]) == LINES[given]


def test_half_a_line_is_kept_back() -> None:
    lines = ChunkLines()
    assert lines.cleaned(b"5 ; a") == b""
    assert lines.cleaned(b" = b\r") == b""
    assert lines.cleaned(b"\nhe") == b"5;a=b\r\nhe"


@pytest.mark.parametrize(
    "interim", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nX: 1\r\n\r\n\r\n\r\n"]
)
def test_the_line_is_found_by_what_was_read_before_it(interim: bytes) -> None:
    head, read = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\n;\r\n\r\n2 ;a\r\n\r\n\r\n"
    raw = interim + head + read + b"5; a=b\r\nhello\r\n"
    heads = interim.count(b"HTTP/1.1")
    assert raw[where_it_stopped(raw, heads, 5) :] == b"5; a=b\r\nhello\r\n"
    assert raw[where_it_stopped(raw, heads, 0) :].startswith(b"3\r\n")
