"""Faults at every await: each place is met once in each way, and what is left behind is seen."""

from __future__ import annotations

import asyncio
import socket

import pytest

from fairlead import ConfigError
from fairlead.testing import Cut, Fault, VirtualLoop, at_every_await, at_every_step


def ends_of(work, **options):
    """How the work ended in each telling, and how many cuts there were."""
    ends = []

    async def watched():
        try:
            await work()
        except BaseException as error:
            ends.append(type(error).__name__)
            raise
        ends.append("whole")

    async def story(cut: Cut) -> None:
        await cut(watched())

    return ends, at_every_await(story, loop_factory=VirtualLoop, **options)


async def two_waits():
    await asyncio.sleep(1)
    await asyncio.sleep(1)


def test_each_await_fails_once_and_then_none():
    ends, cuts = ends_of(two_waits, faults=[Fault.FAILS])
    assert (ends, cuts) == (["OSError", "OSError", "whole"], 2)


def test_each_await_is_cancelled_once_and_once_as_it_goes_on():
    ends, cuts = ends_of(two_waits, faults=[Fault.CANCELLED, Fault.CANCELLED_LATE])
    assert (ends, cuts) == (["CancelledError", "CancelledError", "whole"] * 2, 4)


def test_a_second_cancellation_comes_at_every_await_of_the_unwinding():
    unwound = []

    async def work():
        try:
            await asyncio.sleep(1)
        finally:
            await asyncio.sleep(1)
            unwound.append("half")
            await asyncio.sleep(1)
            unwound.append("whole")

    _, cuts = ends_of(work, faults=[Fault.CANCELLED_TWICE])
    # Cut at the first await and again at each of the two after it, then at neither; at the second, again at none; ...
    assert unwound.count("whole") < unwound.count("half")
    assert cuts == 2


def test_what_failed_is_cancelled_while_it_is_dealt_with():
    dealt = []

    async def work():
        try:
            await asyncio.sleep(1)
        except OSError:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                dealt.append("cancelled")
                raise

    ends_of(work, faults=[Fault.FAILS_AND_CANCELLED])
    assert dealt == ["cancelled"]


def test_a_task_of_the_works_own_is_met_too():
    inner = []

    async def child():
        try:
            await asyncio.sleep(1)
        except OSError:
            inner.append("failed")
            raise

    async def work():
        await asyncio.create_task(child())

    ends_of(work, faults=[Fault.FAILS])
    assert inner == ["failed"]


def test_a_cut_falls_between_a_grant_and_its_taker():
    lost = []

    async def story(cut: Cut) -> None:
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

    at_every_await(story, loop_factory=VirtualLoop)
    assert True in lost


def test_who_swallows_a_cancellation_is_found():
    async def work():
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            return

    with pytest.raises(AssertionError, match="await 0 is cancelled: the cancellation was swallowed"):
        ends_of(work)


def test_what_fails_by_itself_is_no_torture():
    async def work():
        raise ConfigError("wrong")

    with pytest.raises(ConfigError) as caught:
        ends_of(work)
    assert caught.value.__notes__ == ["await 0 fails"]


def test_an_error_that_is_none_of_ours_is_told_with_its_place():
    async def work():
        await asyncio.sleep(0)
        try:
            await asyncio.sleep(1)
        except OSError:
            raise KeyError("broken") from None

    with pytest.raises(KeyError) as caught:
        ends_of(work)
    assert caught.value.__notes__ == ["await 1 fails"]


def test_steps_of_a_real_loop_are_cut_too():
    ends = []

    async def story(cut: Cut) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)

            async def work():
                loop = asyncio.get_running_loop()
                loop.call_soon(theirs.send, b"word")
                ends.append(await loop.sock_recv(ours, 4))

            await cut(work())

    assert at_every_step(story, real=True) >= 2
    assert set(ends) == {b"word"}
