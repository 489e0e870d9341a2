"""Other people's SDKs run through the door, with their own retries off: what is tried again, our policies try again."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
import stripe

from fairlead import HTTPClient
from fairlead.events import Event, Retried
from fairlead.policies import ConcurrencyLimit, Observe, Retry
from fairlead.transport import AsyncTransport
from loopback import example
from peers import PATIENCE, Line, Peer, Seen, answer, closed_port

SECRET = "sk-hunter2"
ASKED: Any = [{"role": "user", "content": "Hello?"}]
UNAVAILABLE = answer(
    b'{"error": {"message": "busy", "type": "busy"}}', b"Content-Type: application/json", status=b"503 Busy"
)
UNKNOWN_KEY = answer(b'{"error": {"message": "no such key", "type": "auth"}}', status=b"401 Unauthorized")

COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello, world"}}],
}
MESSAGE = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hello, world"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 2},
}


def as_json(value: object) -> bytes:
    return answer(json.dumps(value).encode(), b"Content-Type: application/json")


def piece(text: str) -> bytes:
    """An event of a completion that arrives in pieces."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: %b\n\n" % json.dumps({**COMPLETION, "object": "chat.completion.chunk", "choices": [choice]}).encode()


def event(kind: str, **fields: object) -> bytes:
    """An event of a message that arrives in pieces."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def text_delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


PIECES = {
    "/v1/chat/completions": (piece("Hello, "), piece("world") + b"data: [DONE]\n\n"),
    "/v1/messages": (
        event("message_start", message={**MESSAGE, "content": []})
        + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        + text_delta("Hello, "),
        text_delta("world")
        + event("content_block_stop", index=0)
        + event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 2})
        + event("message_stop"),
    ),
}
WHOLE = {
    "/v1/chat/completions": COMPLETION,
    "/v1/messages": MESSAGE,
    "/v1/customers": {"id": "cus_1", "object": "customer"},
}


class Api:
    """All of their APIs. `first` are answers given before the right ones; of a stream the second half waits for `heard`."""

    def __init__(self, *first: bytes) -> None:
        self.first = list(first)
        self.heard = asyncio.Event()

    async def talk(self, line: Line) -> None:
        while (seen := await line.request()) is not None:
            if self.first:
                await line.say(self.first.pop(0))
            elif b'"stream":true' in seen.body:
                await self.stream(line, seen)
            else:
                await line.say(as_json(WHOLE[seen.target]))

    async def stream(self, line: Line, seen: Seen) -> None:
        early, late = PIECES[seen.target]
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await line.say(b"%x\r\n%b\r\n" % (len(early), early))
        await self.heard.wait()  # so whoever collects a whole body before handing it on never ends
        await line.say(b"%x\r\n%b\r\n0\r\n\r\n" % (len(late), late))


def over(*sinks: Callable[[Event], object], **options: Any) -> AsyncTransport:
    client = HTTPClient(policies=(Observe(), Retry(delay=0.001), ConcurrencyLimit()), timeout=None, sinks=sinks)
    return AsyncTransport(client, close=True, **options)


@dataclass
class Sdk:
    """One SDK: how it is made, how it asks for a whole answer and for a stream, what it calls its errors."""

    make: Callable[[str, Any], Any]
    whole: Callable[[Any], Any]
    pieces: Callable[[Any], AsyncIterator[str]]
    errors: Any


async def openai_pieces(sdk: openai.AsyncOpenAI) -> AsyncIterator[str]:
    async with await sdk.chat.completions.create(model="m", messages=ASKED, stream=True) as stream:
        async for chunk in stream:
            yield chunk.choices[0].delta.content or ""


async def openai_whole(sdk: openai.AsyncOpenAI) -> str | None:
    return (await sdk.chat.completions.create(model="m", messages=ASKED)).choices[0].message.content


async def anthropic_pieces(sdk: anthropic.AsyncAnthropic) -> AsyncIterator[str]:
    async with sdk.messages.stream(model="m", max_tokens=9, messages=ASKED) as stream:
        async for text in stream.text_stream:
            yield text


async def anthropic_whole(sdk: anthropic.AsyncAnthropic) -> str:
    (block,) = (await sdk.messages.create(model="m", max_tokens=9, messages=ASKED)).content
    assert block.type == "text"
    return block.text


SDKS = {
    "openai": Sdk(
        lambda url, http: openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=SECRET, http_client=http, max_retries=0),
        openai_whole,
        openai_pieces,
        openai,
    ),
    "anthropic": Sdk(
        lambda url, http: anthropic.AsyncAnthropic(base_url=url, api_key=SECRET, http_client=http, max_retries=0),
        anthropic_whole,
        anthropic_pieces,
        anthropic,
    ),
}


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    return SDKS[request.param]


async def test_an_answer_comes_through(sdk: Sdk) -> None:
    async with Peer(Api().talk) as peer, sdk.make(peer.url, httpx2.AsyncClient(transport=over())) as asked:
        assert await sdk.whole(asked) == "Hello, world"
        assert len(peer.requests) == 1


async def test_a_stream_comes_through_while_it_arrives(sdk: Sdk) -> None:
    api = Api()
    async with Peer(api.talk) as peer, sdk.make(peer.url, httpx2.AsyncClient(transport=over())) as asked:
        told = []
        async with asyncio.timeout(PATIENCE):
            async for text in sdk.pieces(asked):
                told.append(text)
                api.heard.set()
        assert "".join(told) == "Hello, world"
        assert len(told) >= 2


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_a_keyed_post_is_tried_again_by_the_policies(
    sdk: Sdk, streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fairlead")
    api, told = Api(UNAVAILABLE, UNAVAILABLE), []
    transport = over(told.append, idempotent=True)
    async with Peer(api.talk) as peer, sdk.make(peer.url, httpx2.AsyncClient(transport=transport)) as asked:
        api.heard.set()
        if streamed:
            assert "".join([text async for text in sdk.pieces(asked)]) == "Hello, world"
        else:
            assert await sdk.whole(asked) == "Hello, world"
        assert len(peer.requests) == 3
        keys = {seen.get(b"idempotency-key") for seen in peer.requests}
    assert len(keys) == 1
    assert keys != {None}
    retried = [one for one in told if isinstance(one, Retried)]
    assert [one.attempt for one in retried] == [1, 2]
    assert {one.cause.status_code for one in retried if not isinstance(one.cause, BaseException)} == {503}
    assert "attempt 2 failed (503)" in caplog.text
    assert SECRET not in "".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)


async def test_a_post_without_a_key_is_sent_once(sdk: Sdk) -> None:
    api = Api(UNAVAILABLE)
    async with Peer(api.talk) as peer, sdk.make(peer.url, httpx2.AsyncClient(transport=over())) as asked:
        with pytest.raises(sdk.errors.InternalServerError):
            await sdk.whole(asked)
        (seen,) = peer.requests
        assert seen.get(b"idempotency-key") is None


async def test_a_refused_connection_is_tried_again_without_a_key(sdk: Sdk) -> None:
    tried = asyncio.Event()

    def listen(event: Event) -> None:
        if isinstance(event, Retried):
            sock.listen()
            tried.set()

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # a port that is taken, and refuses
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with sdk.make(url, httpx2.AsyncClient(transport=over(listen))) as asked:
            asking = asyncio.create_task(sdk.whole(asked))
            async with asyncio.timeout(PATIENCE):
                await tried.wait()
            async with Peer(Api().talk, sock=sock) as peer:
                assert await asking == "Hello, world"
                (seen,) = peer.requests
                assert seen.get(b"idempotency-key") is None


async def test_its_errors_are_its_own(sdk: Sdk) -> None:
    async with Peer(Api(UNKNOWN_KEY).talk) as peer, sdk.make(peer.url, httpx2.AsyncClient(transport=over())) as asked:
        with pytest.raises(sdk.errors.AuthenticationError):
            await sdk.whole(asked)

    nowhere = f"http://127.0.0.1:{closed_port()}"
    async with sdk.make(nowhere, httpx2.AsyncClient(transport=over())) as asked:
        with pytest.raises(sdk.errors.APIConnectionError) as caught:
            await sdk.whole(asked)
        assert not isinstance(caught.value, sdk.errors.APITimeoutError)
        assert isinstance(caught.value.__cause__, httpx2.ConnectError)
        assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__cause__.__cause__!r}"


async def test_its_time_is_its_own(sdk: Sdk) -> None:
    async def mute(line: Line) -> None:
        await line.gone()

    async with Peer(mute) as peer, sdk.make(peer.url, httpx2.AsyncClient(transport=over())) as asked:
        with pytest.raises(sdk.errors.APITimeoutError) as caught:
            await sdk.whole(asked.with_options(timeout=0.1))
        assert isinstance(caught.value.__cause__, httpx2.ReadTimeout)
        await peer.empty()


async def test_a_stream_that_is_left_half_read_is_closed(sdk: Sdk) -> None:
    api = Api()
    async with Peer(api.talk) as peer, sdk.make(peer.url, httpx2.AsyncClient(transport=over())) as asked:
        pieces = sdk.pieces(asked)
        assert await anext(pieces)
        await pieces.aclose()
        api.heard.set()
        await peer.empty()


async def test_the_example_tells_the_answer_and_asks_again_for_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(UNAVAILABLE)
    api.heard.set()
    async with Peer(api.talk) as peer:
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{peer.url}/v1")
        await example("openai_sdk").main("Hello?")
        assert [seen.get(b"authorization") for seen in peer.requests] == [f"Bearer {SECRET}".encode()] * 2
    assert capsys.readouterr().out == "Hello, world\n"


# Those that are on httpx still


async def test_openai_over_httpx() -> None:
    api = Api(UNAVAILABLE)
    http = httpx.AsyncClient(transport=over(idempotent=True))
    async with Peer(api.talk) as peer, SDKS["openai"].make(peer.url, http) as asked:
        api.heard.set()
        assert await openai_whole(asked) == "Hello, world"
        assert "".join([text async for text in openai_pieces(asked)]) == "Hello, world"
        assert len(peer.requests) == 3


class Stripe(stripe.HTTPXClient):
    """Stripe's own client, on another transport than its own."""

    def __init__(self, transport: AsyncTransport) -> None:
        super().__init__()
        self._client_async = httpx.AsyncClient(transport=transport)


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # stripe gives httpx its forms as text
async def test_stripe_whose_posts_are_keyed_by_itself() -> None:
    told: list[Event] = []
    async with Peer(Api(UNAVAILABLE).talk) as peer, over(told.append) as transport:
        asked = stripe.StripeClient(
            "sk_test_hunter2",
            base_addresses={"api": peer.url},
            http_client=Stripe(transport),
            max_network_retries=0,
        )
        customer = await asked.v1.customers.create_async(params={"name": "Ada"})
        assert customer.id == "cus_1"
        first, second = peer.requests
    assert first.body == second.body == b"name=Ada"
    assert first.get(b"idempotency-key") == second.get(b"idempotency-key") is not None
    assert [type(one).__name__ for one in told].count("Retried") == 1
