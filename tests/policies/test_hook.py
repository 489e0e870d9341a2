"""The guide's hook: what a class's own `_retry_with_backoff` is given, what becomes of it, and that nothing is left behind."""

import asyncio
import gc
import weakref
from math import inf
from unittest.mock import patch

import pytest

from calls import now
from fairlead import HTTPClient
from fairlead.base import BaseAPIClient
from fairlead.core import Timeout
from fairlead.endpoint import get
from fairlead.errors import (
    AttemptTimedOut,
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    Disconnected,
    Knowledge,
    StatusError,
)
from fairlead.events import Finished, GaveUp, Retried
from fairlead.message import Request, Response
from fairlead.policies import Budget, CircuitBreaker, Retry
from fairlead.testing import Pieces, at_every_step, script, virtual_time

URL = "https://shop.test"


class Guide(HTTPClient, base_url=URL):
    """As teams write it: whatever failed by its status or its connection, again, after a growing pause."""

    async def _retry_with_backoff(self, func, *args, **kwargs):
        for attempt in range(self.max_retries + 1):
            try:
                return await func(*args, **kwargs)
            except (ConnectionError, TimeoutError, StatusError) as error:
                if isinstance(error, StatusError) and error.status_code < 500:
                    raise
                if attempt == self.max_retries:
                    raise
                await asyncio.sleep(self.retry_delay * self.retry_backoff**attempt)
        raise AssertionError


class Counted(HTTPClient, base_url=URL):
    """Counts, and leaves the rest to ours."""

    asked = 0

    async def _retry_with_backoff(self, func, *args, **kwargs):
        self.asked += 1
        return await super()._retry_with_backoff(func, *args, **kwargs)

    @get("/users/{id}")
    async def user(self, id: int) -> dict[str, int]: ...  # noqa: A002

    @get("/users/{id}", retry=None)
    async def once(self, id: int) -> Response: ...  # noqa: A002


def half():
    return 0.5


# One's own loop


@virtual_time
async def test_the_guides_loop_runs_around_each_call():
    engine = script(503, Disconnected, 200)
    async with Guide(engine=engine, max_retries=3, retry_delay=1.0, retry_backoff=2.0) as client:
        assert (await client.get("/x")).status_code == 200
    assert now() == 1.0 + 2.0
    assert [attempt.attempt for attempt in engine.calls] == [1, 2, 3]
    assert len({id(attempt) for attempt in engine.calls}) == 3


@virtual_time
async def test_what_it_raises_last_is_what_the_call_comes_to():
    events = []
    engine = script(then=(503, b"busy"))
    async with Guide(engine=engine, max_retries=1, sinks=(events.append,)) as client:
        with pytest.raises(StatusError, match="Guide: answered 503 Service Unavailable"):
            await client.get("/x")
        response = await client.send(client.build_request("GET", "/x"))
        assert (response.status_code, response.content) == (503, b"busy")
    assert len(engine.calls) == 4
    assert [(event.attempt, event.response.status_code) for event in events if isinstance(event, Finished)] == [
        (2, 503)
    ] * 2


@virtual_time
async def test_what_it_does_not_try_again_is_an_answer_as_ever():
    async with Guide(engine=script(404, then=ConnectFailed)) as client:
        with pytest.raises(StatusError, match="404"):
            await client.get("/x")
        with pytest.raises(ConnectFailed, match="Guide: could not connect"):
            await client.get("/x")


@virtual_time
async def test_it_stands_in_the_place_of_retry_and_every_attempt_goes_through_the_circuit():
    engine = script(then=ConnectFailed)
    async with Guide(engine=engine, max_retries=9, retry_delay=0.0) as client:
        places = [policy.place for policy in client.pipeline.policies]
        assert places[:3] == ["Observe", "Retry", "CircuitBreaker"]
        assert "retry: as Guide._retry_with_backoff does; super() has retry: up to 9 more attempts" in client.explain()
        with pytest.raises(Exception, match="circuit open"):
            await client.get("/x")
    assert len(engine.calls) == 5


@virtual_time
async def test_it_is_given_the_request_and_may_send_another_one_to_the_same_place():
    class Marked(HTTPClient, base_url=URL):
        async def _retry_with_backoff(self, func, request):
            return await func(request.with_header("X-Tried", "1"))

    engine = script(200)
    async with Marked(engine=engine) as client:
        await client.get("/x")
    assert engine.requests[0].headers["x-tried"] == "1"


@virtual_time
async def test_it_may_not_lead_a_request_elsewhere():
    class Lost(HTTPClient, base_url=URL):
        async def _retry_with_backoff(self, func, request):
            return await func(Request("GET", "https://elsewhere.test/"))

    engine = script()
    async with Lost(engine=engine) as client:
        with pytest.raises(ConfigError, match=r"https://elsewhere\.test is not https://shop\.test"):
            await client.get("/x")


@virtual_time
async def test_it_may_answer_by_itself():
    class Silent(HTTPClient, base_url=URL):
        async def _retry_with_backoff(self, func, request):
            try:
                return await func(request)
            except StatusError:
                return Response(200, json={"stale": True}, request=request)

    async with Silent(engine=script(503)) as client:
        assert (await client.get("/x")).json() == {"stale": True}


@virtual_time
async def test_the_error_that_it_is_given_is_as_whole_as_a_verbs():
    errors = []

    class Notes(HTTPClient, base_url=URL):
        async def _retry_with_backoff(self, func, request):
            try:
                return await func(request)
            except StatusError as error:
                errors.append(error)
                raise

    async with Notes(engine=script((429, None, {"Retry-After": "7"}))) as client:
        await client.get("/x?secret=1", raise_for_status=False)
    assert str(errors[0]) == (
        "Notes: answered 429 Too Many Requests and asks for 7 s without calls (GET https://shop.test/x)"
    )


@virtual_time
async def test_what_it_returns_is_a_response():
    class Wrong(HTTPClient, base_url=URL):
        async def _retry_with_backoff(self, func, request):
            await func(request)

    async with Wrong(engine=script(200)) as client:
        with pytest.raises(
            ConfigError, match=r"Wrong\._retry_with_backoff returned NoneType: return what func returned"
        ):
            await client.get("/x")


@virtual_time
async def test_an_error_of_another_call_is_no_answer_to_this_one():
    class Nested(HTTPClient, base_url=URL):
        async def _retry_with_backoff(self, func, request):
            if request.target == "/token":
                return await func(request)
            await self.get("/token")
            return await func(request)

    async with Nested(engine=script(401)) as client:
        with pytest.raises(StatusError, match="/token"):
            await client.get("/x", raise_for_status=False)


@virtual_time
async def test_a_body_that_cannot_be_read_again_ends_each_further_attempt_as_the_first_one():
    async def body():
        yield b"once"

    engine = script(503, Disconnected)
    async with Guide(engine=engine, max_retries=2, retry_delay=0.0) as client:
        with pytest.raises(StatusError, match="503"):
            await client.post("/x", content=body())
        with pytest.raises(Disconnected):
            await client.put("/x", content=body())
    assert engine.bodies == [b"once", b"once"]


@virtual_time
async def test_its_pauses_do_not_outlast_the_deadline():
    engine = script(then=503)
    async with Guide(engine=engine, max_retries=9, retry_delay=2.0, retry_backoff=1.0, timeout=3.0) as client:
        with pytest.raises(DeadlineExceeded, match=r"Guide: the deadline passed in Guide\._retry_with_backoff"):
            await client.get("/x")
    assert (now(), len(engine.calls), engine.open) == (3.0, 2, 0)


@virtual_time
async def test_of_an_attempt_its_engine_keeps_the_time_and_after_it_there_is_none_to_pause():
    engine = script(then=inf)
    async with Guide(engine=engine, max_retries=9, retry_delay=0.0, timeout=25.0) as client:
        with pytest.raises(DeadlineExceeded):
            await client.get("/x")
    assert (now(), len(engine.calls)) == (25.0, 3)
    engine = script(then=inf)
    async with Guide(engine=engine, max_retries=0, timeout=5.0) as client:
        with pytest.raises(AttemptTimedOut):
            await client.get("/x")
    assert now() == 30.0


@virtual_time
async def test_without_a_deadline_there_is_no_timer():
    engine = script(503, 200)
    async with Guide(engine=engine, retry_delay=5000.0, timeout=None) as client:
        assert (await client.get("/x")).status_code == 200
    assert now() == 5000.0


@virtual_time
async def test_a_time_out_of_its_own_is_its_own():
    class Impatient(HTTPClient, base_url=URL):
        async def _retry_with_backoff(self, func, request):
            async with asyncio.timeout(1.0):
                return await func(request)

    engine = script(then=inf)
    async with Impatient(engine=engine) as client:
        with pytest.raises(TimeoutError) as caught:
            await client.get("/x")
    assert (type(caught.value), now(), engine.open) == (TimeoutError, 1.0, 0)


@virtual_time
async def test_an_attempt_has_the_time_of_one_that_another_may_follow():
    engine = script(then=200)
    async with Guide(engine=engine, timeout=30.0) as client:
        await client.get("/x")
        await client.post("/x")
        await client.get("/x", timeout=Timeout(total=30.0, attempt=2.0))
    assert [attempt.allowance for attempt in engine.calls] == [10.0, 30.0, 2.0]


# Ours, called from there


@virtual_time
async def test_super_has_the_clients_own_numbers_and_rule():
    events = []
    engine = script(503, 503, 503, 503, then=200)
    recipe = Retry(retries=2, delay=1.0, backoff=3.0, random=half)
    async with Counted(engine=engine, policies=(recipe,), sinks=(events.append,)) as client:
        assert (await client.get("/x", raise_for_status=False)).status_code == 503
        assert now() == 0.5 + 1.5
        assert (await client.post("/x", raise_for_status=False)).status_code == 503
        assert client.asked == 2
    assert [attempt.attempt for attempt in engine.calls] == [1, 2, 3, 1]
    assert [type(event) for event in events] == [Retried, Retried, GaveUp]
    assert len({event.call for event in events}) == 1


@virtual_time
async def test_super_keeps_the_deadline_of_the_call_and_what_a_peer_asks_for():
    events = []
    engine = script((503, None, {"Retry-After": "300"}), ConnectFailed, 200)
    recipe = Retry(retries=2, delay=10.0, random=half)
    async with Counted(engine=engine, policies=(recipe,), sinks=(events.append,), timeout=12.0) as client:
        with pytest.raises(StatusError, match="asks for 300 s without calls") as caught:
            await client.get("/x")
        assert now() == 0.0
        assert (await client.get("/x")).status_code == 200
        assert now() == 5.0
    assert isinstance(events[0], GaveUp)
    assert events[0].reason == "asked to wait 300 s, and 12 s are left"
    assert caught.value.retry_after == 300.0


@virtual_time
async def test_super_spends_the_budget_and_counts_the_calls():
    engine = script(then=503)
    budget = Budget(share=0.5, floor=0)
    async with Counted(engine=engine, policies=(Retry(delay=0, budget=budget),)) as client:
        for _ in range(4):
            await client.get("/x", raise_for_status=False)
        spending = budget.of(client.upstream)
        assert (spending.calls, spending.spent) == (4, 2)
    assert len(engine.calls) == 6


@virtual_time
async def test_closing_the_client_ends_a_pause_of_supers():
    engine = script(then=503)
    client = Counted(engine=engine, policies=(Retry(delay=20.0, random=half),))
    task = asyncio.ensure_future(client.get("/x"))
    await asyncio.sleep(1)
    await client.close(drain=0)
    with pytest.raises(ConfigError, match="closed"):
        await task
    assert now() == 1


@virtual_time
async def test_super_without_retries_makes_one_attempt():
    engine = script(then=503)
    for policies in ((), (Retry(retries=0),)):
        async with Counted(engine=engine, policies=policies) as client:
            assert (await client.get("/x", raise_for_status=False)).status_code == 503
    assert len(engine.calls) == 2


@virtual_time
async def test_super_may_be_given_more_than_func():
    class Logged(HTTPClient, base_url=URL):
        lines = ()

        async def _retry_with_backoff(self, func, *args, **kwargs):
            async def logged(*args):
                try:
                    return await func(*args)
                finally:
                    self.lines += ("tried",)

            return await super()._retry_with_backoff(logged, *args, **kwargs)

    async with Logged(engine=script(503, 503, 200), retry_delay=0.0) as client:
        await client.get("/x")
        assert client.lines == ("tried",) * 3


@virtual_time
async def test_super_sends_a_body_that_cannot_be_read_again_once():
    async def body():
        yield b"once"

    engine = script(503, ConnectFailed)
    async with Counted(engine=engine) as client:
        assert (await client.put("/x", content=body(), raise_for_status=False)).status_code == 503
        with pytest.raises(ConnectFailed):
            await client.put("/x", content=body())
    assert (now(), len(engine.calls)) == (0.0, 2)


@virtual_time
async def test_super_judges_what_tells_no_request_by_the_one_under_way():
    class Odd(HTTPClient, base_url=URL):
        async def _retry_with_backoff(self, func, request):
            outcomes = [Disconnected(), Response(503)]

            async def odd():
                outcome = outcomes.pop(0) if outcomes else await func(request)
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome

            return await super()._retry_with_backoff(odd)

    engine = script(200)
    async with Odd(engine=engine) as client:
        assert (await client.get("/x")).status_code == 200
        with pytest.raises(Disconnected):
            await client.post("/x")


# Around any function


@virtual_time
async def test_any_function_is_tried_again_by_the_same_rule():
    engine = script(503, Disconnected, 200)
    async with HTTPClient(URL, engine=engine, policies=(Retry(delay=1.0, random=half),)) as client:
        response = await client._retry_with_backoff(client.get, "/x", retry=None)
        assert (response.status_code, len(engine.calls)) == (200, 3)
        assert now() == 0.5 + 1.0


@virtual_time
async def test_of_a_function_that_tells_no_request_only_what_was_not_sent_is_tried_again():
    client = BaseAPIClient(URL, engine=script(), policies=(Retry(delay=0.0),))
    outcomes = [Disconnected(knowledge=Knowledge.NOT_SENT), Disconnected(), ValueError(), 42]

    async def func(*, number):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome + number

    for error in (Disconnected, ValueError):
        with pytest.raises(error):
            await client._retry_with_backoff(func, number=1)
    assert await client._retry_with_backoff(func, number=1) == 43
    await client.close()


@virtual_time
async def test_a_post_in_a_function_is_still_a_post():
    engine = script(503)
    async with HTTPClient(URL, engine=engine) as client:
        with pytest.raises(StatusError):
            await client._retry_with_backoff(client.post, "/x", retry=None)
    assert len(engine.calls) == 1


@virtual_time
async def test_inside_the_call_of_one_client_another_client_knows_nothing_of_it():
    recipe = Retry(delay=20, random=half)
    async with HTTPClient("https://other.test", engine=script(ConnectFailed, 200), policies=(recipe,)) as other:

        class Asks(HTTPClient, base_url=URL):
            async def _retry_with_backoff(self, func, request):
                await other._retry_with_backoff(other.get, "/x", retry=None)
                return await func(request)

        async with Asks(engine=script(), timeout=5.0) as client:
            with pytest.raises(DeadlineExceeded, match=r"in Asks\._retry"):  # ended, and not given up
                await client.get("/x")
    assert now() == 5.0


@virtual_time
async def test_after_a_call_its_deadline_is_no_ones():
    engine = script(200, ConnectFailed, 200)
    async with Counted(engine=engine, timeout=5.0) as client:
        await client.get("/x")
        await asyncio.sleep(60)
        response = await client._retry_with_backoff(client.get, "/x", retry=None)
        assert response.status_code == 200


# Otherwise for one call


@virtual_time
async def test_a_call_that_says_retry_is_not_sent_through_it():
    engine = script(503, 503, 200, 503)
    async with Counted(engine=engine) as client:
        assert (await client.get("/x", retry=Retry(retries=5, delay=0.0))).status_code == 200
        assert (await client.get("/x", retry=None, raise_for_status=False)).status_code == 503
        assert client.asked == 0


@virtual_time
async def test_a_declared_call_is_sent_through_it_unless_it_says_retry():
    async with Counted(engine=script(503, (200, {"id": 1}), 200), retry_delay=0.0) as client:
        assert await client.user(1) == {"id": 1}
        assert client.asked == 1
        await client.once(1)
        assert client.asked == 1


@virtual_time
async def test_a_health_check_is_not_sent_through_it():
    async with Counted(engine=script(503)) as client:
        assert await client.health_check() is False
        assert client.asked == 0


@virtual_time
async def test_an_instance_can_be_patched():
    async with Counted(engine=script()) as client:
        with patch.object(client, "_retry_with_backoff") as patched:
            patched.return_value = Response(200, json={"id": 7})
            assert await client.user(1) == {"id": 7}
        func, request = patched.await_args.args
        assert (func.__name__, request.target) == ("send_once", "/users/1")


def test_a_client_that_does_not_override_it_has_nothing_of_it():
    plain = HTTPClient(URL, engine=script())
    assert [type(policy) for policy in plain.pipeline.policies[1:3]] == [Retry, CircuitBreaker]
    assert (plain.max_retries, plain.retry_delay, plain.retry_backoff) == (2, 0.05, 2.0)


def test_it_is_not_what_keeps_a_client():
    client = Counted(engine=script())
    gone = weakref.ref(client)
    gc.disable()
    try:
        del client
        assert gone() is None
    finally:
        gc.enable()


# Streams, and nothing left behind


@virtual_time
async def test_of_a_stream_the_answers_that_are_not_handed_out_are_closed():
    engine = script((503, Pieces(b"sorry", inf)), (503, Pieces(b"sorry", inf)), (200, Pieces(b"here")))
    options = {"retry_delay": 0.0, "max_connections": 1}  # one that was not closed would keep the next from being sent
    async with Guide(engine=engine, **options) as client, client.stream("GET", "/x") as response:
        assert engine.open == 1
        assert await response.aread() == b"here"
    assert engine.open == 0


@virtual_time
async def test_of_a_stream_super_closes_what_lost_before_the_pause():
    engine = script((503, Pieces(b"sorry", inf)), (503, Pieces(b"still")))
    async with Counted(engine=engine, policies=(Retry(retries=1, delay=20.0, random=half),)) as client:

        async def read():
            async with client.stream("GET", "/x") as response:
                return await response.aread()

        task = asyncio.ensure_future(read())
        await asyncio.sleep(1)
        assert (len(engine.calls), engine.open) == (1, 0)
        assert await task == b"still"
    assert engine.open == 0


@virtual_time
async def test_of_attempts_beside_each_other_one_is_handed_out_and_the_others_closed():
    class Raced(HTTPClient, base_url=URL):
        async def _retry_with_backoff(self, func, request):
            tasks = [asyncio.ensure_future(func(request)) for _ in range(3)]
            await asyncio.wait(tasks[:1])
            self.left, self.func = tasks, func
            return tasks[0].result()

    answers = iter([(1.0, b"first"), (0.5, b"other"), (5.0, b"late")])

    async def answer(_):
        seconds, body = next(answers)
        await asyncio.sleep(seconds)
        return 200, Pieces(body, 0.1)

    engine = script(then=answer)
    async with Raced(engine=engine) as client:
        async with client.stream("GET", "/x") as response:
            assert await response.aread() == b"first"
        with pytest.raises(ConfigError, match="the call is over"):
            await client.left[2]
        with pytest.raises(ConfigError, match="the call is over"):
            await client.func(client.left)
    assert engine.open == 0


@pytest.mark.parametrize("kind", [Guide, Counted])
def test_a_cancellation_at_any_step_leaves_nothing_behind(kind):
    async def story(cut):
        engine = script(
            0.1, (503, Pieces(b"sorry", 1.0)), 0.1, Disconnected, 0.1, (200, Pieces(b"here", 0.1)), then=(200, Pieces())
        )
        client = kind(engine=engine)

        async def read():
            async with client.stream("GET", "/x") as response:
                return await response.aread()

        await cut(read())
        assert engine.open == 0
        assert not client.upstream.waiting
        assert not client._under_way
        async with client.stream("GET", "/x") as response:
            assert response.status_code == 200
        await client.close()
        assert len(asyncio.all_tasks()) == 1

    assert at_every_step(story) > 10
