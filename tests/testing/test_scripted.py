"""What a scripted engine answers, how long it takes, and what it remembers."""

import asyncio
from math import inf

import pytest

from fairlead.core import Call, Timeout
from fairlead.errors import (
    AttemptTimedOut,
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    Disconnected,
    StatusError,
)
from fairlead.message import Request, Response
from fairlead.testing import Pieces, Script, VirtualLoop, script, virtual_time


def call(method="GET", *, stream=False, timeout=10.0, deadline=inf, **body):
    return Call(Request(method, "https://api.test/x", **body), Timeout(total=timeout), deadline, stream=stream)


@virtual_time
async def test_answers_come_in_order():
    engine = script(200, (201, {"id": 1}), (202, b"raw", {"X-A": "1"}), Response(203, content="text"))
    answers = [await engine.send(call()) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 201, 202, 203]
    assert answers[1].json() == {"id": 1}
    assert answers[1].headers["content-type"] == "application/json"
    assert (answers[2].content, answers[2].headers["x-a"]) == (b"raw", "1")
    assert answers[3].text == "text"
    assert answers[3].request is engine.requests[3]


@virtual_time
async def test_an_error_class_is_raised_with_the_request():
    engine = script(ConnectFailed, Disconnected("gone"), KeyError)
    asked = call()
    with pytest.raises(ConnectFailed) as caught:
        await engine.send(asked)
    assert caught.value.request is asked.request
    with pytest.raises(Disconnected, match="gone") as caught:
        await engine.send(asked)
    assert caught.value.request is asked.request
    with pytest.raises(KeyError):
        await engine.send(asked)


@virtual_time
async def test_a_function_sees_the_request_and_may_be_async():
    async def later(request):
        await asyncio.sleep(1)
        return 200, {"method": request.method}

    engine = script(lambda request: 404 if request.method == "GET" else 200, later)
    assert (await engine.send(call())).status_code == 404
    assert (await engine.send(call("PUT"))).json() == {"method": "PUT"}


@virtual_time
async def test_a_script_that_ended_says_so_and_then_goes_on_for_ever():
    engine = script(200)
    await engine.send(call())
    with pytest.raises(AssertionError, match=r"asked for call 2 \(GET https://api.test/x\); add an answer, or then="):
        await engine.send(call())
    engine = script(500, then=200)
    assert [(await engine.send(call())).status_code for _ in range(3)] == [500, 200, 200]


@virtual_time
async def test_seconds_are_waited_before_the_next_answer():
    engine = script(1.5, 200)
    response = await engine.send(call())
    assert asyncio.get_running_loop().time() == 1.5
    assert response.elapsed == 1.5


@virtual_time
async def test_silence_ends_with_the_attempts_time_or_the_deadline():
    engine = script(then=inf)
    with pytest.raises(AttemptTimedOut):
        await engine.send(call(timeout=3.0))
    assert asyncio.get_running_loop().time() == 3.0
    with pytest.raises(DeadlineExceeded):
        await engine.send(call(timeout=3.0, deadline=4.0))
    assert asyncio.get_running_loop().time() == 4.0
    assert engine.open == 0


@virtual_time
async def test_a_stream_arrives_piece_by_piece():
    engine = script((200, Pieces(b"a", 1.0, b"b")))
    response = await engine.send(call(stream=True))
    assert (response.is_closed, engine.open) == (False, 1)
    assert [chunk async for chunk in response.aiter_bytes()] == [b"a", b"b"]
    assert (response.is_closed, response.complete, engine.open) == (True, True, 0)
    assert asyncio.get_running_loop().time() == 1.0


@virtual_time
async def test_a_stream_with_a_bound_for_silences_has_that_for_each():
    bounds = Timeout(total=None, attempt=1.0, read=5.0)
    engine = script((200, Pieces(4.0, b"a", 4.0, b"b")), (200, Pieces(b"a", 6.0, b"b")))
    request = Request("GET", "https://api.test/x")
    response = await engine.send(Call(request, bounds, stream=True))
    assert await response.aread() == b"ab"
    response = await engine.send(Call(request, bounds, stream=True))
    with pytest.raises(AttemptTimedOut, match="read time-out"):
        await response.aread()


@virtual_time
async def test_a_body_can_break_off():
    engine = script(then=(200, Pieces(b"a", Disconnected)))
    with pytest.raises(Disconnected) as caught:
        await engine.send(call())
    assert caught.value.phase == "body"
    response = await engine.send(call(stream=True))
    with pytest.raises(Disconnected):
        await response.aread()
    assert isinstance(response.error, Disconnected)
    assert engine.open == 0


@virtual_time
async def test_what_was_sent_is_remembered_and_what_was_not_is_not():
    async def chunks():
        yield b"one"
        yield b"two"

    engine = script(ConnectFailed, 200, 200)
    upload = call("POST", content=chunks())
    with pytest.raises(ConnectFailed):
        await engine.send(upload)
    await engine.send(upload)
    await engine.send(call("POST", json={"a": 1}))
    assert engine.bodies == [b"onetwo", b'{"a":1}']
    assert engine.calls[:2] == [upload, upload]


@virtual_time
async def test_it_can_be_closed():
    engine = script()
    await engine.close()
    assert engine.closed


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("200", "'200'"),
        (True, "True"),
        (42, "42"),
        ((200,), r"\(200,\)"),
        (int, "class int"),
        (-1.0, "-1.0"),
        (StatusError, "no engine raises"),
        (None, "None"),
    ],
)
def test_an_answer_that_cannot_be_is_refused_at_once(answer, told):
    with pytest.raises(ConfigError, match=rf"answer 2 is .*{told}|answer 2 is StatusError, which {told}"):
        script(200, answer)


def test_it_is_an_engine_on_any_loop():
    loop = VirtualLoop()
    engine: Script = script(200)
    try:
        assert loop.run_until_complete(engine.send(call())).status_code == 200
    finally:
        loop.close()
