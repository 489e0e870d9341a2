"""What calls inherit of whoever asked: the earliest deadline, wherever it was set, and nothing where they were detached."""

import asyncio
from contextvars import copy_context
from math import inf
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import now
from fairlead.caller import asked, detached, remaining, within
from fairlead.client import HTTPClient
from fairlead.core import Timeout
from fairlead.errors import AttemptTimedOut, ConfigError, DeadlineExceeded, Knowledge
from fairlead.gather import as_completed, gather, race
from fairlead.policies import CircuitBreaker
from fairlead.testing import Pieces, at_every_step, script, virtual_time


def client(*answers, then=None, **options):
    return HTTPClient("https://shop.test", engine=script(*answers, then=then), **options)


def deadlines(shop):
    return [call.deadline for call in shop.engine.calls]


@virtual_time
async def test_a_call_ends_by_the_deadline_it_was_made_in():
    async with client(inf) as shop:
        with pytest.raises(DeadlineExceeded), within(2.0):
            await shop.get("/")
        assert now() == pytest.approx(2.0)


@virtual_time
async def test_its_own_time_counts_where_that_is_earlier():
    async with client(inf, max_retries=0) as shop:
        with pytest.raises(AttemptTimedOut), within(9.0):
            await shop.get("/", timeout=2.0)
        assert now() == pytest.approx(2.0)


@virtual_time
async def test_a_client_without_a_bound_has_the_callers():
    async with client(then=200, timeout=None) as shop:
        with within(3.0):
            await shop.get("/")
        await shop.get("/")
    assert deadlines(shop) == [3.0, inf]


@given(st.lists(st.one_of(st.none(), st.floats(-10, 10)), max_size=6))
def test_of_nested_ones_the_earliest_counts(bounds):
    @virtual_time
    async def nested():
        scopes = [within(bound) for bound in bounds]
        dues = [scope.__enter__() for scope in scopes]
        assert remaining() == max(0.0, min((bound for bound in bounds if bound is not None), default=inf))
        assert dues == sorted(dues, reverse=True)
        for scope in reversed(scopes):
            scope.__exit__(None, None, None)
        assert asked() is None

    nested()


@virtual_time
async def test_tasks_that_are_started_inside_inherit_it_and_those_before_do_not():
    async with client(then=200, timeout=None) as shop:
        before = asyncio.create_task(shop.get("/"))
        with within(2.0):
            inside = asyncio.create_task(shop.get("/"))
        await asyncio.gather(before, inside)
    assert deadlines(shop) == [inf, 2.0]


@virtual_time
async def test_a_deadline_that_has_passed_sends_nothing():
    async with client() as shop:
        with within(0.5):
            await asyncio.sleep(1.0)
            with pytest.raises(DeadlineExceeded) as caught:
                await shop.post("/", content=b"x")
    assert caught.value.knowledge is Knowledge.NOT_SENT
    assert shop.engine.bodies == []
    assert now() == 1.0


@virtual_time
async def test_what_was_left_may_have_been_nothing():
    async with client() as shop:
        for seconds in (0, -3.5):
            with within(seconds), pytest.raises(DeadlineExceeded):
                await shop.get("/")
    assert shop.engine.bodies == []


@virtual_time
async def test_an_impatient_caller_is_no_verdict_on_the_upstream():
    async with client(then=inf, policies=(CircuitBreaker(consecutive=2),)) as shop:
        for seconds in (0.0, 0.5, 1.0, 2.0, 4.0):
            with within(seconds), pytest.raises(DeadlineExceeded):
                await shop.get("/")
        (state,) = shop.upstream.states.values()
        assert "closed" in repr(state)
        for _ in range(2):  # though its own time is one
            with pytest.raises(AttemptTimedOut):
                await shop.get("/", timeout=1.0)
        assert "open" in repr(state)


@virtual_time
async def test_no_pause_and_no_line_outlasts_it():
    async with client(inf, then=503, max_connections=1, retry_delay=1000.0) as shop:
        held = asyncio.create_task(shop.get("/", timeout=60.0))
        await asyncio.sleep(0)
        with within(3.0), pytest.raises(DeadlineExceeded, match="in line"):
            await shop.get("/")
        assert now() == pytest.approx(3.0)
        held.cancel()
        await asyncio.wait({held})
        with within(0.001):
            assert (await shop.get("/", raise_for_status=False)).status_code == 503
        assert now() == pytest.approx(3.0)


@virtual_time
async def test_a_stream_ends_by_it_with_its_body():
    async with client((200, Pieces(b"a", 5.0, b"b"))) as shop:
        with within(2.0), pytest.raises(DeadlineExceeded):
            async with shop.stream("GET", "/") as response:
                await response.aread()
        assert now() == pytest.approx(2.0)
        assert shop.engine.open == 0


class TestGather:
    @virtual_time
    async def test_parts_of_every_kind_end_by_it(self):
        async with client(inf) as shop:
            with within(2.0):
                parts = await gather({"call": shop.get("/"), "query": asyncio.sleep(9), "quick": asyncio.sleep(1, 7)})
        assert now() == pytest.approx(2.0)
        assert {name: part.status for name, part in parts.services.items()} == {
            "call": "timeout",
            "query": "timeout",
            "quick": "ok",
        }
        assert parts.services["query"].error == "no answer before the caller's deadline"

    @virtual_time
    async def test_its_own_bound_is_told_to_the_calls(self):
        async with client(then=200) as shop:
            await gather({"a": shop.get("/"), "b": shop.get("/")}, within=0.8)
            with within(0.5):
                parts = await gather({"a": shop.get("/"), "late": asyncio.sleep(9)}, within=0.8)
        assert deadlines(shop) == [0.8, 0.8, 0.5]
        assert "deadline" in parts.services["late"].error
        assert asked() is None

    @virtual_time
    async def test_a_required_part_that_is_late_is_raised(self):
        with within(0.5), pytest.raises(DeadlineExceeded, match="'a' gave no answer before the caller's deadline"):
            await gather({"a": asyncio.sleep(9)}, required={"a"}, within=0.8)

    @virtual_time
    async def test_its_kin_inherit_it_too(self):
        async with client(then=200) as shop:
            with within(0.5):
                await race([shop.get("/"), shop.get("/")])
                async for _ in as_completed({"a": shop.get("/")}):
                    pass
        assert set(deadlines(shop)) == {0.5}


class TestDetached:
    @virtual_time
    async def test_what_is_detached_has_no_callers_deadline(self):
        async with client(then=200, timeout=Timeout(total=40.0)) as shop:
            with within(1.0):
                with detached():
                    assert remaining() == inf
                    later = asyncio.create_task(shop.get("/"))
                    with within(5.0):
                        await shop.get("/")
                await shop.get("/")
            await later
        assert sorted(deadlines(shop)) == [1.0, 5.0, 40.0]


@virtual_time
async def test_what_is_left_is_known():
    assert remaining() == inf
    with within(None) as due:
        assert (due, remaining()) == (inf, inf)
    with within(2) as due:
        assert (due, remaining()) == (2.0, 2.0)
        await asyncio.sleep(0.5)
        assert remaining() == 1.5
        await asyncio.sleep(5)
        assert remaining() == 0.0


@pytest.mark.parametrize("seconds", [True, "2", inf, float("nan"), [1]])
def test_what_is_no_number_of_seconds_is_refused(seconds):
    with pytest.raises(ConfigError, match="is not a number of seconds; None adds no bound"):
        within(seconds)


def test_it_is_no_decorator_as_it_would_bound_nothing():
    with pytest.raises(TypeError):

        @within(2.0)
        async def job(): ...


def test_cancelled_at_any_step_it_leaves_nothing():
    async def story(cut):
        async with client(0.5, 503, 0.5, 200) as shop:

            async def work():
                with within(3.0):
                    await gather({"a": shop.get("/"), "b": asyncio.sleep(1)}, within=2.0)
                    with detached():
                        await asyncio.sleep(0.1)
                assert asked() is None

            await cut(work())
            assert shop.engine.open == 0
            assert shop.upstream.states["ConcurrencyLimit", "default"].taken == 0
            assert asyncio.all_tasks() == {asyncio.current_task()}

    assert at_every_step(story) > 5


def test_where_no_loop_runs_the_time_is_the_systems():
    with within(None), detached():
        assert remaining() == inf
    with within(60.0) as due:
        assert 0.0 < remaining() <= 60.0
        with within(120.0) as inner:
            assert inner == due
        with within(-1.0):
            assert remaining() == 0.0


@virtual_time
async def test_a_thread_has_the_time_of_the_loop_it_was_started_from():
    told = []
    with within(5.0) as due:
        there = copy_context()

        def work():
            told.append(remaining())
            with within(2.0) as inner:
                told.append(inner)

        thread = Thread(target=there.run, args=(work,))
        thread.start()
        thread.join(10.0)
    assert told == [5.0, due - 3.0]
