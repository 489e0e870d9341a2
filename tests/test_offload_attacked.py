"""What broke a pool for blocking work once: lives that overlap, what cannot come back from a process, and work that is none."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from concurrent.futures.process import BrokenProcessPool

import pytest

from fairlead.errors import ConfigError, ConnectFailed, FairleadError, Knowledge
from fairlead.offload import Offload
from peers import PATIENCE, moment


class Picky(Exception):
    """It is made from two arguments, and pickled with one."""

    def __init__(self, one, other):
        super().__init__(f"{one}{other}")


class Torn:
    """It can be packed, and not be unpacked."""

    def __reduce__(self):
        return int, ("not a number",)


def raise_picky():
    raise Picky("a secret", "b")


def raise_ours():
    raise ConnectFailed("no route", upstream="shop", phase="connect", knowledge=Knowledge.NOT_SENT)


def return_torn():
    return Torn()


def return_a_lock():
    return threading.Lock()


def lines():
    yield "a"


async def lines_in_time():
    yield "a"


class Lines:
    def __call__(self):
        yield "a"


class Awaited:
    async def __call__(self): ...


@pytest.fixture
def gate():
    opened = threading.Event()
    yield opened
    opened.set()


async def until(happened):
    async with asyncio.timeout(PATIENCE):
        while not happened():
            await moment()


# lives that overlap


async def test_entered_again_at_once_it_counts_only_its_own(gate):
    pool = Offload(threads=1, name="parsing")
    held, waits = asyncio.create_task(pool(gate.wait, PATIENCE)), asyncio.create_task(pool(sum, [1]))
    await until(lambda: pool.waiting == 1)
    await pool.close(drain=0.0)
    async with pool:
        with pytest.raises(ConfigError, match=r"parsing: it was closed while Event.wait ran"):
            await held
        with pytest.raises(ConfigError, match="parsing: the client was closed"):
            await waits
        assert (pool.under_way, pool.waiting, pool.abandoned) == (0, 0, 0)
        again = threading.Event()
        mine = asyncio.create_task(pool(again.wait, PATIENCE))
        await until(lambda: pool.under_way == 1)
        closing = asyncio.create_task(pool.close(drain=PATIENCE))
        await moment()
        assert not closing.done()
        again.set()
        await closing
        assert await mine is True


def test_calls_that_a_loop_left_behind_are_not_counted_on_the_next(gate, caplog):
    pool = Offload(threads=1)

    async def begin():
        calls = [asyncio.ensure_future(pool(gate.wait, PATIENCE)), asyncio.ensure_future(pool(sum, [1]))]
        await until(lambda: pool.waiting == 1)
        return calls

    async def again(left):
        async with pool:
            assert await pool(sum, [1]) == 1
            left.clear()
            gc.collect()
            held = threading.Event()
            mine = asyncio.create_task(pool(held.wait, PATIENCE))
            await until(lambda: pool.under_way == 1)
            closing = asyncio.create_task(pool.close(drain=PATIENCE))
            await moment()
            assert not closing.done()
            held.set()
            await closing
            assert await mine is True

    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(begin())
    loop.close()
    asyncio.run(again(left))
    assert {record.getMessage().partition("\n")[0] for record in caplog.records} <= {
        "Task was destroyed but it is pending!"
    }


# from a process


async def test_an_error_that_cannot_be_read_again_is_named_and_its_process_goes_on():
    async with Offload(processes=1, name="cpu") as pool:
        pid = await pool(os.getpid)
        with pytest.raises(ConfigError, match=r"cpu: raise_picky raised Picky, which cannot be sent back") as caught:
            await pool(raise_picky)
        assert "secret" not in str(caught.value)
        assert "raise Picky" in str(caught.value.__cause__)
        assert await pool(os.getpid) == pid


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (
            return_torn,
            r"cpu: return_torn returned what cannot be read again \(ValueError\): return what can be pickled",
        ),
        (return_a_lock, r"cpu: return_a_lock returned lock, which cannot be sent back \(TypeError\): return what can"),
    ],
)
async def test_an_answer_that_cannot_come_back_is_named_and_its_process_goes_on(work, told):
    async with Offload(processes=1, name="cpu") as pool:
        pid = await pool(os.getpid)
        with pytest.raises(ConfigError, match=told):
            await pool(work)
        assert await pool(os.getpid) == pid


async def test_an_error_of_ours_comes_back_whole():
    async with Offload(processes=1) as pool:
        with pytest.raises(ConnectFailed, match="no route") as caught:
            await pool(raise_ours)
    error = caught.value
    assert (error.upstream, error.phase, error.knowledge) == ("shop", "connect", Knowledge.NOT_SENT)


async def test_a_process_that_dies_at_work_is_told_by_name():
    async with Offload(processes=1, name="cpu") as pool:
        with pytest.raises(
            BrokenProcessPool, match="cpu: _exit: its process ended meanwhile: it crashed or was killed"
        ):
            await pool(os._exit, 1)


# what is no work


@pytest.mark.parametrize("places", [{"threads": 1}, {"processes": 1}])
@pytest.mark.parametrize("work", [lines, lines_in_time, Lines()])
async def test_a_generator_would_run_where_it_is_read(work, places):
    async with Offload(**places, name="parsing") as pool:
        with pytest.raises(ConfigError, match="is a generator, and would run where it is read: return a list"):
            await pool(work)


async def test_an_object_that_is_awaited_when_called_is_async_too():
    async with Offload(name="parsing") as pool:
        with pytest.raises(ConfigError, match="parsing: Awaited is async: await it where you are"):
            await pool(Awaited())


async def test_work_that_was_cancelled_does_not_cancel_its_caller():
    def cancelled():
        raise asyncio.CancelledError

    async with Offload(threads=1, name="parsing") as pool:
        with pytest.raises(FairleadError, match="cancelled was cancelled") as caught:
            await pool(cancelled)
        assert caught.value.upstream == "parsing"
        assert pool.under_way == 0
