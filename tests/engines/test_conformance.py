"""One set of cases for every engine: what goes out, what comes back, what is kept, what a fault is called.

Longer than a screen, because it is one idea: an engine is what passes all of this. The faults stand in `faults.py`, as data.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from itertools import count
from pathlib import Path
from typing import cast

import brotli
import pytest

from fairlead import engines
from fairlead.core import Call, Engine, Timeout
from fairlead.engines import Wire
from fairlead.errors import (
    AttemptTimedOut,
    ConfigError,
    ConnectFailed,
    Disconnected,
    FairleadError,
    Knowledge,
    ProtocolError,
)
from fairlead.message import Request, Response
from faults import FAULTS, SECRET, Fault, Stage
from peers import PATIENCE, Crowd, Line, Peer, Talk, answer, authority, echo, moment, says

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NAMES = ("native", "httpx2", "aiohttp")
WITHIN = Timeout(total=PATIENCE)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> engines.EngineName:
    return request.param


@pytest.fixture
async def engine(name: engines.EngineName) -> AsyncIterator[Engine]:
    made = engines.create(name, Wire(verify=authority().client()))
    yield made
    await made.close()


async def ask(engine: Engine, url: str, method: str = "GET", *, stream: bool = False, **options) -> Response:
    return await engine.send(Call(Request(method, url, **options), WITHIN, stream=stream))


# Faults


@pytest.mark.parametrize(
    ("fault", "how"),
    [pytest.param(fault, how, id=f"{fault.name}, {how}") for fault in FAULTS for how in fault.met_by],
)
async def test_a_fault_has_one_name(name, fault: Fault, how):
    engine = engines.create(name, Wire(verify=authority().client(), limits=fault.limits))
    async with AsyncExitStack() as stack:
        stage = Stage(stack)
        stack.push_async_callback(engine.close)
        request = await fault.scene(stage)
        if how == "buffered":
            stage.begun.set()
        call = fault.call(request, stream=how == "stream")
        with pytest.raises(FairleadError) as caught:
            response = await engine.send(call)
            stage.begun.set()
            await response.aread()
        stage.over.set()
        error = caught.value
        assert type(error) is fault.error
        assert error.knowledge is fault.knowledge
        assert error.request is request
        if fault.phase != "body" or len(fault.met_by) == 1 or how == "stream":
            assert error.phase == fault.phase
        assert SECRET.partition("?")[2] not in f"{error} {error!r} {error.__cause__!r}"

        for peer in stage.peers if fault.discarded else ():
            await peer.empty()
        async with Peer(echo) as sound:
            assert (await ask(engine, sound.url, "POST", content=b"ok")).content == b"ok"


def test_the_documented_table_is_this_one():
    documented = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
    rows = [f"| {one.name} | `{one.error.__name__}` | `{one.knowledge.value}` | {one.phase} |" for one in FAULTS]
    table = ["| fault | error | knowledge | phase |", "|---|---|---|---|", *rows]
    assert "\n".join(table) in documented


# What goes out


async def test_a_request_goes_out_as_it_stands(engine):
    fields = [("x-lower", "1"), ("X-Twice", "a"), ("Accept", "*/*"), ("X-Twice", "b"), ("X-Empty", "")]
    async with Peer(echo) as peer:
        await ask(engine, f"{peer.url}/a%2Fb/../c;d?x=%20&&y=1,2?", headers=fields)
        await ask(engine, f"{peer.url}/?", "DELETE")
        first, second = peer.requests
    host = (b"Host", f"127.0.0.1:{peer.port}".encode())
    assert (first.method, first.target) == ("GET", "/a%2Fb/../c;d?x=%20&&y=1,2?")
    assert first.headers == [host, *[(key.encode(), value.encode()) for key, value in fields]]
    assert (second.target, second.headers) == ("/?", [host])


async def test_a_host_of_ones_own_is_kept(engine):
    async with Peer(echo) as peer:
        await ask(engine, peer.url, headers={"Host": "shop.example"})
        assert peer.requests[0].headers == [(b"Host", b"shop.example")]


async def test_header_values_beyond_ascii_go_out_as_they_are_or_not_at_all(engine, name):
    async with Peer(echo) as peer:
        await ask(engine, peer.url, headers=[(b"X-Name", "Zo\u00eb".encode())])
        assert peer.requests[0].get(b"x-name") == b"Zo\xc3\xab"
        try:
            await ask(engine, peer.url, headers=[(b"X-Name", b"Zo\xeb")])
        except ConfigError:
            assert name == "aiohttp"  # it knows text only, and sends it as UTF-8
        else:
            assert peer.requests[1].get(b"x-name") == b"Zo\xeb"


@pytest.mark.parametrize(
    ("options", "said", "kind"),
    [
        ({"content": b"\x00\xff" * 100_000}, b"\x00\xff" * 100_000, None),
        ({"content": "h\u00e9"}, "h\u00e9".encode(), None),
        ({"json": {"a": [1, None]}}, b'{"a":[1,null]}', b"application/json"),
        ({"data": {"a": "x y", "b": ["1", "2"]}}, b"a=x+y&b=1&b=2", b"application/x-www-form-urlencoded"),
        ({"content": [b"one", b"", b"two"]}, b"onetwo", None),
        ({"content": b""}, b"", None),
    ],
    ids=["bytes", "text", "json", "form", "pieces", "empty"],
)
async def test_a_body_arrives_whole(engine, options, said, kind):
    async with Peer(echo) as peer:
        for _ in range(2):
            assert (await ask(engine, peer.url, "POST", **options)).content == said
        assert [seen.get(b"content-type") for seen in peer.requests] == [kind, kind]
        assert peer.accepted == 1


async def test_a_body_is_framed_by_its_length_where_that_is_known(engine, tmp_path: Path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"f" * 200_000)

    async def source() -> AsyncIterator[bytes]:
        yield b"s" * 100_000

    async with Peer(echo) as peer:
        with path.open("rb") as file:
            assert (await ask(engine, peer.url, "PUT", content=file)).content == b"f" * 200_000
            file.seek(0)
            form = await ask(engine, peer.url, "POST", data={"a": "1"}, files={"f": file})
        assert (await ask(engine, peer.url, "POST", content=source)).content == b"s" * 100_000
        sent, multipart, streamed = peer.requests
    assert (sent.get(b"content-length"), sent.get(b"transfer-encoding")) == (b"200000", None)
    assert (multipart.get(b"content-length"), multipart.get(b"transfer-encoding")) == (b"%d" % len(form.content), None)
    assert form.content.count(b"f" * 200_000) == 1
    assert form.content.startswith(b"--")
    assert (streamed.get(b"content-length"), streamed.get(b"transfer-encoding")) == (None, b"chunked")


async def test_an_upload_that_fails_is_the_callers_own_error(engine):
    class Broken(Exception):
        pass

    async def source() -> AsyncIterator[bytes]:
        yield b"half"
        raise Broken

    async with Peer(echo) as peer:
        with pytest.raises(Broken):
            await ask(engine, peer.url, "POST", content=source)
        await peer.empty()
        assert (await ask(engine, peer.url, "POST", content=b"whole")).content == b"whole"


@pytest.mark.parametrize("given", [b"1234", b"1234567"], ids=["less", "more"])
async def test_an_upload_of_another_length_than_announced_is_an_error(engine, given):
    async with Peer(echo) as peer:
        with pytest.raises(ConfigError, match="of the 5 bytes it announced"):
            await ask(engine, peer.url, "POST", headers={"Content-Length": "5"}, content=[given])
        await peer.empty()


@pytest.mark.parametrize("end", ["waits", "resets"])
async def test_an_answer_before_the_upload_ended_is_delivered(engine, end):
    async def talk(line: Line) -> None:
        await line.head()
        await line.say(answer(b"enough", status=b"413 Content Too Large"))
        if end == "resets":
            line.reset()
            line.peer.note()

    async with Peer(talk) as peer:

        async def source() -> AsyncIterator[bytes]:
            yield bytes(1000)
            if end == "resets":
                await peer.until(lambda: peer.accepted > 0 and peer.open == 0)
            while True:
                yield bytes(1 << 16)

        response = await ask(engine, peer.url, "POST", content=source)
        assert (response.status_code, response.content) == (413, b"enough")
        await peer.empty()


async def test_an_interim_answer_does_not_end_an_upload(engine):
    async def talk(line: Line) -> None:
        seen = await line.head()
        assert seen is not None
        await line.say(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n")
        seen.body = await line.body(seen)
        await line.say(answer(b"%d" % len(seen.body)))

    async def source() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(10_000)

    async with Peer(talk) as peer:
        assert (await ask(engine, peer.url, "POST", content=source)).content == b"1000000"


# What comes back


async def test_repeated_fields_are_kept_in_order(engine):
    fields = b"Set-Cookie: a=1\r\nX-One: 1\r\nset-cookie: b=2"
    async with Peer(says(answer(b"", fields))) as peer:
        response = await ask(engine, peer.url)
    assert response.headers.raw == [
        (b"Content-Length", b"0"),
        (b"Set-Cookie", b"a=1"),
        (b"X-One", b"1"),
        (b"set-cookie", b"b=2"),
    ]
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("method", "said", "status", "content"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 200, b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n", 200, b""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nContent-Encoding: br\r\n\r\n", 304, b""),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
        ("GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer(), 200, b"ok"),
        (
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n1\r\n!\r\n0\r\nX-Trailer: 1\r\n\r\n",
            200,
            b"ok!",
        ),
        ("GET", b"HTTP/1.1 799 Whatever \xff\r\ncontent-length:2\t\r\n\r\nok", 799, b"ok"),
        ("GET", b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 2\r\n\r\nok", 301, b"ok"),
    ],
    ids=["head", "head, coded", "204", "304", "empty", "interim", "chunks", "odd status", "redirect"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "stream"])
async def test_an_answer_ends_where_its_framing_says(engine, method, said, status, content, stream):
    async with Peer(says(said)) as peer:
        for _ in range(2):
            response = await ask(engine, peer.url, method, stream=stream)
            assert (response.status_code, await response.aread()) == (status, content)
            assert "x-trailer" not in response.headers
            assert "link" not in response.headers
            assert response.is_closed
            assert response.complete
        assert peer.accepted == 1


@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "stream"])
async def test_an_answer_without_framing_ends_with_its_connection(engine, stream):
    async def talk(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\n\r\n", b"all of", b" it")
        line.hang_up()

    async with Peer(talk) as peer:
        for _ in range(2):
            assert await (await ask(engine, peer.url, stream=stream)).aread() == b"all of it"
        assert peer.accepted == 2


async def test_over_tls_too(engine):
    async with Peer(echo, tls=authority().server("127.0.0.1")) as peer:
        for _ in range(2):
            assert (await ask(engine, peer.url, "POST", content=b"secret" * 100_000)).content == b"secret" * 100_000
        assert peer.accepted == 1


CODED = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}


@pytest.mark.parametrize("coding", CODED)
async def test_a_content_coding_is_undone(engine, coding):
    plain = bytes(range(256)) * 4000
    coded = CODED[coding](plain)
    async with Peer(says(answer(coded, b"Content-Encoding: " + coding.encode()))) as peer:
        assert (await ask(engine, peer.url)).content == plain
        response = await ask(engine, peer.url, stream=True)
        pieces = [piece async for piece in response.aiter_bytes()]
        assert b"".join(pieces) == plain
        assert max(map(len, pieces)) <= 96 * 1024
        raw = await ask(engine, peer.url, stream=True)
        assert b"".join([piece async for piece in raw.aiter_raw()]) == coded
        assert raw.headers["content-encoding"] == coding


async def test_a_coding_nobody_knows_is_left_as_it_is(engine):
    async with Peer(says(answer(b"\x01\x02", b"Content-Encoding: rot13"))) as peer:
        assert (await ask(engine, peer.url)).content == b"\x01\x02"


async def test_a_stream_that_is_not_read_is_not_sent(engine):
    size, piece = 32 << 20, bytes(1 << 16)
    sent = 0

    async def talk(line: Line) -> None:
        nonlocal sent
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await line.say(piece)
            sent += len(piece)

    async with Peer(talk) as peer:
        response = await ask(engine, peer.url, stream=True)
        chunks = response.aiter_bytes()
        read = len(await anext(chunks))
        before = -1
        while before < sent:  # until the peer is stuck
            before = sent
            await moment()
            await moment()
        assert sent < size // 2
        async for chunk in chunks:
            read += len(chunk)
        assert read == size


async def test_a_stream_comes_as_it_is_said(engine):
    heard = asyncio.Queue[bytes]()

    async def talk(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while word := await heard.get():
            await line.say(b"%x\r\n%b\r\n" % (len(word), word))
        await line.say(b"0\r\n\r\n")

    async with Peer(talk) as peer:
        response = await ask(engine, peer.url, stream=True)
        chunks = response.aiter_bytes()
        for word in (b"one", b"two", b"three"):
            heard.put_nowait(word)
            assert await anext(chunks) == word
        heard.put_nowait(b"")
        assert [chunk async for chunk in chunks] == []
        assert response.complete


async def test_a_stream_that_had_its_head_may_be_silent_for_longer_than_an_attempt(engine):
    bounds = Timeout(total=None, attempt=0.5, read=PATIENCE)
    more = asyncio.Event()

    async def talk(line: Line) -> None:
        while seen := await line.head():
            if seen.target == "/silent":
                continue
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
            await more.wait()
            await line.say(b"b")

    async with Peer(talk) as peer:
        response = await engine.send(Call(Request("GET", peer.url), bounds, stream=True))
        reading = asyncio.create_task(response.aread())
        await asyncio.wait({reading}, timeout=1.0)
        more.set()
        assert await reading == b"ab"
        with pytest.raises(AttemptTimedOut, match="waiting for the answer: no end") as caught:
            await engine.send(Call(Request("GET", peer.url + "/silent"), bounds, stream=True))
        assert caught.value.phase == "head"


async def test_and_then_read_is_what_ends_it(engine):
    async def talk(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")

    async with Peer(talk) as peer:
        bounds = Timeout(total=None, attempt=PATIENCE, read=0.1)
        response = await engine.send(Call(Request("GET", peer.url), bounds, stream=True))
        with pytest.raises(AttemptTimedOut, match="read time-out") as caught:
            await response.aread()
        assert caught.value.phase == "body"


async def test_no_time_of_a_stream_runs_while_its_own_body_is_waited_for(engine):
    bounds = Timeout(total=None, attempt=0.5)
    more = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield b"a"
        await more.wait()
        yield b"b"

    async with Peer(echo) as peer:
        call = Call(Request("POST", peer.url, content=source), bounds, stream=True)
        sending = asyncio.create_task(engine.send(call))
        await asyncio.wait({sending}, timeout=1.0)
        more.set()
        response = await sending
        assert await response.aread() == b"ab"


async def test_and_once_it_is_sent_the_head_has_an_attempts_time(engine):
    async def talk(line: Line) -> None:
        await line.request()

    async with Peer(talk) as peer:
        bounds = Timeout(total=None, attempt=0.5, read=PATIENCE)
        with pytest.raises(AttemptTimedOut, match="waiting for the answer: no end"):
            await engine.send(Call(Request("POST", peer.url, content=[b"x" * 100_000]), bounds, stream=True))
        await peer.empty()


async def test_so_has_each_piece_of_it_that_is_not_taken(engine):
    async def talk(line: Line) -> None:
        line.writer.transport.pause_reading()
        await asyncio.get_running_loop().create_future()

    async def source() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 16)

    async with Peer(talk) as peer:
        bounds = Timeout(total=None, attempt=0.5, read=PATIENCE)
        with pytest.raises(AttemptTimedOut, match="sending the request: no end"):
            await engine.send(Call(Request("POST", peer.url, content=source), bounds, stream=True))


# What is kept


async def test_a_connection_serves_one_call_after_another(engine):
    async with Peer(echo) as peer:
        for _ in range(5):
            await ask(engine, peer.url, "POST", content=b"x")
        assert (len(peer.requests), peer.accepted) == (5, 1)


async def test_calls_at_once_have_a_connection_each(engine):
    async with Peer(echo) as peer:
        bodies = [b"%d" % number for number in range(50)]
        answers = await asyncio.gather(*[ask(engine, peer.url, "POST", content=body) for body in bodies])
        assert [response.content for response in answers] == bodies
        assert peer.accepted <= 50


async def test_the_idle_connections_of_an_origin_are_bounded(name):
    engine = engines.create(name, Wire(max_keepalive_connections=2))
    async with Peer(echo) as peer, Peer(echo) as other:
        await asyncio.gather(*[ask(engine, peer.url, "POST", content=b"x") for _ in range(5)], ask(engine, other.url))
        await peer.until(lambda: peer.open <= 2)
        assert other.open == 1
        await engine.close()


async def test_an_idle_connection_is_closed_in_time(name):
    engine = engines.create(name, Wire(keepalive_expiry=0.05))
    async with Peer(echo) as peer:
        await ask(engine, peer.url)
        await peer.empty()
        await ask(engine, peer.url)
        assert peer.accepted == 2
        await engine.close()


def dying(after: int) -> Talk:
    """Answers so many requests on its first connection, and dies on the next without a word; later connections live."""

    async def talk(line: Line) -> None:
        mortal = line.peer.accepted == 1
        number = 0
        while await line.request() is not None:
            number += 1
            if mortal and number > after:
                line.reset()
                return
            await line.say(answer())

    return talk


async def test_a_get_on_a_kept_connection_that_had_died_is_sent_once_more(engine):
    async with Peer(dying(1)) as peer:
        await ask(engine, peer.url)
        assert (await ask(engine, peer.url)).content == b"ok"
        assert (len(peer.requests), peer.accepted) == (3, 2)


async def test_a_keyed_post_is_too(engine):
    async with Peer(dying(1)) as peer:
        await ask(engine, peer.url)
        keyed = await ask(engine, peer.url, "POST", headers={"Idempotency-Key": "1"}, content=b"x")
        assert keyed.content == b"ok"
        assert [seen.body for seen in peer.requests] == [b"", b"x", b"x"]


@pytest.mark.parametrize(
    "options", [{"method": "POST", "content": b"x"}, {"method": "PUT", "content": iter([b"x"])}], ids=["post", "once"]
)
async def test_what_cannot_be_repeated_is_not(engine, options):
    async with Peer(dying(1)) as peer:
        await ask(engine, peer.url)
        with pytest.raises(Disconnected) as caught:
            await ask(engine, peer.url, **options)
        assert caught.value.knowledge is Knowledge.UNKNOWN
        assert (len(peer.requests), peer.accepted) == (2, 1)


async def test_a_get_on_a_new_connection_is_sent_once(engine):
    async with Peer(dying(0)) as peer:
        with pytest.raises(Disconnected):
            await ask(engine, peer.url)
        assert (len(peer.requests), peer.accepted) == (1, 1)


async def test_the_free_replay_is_one(engine):
    async def talk(line: Line) -> None:
        await line.request()
        if line.peer.accepted == 1:
            await line.say(answer())
            await line.request()
        line.reset()

    async with Peer(talk) as peer:
        await ask(engine, peer.url)
        with pytest.raises(Disconnected):
            await ask(engine, peer.url)
        assert (len(peer.requests), peer.accepted) == (3, 2)


async def test_what_was_sent_once_stays_unknown_when_the_replay_cannot_connect(engine):
    async def talk(line: Line) -> None:
        while await line.request() is not None:
            if len(line.peer.requests) == 2:
                line.peer.stop()
                line.reset()
                return
            await line.say(answer())

    async with Peer(talk) as peer:
        await ask(engine, peer.url)
        with pytest.raises(ConnectFailed) as caught:
            await ask(engine, peer.url)
        assert caught.value.knowledge is Knowledge.UNKNOWN
        assert len(peer.requests) == 2


async def test_the_free_replay_takes_a_new_connection(engine):
    """Where one idle connection had died, the others will have too: a restart ends them all."""

    async def talk(line: Line) -> None:
        old = line.peer.accepted <= 3
        await line.request()
        if old:
            await line.peer.until(lambda: line.peer.accepted >= 3)
            await line.say(answer())
            if await line.request() is not None:
                line.reset()
        else:
            await line.say(answer(b"new"))

    async with Peer(talk) as peer:
        await asyncio.gather(*[ask(engine, peer.url) for _ in range(3)])
        assert (await ask(engine, peer.url)).content == b"new"


@pytest.mark.parametrize(
    "odd",
    [
        b"junk",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["junk", "an answer too many", "408"],
)
@pytest.mark.parametrize("when", ["at once", "later"])
async def test_what_follows_an_answer_is_not_the_next_answer(engine, odd, when):
    delivered = asyncio.Event()

    async def talk(line: Line) -> None:
        await line.request()
        if line.peer.accepted > 1:
            await line.say(answer(b"second"))
        elif when == "at once":
            await line.say(answer(b"first") + odd)
        else:
            await line.say(answer(b"first"))
            await delivered.wait()
            await line.say(odd)

    async with Peer(talk) as peer:
        try:
            assert (await ask(engine, peer.url)).content == b"first"
        except ProtocolError:
            assert when == "at once"  # a parser may see both in one step, and say so
        delivered.set()
        await peer.empty()
        assert (await ask(engine, peer.url)).content == b"second"
        assert peer.accepted == 2


@pytest.mark.parametrize("first", [b"Connection: close", b"Connection: Close, X-Y"])
async def test_a_peer_that_closes_is_not_asked_again(engine, first):
    async with Peer(says(answer(b"ok", first))) as peer:
        for _ in range(2):
            await ask(engine, peer.url, "POST")
        assert peer.accepted == 2


# What is given up


async def unfinished(line: Line) -> None:
    """Begin an answer, and leave it at that."""
    await line.request()
    await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")


async def test_a_stream_closed_early_closes_its_connection(engine):
    async with Peer(unfinished) as peer, Peer(echo) as sound:
        response = await ask(engine, peer.url, stream=True)
        response.close()
        response.close()
        await peer.empty()
        assert not response.complete
        await ask(engine, sound.url)


async def silent(line: Line) -> None:
    await line.request()


class Reached:
    """A call that is known to have come to a certain phase."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.here = asyncio.Event()
        self.closed = asyncio.Event()
        self.options: dict[str, object] = {}

    async def hello(self, line: Line) -> None:
        await line.reader.read(1)
        self.here.set()

    async def asked(self, line: Line) -> None:
        await line.request()
        self.here.set()

    async def begun(self, line: Line) -> None:
        await unfinished(line)
        self.here.set()

    async def blocked(self, line: Line) -> None:
        """Stop reading, until the caller is gone."""
        transport = cast("asyncio.Transport", line.writer.transport)
        transport.pause_reading()
        await asyncio.wait_for(self.here.wait(), PATIENCE)
        transport.resume_reading()

    async def source(self) -> AsyncIterator[bytes]:
        try:
            for number in count():
                if number == 3:
                    self.here.set()
                yield bytes(1 << 16)
        finally:
            self.closed.set()


@pytest.mark.parametrize("phase", ["connecting", "TLS", "sending", "head", "body", "stream"])
async def test_a_cancelled_call_leaves_nothing(engine, phase):
    reached = Reached(engine)
    talk = {"TLS": reached.hello, "sending": reached.blocked, "head": reached.asked}.get(phase, reached.begun)
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(Peer(talk))
        url = peer.url if phase != "TLS" else peer.url.replace("http:", "https:")
        if phase == "connecting":
            crowd = stack.enter_context(Crowd())
            task = asyncio.create_task(ask(engine, crowd.url))
            await crowd.until(1)
        elif phase == "sending":
            task = asyncio.create_task(ask(engine, url, "POST", content=reached.source))
        elif phase == "stream":
            response = await ask(engine, url, stream=True)
            chunks = response.aiter_bytes()
            assert await anext(chunks) == b"begun"
            task = asyncio.create_task(anext(chunks))
            await moment()
        else:
            task = asyncio.create_task(ask(engine, url))
        if phase != "connecting":
            await asyncio.wait_for(reached.here.wait(), PATIENCE)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if phase == "connecting":
            await crowd.until(0)
        await peer.empty()
        await no_tasks()
        assert reached.closed.is_set() == (phase == "sending")
        async with Peer(echo) as sound:
            assert (await ask(engine, sound.url, "POST", content=b"next")).content == b"next"


async def test_closing_leaves_no_descriptor(engine):
    tls = authority().server("127.0.0.1")
    async with AsyncExitStack() as stack:
        crowd = stack.enter_context(Crowd())
        talks = ((echo, None), (echo, tls), (unfinished, None), (silent, None))
        peer, secure, slow, mute = [await stack.enter_async_context(Peer(talk, tls=tls)) for talk, tls in talks]
        before = sockets()
        await asyncio.gather(*[ask(engine, one.url) for one in (peer, peer, peer, secure, secure)])
        stream = await ask(engine, slow.url, stream=True)
        waiting = [asyncio.create_task(ask(engine, mute.url)), asyncio.create_task(ask(engine, crowd.url))]
        await mute.until(lambda: bool(mute.requests))
        await crowd.until(1)
        assert sockets() > before
        await engine.close()
        await engine.close()
        for task in waiting:
            with pytest.raises(ConfigError, match="closed") as caught:
                await task
            assert caught.value.knowledge is Knowledge.UNKNOWN
        with pytest.raises(ConfigError, match="closed"):
            await stream.aread()
        await crowd.until(0)
        asked = len(peer.requests)
        with pytest.raises(ConfigError, match="closed"):
            await ask(engine, peer.url)
        assert len(peer.requests) == asked
        for one in (peer, secure, slow, mute):
            await one.empty()
        assert sockets() == before
        await no_tasks()


async def no_tasks() -> None:
    """Wait until no task is left but this one."""
    async with asyncio.timeout(PATIENCE):
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


def sockets() -> int:
    """How many sockets this process has open."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += str(entry.readlink()).startswith("socket:")
    return found
