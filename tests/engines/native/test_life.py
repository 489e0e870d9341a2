"""The native engine's connections: what ends them, what may not be kept, and what nobody is to be given."""

from __future__ import annotations

import asyncio
import gc
import logging
import tracemalloc
import warnings
from pathlib import Path

import pytest

from fairlead import ConfigError, HTTPClient, Timeout
from fairlead.core import Call
from fairlead.engines import Limits, Wire, create
from fairlead.engines.native.answer import Answer
from fairlead.errors import ConnectFailed
from fairlead.message import Request
from peers import PATIENCE, Peer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def answering(line):
    while await line.request():
        await line.say(OK)


async def hanging(line):
    while seen := await line.request():
        if seen.target == "/hang":
            await line.gone()
            return
        await line.say(OK)


class TestClosing:
    @pytest.mark.parametrize("kept", [False, True])
    async def test_it_is_final_for_the_call_under_way_and_for_those_in_line(self, kept):
        async with Peer(hanging) as peer:
            client = HTTPClient(peer.url, max_connections=1)
            if kept:
                await client.get("/")
            asked = len(peer.requests)
            calls = [asyncio.create_task(client.get("/hang"))]
            await peer.until(lambda: len(peer.requests) == asked + 1)
            calls += [asyncio.create_task(client.post("/late")) for _ in range(3)]
            async with asyncio.timeout(PATIENCE):
                await asyncio.sleep(0)
                await client.close(drain=0)
                ends = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(end) for end in ends] == [ConfigError] * 4
            assert len(peer.requests) == asked + 1, "nothing was sent again, or after it"
            states = client.upstream.states
            (circuit,) = states["CircuitBreaker", "default"].values()
            assert circuit.window.failed == 0, "our own closing is no verdict"
            assert states["ConcurrencyLimit", "default"].taken == 0

    async def test_it_ends_a_handshake_under_way(self):
        async def silent(line):
            line.peer.note()
            await line.gone()

        async with Peer(silent) as peer:
            before = descriptors()
            client = HTTPClient(peer.url.replace("http:", "https:"), verify=False, timeout=PATIENCE)
            call = asyncio.create_task(client.get("/"))
            await peer.until(lambda: peer.open == 1)
            async with asyncio.timeout(PATIENCE):
                await client.close(drain=0)
                with pytest.raises(ConfigError, match="closed"):
                    await call
                await peer.empty()
            assert descriptors() <= before

    async def test_two_may_close_at_once(self):
        async with Peer(answering) as peer:
            client = HTTPClient(peer.url)
            await client.get("/")
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(client.close(), client.close(), client.close())

    def test_it_may_come_after_the_loop_that_was_used(self):
        async def used() -> HTTPClient:
            async with Peer(answering) as peer:
                client = HTTPClient(peer.url)
                await client.get("/")
                return client

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of the loop's transports, which nobody could close
            client = asyncio.run(used())
            asyncio.run(client.close())
            gc.collect()
        assert client.engine._waits.closed


class TestKeeping:
    async def test_half_a_request_is_never_followed_by_another(self):
        async def early(line):
            if (seen := await line.head()) and seen.target == "/A":
                await line.say(OK)
                await line.gone()
            else:
                await line.say(OK)

        async with Peer(early) as peer, HTTPClient(peer.url, max_retries=0) as client:
            broken = asyncio.Event()

            async def body():
                yield b"half"
                await broken.wait()
                raise ValueError("the body of A broke")

            first = asyncio.create_task(client.post("/A", content=body()))
            await peer.until(lambda: len(peer.requests) == 1)
            broken.set()
            await asyncio.gather(first, return_exceptions=True)
            assert (await client.get("/B")).content == b"ok"
            assert [seen.target for seen in peer.requests] == ["/A", "/B"]
            assert peer.accepted == 2

    async def test_what_came_while_nobody_looked_is_seen_before_the_next_request(self):
        async def late(line):
            await line.request()
            await line.say(OK)
            line.hang_up()

        async with Peer(late) as peer:
            engine = create("native", Wire())
            now = asyncio.get_running_loop().time
            await engine.send(Call(Request("GET", peer.url), Timeout(5.0), now() + 5))
            (connection,) = engine._open
            connection.transport.pause_reading()  # as a loop that is busy elsewhere does not look
            await peer.empty() if peer.open == 0 else None
            connection._since -= 1.0
            response = await engine.send(Call(Request("POST", peer.url), Timeout(5.0), now() + 5))
            assert response.content == b"ok"
            assert peer.accepted == 2
            await engine.close()

    async def test_idle_connections_to_many_origins_are_bounded(self):
        engine = create("native", Wire())
        peers = [Peer(answering) for _ in range(4)]
        try:
            for peer in peers:
                await peer.__aenter__()
                calls = [engine.send(Call(Request("GET", peer.url), Timeout(5.0))) for _ in range(40)]
                await asyncio.gather(*calls)
            assert sum(map(len, engine._idle.values())) <= 140
        finally:
            await engine.close()
            for peer in peers:
                await peer.__aexit__()

    async def test_a_replay_that_cannot_connect_does_not_say_not_sent(self):
        async def once(line):
            await line.request()
            await line.say(OK)
            await line.request()
            line.peer._server.close()
            line.reset()

        async with Peer(once) as peer, HTTPClient(peer.url, max_retries=0) as client:
            await client.get("/")
            with pytest.raises(ConnectFailed) as caught:
                await client.put("/", json={})
            assert caught.value.knowledge == "unknown"


class TestSending:
    async def test_a_large_body_is_sent_in_pieces_and_nothing_is_logged(self, caplog):
        caplog.set_level(logging.WARNING)

        async def reading(line):
            seen = await line.head()
            await line.body(seen)
            await line.say(OK)

        async with Peer(reading) as peer, HTTPClient(peer.url) as client:
            response = await client.put("/", content=b"x" * 8_000_000, timeout=Timeout(30.0, write=PATIENCE))
            assert response.content == b"ok"
            assert caplog.records == []

    async def test_a_silence_of_ones_own_body_is_not_the_peers(self):
        async with Peer(answering) as peer, HTTPClient(peer.url) as client:
            gate = asyncio.Event()
            asyncio.get_running_loop().call_later(0.05, gate.set)

            async def body():
                yield b"a"
                await gate.wait()
                yield b"b"

            response = await client.put("/", content=body(), timeout=Timeout(PATIENCE, read=0.02))
            assert response.content == b"ok"

    async def test_anothers_failure_in_a_body_is_no_verdict_here(self):
        async with Peer(answering) as peer, HTTPClient(peer.url) as client:

            async def body():
                yield b"a"
                raise ConnectFailed("another upstream is down")

            with pytest.raises(Exception, match="could not be read") as caught:
                await client.put("/", content=body())
            assert isinstance(caught.value.__cause__, ConnectFailed)
            (circuit,) = client.upstream.states["CircuitBreaker", "default"].values()
            assert circuit.window.failed == 0

    @pytest.mark.parametrize("length", ["3", "x", "-2", "9" * 5000])
    async def test_a_length_that_is_not_the_bodys_never_leaves(self, length):
        async with Peer(answering) as peer, HTTPClient(peer.url) as client:
            with pytest.raises(ConfigError, match="Content-Length"):
                await client.put("/", content=b"ok", headers={"Content-Length": length})
            assert peer.accepted == 0

    @pytest.mark.parametrize("target", ["/a b", "/a\r\nX: 1", "/a\nb"])
    async def test_what_breaks_a_line_never_leaves_whoever_built_it(self, target):
        async with Peer(answering) as peer, HTTPClient(peer.url) as client:
            request = client.build_request("GET", "/").replace(target=target)
            with pytest.raises(ConfigError, match="line break"):
                await client.send(request)
            assert peer.accepted == 0


def test_a_body_in_tiny_chunks_is_held_in_little_more_than_its_size():
    answer = Answer(Limits())
    answer.expect("GET", streamed=False)
    answer.feed(memoryview(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
    for _ in range(100):
        answer.feed(memoryview(b"1\r\nx\r\n" * 1000))
    answer.feed(memoryview(b"0\r\n\r\n"))
    assert (answer.complete, answer.size, answer.fault) == (True, 100_000, "")
    assert len(answer.chunks) <= 64
    assert b"".join(answer.chunks) == b"x" * 100_000


def test_the_memory_that_large_bodies_want_is_taken_by_the_first_engine_alone():
    create("native", Wire())
    tracemalloc.start()
    try:
        create("native", Wire())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1 << 20
