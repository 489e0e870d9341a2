"""HTTP/2, where it is asked for and agreed on: httpx2 alone speaks it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded

from fairlead import engines
from fairlead.core import Call, Engine, Timeout
from fairlead.engines import Wire
from fairlead.errors import AttemptTimedOut, ConfigError, Disconnected, Knowledge, ProtocolError
from fairlead.message import Request
from fairlead.response import Response
from peers import PATIENCE, Line, Peer, authority, echo


class Multiplexed:
    """A talk in HTTP/2: each stream is answered with what it sent; some paths are met otherwise."""

    def __init__(self) -> None:
        self.streams: list[str] = []

    async def __call__(self, line: Line) -> None:
        h2 = H2Connection(H2Configuration(client_side=False))
        h2.initiate_connection()
        await line.say(h2.data_to_send())
        paths: dict[int, str] = {}
        bodies: dict[int, bytes] = {}
        while data := await line.reader.read(65536):
            for event in h2.receive_data(data):
                if isinstance(event, RequestReceived):
                    paths[event.stream_id] = dict(event.headers)[b":path"].decode()
                    bodies[event.stream_id] = b""
                    self.streams.append(paths[event.stream_id])
                    line.peer.note()
                elif isinstance(event, DataReceived):
                    bodies[event.stream_id] += event.data
                    h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded):
                    path, body = paths[event.stream_id], bodies[event.stream_id]
                    if path == "/refused":
                        h2.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
                    elif path == "/broken":
                        h2.reset_stream(event.stream_id, ErrorCodes.INTERNAL_ERROR)
                    elif path == "/garbage":
                        await line.say(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00")
                    elif path == "/end":
                        line.hang_up()
                        return
                    elif path != "/mute":
                        h2.send_headers(event.stream_id, [(":status", "200"), ("x-path", path)])
                        for start in range(0, len(body), 16384):
                            h2.send_data(event.stream_id, body[start : start + 16384])
                        h2.end_stream(event.stream_id)
            await line.say(h2.data_to_send())


def secured() -> ssl.SSLContext:
    context = authority().server("127.0.0.1")
    context.set_alpn_protocols(["h2"])
    return context


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = engines.create("httpx2", Wire(http2=True, verify=authority().client()))
    yield made
    await made.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with Peer(Multiplexed(), tls=secured()) as made:
        yield made


async def ask(engine: Engine, url: str, method: str = "GET", attempt: float = PATIENCE, **options) -> Response:
    return await engine.send(Call(Request(method, url, **options), Timeout(total=PATIENCE, attempt=attempt)))


async def test_calls_share_a_connection(engine, peer):
    bodies = [b"%d" % number * 1000 for number in range(30)]
    answers = await asyncio.gather(*[ask(engine, f"{peer.url}/a", "POST", content=body) for body in bodies])
    assert [one.content for one in answers] == bodies
    assert peer.accepted == 1


async def test_an_upload_waits_for_its_window(engine, peer):
    async def source() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(20_000)

    assert (await ask(engine, f"{peer.url}/a", "PUT", content=source)).content == bytes(60_000)


@pytest.mark.parametrize(
    ("path", "knowledge"),
    [("/refused", Knowledge.REJECTED), ("/broken", Knowledge.UNKNOWN), ("/end", Knowledge.UNKNOWN)],
)
async def test_a_stream_that_ends_early_says_what_is_known(engine, peer, path, knowledge):
    await ask(engine, f"{peer.url}/a")
    with pytest.raises(Disconnected) as caught:
        await ask(engine, peer.url + path)
    assert caught.value.knowledge is knowledge
    assert (await ask(engine, f"{peer.url}/a")).status_code == 200


async def test_a_broken_frame_is_not_http(engine, peer):
    with pytest.raises(ProtocolError) as caught:
        await ask(engine, f"{peer.url}/garbage")
    assert caught.value.knowledge is Knowledge.UNKNOWN
    assert (await ask(engine, f"{peer.url}/a")).status_code == 200


async def test_one_callers_time_or_end_is_not_the_others(engine, peer):
    await ask(engine, f"{peer.url}/a")
    with pytest.raises(AttemptTimedOut):
        await ask(engine, f"{peer.url}/mute", attempt=0.1)
    task = asyncio.create_task(ask(engine, f"{peer.url}/mute"))
    await peer.until(lambda: peer.talk.streams.count("/mute") == 2)
    task.cancel()
    assert (await ask(engine, f"{peer.url}/a")).status_code == 200
    assert peer.accepted == 1
    assert task.cancelled()


async def test_who_does_not_speak_it_is_spoken_to_in_http_1(engine):
    async with Peer(echo, tls=authority().server("127.0.0.1")) as peer:
        assert (await ask(engine, f"{peer.url}/a", "POST", content=b"old")).content == b"old"


async def test_it_is_not_spoken_unasked():
    async with Peer(echo, tls=secured()) as peer:
        engine = engines.create("httpx2", Wire(verify=authority().client()))
        assert (await ask(engine, f"{peer.url}/a", "POST", content=b"old")).content == b"old"
        await engine.close()


def test_the_native_engine_leaves_it_to_httpx2():
    assert type(engines.create("native", Wire(http2=True))).__name__ == "Httpx2"
    with pytest.raises(ConfigError, match="use engine='httpx2'"):
        engines.create("aiohttp", Wire(http2=True))
