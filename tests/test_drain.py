"""Closing a client: what is under way may end, for a while; what is not, never begins."""

import asyncio
from contextlib import suppress
from math import inf, nan

import pytest
from fastapi import FastAPI

from fairlead import ConfigError, Fallback, HTTPClient
from fairlead.errors import ConnectFailed, DeadlineExceeded, Knowledge
from fairlead.fastapi import lifespan
from fairlead.policies import CircuitBreaker, ConcurrencyLimit, RateLimit, Retry
from fairlead.testing import Pieces, at_every_step, script, virtual_time

BASE = "https://api.test"


def now():
    return asyncio.get_running_loop().time()


async def begun(*calls):
    """Tasks that have come as far as they can without waiting."""
    tasks = [asyncio.create_task(call) for call in calls]
    for _ in range(20):
        await asyncio.sleep(0)
    return tasks


class TestWhatIsUnderWay:
    @virtual_time
    async def test_a_call_ends_and_the_client_with_it(self):
        client = HTTPClient(BASE, engine=script(0.3, 200))
        (call,) = await begun(client.get("/"))
        await client.close()
        assert now() == 0.3, "no later than the call"
        assert (await call).status_code == 200
        assert client.engine.closed

    @virtual_time
    async def test_a_call_that_fails_has_ended_too(self):
        client = HTTPClient(BASE, engine=script(0.3, ConnectFailed), max_retries=0)
        (call,) = await begun(client.get("/"))
        await client.close()
        assert now() == 0.3
        with pytest.raises(ConnectFailed):
            await call

    @virtual_time
    async def test_a_call_that_pauses_between_attempts_makes_the_next(self):
        client = HTTPClient(BASE, engine=script(503, 200), policies=(Retry(delay=0.5, random=lambda: 1.0),))
        (call,) = await begun(client.get("/"))
        await client.close()
        assert now() == 0.5
        assert (await call).status_code == 200

    @virtual_time
    async def test_calls_in_line_have_their_turn(self):
        client = HTTPClient(BASE, engine=script(0.2, 200, 0.2, 201, 0.2, 202), max_connections=1)
        calls = await begun(*[client.get("/") for _ in range(3)])
        await client.close()
        assert now() == pytest.approx(0.6)
        assert [(await call).status_code for call in calls] == [200, 201, 202]

    @virtual_time
    async def test_a_stream_is_read_to_its_end(self):
        client = HTTPClient(BASE, engine=script((200, Pieces(b"a", 0.4, b"b"))))

        async def read():
            async with client.stream("GET", "/") as response:
                return [piece async for piece in response.aiter_bytes()]

        (reading,) = await begun(read())
        await client.close()
        assert now() == 0.4
        assert await reading == [b"a", b"b"]

    @virtual_time
    async def test_a_stream_given_up_is_under_way_no_more(self):
        client = HTTPClient(BASE, engine=script((200, Pieces(b"a", 60.0))))
        response = await client.stream("GET", "/").__aenter__()
        asyncio.get_running_loop().call_later(0.25, response.close)
        await client.close()
        assert now() == 0.25

    @virtual_time
    async def test_a_cancelled_call_is_under_way_no_more(self):
        client = HTTPClient(BASE, engine=script(60.0, 200))
        (call,) = await begun(client.get("/"))
        asyncio.get_running_loop().call_later(0.25, call.cancel)
        await client.close()
        assert now() == 0.25

    @virtual_time
    async def test_where_none_is_nothing_is_waited_for(self):
        client = HTTPClient(BASE, engine=script(200, 404, ConnectFailed, (200, Pieces(b"a"))), max_retries=0)
        await asyncio.gather(*[client.get("/") for _ in range(3)], return_exceptions=True)
        async with client.stream("GET", "/"):
            pass
        assert client._under_way == 0
        await client.close(drain=60.0)
        assert now() == 0.0

    @virtual_time
    async def test_a_client_that_was_never_used_closes_at_once(self):
        await HTTPClient(BASE, engine=script()).close(drain=60.0)
        assert now() == 0.0


class TestHowLong:
    @virtual_time
    async def test_a_second_unless_said_otherwise(self):
        for drain, seconds in (({}, 1.0), ({"drain": 5.0}, 5.0), ({"drain": 0}, 0.0), ({"drain": 0.0}, 0.0)):
            began = now()
            client = HTTPClient(BASE, engine=script(60.0, 200), timeout=90.0)
            (call,) = await begun(client.get("/"))
            await client.close(**drain)
            assert now() - began == seconds
            assert client.engine.closed
            call.cancel()

    @pytest.mark.parametrize("drain", [-1, inf, nan, "1", True, [1]])
    @virtual_time
    async def test_it_is_a_number_of_seconds(self, drain):
        async with HTTPClient(BASE, engine=script(200)) as client:
            with pytest.raises(ConfigError, match="drain="):
                await client.close(drain=drain)
            assert (await client.get("/")).status_code == 200, "nothing was closed"

    @virtual_time
    async def test_leaving_by_an_error_waits_for_nothing(self):
        with pytest.raises(ValueError, match="mine"):
            async with HTTPClient(BASE, engine=script(60.0, 200)) as client:
                (call,) = await begun(client.get("/"))
                raise ValueError("mine")
        assert now() == 0.0
        call.cancel()

    @virtual_time
    async def test_leaving_by_a_cancellation_waits_for_nothing(self):
        client = HTTPClient(BASE, engine=script(60.0, 200))

        async def work():
            async with client:
                await asyncio.gather(client.get("/"), asyncio.sleep(99.0))

        (task,) = await begun(work())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert now() == 0.0
        assert client.engine.closed

    @virtual_time
    async def test_leaving_in_peace_waits(self):
        async with HTTPClient(BASE, engine=script(0.3, 200)) as client:
            (call,) = await begun(client.get("/"))
        assert now() == 0.3
        assert call.result().status_code == 200


ASKED_TO_WAIT = 503, b"", {"Retry-After": "20"}


def slots_of(client):
    return client.upstream.states["ConcurrencyLimit", "default"]


class TestWhatHasNotEnded:
    """A call that pauses or waits in line is not known to the engine, and is ended all the same."""

    @pytest.mark.parametrize("timeout", [30.0, None])
    @pytest.mark.parametrize("drain", [1.0, 0])
    @virtual_time
    async def test_a_pause_is_ended(self, drain, timeout):
        client = HTTPClient(BASE, engine=script(ASKED_TO_WAIT, 200), timeout=timeout)
        (call,) = await begun(client.get("/"))
        await client.close(drain=drain)
        with pytest.raises(ConfigError, match="the client was closed") as caught:
            await call
        assert now() == drain
        assert (caught.value.phase, caught.value.knowledge) == ("waiting", Knowledge.UNKNOWN)
        assert (caught.value.upstream, caught.value.request.method) == ("api.test", "GET")
        assert len(client.engine.requests) == 1
        assert not client.upstream.waiting
        assert client._under_way == 0

    @pytest.mark.parametrize("timeout", [30.0, None])
    @pytest.mark.parametrize("drain", [1.0, 0])
    @virtual_time
    async def test_a_line_behind_a_stream_that_nobody_reads_is_ended(self, drain, timeout):
        client = HTTPClient(BASE, engine=script((200, Pieces(b"a", 60.0))), max_connections=1, timeout=timeout)
        response = await client.stream("GET", "/").__aenter__()
        calls = await begun(*[client.post("/", json=1) for _ in range(3)])
        assert len(client.upstream.waiting) == 3
        await client.close(drain=drain)
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert now() == drain
        assert [type(error) for error in errors] == [ConfigError] * 3
        assert len({id(error) for error in errors}) == 3
        assert {error.knowledge for error in errors} == {Knowledge.NOT_SENT}
        assert not client.upstream.waiting
        assert len(slots_of(client).line) == 0
        response.close()
        assert slots_of(client).taken == 0
        assert client._under_way == 0

    @pytest.mark.parametrize("answer", [ASKED_TO_WAIT, ConnectFailed])
    @virtual_time
    async def test_an_attempt_that_outlasts_the_client_is_followed_by_no_pause(self, answer):
        retry = Retry(delay=20.0, random=lambda: 1.0)
        client = HTTPClient(BASE, engine=script(3.0, answer, 200), policies=(retry,), timeout=None)
        (call,) = await begun(client.get("/"))
        await client.close()
        assert now() == 1.0
        with pytest.raises(ConfigError, match="the client was closed"):
            await call
        assert now() == 3.0
        assert len(client.engine.requests) == 1

    @virtual_time
    async def test_a_slot_that_is_freed_in_that_very_turn_is_not_lost(self):
        for freed_first in (True, False):
            engine = script((200, Pieces(b"a", 60.0)), then=200)
            client = HTTPClient(BASE, engine=engine, max_connections=1, timeout=None)
            response = await client.stream("GET", "/").__aenter__()
            calls = await begun(*[client.get("/") for _ in range(3)])
            for deed in (response.close, client.upstream.close)[:: 1 if freed_first else -1]:
                deed()
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(one) is ConfigError for one in done] == [not freed_first, True, True]
            assert (slots_of(client).taken, len(slots_of(client).line)) == (0, 0)
            assert not client.upstream.waiting
            await client.close()

    @virtual_time
    async def test_no_fallback_stands_in_for_it(self):
        client = HTTPClient(BASE, engine=script(ASKED_TO_WAIT), policies=(Fallback({"old": True}), Retry()))
        (call,) = await begun(client.get("/"))
        await client.close(drain=0)
        with pytest.raises(ConfigError, match="the client was closed"):
            await call

    @virtual_time
    async def test_a_pause_that_is_cancelled_leaves_nothing_behind(self):
        client = HTTPClient(BASE, engine=script(ASKED_TO_WAIT))
        (call,) = await begun(client.get("/"))
        assert len(client.upstream.waiting) == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not client.upstream.waiting
        await client.close()
        assert now() == 0.0

    def test_cancelled_at_any_step_nothing_is_left_behind(self):
        async def story(cut):
            client = HTTPClient(BASE, engine=script(503, 0.2, 200, then=200), max_connections=1, retry_delay=0.5)
            other = asyncio.create_task(client.get("/"))
            closing = asyncio.get_running_loop().call_later(0.3, client.upstream.close)
            await cut(client.get("/"))
            await asyncio.wait({other})
            closing.cancel()
            await client.close()
            assert (slots_of(client).taken, len(slots_of(client).line)) == (0, 0)
            assert not client.upstream.waiting
            assert client._under_way == 0

        assert at_every_step(story) > 3

    @virtual_time
    async def test_another_client_goes_on(self):
        one, other = (HTTPClient(BASE, engine=script(ASKED_TO_WAIT, 200)) for _ in range(2))
        ended, goes_on = await begun(one.get("/"), other.get("/"))
        await one.close()
        with pytest.raises(ConfigError):
            await ended
        assert now() == 1.0
        assert (await goes_on).status_code == 200
        assert now() >= 20.0
        await other.close()


class TestMeanwhile:
    @virtual_time
    async def test_no_call_begins(self):
        client = HTTPClient(BASE, engine=script(0.5, 200))
        (call,) = await begun(client.get("/"))
        (closing,) = await begun(client.close())
        with pytest.raises(ConfigError, match="closed"):
            await client.get("/")
        with pytest.raises(ConfigError, match="closed"):
            async with client.stream("GET", "/"):
                pass
        assert await client.health_check() is False
        await closing
        assert now() == 0.5
        assert (await call).status_code == 200
        assert len(client.engine.requests) == 1

    @virtual_time
    async def test_a_second_close_joins_and_the_least_patient_decides(self):
        client = HTTPClient(BASE, engine=script(0.5, 200))
        (call,) = await begun(client.get("/"))
        await asyncio.gather(client.close(), client.close(), client.close(drain=3.0))
        assert now() == 0.5
        assert call.done()

        client = HTTPClient(BASE, engine=script(60.0, 200))
        (call, closing) = await begun(client.get("/"), client.close(drain=30.0))
        await client.close(drain=0)
        assert now() == 0.5
        assert client.engine.closed
        call.cancel()
        await closing
        assert now() == 0.5

    @virtual_time
    async def test_cancelled_it_closes_all_the_same(self):
        client = HTTPClient(BASE, engine=script(60.0, 200))
        call, closing = await begun(client.get("/"), client.close(drain=30.0))
        assert not client.engine.closed
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert client.engine.closed
        assert now() == 0.0
        call.cancel()

    def test_cancelled_at_any_step_it_closes_all_the_same(self):
        async def story(cut):
            client = HTTPClient(BASE, engine=script(0.3, 200, 0.3, (200, Pieces(b"a", 0.3, b"b"))))

            async def read():
                async with client.stream("GET", "/") as response:
                    await response.aread()

            calls = [asyncio.create_task(call) for call in (client.get("/"), read())]
            await asyncio.sleep(0.1)
            await cut(client.close())
            await client.close()
            assert client.engine.closed
            await asyncio.gather(*calls, return_exceptions=True)
            assert client._under_way == 0

        assert at_every_step(story) > 3

    @virtual_time
    async def test_calls_are_counted_however_they_end(self):
        answers = [200, 500, ConnectFailed, KeyError, (200, Pieces(b"a", ConnectFailed)), (200, Pieces(b"a"))]
        engine = script(*answers, 60.0, 200)
        async with HTTPClient(BASE, engine=engine, max_retries=0, timeout=1.0) as client:
            for _ in answers[:4]:
                await asyncio.gather(client.get("/"), return_exceptions=True)
            for _ in answers[4:]:
                with pytest.raises((ConnectFailed, StopAsyncIteration)):
                    async with client.stream("GET", "/") as response:
                        assert client._under_way == 1
                        async for _ in response.aiter_bytes():
                            pass
                        raise StopAsyncIteration
            with pytest.raises(Exception, match=r"timed out|deadline|answer"):
                await client.get("/")
            assert client._under_way == 0

    @virtual_time
    async def test_a_fallback_that_takes_its_time_is_under_way(self):
        async def older(call, cause):
            await asyncio.sleep(0.4)
            return {"old": True}

        client = HTTPClient(BASE, engine=script(ConnectFailed), policies=(Fallback(older),))
        (call,) = await begun(client.get("/"))
        await client.close()
        assert now() == 0.4
        assert (await call).json() == {"old": True}


@pytest.mark.parametrize("recipe", [RateLimit(5.0), RateLimit(None), CircuitBreaker(by="route")])
def test_what_a_loop_held_that_ended_is_free_on_the_next(recipe):
    async def forever(_):
        await asyncio.Event().wait()

    engine = script(then=forever)
    client = HTTPClient("https://a.test", engine=engine, policies=(recipe, ConcurrencyLimit(limit=1)))
    loop = asyncio.new_event_loop()
    calls = [loop.create_task(client.get("/")) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()

    async def later():
        engine.then = 200
        async with client:
            return [(await client.get("/", timeout=5.0)).status_code for _ in range(2)]

    assert asyncio.run(later()) == [200, 200]
    for call in calls:
        call._log_destroy_pending = False
        with suppress(RuntimeError):  # the loop is closed
            call.get_coro().close()


def test_it_may_come_on_another_loop_than_the_calls():
    client = HTTPClient(BASE, engine=script(60.0, 200))

    async def leave_one():
        task = asyncio.create_task(client.get("/", timeout=90.0))
        await asyncio.sleep(0)
        client.kept = task

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave_one())

    @virtual_time
    async def close():
        await client.close(drain=30.0)
        assert now() == 0.0, "on a loop that stands still nothing ends"

    close()
    client.kept.cancel()
    loop.run_until_complete(asyncio.gather(client.kept, return_exceptions=True))
    loop.close()


@pytest.mark.parametrize("stands", ["still", "closed"])
def test_it_may_come_on_another_loop_than_a_pause(stands):
    client = HTTPClient(BASE, engine=script(ASKED_TO_WAIT, 200))
    loop = asyncio.new_event_loop()
    (call,) = loop.run_until_complete(begun(client.get("/")))
    if stands == "closed":
        loop.close()
    virtual_time(client.close)()
    if stands == "still":
        with pytest.raises(ConfigError, match="the client was closed"):
            loop.run_until_complete(call)
        loop.close()
    else:
        call._log_destroy_pending = False


@virtual_time
async def test_an_applications_lifespan_waits_for_what_is_under_way():
    shop = HTTPClient(BASE, engine=script(0.3, 200))
    app = FastAPI()
    async with lifespan(shop)(app):
        (call,) = await begun(shop.get("/"))
    assert now() == 0.3
    assert call.result().status_code == 200


@virtual_time
async def test_a_subclass_that_closes_more_need_not_know_of_it():
    closed = []

    class Shop(HTTPClient, base_url=BASE):
        async def close(self):
            closed.append(True)
            await super().close()

    with pytest.raises(ValueError, match="mine"):
        async with Shop(engine=script(60.0, 200)) as client:
            (call,) = await begun(client.get("/"))
            raise ValueError("mine")
    assert closed == [True]
    assert now() == 0.0
    call.cancel()


@virtual_time
async def test_a_deadline_inside_the_drain_is_the_calls_own():
    client = HTTPClient(BASE, engine=script(60.0, 200), max_connections=1)
    first, second = await begun(client.get("/", timeout=0.2), client.get("/", timeout=0.1))
    await client.close()
    assert now() == 0.2
    with pytest.raises(DeadlineExceeded):
        await second
    assert first.exception() is not None
