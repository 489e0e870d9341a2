"""Blocking work in a bounded number of places: the line before them is seen, and nobody waits longer than their deadline."""

from __future__ import annotations

import asyncio
import functools
import gc
import multiprocessing
import operator
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future as Work
from contextvars import ContextVar
from math import inf

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead import offload as module
from fairlead.caller import remaining, within
from fairlead.errors import ConfigError, DeadlineExceeded, LimitReached
from fairlead.fastapi import Use, lifespan
from fairlead.gather import gather
from fairlead.offload import Offload, offload
from fairlead.offload.work import Running, packed
from fairlead.sync import SyncHTTPClient
from fairlead.testing import at_every_step, script
from peers import PATIENCE, moment


class Parsing(Offload):
    pass


class Gate:
    """Work that blocks until it is let go, and counts those who came."""

    def __init__(self) -> None:
        self.came = 0
        self.opened = threading.Event()
        self.threads: set[str] = set()

    def __call__(self, answer=None):
        self.came += 1
        self.threads.add(threading.current_thread().name)
        assert self.opened.wait(PATIENCE)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.opened.set()


async def until(happened):
    async with asyncio.timeout(PATIENCE):
        while not happened():
            await moment()


def threads_of(name):
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"fairlead {name}")]


# what it gives back


async def test_it_gives_what_the_work_returns():
    assert await offload(divmod, 7, 2) == (3, 1)
    assert await offload(sorted, [1, 3, 2], reverse=True) == [3, 2, 1]
    assert await offload(threading.get_ident) != threading.get_ident()
    assert await offload(functools.partial(operator.add, 1), 2) == 3
    await module.close()


@pytest.mark.parametrize("error", [KeyError("a"), ValueError("b"), OSError(2, "c"), StopAsyncIteration("d")])
async def test_an_error_keeps_its_type(error):
    def fail():
        raise error

    async with Offload() as pool:
        with pytest.raises(type(error)) as caught:
            await pool(fail)
    assert caught.value is error
    assert caught.traceback[-1].name == "fail"


async def test_an_iterator_that_ends_does_not_hang_its_caller():
    async with Offload() as pool:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool(next, iter(()))


async def test_context_variables_are_those_of_whoever_calls():
    user = ContextVar("user", default="nobody")

    def look():
        seen = user.get()
        user.set("the work")
        return seen

    async with Offload() as pool:
        user.set("ada")
        assert await pool(look) == "ada"
    assert user.get() == "ada"


async def test_the_work_knows_the_deadline_and_so_do_its_calls():
    def work():
        with SyncHTTPClient("http://shop.test", engine=script(200)) as shop:
            shop.get("/")
            call = shop._client.engine.calls[0]
            return remaining(), call.deadline - call.clock()

    async with Offload(timeout=5.0) as pool:
        assert all(4.0 < seconds <= 5.0 for seconds in await pool(work))
        with within(2.0):
            assert all(1.0 < seconds <= 2.0 for seconds in await pool(work))
    async with Offload() as pool:
        assert await pool(remaining) == inf


async def test_it_is_a_part_like_any_other(gate):
    async with Offload(threads=2) as pool:
        parts = await gather({"sum": pool(sum, [1, 2]), "late": pool(gate)}, within=0.05)
        assert (parts.data["sum"], parts.services["late"].status) == (3, "timeout")
        gate.opened.set()


# the places and the line


async def test_so_many_at_once_and_no_more(gate):
    async with Offload(threads=3) as pool:
        calls = [asyncio.create_task(pool(gate, number)) for number in range(8)]
        await until(lambda: gate.came == 3)
        await moment()
        assert (gate.came, pool.under_way, pool.waiting) == (3, 3, 5)
        assert repr(pool) == "<Offload offload: 3 of 3 taken, 5 waiting>"
        gate.opened.set()
        assert await asyncio.gather(*calls) == list(range(8))
        assert (pool.under_way, pool.waiting, pool.shed) == (0, 0, 0)
        assert len(pool.waited) == 5
        assert min(pool.waited) > 0.0
        assert len(gate.threads) <= 3


async def test_a_full_line_turns_away(gate):
    async with Offload(threads=1, waiting=1, name="parsing") as pool:
        calls = [asyncio.create_task(pool(gate, number)) for number in range(2)]
        await until(lambda: pool.waiting == 1)
        with pytest.raises(LimitReached, match=r"parsing: the line is full \(limit 1, 1 under way and 1 waiting\)"):
            await pool(gate)
        assert pool.shed == 1
        gate.opened.set()
        assert await asyncio.gather(*calls) == [0, 1]


async def test_who_is_too_late_in_line_is_never_begun(gate):
    async with Offload(threads=1) as pool:
        first = asyncio.create_task(pool(gate))
        await until(lambda: gate.came == 1)
        with pytest.raises(DeadlineExceeded, match="in line for a slot"), within(0.02):
            await pool(gate)
        with pytest.raises(DeadlineExceeded, match="was not begun, as no time was left"), within(0.0):
            await pool(gate)
        gate.opened.set()
        await first
        assert await pool(sum, [1]) == 1
        assert gate.came == 1


async def test_a_thread_that_is_too_late_keeps_its_place_until_it_ends(gate):
    async with Offload(threads=1, timeout=0.05, name="parsing") as pool:
        with pytest.raises(DeadlineExceeded, match="parsing: Gate was still running: its thread cannot be stopped"):
            await pool(gate)
        assert (pool.under_way, pool.abandoned) == (1, 1)
        with pytest.raises(DeadlineExceeded, match="in line"):
            await pool(gate)
        gate.opened.set()
        await until(lambda: pool.under_way == 0)
        assert pool.abandoned == 0
        assert await pool(sum, [1]) == 1
        assert gate.came == 1


async def test_an_abandoned_work_that_fails_is_told(gate, caplog):
    async with Offload(timeout=0.02, name="parsing") as pool:
        with pytest.raises(DeadlineExceeded):
            await pool(gate, ValueError("a secret"))
        gate.opened.set()
        await until(lambda: pool.under_way == 0)
    (record,) = caplog.records
    assert record.getMessage() == "parsing: Gate failed, when nobody waited for it any more: ValueError"


async def test_a_caller_that_is_cancelled_leaves_in_line_and_at_work(gate):
    async with Offload(threads=1) as pool:
        calls = [asyncio.create_task(pool(gate)) for _ in range(3)]
        await until(lambda: pool.waiting == 2)
        for call in (calls[0], calls[2]):
            call.cancel()
        await asyncio.wait({calls[0], calls[2]}, timeout=PATIENCE)
        assert calls[0].cancelled()
        assert calls[2].cancelled()
        assert (pool.under_way, pool.abandoned, pool.waiting) == (1, 1, 1)
        gate.opened.set()
        await calls[1]
        assert gate.came == 2
        assert pool.under_way == 0


def test_cancelled_at_any_step_no_place_is_lost():
    async def story(cut):
        gate = Gate()
        async with Offload(threads=1) as pool:
            first = asyncio.create_task(pool(gate))
            await until(lambda: gate.came == 1)
            asyncio.get_running_loop().call_later(0.001, gate.opened.set)
            await cut(pool(sum, [1, 2]))
            gate.opened.set()
            await first
            await until(lambda: pool.under_way == 0)
            assert (pool.waiting, pool.abandoned, pool._life.calls) == (0, 0, 0)
            assert await pool(sum, [1]) == 1

    assert at_every_step(story, real=True) > 3


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.lists(st.sampled_from(["wait", "cancel", "late", "fail"]), min_size=1, max_size=16))
def test_whatever_becomes_of_them_each_place_is_given_back(threads, fates):
    async def story():
        gate = Gate()
        async with Offload(threads=threads) as pool:

            async def call(fate):
                if fate == "late":
                    with within(0.001):
                        await pool(gate)
                elif fate == "fail":
                    await pool(gate, KeyError("a"))
                else:
                    await pool(gate)

            calls = [asyncio.create_task(call(fate)) for fate in fates]
            await asyncio.sleep(0)
            for one, fate in zip(calls, fates, strict=True):
                if fate == "cancel":
                    one.cancel()
            late = {one for one, fate in zip(calls, fates, strict=True) if fate == "late"}
            if late:
                await asyncio.wait(late, timeout=PATIENCE)
            assert pool.under_way <= threads
            gate.opened.set()
            told = await asyncio.gather(*calls, return_exceptions=True)
            await until(lambda: pool.under_way == 0)
            assert (pool.waiting, pool.abandoned) == (0, 0)
        kinds = {"wait": type(None), "cancel": asyncio.CancelledError, "late": DeadlineExceeded, "fail": KeyError}
        assert [type(one) for one in told] == [kinds[fate] for fate in fates]
        assert gate.came <= len(fates)

    asyncio.run(story())


# processes


async def test_a_process_is_another_and_is_kept():
    async with Offload(processes=1, name="cpu") as pool:
        pid = await pool(os.getpid)
        assert pid != os.getpid()
        assert await pool(os.getpid) == pid
        assert await pool(int, "11", base=2) == 3
        with pytest.raises(ValueError, match="invalid literal"):
            await pool(int, "x")
        assert await pool(os.getpid) == pid
        assert (
            pool.explain() == "cpu: 1 process; the rest wait in a line of at most 1000, no longer than their deadline"
        )
    assert multiprocessing.active_children() == []
    assert threads_of("cpu") == []


async def test_a_process_that_is_too_late_is_killed_and_another_takes_its_place():
    async with Offload(processes=1, name="cpu") as pool:
        pid = await pool(os.getpid)
        with (
            pytest.raises(DeadlineExceeded, match="cpu: sleep was still running: its process was killed"),
            within(0.05),
        ):
            await pool(time.sleep, 600.0)
        await until(lambda: pool.under_way == 0)
        assert multiprocessing.active_children() == []
        assert await pool(os.getpid) not in {pid, os.getpid()}


async def test_killing_one_takes_nothing_from_its_neighbours():
    async with Offload(processes=2) as pool:
        await asyncio.gather(pool(time.sleep, 0.1), pool(time.sleep, 0.1))
        left = asyncio.create_task(pool(time.sleep, 600.0))
        stays = asyncio.create_task(pool(time.sleep, 0.3))
        await moment()
        left.cancel()
        await until(lambda: pool.under_way == 1 or stays.done())
        assert await stays is None
        assert left.cancelled()


async def test_a_process_that_is_left_before_it_began_is_killed_too():
    async with Offload(processes=1, timeout=0.01) as pool:
        with pytest.raises(DeadlineExceeded):
            await pool(time.sleep, 600.0)
        await until(lambda: pool.under_way == 0)
    assert multiprocessing.active_children() == []


async def test_a_process_that_dies_is_an_error_of_its_work_alone():
    async with Offload(processes=1) as pool:
        with pytest.raises(Exception, match="process"):
            await pool(os._exit, 1)
        assert await pool(sum, [1]) == 1
        (process,) = multiprocessing.active_children()
        process.kill()
        await until(lambda: pool._life.idle[0]._broken)
        assert await pool(sum, [2]) == 2


class Standin:
    """In place of a pool of one process: what it is given is done at once."""

    def __init__(self, meanwhile=lambda: None):
        self.meanwhile = meanwhile
        self.kills = self.ends = 0
        self._processes = {1: self}

    def submit(self, function, *given):
        self.meanwhile()
        work = Work()
        work.set_result(function(*given))
        return work

    def kill(self):
        self.kills += 1

    def shutdown(self):
        self.ends += 1


def test_a_process_whose_work_was_left_as_it_began_is_killed_and_not_kept():
    running = Running(None, "sum")
    process = Standin(meanwhile=running.leave)
    idle = [process]
    running.in_process(idle, packed(sum, ([1],), {}), "sum")
    assert (idle, process.kills, process.ends) == ([], 1, 1)


def test_a_process_is_not_killed_for_a_work_that_it_has_done():
    running = Running(None, "sum")
    process = Standin()
    idle = [process]
    assert running.in_process(idle, packed(sum, ([1],), {}), "sum") == 1
    running.leave()
    assert (idle, process.kills, process.ends) == ([process], 0, 0)


async def test_a_work_that_cannot_be_begun_takes_no_place():
    async with Offload(threads=1) as pool:
        pool._life.executor.shutdown()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="cannot schedule new futures"):
                await pool(sum, [1])
        assert pool.under_way == 0


async def test_what_cannot_be_sent_to_a_process_is_said():
    def inner():
        return 1

    async with Offload(processes=1, name="cpu") as pool:
        for work, arguments in ((lambda: 1, ()), (inner, ()), (print, (threading.Lock(),))):
            with pytest.raises(
                ConfigError, match=r"cpu: .* cannot be sent to a process \(\w+\): define it at the top of"
            ):
                await pool(work, *arguments)
        assert pool.under_way == 0
    assert multiprocessing.active_children() == []


# its life


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"threads": 0}, "threads=0 is not a whole number from 1 on"),
        ({"processes": True}, "processes=True is not a whole number"),
        ({"threads": 1, "processes": 1}, "two kinds of places"),
        ({"waiting": -1}, "waiting=-1 is not a whole number from 0 on"),
        ({"timeout": 0}, "timeout=0 is not a number of seconds above 0"),
    ],
)
def test_what_cannot_work_is_said_at_once(options, told):
    with pytest.raises(ConfigError, match=told):
        Offload(**options)


async def test_what_cannot_be_called_there_is_said():
    async def work(): ...

    with pytest.raises(ConfigError, match=r"work is async: await it where you are"):
        await offload(work)
    with pytest.raises(ConfigError, match="int cannot be called: pass the function"):
        await offload(7)
    await module.close()


async def test_closing_waits_for_what_is_under_way(gate):
    pool = Offload(threads=1)
    calls = [asyncio.create_task(pool(gate, number)) for number in range(2)]
    await until(lambda: gate.came == 1)
    closing = asyncio.create_task(pool.close(drain=PATIENCE))
    await moment()
    with pytest.raises(ConfigError, match="offload: it is closed"):
        await pool(gate)
    gate.opened.set()
    await closing
    assert await asyncio.gather(*calls) == [0, 1]
    await until(lambda: threads_of("offload") == [])


async def test_closing_at_once_leaves_a_thread_to_itself(gate):
    pool = Offload(threads=1, name="parsing")
    calls = [asyncio.create_task(pool(gate)) for _ in range(2)]
    await until(lambda: gate.came == 1)
    await pool.close(drain=0.0)
    with pytest.raises(ConfigError, match="parsing: it was closed while Gate ran"):
        await calls[0]
    with pytest.raises(ConfigError, match="parsing: the client was closed"):
        await calls[1]
    assert gate.came == 1
    with pytest.raises(ConfigError, match=r"parsing: close\(drain=-1\) is not a number"):
        await pool.close(drain=-1)
    gate.opened.set()
    await until(lambda: threads_of("parsing") == [])


async def test_closing_kills_a_process():
    pool = Offload(processes=1)
    call = asyncio.create_task(pool(time.sleep, 600.0))
    await until(lambda: pool.under_way == 1)
    await pool.close(drain=0.0)
    with pytest.raises(ConfigError, match="it was closed while sleep ran"):
        await call
    await until(lambda: multiprocessing.active_children() == [] and threads_of("offload") == [])


async def test_entered_again_it_begins_anew():
    pool = Offload(threads=1)
    for _ in range(2):
        async with pool:
            assert await pool(sum, [1]) == 1
    with pytest.raises(ConfigError, match="it is closed"):
        await pool(sum, [1])


def test_it_lives_on_one_loop_at_a_time():
    pool = Offload(threads=1)

    async def use():
        return await pool(sum, [1])

    async def elsewhere():
        await use()
        with pytest.raises(ConfigError, match="it was opened on another event loop"):
            await asyncio.to_thread(asyncio.run, use())
        with pytest.raises(ConfigError, match="close it on the event loop that opened it"):
            await asyncio.to_thread(asyncio.run, pool.close())

    asyncio.run(elsewhere())
    assert asyncio.run(use()) == 1
    asyncio.run(pool.close())


def test_each_loop_has_its_own_and_lets_go_of_it():
    names = set()

    async def use():
        await offload(sum, [1])
        names.update(thread.name for thread in threads_of("offload"))

    asyncio.run(use())
    asyncio.run(use())
    gc.collect()
    assert names == {"fairlead offload_0"}
    for thread in threads_of("offload"):
        thread.join(PATIENCE)
    assert threads_of("offload") == []


def test_work_that_outlives_its_loop_harms_nobody(gate):
    pool = Offload(threads=1, timeout=0.02)

    async def late():
        with pytest.raises(DeadlineExceeded):
            await pool(gate)

    asyncio.run(late())

    async def again():
        async with pool:
            assert await pool(sum, [1]) == 1

    asyncio.run(again())
    gate.opened.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_has_threads_of_its_own():
    code = """
import asyncio, os, sys, warnings
from fairlead.offload import Offload
warnings.simplefilter("ignore", DeprecationWarning)
pool = Offload(threads=1)
async def use():
    async with asyncio.timeout(5):
        return await pool(sum, [1, 2])
with asyncio.Runner() as runner:
    assert runner.run(use()) == 3
    pid = os.fork()
    if pid == 0:
        asyncio.set_event_loop(None)
        print(asyncio.new_event_loop().run_until_complete(use()), flush=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert runner.run(use()) == 3
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE * 2
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


# in an application


def test_a_lifespan_opens_and_closes_it():
    app = FastAPI(lifespan=lifespan(Parsing(threads=2, name="parsing")))

    @app.get("/sum")
    async def route(parsing: Use[Parsing]) -> list[int]:
        return [await parsing(sum, [1, 2]), await offload(sum, [3, 4])]

    @app.get("/late")
    async def late() -> None:
        await offload(time.sleep, 0.3)

    with TestClient(app) as caller:
        assert caller.get("/sum").json() == [3, 7]
        assert caller.get("/late", headers={"X-Request-Timeout": "0.05"}).status_code == 504
        assert threads_of("parsing")
        assert threads_of("offload")
    for thread in (*threads_of("parsing"), *threads_of("offload")):
        thread.join(PATIENCE)
