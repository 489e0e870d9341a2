"""Upgrade and Expect: what a request asks of the connection, besides an answer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from fairlead import ConfigError, HTTPClient, Timeout
from fairlead.errors import AttemptTimedOut, Disconnected, ProtocolError, TimedOut
from fairlead.policies import CircuitBreaker
from peers import PATIENCE, Peer, moment

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Key: 7\r\n\r\n"
ASKING = {"Connection": "Upgrade", "Upgrade": "echo"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BODY = b"x" * 1000


@asynccontextmanager
async def asked(talk, **options):
    """The answer of a peer that was asked to speak another protocol."""
    async with (
        asyncio.timeout(PATIENCE),
        Peer(talk) as peer,
        HTTPClient(peer.url) as client,
        client.stream("GET", "/", headers=ASKING, **options) as response,
    ):
        yield response


async def echoing(line):
    assert await line.head() is not None
    await line.say(SWITCHING + b"first")
    while data := await line.reader.read(65536):
        await line.say(data.upper())


class TestUpgrade:
    async def test_what_follows_a_101_is_read_and_written_as_it_stands(self):
        async with Peer(echoing) as peer, HTTPClient(peer.url) as client, asyncio.timeout(PATIENCE):
            async with client.stream("GET", "/", headers=ASKING) as response:
                assert (response.status_code, response.headers["x-key"]) == (101, "7")
                raw = response.upgraded
                assert await raw.read() == b"first"
                await raw.write(b"HTTP/1.1 is no more\r\n\r\n")
                assert await raw.read() == b"HTTP/1.1 IS NO MORE\r\n\r\n"
            await peer.empty()
            assert client.upstream.states["ConcurrencyLimit", "default"].taken == 0

    async def test_its_end_is_the_peers(self):
        async def closing(line):
            await line.head()
            await line.say(SWITCHING)
            line.hang_up()

        async with asked(closing) as response:
            assert await response.upgraded.read() == b""
            with pytest.raises(Disconnected):
                await response.upgraded.write(b"too late")

    async def test_a_peer_that_takes_nothing_holds_the_writer_until_the_deadline(self):
        async def deaf(line):
            await line.head()
            await line.say(SWITCHING)
            await asyncio.Event().wait()

        async with asked(deaf, timeout=0.3) as response:
            with pytest.raises(TimedOut):
                while True:
                    await response.upgraded.write(bytes(1024 * 1024))

    async def test_its_silences_are_no_fault(self):
        async def slow(line):
            await line.head()
            await line.say(SWITCHING)
            await line.gone()

        async with asked(slow, timeout=Timeout(total=None, attempt=0.05)) as response:
            reading = asyncio.create_task(response.upgraded.read())
            done, _ = await asyncio.wait({reading}, timeout=0.2)
            assert not done
            reading.cancel()

    async def test_it_may_outlive_its_call(self):
        released = asyncio.Event()

        async def patient(line):
            await line.head()
            await line.say(SWITCHING)
            await released.wait()
            await line.say(b"late")

        async with asked(patient, timeout=Timeout(total=0.2, read=0.1)) as response:
            response.upgraded.outlive()
            reading = asyncio.create_task(response.upgraded.read())
            done, _ = await asyncio.wait({reading}, timeout=0.4)
            assert not done
            released.set()
            assert await reading == b"late"
            response.upgraded.close()
            response.upgraded.outlive()  # changes nothing any more

    async def test_what_outlives_its_call_is_bounded_where_it_stalls(self):
        async def deaf(line):
            await line.head()
            await line.say(SWITCHING)
            await asyncio.Event().wait()

        async with asked(deaf, timeout=Timeout(total=None, write=0.2)) as response:
            response.upgraded.outlive()
            with pytest.raises(TimedOut):
                while True:
                    await response.upgraded.write(bytes(1024 * 1024))

    async def test_a_circuit_judges_it_by_its_head(self):
        async def failing_at_first(line):
            await line.head()
            if line.peer.accepted == 1:
                line.reset()
            else:
                await line.say(SWITCHING)

        circuit = CircuitBreaker(consecutive=1, open_for=0.01)
        async with Peer(failing_at_first) as peer, HTTPClient(peer.url, policies=(circuit,)) as client:
            with pytest.raises(Disconnected):
                await client.get("/")
            (only,) = client.upstream.states["CircuitBreaker", "default"].values()
            while asyncio.get_running_loop().time() < only.until:
                await moment()
            async with client.stream("GET", "/", headers=ASKING):
                assert only.state == "closed"

    async def test_an_answer_that_does_not_switch_is_an_answer(self):
        async def declining(line):
            while await line.request():
                await line.say(OK)

        async with Peer(declining) as peer, HTTPClient(peer.url) as client:
            for _ in range(2):
                async with client.stream("GET", "/", headers=ASKING) as response:
                    assert (response.status_code, response.upgraded) == (200, None)
                    assert await response.aread() == b"ok"
            assert peer.accepted == 1

    async def test_what_was_not_asked_for_is_refused_and_a_call_that_is_no_stream_asks_in_vain(self):
        async with Peer(echoing) as peer, HTTPClient(peer.url, max_retries=0) as client:
            with pytest.raises(ProtocolError, match="another protocol"):
                await client.get("/")
            with pytest.raises(ProtocolError, match="another protocol"):
                await client.get("/", headers=ASKING)
            with pytest.raises(ConfigError, match="Connection: Upgrade"):
                await client.get("/", headers={"Upgrade": "echo"})

    @pytest.mark.parametrize("engine", ["httpx2", "aiohttp"])
    async def test_the_other_engines_say_that_they_do_not_speak_it(self, engine):
        async with Peer(echoing) as peer, HTTPClient(peer.url, engine=engine) as client:
            with pytest.raises(ConfigError, match="native"):
                await client.get("/", headers=ASKING)
            assert peer.requests == []


class TestExpect:
    @pytest.mark.parametrize(
        "answer", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 Early\r\n\r\n"]
    )
    async def test_the_body_waits_for_its_100(self, answer):
        async def willing(line):
            while (seen := await line.head()) is not None:
                assert seen.get(b"expect") == b"100-continue"
                assert await silence(line)
                await line.say(answer)
                assert await line.reader.readexactly(len(BODY)) == BODY
                await line.say(OK)

        async with Peer(willing) as peer, HTTPClient(peer.url) as client, asyncio.timeout(PATIENCE):
            for _ in range(2):
                assert (await client.put("/", content=BODY, headers={"Expect": "100-continue"})).text == "ok"
            assert peer.accepted == 1

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_body_that_is_not_wanted_is_never_sent_and_the_connection_not_kept(self, stream):
        refused = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n"
        rest = []

        async def refusing(line):
            await line.head()
            await line.say(refused)
            await line.say(b"no")
            rest.append(await line.reader.read())

        async with Peer(refusing) as peer, HTTPClient(peer.url) as client, asyncio.timeout(PATIENCE):
            options = {"content": BODY, "headers": {"Expect": "100-continue"}}
            if stream:
                async with client.stream("PUT", "/", **options) as response:
                    assert await response.aread() == b"no"
            else:
                response = await client.put("/", raise_for_status=False, **options)
            assert response.status_code == 401
            await peer.empty()
        assert rest == [b""]

    async def test_a_peer_that_knows_no_100_gets_the_body_all_the_same(self, monkeypatch):
        monkeypatch.setattr("fairlead.engines.native.connection.PATIENCE", 0.01)

        async def old(line):
            while (await line.head()) is not None:
                await line.reader.readexactly(len(BODY))
                await line.say(OK)

        async with Peer(old) as peer, HTTPClient(peer.url) as client, asyncio.timeout(PATIENCE):
            assert (await client.put("/", content=BODY, headers={"Expect": "100-continue"})).text == "ok"

    async def test_a_caller_that_leaves_meanwhile_leaves_nothing(self):
        async def silent(line):
            line.peer.note()
            await line.gone()

        async with Peer(silent) as peer, HTTPClient(peer.url) as client, asyncio.timeout(PATIENCE):
            call = asyncio.create_task(client.put("/", content=BODY, headers={"Expect": "100-continue"}))
            await peer.until(lambda: peer.open == 1)
            call.cancel()
            await asyncio.wait({call})
            await peer.empty()

    async def test_its_time_is_the_attempts(self):
        async def silent(line):
            line.peer.note()
            await line.gone()

        async with Peer(silent) as peer, HTTPClient(peer.url, timeout=0.1, max_retries=0) as client:
            with pytest.raises(AttemptTimedOut):
                await client.put("/", content=BODY, headers={"Expect": "100-continue"})

    @pytest.mark.parametrize(("value", "content"), [("200-ok", BODY), ("100-continue", b"")])
    async def test_what_cannot_be_expected_is_said(self, value, content):
        async with Peer(echoing) as peer, HTTPClient(peer.url) as client:
            with pytest.raises(ConfigError, match="Expect"):
                await client.put("/", content=content, headers={"Expect": value})


async def silence(line) -> bool:
    """Whether the caller says nothing until it is answered: what it had to say is here by now, as the head is."""
    return not line.reader._buffer
