"""The parser's decisions, without a socket: what an answer comes to, however its bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.engines import Limits
from fairlead.engines.native.answer import Answer

OK = b"HTTP/1.1 200 OK\r\n"
SMALL = Limits(head=2048, headers=8, body=1000)

WHOLE = {
    "a length": (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    "chunks": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"hello",
    ),
    "nothing": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified, with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
    "after interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nok",
        b"ok",
    ),
    "HTTP/1.0, kept": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", b"ok"),
}

FAULTS = {
    "garbage": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "another protocol": b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a blank line first": b"\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
    "both lengths": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a length with a sign": OK + b"Content-Length: +5\r\n\r\nhello",
    "a folded line": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a bare CR": OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "a blank before the colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "a NUL": OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two codings": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "a chunk without its end": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
    "another protocol offered": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "a long head": OK + b"X: " + b"a" * 3000 + b"\r\nContent-Length: 0\r\n\r\n",
    "many fields": OK + b"X: 1\r\n" * 9 + b"Content-Length: 0\r\n\r\n",
    "endless interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 40,
    "a body beyond its limit": OK + b"Content-Length: 1001\r\n\r\n" + b"a" * 1001,
    "chunks beyond the limit": OK
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"64\r\n"
    + b"a" * 100
    + b"\r\n"
    + (b"64\r\n" + b"a" * 100 + b"\r\n") * 40,
}

ODD = {
    "a second answer": OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 2\r\n\r\nno",
    "junk": OK + b"Content-Length: 2\r\n\r\nokjunk",
    "the peer closes": OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "another protocol after the end": OK + b"Content-Length: 2\r\n\r\nok"
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "another protocol after chunks with blanks in an extension": OK
    + b"Transfer-Encoding: chunked\r\n\r\n2 ; a = b\r\nok\r\n0\r\n\r\n"
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
}


def fed(wire: bytes, cuts: list[int], method: str = "GET") -> Answer:
    """An answer, fed in pieces; what comes once it is complete or faulty is the connection's to see, as in life."""
    answer = Answer(SMALL)
    answer.expect(method, False)
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(wire)), len(wire)]
    for start, end in pairwise(edges):
        if answer.fault or answer.complete:
            break
        if start < end:
            answer.feed(memoryview(wire)[start:end])
    return answer


def cuts() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, 400), max_size=8)


@pytest.mark.parametrize("name", WHOLE)
@given(cuts=cuts())
def test_an_answer_is_whole_however_it_is_cut(name, cuts):
    wire, body = WHOLE[name]
    answer = fed(wire, cuts)
    assert (answer.fault, answer.complete, answer.odd) == ("", True, "")
    assert b"".join(answer.chunks) == body


@pytest.mark.parametrize("name", WHOLE)
def test_no_byte_less_is_whole(name):
    wire, _ = WHOLE[name]
    for length in range(1, len(wire)):
        answer = fed(wire[:length], [])
        assert not answer.complete
        assert not answer.fault
        assert not answer.end() or not answer.framed


@pytest.mark.parametrize("name", FAULTS)
@given(cuts=cuts())
def test_a_fault_is_a_fault_however_it_is_cut(name, cuts):
    answer = fed(FAULTS[name], cuts)
    assert answer.fault
    assert not answer.end()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_a_fault_byte_by_byte(name):
    wire = FAULTS[name]
    assert fed(wire, list(range(1, len(wire)))).fault


@given(cuts=cuts())
def test_another_protocol_does_not_undo_what_was_wrong_before_it(cuts):
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    answer = fed(b"HTTP/1.1 103 Early\r\n\r\n" * 33 + switching, cuts)
    assert "interim" in answer.fault
    assert not answer.switch()


@given(cuts=cuts())
def test_a_bound_that_is_crossed_first_is_told_first(cuts):
    chunk = b"3E9 ; a = b\r\n" + b"x" * 1001
    answer = fed(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"no line's end", cuts)
    assert answer.too_large


@pytest.mark.parametrize("name", ODD)
def test_an_odd_end_delivers_the_answer_and_gives_the_connection_up(name):
    answer = fed(ODD[name], [])
    assert (answer.fault, answer.complete) == ("", True)
    assert b"".join(answer.chunks) == b"ok"
    assert answer.odd


@given(cuts=cuts())
def test_a_head_has_no_body_whatever_it_says(cuts):
    answer = fed(OK + b"Content-Length: 5\r\n\r\n", cuts, method="HEAD")
    assert (answer.fault, answer.complete, answer.odd, answer.chunks) == ("", True, "", [])
    answer.expect("GET", False)
    answer.feed(memoryview(OK + b"Content-Length: 2\r\n\r\nok"))
    assert answer.complete
    assert answer.chunks == [b"ok"]


def test_a_head_with_a_body_is_odd():
    assert fed(OK + b"Content-Length: 5\r\n\r\nhello", [], method="HEAD").odd


def test_without_a_length_the_end_of_the_connection_is_the_end_of_the_body():
    answer = fed(OK + b"\r\nhello", [])
    assert not answer.complete
    assert answer.end()
    assert answer.odd
    assert b"".join(answer.chunks) == b"hello"


def test_a_trailer_is_never_merged_into_the_headers():
    answer = fed(WHOLE["chunks"][0], [])
    assert [name for name, _ in answer.headers] == [b"Transfer-Encoding"]


def test_a_coding_is_read_from_all_its_lines():
    answer = fed(OK + b"Content-Encoding: gzip\r\ncontent-encoding: br\r\nContent-Length: 0\r\n\r\n", [])
    assert answer.coding == b"gzip,br"
