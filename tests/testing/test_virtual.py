"""Time that jumps: exact, repeatable, and never silently at an end."""

import asyncio
from math import inf

import pytest

from fairlead.testing import at_every_step, run, virtual_time


def test_a_day_passes_at_once():
    async def day():
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    assert run(day()) == 86_400


def test_timers_far_from_zero_still_fire():
    async def years():
        await asyncio.sleep(1e9)
        await asyncio.sleep(0.001)
        return asyncio.get_running_loop().time()

    assert run(years()) == pytest.approx(1e9 + 0.001)


@virtual_time
async def test_the_order_is_the_timers_order():
    seen = []

    async def wait(seconds):
        await asyncio.sleep(seconds)
        seen.append(seconds)

    async with asyncio.TaskGroup() as group:
        for seconds in (3, 1, 2):
            group.create_task(wait(seconds))
    assert seen == [1, 2, 3]
    assert asyncio.get_running_loop().time() == 3


@virtual_time
async def test_timeouts_are_exact():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.5):
            await asyncio.sleep(100)
    assert asyncio.get_running_loop().time() == 2.5


@pytest.mark.parametrize("seconds", [None, inf])
def test_waiting_for_nothing_is_an_error(seconds):
    async def stuck():
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, print)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="wait for ever"):
        run(stuck())


def test_a_thread_is_refused():
    with pytest.raises(RuntimeError, match="no threads"):
        run(asyncio.to_thread(print))


def test_a_test_function_keeps_its_arguments_and_its_answer():
    @virtual_time
    async def doubled(number):
        await asyncio.sleep(1)
        return 2 * number

    assert doubled(21) == 42


def test_every_step_is_cut_once():
    ends = []

    async def story(cut):
        async def work():
            try:
                await asyncio.sleep(1)
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                ends.append(asyncio.get_running_loop().time())
                raise
            ends.append("whole")

        await cut(work())

    cuts = at_every_step(story)
    assert cuts >= 3
    assert {0.0, 1.0} <= {end for end in ends if end != "whole"}
    assert ends[-1] == "whole"


def test_a_cut_falls_between_a_grant_and_its_taker():
    lost = []

    async def story(cut):
        loop = asyncio.get_running_loop()
        grant = loop.create_future()
        loop.call_later(1, grant.set_result, "slot")

        async def taker():
            try:
                await grant
            except asyncio.CancelledError:
                lost.append(grant.done() and not grant.cancelled())
                raise

        await cut(taker())

    at_every_step(story)
    assert True in lost
