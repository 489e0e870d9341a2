"""A response: buffered or arriving, read in whichever way, and closed once."""

from __future__ import annotations

import gc
import json
import pickle
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from encodings.aliases import aliases
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from fairlead.arriving import Arriving
from fairlead.errors import DecodeError, Disconnected, FairleadError, ProtocolError, StatusError
from fairlead.request import Request
from fairlead.response import Response

REQUEST = Request("GET", "http://a.example/x?token=hunter2")


class Arrives:
    """A body that comes in these pieces; an exception among them is raised."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self.pieces = list(pieces)
        self.closed = 0

    async def read(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self) -> None:
        self.closed += 1


class Doubled:
    """A coding that says everything twice, and wants to end in a full stop."""

    last = b""

    def feed(self, chunk: bytes, /) -> Iterator[bytes]:
        self.last = chunk
        yield chunk
        yield chunk

    def end(self) -> None:
        if self.last[-1:] != b".":
            raise ProtocolError("the coded body stopped too early", phase="body")


def arriving(*pieces: bytes | BaseException, coding: Any = None, kind: str = "text/plain") -> tuple[Response, Arrives]:
    body = Arrives(*pieces)
    return Arriving(200, [(b"Content-Type", kind.encode())], body, coding, REQUEST, 0.25), body


# Here already


def test_a_response_answers_to_httpxs_names() -> None:
    response = Response.received(201, [(b"X-One", b"1")], b"h\xc3\xa9", REQUEST, 0.25)
    assert (response.status_code, response.content, response.text) == (201, b"h\xc3\xa9", "h\u00e9")
    assert response.headers["x-one"] == "1"
    assert response.url == "http://a.example/x?token=hunter2"
    assert (response.elapsed, response.elapsed.total_seconds()) == (0.25, 0.25)
    assert (response.is_success, response.is_error, response.is_closed, response.complete) == (True, False, True, True)
    assert response.raise_for_status() is response
    assert repr(response) == "<Response [201]>"


def test_one_made_by_hand_has_what_it_is_given() -> None:
    response = Response(200, {"X": "1"}, json={"a": 1})
    assert response.json() == {"a": 1}
    assert response.headers == {"x": "1", "content-type": "application/json"}
    assert (response.url, response.request) == ("", None)
    assert Response(204).content == b""


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text/plain", "\u00e9\ufffd"),
        ("text/plain; charset=latin-1", "\u00c3\u00a9\u00ff"),
        ('text/plain; charset="ISO-8859-1"', "\u00c3\u00a9\u00ff"),
        ("text/plain; charset=klingon", "\u00e9\ufffd"),
        ("", "\u00e9\ufffd"),
    ],
)
def test_text_is_read_by_its_charset(kind: str, text: str) -> None:
    assert Response(200, {"Content-Type": kind}, b"\xc3\xa9\xff").text == text


@pytest.mark.parametrize(
    "charset", [*sorted({*aliases, *aliases.values()}), "idna", "undefined", "punycode", "aliases", "x" * 999]
)
async def test_text_is_read_whatever_charset_is_named(charset: str) -> None:
    kind = f"text/plain; charset={charset}"
    response, _ = arriving(b"\xff\xfe\0\0a\\x", b"\xe9", kind=kind)
    assert isinstance("".join([text async for text in response.aiter_text()]), str)
    assert isinstance(Response(200, {"Content-Type": kind}, b"\xff\xfe\0\0a\\x\xe9").text, str)
    assert isinstance(Response(200, {"Content-Type": kind}, b"a\xff\\x\xe9").text, str)


@pytest.mark.parametrize("pieces", [(b"hunter", b"2"), (b"]\xd9\0",)])
async def test_a_stream_without_the_mark_that_its_charset_needs_says_so(pieces: tuple[bytes, ...]) -> None:
    response, _ = arriving(*pieces, kind="text/plain; charset=utf-16")
    with pytest.raises(DecodeError, match="charset") as caught:
        await anext(response.aiter_text())
    assert caught.value.request is REQUEST
    response.close()


@pytest.mark.parametrize(
    "charset", ["base64", "hex", "zlib", "bz2", "rot13", "idna", "undefined", "punycode", "unicode_escape"]
)
def test_what_is_no_charset_is_read_as_utf_8(charset: str) -> None:
    assert Response(200, {"Content-Type": f"text/plain; charset={charset}"}, b"aGk\\n=\xc3\xa9").text == "aGk\\n=\u00e9"


@dataclass
class Point:
    x: int


class Struct(msgspec.Struct):
    x: int


class Model(pydantic.BaseModel):
    x: int


class Typed(TypedDict):
    x: int


@pytest.mark.parametrize("into", [Point, Struct, Model, Typed])
def test_json_is_read_into_whatever_has_fields(into: Any) -> None:
    assert Response(200, content=b'{"x": 1}').json(into) == into(x=1)
    assert Response(200, content=b'[{"x": 1}]').json(list[into]) == [into(x=1)]
    with pytest.raises(DecodeError) as caught:
        Response(200, content=b'{"x": "hunter2"}', request=REQUEST).json(into)
    assert "$.x" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.request is REQUEST


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b'"\xff"'])
def test_what_is_not_json_is_said_to_be_none(body: bytes) -> None:
    response = Response(200, content=body)
    with pytest.raises(DecodeError, match="not the JSON that was asked for") as caught:
        response.json()
    assert caught.value.response is response
    assert isinstance(caught.value, ValueError)


def test_a_byte_order_mark_is_let_pass() -> None:
    assert Response(200, content=b"\xef\xbb\xbf[1]").json() == json.loads("[1]")


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 599])
def test_a_status_of_an_error_is_raised_when_asked(status: int) -> None:
    response = Response(status, request=REQUEST)
    with pytest.raises(StatusError, match=f"answered {status}") as caught:
        response.raise_for_status()
    assert (caught.value.response, caught.value.request, caught.value.status_code) == (response, REQUEST, status)
    assert "hunter2" not in str(caught.value)


async def test_a_buffered_response_reads_like_a_stream() -> None:
    response = Response(200, content=b"one\ntwo")
    assert [chunk async for chunk in response.aiter_bytes()] == [b"one\ntwo"]
    assert [chunk async for chunk in response.aiter_raw()] == [b"one\ntwo"]
    assert [line async for line in response.aiter_lines()] == ["one", "two"]
    assert await response.aread() == b"one\ntwo"
    assert [chunk async for chunk in Response(204).aiter_bytes()] == []
    await response.aclose()


# Arriving


async def test_a_stream_is_read_piece_by_piece_and_closes_at_its_end() -> None:
    response, body = arriving(b"one", b"two")
    assert (response.is_closed, response.complete) == (False, False)
    assert [chunk async for chunk in response.aiter_bytes()] == [b"one", b"two"]
    assert (response.is_closed, response.complete, response.error, body.closed) == (True, True, None, 1)
    with pytest.raises(FairleadError, match="the stream is closed"):
        await anext(response.aiter_bytes())


async def test_the_content_of_a_stream_is_there_once_it_was_read() -> None:
    response, _ = arriving(b"one", b"two")
    with pytest.raises(FairleadError, match=r"await response.aread\(\)"):
        response.content  # noqa: B018 -- it raises
    assert await response.aread() == b"onetwo"
    assert response.text == "onetwo"
    assert await response.aread() == b"onetwo"


async def test_a_coding_is_undone_unless_the_raw_bytes_are_asked_for() -> None:
    response, _ = arriving(b"a", b"b.", coding=Doubled())
    assert [chunk async for chunk in response.aiter_bytes()] == [b"a", b"a", b"b.", b"b."]
    response, _ = arriving(b"a", b"b", coding=Doubled())
    assert [chunk async for chunk in response.aiter_raw()] == [b"a", b"b"]


async def test_a_coding_that_stops_too_early_is_an_error_of_this_request() -> None:
    response, body = arriving(b"a", coding=Doubled())
    with pytest.raises(ProtocolError) as caught:
        await response.aread()
    assert caught.value.request is REQUEST
    assert (response.complete, response.error, body.closed) == (False, caught.value, 1)


async def test_a_coding_without_a_body_is_no_error() -> None:
    response, _ = arriving(coding=Doubled())
    assert await response.aread() == b""


async def test_a_stream_that_breaks_says_so_before_anybody_is_told() -> None:
    error = Disconnected(request=REQUEST, phase="body")
    response, body = arriving(b"one", error)
    told: list[BaseException | None] = []
    response.when_closed(lambda: told.append(response.error))
    with pytest.raises(Disconnected):
        await response.aread()
    assert (told, response.complete, body.closed) == ([error], False, 1)


async def test_a_stream_left_half_way_is_closed() -> None:
    response, body = arriving(b"one", b"two")
    chunks = response.aiter_bytes()
    assert await anext(chunks) == b"one"
    await chunks.aclose()  # type: ignore[attr-defined]
    assert (response.is_closed, response.complete, response.error, body.closed) == (True, False, None, 1)


async def test_a_stream_left_half_way_is_not_read_on() -> None:
    response, _ = arriving(b"one", b"two")
    async for chunk in response.aiter_bytes():
        assert chunk == b"one"
        break
    for read in (response.aiter_bytes, response.aiter_raw, response.aiter_lines, response.aiter_text):
        with pytest.raises(FairleadError, match=r"left half-way|is closed") as caught:
            await anext(read())
        assert type(caught.value) is FairleadError
    with pytest.raises(FairleadError, match=r"left half-way|is closed"):
        await response.aread()


async def test_a_second_reader_is_told_and_the_first_reads_on() -> None:
    response, _ = arriving(b"one", b"two")
    first = response.aiter_bytes()
    assert await anext(first) == b"one"
    with pytest.raises(FairleadError, match="being read already") as caught:
        await response.aread()
    assert type(caught.value) is FairleadError
    assert caught.value.request is REQUEST
    assert [chunk async for chunk in first] == [b"two"]
    assert response.complete


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"a\nb\r\nc\rd"], ["a", "b", "c", "d"]),
        ([b"a\r", b"\nb"], ["a", "b"]),
        ([b"a\r", b"b"], ["a", "b"]),
        ([b"a\n", b"\n", b"b\r"], ["a", "", "b"]),
        ([b"h\xc3", b"\xa9\n"], ["h\u00e9"]),
        ([b"x" * 10, b"y\nz"], ["xxxxxxxxxxy", "z"]),
        ([b"a\r", b"\r", b"\n", b"\r", b"b"], ["a", "", "", "b"]),
        ([b"\r", b""], [""]),
        ([b"\r"], [""]),
        ([], []),
    ],
)
async def test_lines_end_where_they_end_however_they_are_cut(pieces: list[bytes], lines: list[str]) -> None:
    response, _ = arriving(*pieces)
    assert [line async for line in response.aiter_lines()] == lines


async def test_a_long_line_is_split_where_it_is_new() -> None:
    pieces = [b"x" * 1000] * 500 + [b"\ny"]
    seen = 0

    class Counting:
        def split(self, text: str) -> list[str]:
            nonlocal seen
            seen += len(text)
            return text.split("\n")

    response, _ = arriving(*pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fairlead.response._ENDS", Counting())
        assert [line async for line in response.aiter_lines()] == ["x" * 500_000, "y"]
    assert seen == 500_002


async def test_text_is_never_cut_inside_a_character() -> None:
    response, _ = arriving(b"\xe2", b"\x82", b"\xac!", b"\xc3")
    assert [text async for text in response.aiter_text()] == ["\u20ac!", "\ufffd"]


# Closing


def test_what_waits_for_the_end_is_told_once_innermost_first() -> None:
    response, body = arriving(b"one")
    told: list[str] = []
    for name in ("inner", "outer"):
        response.when_closed(lambda name=name: told.append(name))  # type: ignore[misc]
    response.close()
    response.close()
    assert (told, body.closed) == (["inner", "outer"], 1)
    response.when_closed(lambda: told.append("late"))
    assert told[-1] == "late"


def test_all_are_told_and_the_first_failure_is_raised_last() -> None:
    response, _ = arriving(b"one")
    told: list[str] = []

    def fails(name: str) -> Callable[[], None]:
        def fail() -> None:
            told.append(name)
            raise ValueError(name)

        return fail

    for name in ("first", "second"):
        response.when_closed(fails(name))
    with pytest.raises(ValueError, match="first"):
        response.close()
    assert told == ["first", "second"]
    assert response.is_closed


def test_a_buffered_response_tells_at_once() -> None:
    told: list[str] = []
    Response(200).when_closed(lambda: told.append("now"))
    assert told == ["now"]


def test_a_stream_dropped_open_warns_and_closes() -> None:
    response, body = arriving(b"one")
    response.opened_at = "shop.py:7"  # type: ignore[attr-defined]
    with pytest.warns(ResourceWarning, match="opened at shop.py:7 was dropped open"):
        del response
        gc.collect()
    assert body.closed == 1


def test_a_closed_one_is_dropped_in_silence() -> None:
    response, _ = arriving(b"one")
    response.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del response
        gc.collect()


def test_errors_that_hold_a_response_survive_a_pickle() -> None:
    response = Response(404)
    with pytest.raises(StatusError) as caught:
        response.raise_for_status()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.status_code, str(copy)) == (404, str(caught.value))
    with pytest.raises(DecodeError) as broken:
        Response(200, content=b"{").json()
    assert str(pickle.loads(pickle.dumps(broken.value))) == str(broken.value)


# A stream whose body came with its head


def whole(content: bytes, coding: Any = None) -> tuple[Arriving, Arrives, list[str]]:
    body, log = Arrives(), list[str]()
    response = Arriving(200, [], body, coding, REQUEST, 0.25, content)
    response.when_closed(lambda: log.append("ended"))
    return response, body, log


async def test_a_stream_that_is_here_has_ended_for_whoever_waits_for_its_end_and_is_read_like_any() -> None:
    response, body, log = whole(b"all of it")
    assert (response.complete, response.is_closed, log) == (True, False, ["ended"])
    assert [chunk async for chunk in response.aiter_raw()] == [b"all of it"]
    assert (response.is_closed, body.closed, log) == (True, 1, ["ended"])
    assert response.here() is None


async def test_a_stream_that_is_here_is_taken_at_once_and_only_once() -> None:
    response, body, log = whole(b"all of it")
    assert response.here() == b"all of it"
    assert (response.is_closed, response.complete, body.closed, log) == (True, True, 1, ["ended"])
    assert response.here() is None
    with pytest.raises(FairleadError, match="closed"):
        await response.aread()


async def test_a_stream_that_is_here_and_coded_ends_well_only_when_it_was_decoded() -> None:
    response, _, log = whole(b"no full stop", Doubled())
    assert (response.complete, log) == (False, [])
    with pytest.raises(ProtocolError):
        await response.aread()
    assert (response.complete, log, type(response.error)) == (False, ["ended"], ProtocolError)
    taken, _, ended = whole(b"no full stop", Doubled())
    assert (taken.here(), taken.complete, ended) == (b"no full stop", True, ["ended"])


async def test_what_is_still_to_come_cannot_be_taken() -> None:
    response, _ = arriving(b"a", b"b")
    assert response.here() is None
    assert await response.aread() == b"ab"
    assert response.here() == b"ab"
    assert Response(200, content=b"made").here() == b"made"
