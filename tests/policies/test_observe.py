"""Observe: one start and one end of every call, however it goes."""

import asyncio
from math import inf

import pytest

from calls import call, recorded
from fairlead.core import Pipeline, Upstream
from fairlead.errors import CircuitOpen, ConnectFailed, Disconnected
from fairlead.events import Finished, Refused, Retried, Started
from fairlead.policies import Observe, Retry
from fairlead.testing import Pieces, script, virtual_time


def bound(engine, *inner):
    upstream, events = recorded()
    return Pipeline((Observe(), *inner)).bind(engine.send, upstream), events


def test_without_sinks_it_is_not_there():
    engine = script()
    assert Observe().bind(engine.send, Upstream("shop")) == engine.send


@virtual_time
async def test_an_answer_is_a_start_and_an_end():
    send, events = bound(script(404))
    asked = call()
    response = await send(asked)
    started, finished = events
    assert started == Started("shop", asked, asked.request)
    assert isinstance(finished, Finished)
    assert (finished.call, finished.response, finished.error, finished.attempt) == (asked, response, None, 1)
    assert finished.elapsed > 0


@pytest.mark.parametrize("error", [ConnectFailed, ValueError, asyncio.CancelledError])
@virtual_time
async def test_an_error_is_an_end_too(error):
    send, events = bound(script(error))
    with pytest.raises(error):
        await send(call())
    assert [type(event) for event in events] == [Started, Finished]
    assert (type(events[1].error), events[1].response) == (error, None)


@virtual_time
async def test_a_refusal_is_told_before_the_end():
    send, events = bound(script(CircuitOpen))
    with pytest.raises(CircuitOpen) as caught:
        await send(call())
    assert [type(event) for event in events] == [Started, Refused, Finished]
    assert events[1].error is caught.value


@virtual_time
async def test_attempts_are_counted_and_the_call_is_the_same_in_all_events():
    send, events = bound(script(503, Disconnected, 200), Retry())
    asked = call()
    await send(asked)
    assert [type(event) for event in events] == [Started, Retried, Retried, Finished]
    assert {event.call for event in events} == {asked}
    assert events[-1].attempt == 3


@virtual_time
async def test_a_streamed_call_ends_with_its_body():
    send, events = bound(script((200, Pieces(b"a", b"b")), (200, Pieces(b"a", Disconnected)), (200, Pieces(b"a", inf))))
    whole, broken, dropped = [await send(call(stream=True)) for _ in range(3)]
    assert [type(event) for event in events] == [Started] * 3
    await whole.aread()
    with pytest.raises(Disconnected):
        await broken.aread()
    dropped.close()
    dropped.close()
    ends = events[3:]
    assert [type(event.error) for event in ends] == [type(None), Disconnected, type(None)]
    assert [event.response for event in ends] == [whole, broken, dropped]


@virtual_time
async def test_a_sink_that_fails_to_say_whether_it_listens_breaks_no_call_and_is_told(caplog):
    class Sink(list):
        __call__ = list.append

        def listens(self):
            raise LookupError

    sink = Sink()
    send = Observe().bind(script(200).send, Upstream("shop", (sink,)))
    await send(call())
    assert [type(event) for event in sink] == [Started, Finished]
    assert "a sink failed to say whether it listens" in caplog.text


@virtual_time
async def test_a_sink_that_fails_breaks_no_call(caplog):
    def broken(event):
        raise RuntimeError("no disk")

    events = []
    send = Observe().bind(script(200).send, Upstream("shop", (broken, events.append)))
    assert (await send(call())).status_code == 200
    assert len(events) == 2
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError, RuntimeError]
