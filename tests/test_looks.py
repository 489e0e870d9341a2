"""One timer for all that wait: who waits a while is told, once, and who leaves before that never is."""

import asyncio
import gc
import weakref
from contextvars import ContextVar

from calls import now
from fairlead.looks import LOOKED, Looks
from fairlead.testing import virtual_time


class Waiting:
    def __init__(self):
        self.told = []

    def listen(self):
        self.told.append(now())


@virtual_time
async def test_who_waits_is_told_at_the_second_look_and_only_then():
    looks, first, second = Looks(), Waiting(), Waiting()
    looks.wait(first)
    await asyncio.sleep(LOOKED / 2)
    looks.wait(second)
    await asyncio.sleep(9.0)
    assert (first.told, second.told) == ([2 * LOOKED], [2 * LOOKED])
    assert looks.under_way == {}


@virtual_time
async def test_who_leaves_before_is_never_told():
    looks, seen, unseen = Looks(), Waiting(), Waiting()
    looks.wait(seen)
    await asyncio.sleep(1.5 * LOOKED)
    looks.wait(unseen)
    looks.leave(seen)
    looks.leave(unseen)
    looks.leave(unseen)
    await asyncio.sleep(9.0)
    assert (seen.told, unseen.told) == ([], [])


@virtual_time
async def test_one_timer_serves_all_and_none_where_nobody_waits():
    loop, looks, armed = asyncio.get_running_loop(), Looks(), []
    call_later = loop.call_later
    loop.call_later = lambda *args, **options: armed.append(args[0]) or call_later(*args, **options)
    try:
        for _ in range(100):
            looks.wait(Waiting())
        assert armed == [LOOKED]
        await asyncio.sleep(9.0)
        assert [one for one in armed if one == LOOKED] == [LOOKED, LOOKED]
    finally:
        del loop.call_later


def test_on_another_loop_it_begins_anew():
    looks = Looks()

    async def waits(one, seconds):
        looks.wait(one)
        await asyncio.sleep(seconds)

    left, told = Waiting(), Waiting()
    virtual_time(waits)(left, 0.0)
    virtual_time(waits)(told, 1.0)
    assert (left.told, told.told) == ([], [2 * LOOKED])


@virtual_time
async def test_the_timer_keeps_nothing_of_whoever_was_there_first():
    class Kept:
        """What a request has in its context."""

    told = ContextVar("told")
    looks = Looks()

    async def first():
        one = Waiting()
        told.set(kept := Kept())
        looks.wait(one)
        looks.leave(one)
        return weakref.ref(kept)

    seen = await asyncio.create_task(first())
    looks.wait(Waiting())
    await asyncio.sleep(0)  # its task is let go of
    gc.collect()
    assert seen() is None
