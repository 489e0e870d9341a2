"""Ends that come at an odd moment: whose bytes are whose, what is known of a request, and what an answer that is here is worth."""

from __future__ import annotations

import asyncio

import pytest

from fairlead import ConfigError, FairleadError, HTTPClient, Timeout
from fairlead.errors import Knowledge
from peers import PATIENCE, Peer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
ASKING = {"Connection": "Upgrade", "Upgrade": "echo"}


async def turns(happened):
    """Let the loop turn until that has happened: not one turn later."""
    while not happened():  # noqa: ASYNC110
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
async def bounded():
    async with asyncio.timeout(PATIENCE):
        yield


async def test_a_stream_that_is_closed_under_its_reader_gives_its_connection_to_nobody():
    ended = asyncio.Event()

    async def talk(line):
        await line.head()
        await line.say(CHUNKED)
        await ended.wait()
        await line.say(b"0\r\n\r\n")
        await line.gone()

    async with Peer(talk) as peer, HTTPClient(peer.url) as client:
        async with client.stream("GET", "/") as response:
            reading = asyncio.create_task(response.aread())
            (connection,) = client.engine._open
            await turns(lambda: connection._waiter is not None)
            waiter = connection._waiter
            ended.set()
            await turns(waiter.done)  # the end is here, and its reader has not seen it yet
            response.close()
            assert not client.engine._idle
        with pytest.raises(FairleadError, match="closed"):
            await reading


async def test_what_cannot_be_sent_again_goes_on_no_connection_that_was_closed_without_a_word():
    async def talk(line):
        if await line.request():
            line.writer.write(OK)
            line.hang_up()

    async with Peer(talk) as peer, HTTPClient(peer.url, max_retries=0) as client:
        for _ in range(20):
            assert (await client.post("/", content=b"x")).text == "ok"
            await peer.empty()
        assert peer.accepted == 20


async def test_a_read_that_was_cancelled_takes_nothing_from_the_next():
    speak = asyncio.Event()

    async def talk(line):
        await line.head()
        await line.say(SWITCHING)
        await speak.wait()
        await line.say(b"hello")
        await line.gone()

    timeout = Timeout(total=None, read=PATIENCE)
    async with Peer(talk) as peer, HTTPClient(peer.url, timeout=timeout) as client:
        stream = client.stream("GET", "/", headers=ASKING)
        async with stream as response:
            first = asyncio.create_task(response.upgraded.read())
            await asyncio.sleep(0)
            with pytest.raises(FairleadError, match="one reader"):
                await response.upgraded.read()
            first.cancel()
            second = asyncio.create_task(response.upgraded.read())
            await asyncio.wait({first})
            speak.set()
            assert await second == b"hello"


async def test_an_answer_that_is_whole_outlives_the_upload_it_came_before():
    go_on = asyncio.Event()

    async def pieces():
        yield b"a"
        await go_on.wait()
        raise ValueError("too late to matter")

    async def talk(line):
        await line.head()
        await line.say(OK)
        await line.gone()

    async with Peer(talk) as peer, HTTPClient(peer.url) as client:
        async with client.stream("POST", "/", content=pieces()) as response:
            (connection,) = client.engine._open
            await turns(lambda: connection.answer.complete)
            go_on.set()
            await turns(lambda: connection._upload is None)
            assert connection._alarm.due == float("inf")
            assert await response.aread() == b"ok"
        await peer.empty()


async def test_of_a_request_whose_body_was_wrong_it_is_not_known_what_became():
    async def pieces():
        yield b"abcd"
        yield b"e"

    async def talk(line):
        await line.gone()

    async with Peer(talk) as peer, HTTPClient(peer.url) as client:
        with pytest.raises(ConfigError, match="announced") as caught:
            await client.post("/", content=pieces(), headers={"Content-Length": "4"})
        assert caught.value.knowledge is Knowledge.UNKNOWN


@pytest.mark.parametrize("length", [b"", b"Content-Length: 4\r\n"])
async def test_an_end_is_seen_while_the_upload_is_stuck(length):
    async def talk(line):
        await line.head()
        await line.say(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n" + length + b"\r\nmuch")
        line.writer.write_eof()
        await asyncio.Event().wait()

    async with Peer(talk) as peer, HTTPClient(peer.url, timeout=None, max_retries=0) as client:
        response = await client.post("/", content=bytes(32 * 1024 * 1024), raise_for_status=False)
        assert (response.status_code, response.content) == (413, b"much")


async def test_a_stream_that_is_closed_here_did_not_end_there():
    async def talk(line):
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")
        await line.gone()

    async with Peer(talk) as peer, HTTPClient(peer.url) as client, client.stream("GET", "/") as response:
        reading = asyncio.create_task(response.aread())
        (connection,) = client.engine._open
        await turns(lambda: connection._waiter is not None and connection.answer.size == 3)
        response.close()
        with pytest.raises(FairleadError, match="closed"):
            await reading
        assert not response.complete


async def test_a_connection_past_its_time_serves_nobody_however_busy_the_loop_was():
    async def talk(line):
        while await line.request():
            await line.say(OK)

    async with Peer(talk) as peer, HTTPClient(peer.url) as client:
        await client.get("/")
        (connection,) = client.engine._open
        connection._alarm.due = connection.clock()  # its time has come, and the timer has not
        await client.get("/")
        assert peer.accepted == 2
