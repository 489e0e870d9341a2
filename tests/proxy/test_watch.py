"""Listening for who waits: later, by one timer for all, and ended with the call."""

import asyncio

import pytest

from fairlead.asgi import Caller
from fairlead.client import HTTPClient
from fairlead.looks import LOOKED, Looks
from fairlead.proxy import ReverseProxy
from fairlead.proxy.watch import Watched
from fairlead.testing import script, virtual_time
from proxy.proxied import Messages, scope

BASE = "http://upstream.test"


async def receiving(*kinds):
    """A server that says these, one after the other, and then nothing."""
    said = [{"type": kind} for kind in kinds]

    async def receive():
        receive.asked += 1
        if said:
            return said.pop(0)
        return await asyncio.get_running_loop().create_future()

    receive.asked = 0
    return receive


@virtual_time
async def test_a_call_that_is_over_soon_is_never_listened_for():
    receive = await receiving("http.disconnect")
    looks = Looks()
    for _ in range(3):
        watched = Watched(looks, {}, receive)
        await asyncio.sleep(LOOKED / 2)
        watched.end()
        await asyncio.sleep(LOOKED)
    assert receive.asked == 0
    assert looks.under_way == {}


@virtual_time
@pytest.mark.parametrize("kinds", [["http.disconnect"], ["http.request", "http.disconnect"]])
async def test_one_that_lasts_is_cancelled_when_its_caller_leaves(kinds):
    looks, receive = Looks(), await receiving(*kinds)
    task = asyncio.current_task()
    watched = Watched(looks, {}, receive)
    began = asyncio.get_running_loop().time()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(60.0)
    assert LOOKED <= asyncio.get_running_loop().time() - began <= 3 * LOOKED
    assert watched.left()
    watched.end()
    assert task.cancelling() == 0


@virtual_time
async def test_a_cancellation_by_somebody_else_is_theirs():
    looks, receive = Looks(), await receiving()

    async def call():
        watched = Watched(looks, {}, receive)
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            assert not watched.left()
            raise
        finally:
            watched.end()

    task = asyncio.create_task(call())
    await asyncio.sleep(1.0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


@virtual_time
async def test_both_at_once_are_told_apart():
    looks, receive = Looks(), await receiving("http.disconnect")

    async def call():
        watched = Watched(looks, {}, receive)
        try:
            await asyncio.sleep(LOOKED * 2)
            task.cancel()
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            if not watched.left():
                raise
        finally:
            watched.end()

    task = asyncio.create_task(call())
    await asyncio.wait({task})
    assert task.cancelled() or task.cancelling() == 0


@virtual_time
async def test_a_server_that_says_the_same_over_and_over_is_not_listened_to_for_ever():
    looks, receive = Looks(), await receiving(*["http.request"] * 100)
    watched = Watched(looks, {}, receive)
    await asyncio.sleep(1.0)
    assert receive.asked == 2
    watched.end()


@virtual_time
async def test_a_cancellation_that_somebody_swallowed_is_taken_back():
    looks, receive = Looks(), await receiving("http.disconnect")
    watched = Watched(looks, {}, receive)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(60.0)
    watched.end()
    assert asyncio.current_task().cancelling() == 0


@virtual_time
async def test_another_loop_has_a_timer_of_its_own():
    looks, receive = Looks(), await receiving()
    looks._loop, looks._timer = object(), object()  # of a loop that was closed
    watched = Watched(looks, {}, receive)
    await asyncio.sleep(1.0)
    assert receive.asked == 1
    watched.end()


@virtual_time
async def test_below_a_caller_that_listens_it_listens_alone_and_keeps_the_deadline():
    async with HTTPClient(BASE, engine=script(30.0, 30.0)) as client:
        messages = Messages()
        app = Caller(ReverseProxy(client))
        await app(scope((b"x-request-timeout", b"5")), messages.receive, messages.send)
        assert messages.status == 504
        messages = Messages()
        asyncio.get_running_loop().call_later(1.0, messages.left.set)
        await app(scope(), messages.receive, messages.send)
        assert messages.status == 499
        assert asyncio.current_task().cancelling() == 0
