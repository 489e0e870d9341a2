"""A crowd of clients: the clock it goes by, the service before it, what it tells, and a storm of retries, which a budget keeps small."""

from __future__ import annotations

import asyncio
import json
import sys
from contextvars import ContextVar
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead import Timeout
from fairlead.core import Call
from fairlead.errors import AttemptTimedOut, ConfigError, ConnectFailed, DeadlineExceeded
from fairlead.message import Request
from fairlead.policies import Budget, CircuitBreaker, ConcurrencyLimit, Hedge, Retry, standard
from fairlead.testing import Outage, Service, Story, simulate
from fairlead.testing.virtual.clockwork import Clockwork
from fairlead.testing.virtual.service import Served
from fairlead.testing.virtual.simulation import _dice
from fairlead.testing.virtual.story import Tally

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

REQUEST = Request("GET", "https://shop.test/")


# The clock


def play(*works, loop=None):
    """Everything there is to come; what each returned or raised."""
    loop = loop or Clockwork()
    ends = [None] * len(works)

    def ended(number, result, error):
        ends[number] = result if error is None else error

    for number, work in enumerate(works):
        loop.call_soon(loop.play, number, work, ended)
    loop.run()
    return ends


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.booleans())))
def test_timers_come_in_their_order_and_those_of_one_moment_as_they_were_set(timers):
    loop, came = Clockwork(), []
    for number, (when, cancelled) in enumerate(timers):
        timer = loop.call_at(when, lambda *seen: came.append((*seen, loop.time())), when, number)
        assert timer.when() == when
        if cancelled:
            timer.cancel()
        assert timer.cancelled() is cancelled
    loop.run()
    expected = sorted((when, number) for number, (when, cancelled) in enumerate(timers) if not cancelled)
    assert came == [(when, number, when) for when, number in expected]


def test_what_is_ready_goes_before_what_is_due():
    loop, came = Clockwork(), []
    loop.call_later(0.0, came.append, "due")
    loop.call_soon(came.append, "ready")
    loop.run()
    assert came == ["ready", "due"]


def test_what_is_played_waits_for_futures_for_turns_and_for_time():
    loop = Clockwork()

    async def work():
        future = loop.create_future()
        loop.call_later(1.0, future.set_result, "first")
        seen = [await future, loop.time()]
        await asyncio.sleep(0)
        await loop.until(2)
        return [*seen, loop.time(), asyncio.get_running_loop() is loop]

    assert play(work(), loop=loop) == [["first", 1.0, 2.0, True]]


def test_what_is_awaited_raises_where_it_is_awaited():
    loop = Clockwork()

    async def work():
        future = loop.create_future()
        loop.call_later(1.0, future.set_exception, LookupError("gone"))
        with pytest.raises(LookupError):
            await future
        raise KeyError(loop.time())

    (error,) = play(work(), loop=loop)
    assert isinstance(error, KeyError)
    assert error.args == (1.0,)


def test_tasks_run_and_are_cancelled_as_on_any_loop():
    loop = Clockwork()

    async def sleeper(seconds):
        await loop.until(seconds)
        return seconds

    async def work():
        tasks = [loop.create_task(sleeper(seconds)) for seconds in (1.0, 5.0)]
        done, pending = await asyncio.wait(tasks, timeout=2.0)
        for task in pending:
            task.cancel()
        await asyncio.wait(pending)
        return [task.result() for task in done], [task.cancelled() for task in tasks], loop.time()

    assert play(work(), loop=loop) == [([1.0], [False, True], 2.0)]
    assert loop.time() == 5.0  # the timer of the one that was cancelled found nobody


def test_each_has_a_context_of_its_own():
    loop, whose = Clockwork(), ContextVar("whose", default="nobody")

    async def work(name):
        seen = [whose.get()]
        for turn in "123":
            whose.set(name + turn)
            await loop.until(loop.time() + 1.0)
            seen.append(whose.get())
            future = loop.create_future()
            loop.call_later(1.0, future.set_result, None)
            await future
            whose.set(whose.get() + "!")
            await asyncio.sleep(0)
            seen.append(whose.get())
        return seen

    for name, seen in zip("ab", play(work("a"), work("b"), loop=loop), strict=True):
        assert seen == ["nobody", *(name + turn + mark for turn in "123" for mark in ("", "!"))]
    assert whose.get() == "nobody"


def test_a_task_that_fails_unasked_ends_it():
    loop = Clockwork()

    async def fail():
        raise LookupError("gone")

    async def work():
        loop.create_task(fail())

    with pytest.raises(LookupError):
        play(work(), loop=loop)


async def test_it_runs_within_a_loop_and_leaves_it_as_it_was():
    outer, task = asyncio.get_running_loop(), asyncio.current_task()
    for policies in (None, (Hedge(),)):
        assert simulate(clients=1, rate=1.0, seconds=2.0, policies=policies).seconds == 2
    assert asyncio.get_running_loop() is outer
    assert asyncio.current_task() is task
    await asyncio.sleep(0)


# The service


def ask(service, *times, outages=(), timeout=10.0, seed=1):
    """What requests that come at these times see, and when."""
    loop = Clockwork()
    served = Served(service, outages, loop, _dice(seed, "service"), Tally(), 1.0)
    bounds = Timeout.of(timeout)

    async def one(when):
        await loop.until(when)
        call = Call(REQUEST, bounds, when + bounds.total, clock=loop.time)
        try:
            response = await served.send(call)
        except Exception as error:
            return type(error), round(loop.time() - when, 9)
        return response.status_code, round(loop.time() - when, 9)

    return play(*map(one, times), loop=loop)


STEADY = Service(latency=0.1, spread=0.0, capacity=10.0, line=0.5)


def test_it_answers_after_its_latency():
    assert ask(STEADY, 0.0, 1.0, 2.0) == [(200, 0.1)] * 3


def test_who_comes_faster_than_it_serves_waits_in_line():
    assert ask(STEADY, 0.0, 0.0, 0.0) == [(200, 0.1), (200, 0.2), (200, 0.3)]


def test_beyond_the_line_it_refuses():
    seen = ask(STEADY, *[0.0] * 8)
    assert [status for status, _ in seen] == [200] * 6 + [ConnectFailed] * 2


def test_it_serves_those_who_gave_up_before_those_who_came_later():
    assert ask(STEADY, 0.0, 0.0, 0.0, 0.25, timeout=0.15) == [
        (200, 0.1),
        (AttemptTimedOut, 0.15),
        (AttemptTimedOut, 0.15),
        (AttemptTimedOut, 0.15),  # the two before it have the next 0.05 s
    ]


def test_a_call_whose_deadline_has_passed_sends_nothing():
    loop, tally = Clockwork(), Tally()
    served = Served(STEADY, (), loop, _dice(1, "service"), tally, 1.0)
    (error,) = play(served.send(Call(REQUEST, Timeout(), 0.0, clock=loop.time)), loop=loop)
    assert isinstance(error, DeadlineExceeded)
    assert tally.first == 0


@pytest.mark.parametrize(
    ("kind", "during", "after"),
    [
        ("refused", (ConnectFailed, 0.0), (200, 0.1)),
        ("hanging", (AttemptTimedOut, 2.0), (200, 0.1)),
        ("stalled", (200, 1.1), (200, 0.2)),
        ("unavailable", (503, 0.1), (200, 0.1)),
        ("slow", (200, 1.0), (200, 0.1)),
    ],
)
def test_an_outage_is_met_from_its_beginning_to_its_end(kind, during, after):
    outage = Outage(at=1.0, seconds=1.0, kind=kind, slowness=10.0)
    assert ask(STEADY, 0.5, 1.0, 2.0, 9.0, outages=[outage], timeout=2.0) == [(200, 0.1), during, after, (200, 0.1)]


def test_what_stalls_is_served_afterwards_as_far_as_there_is_room():
    seen = ask(STEADY, *[1.0] * 8, outages=[Outage(at=1.0, seconds=3.0, kind="stalled")])
    assert seen[:3] == [(200, 3.1), (200, 3.2), (200, 3.3)]
    assert [status for status, _ in seen] == [200] * 6 + [ConnectFailed] * 2


@pytest.mark.parametrize(("seconds", "told"), [(2.0, "2"), (100, "100"), (0.25, "0.25"), (0.0, "0"), (None, None)])
def test_a_503_asks_for_a_pause_as_it_is_told(seconds, told):
    loop = Clockwork()
    outage = Outage(at=0.0, seconds=1.0, kind="unavailable", retry_after=seconds)
    served = Served(STEADY, [outage], loop, _dice(1, "service"), Tally(), 1.0)

    async def work():
        await loop.until(0.5)
        return await served.send(Call(REQUEST, Timeout(), 30.0, clock=loop.time))

    (answer,) = play(work(), loop=loop)
    assert answer.headers.get("Retry-After") == told


def test_a_share_of_the_requests_is_met():
    outage = Outage(at=0.0, seconds=1000.0, share=0.25)
    seen = ask(Service(capacity=inf), *range(1000), outages=[outage])
    assert 200 < sum(status is ConnectFailed for status, _ in seen) < 300


def test_latencies_are_spread_about_their_median():
    latencies = Service(latency=0.02, spread=0.5).latencies()
    assert latencies == sorted(latencies)
    assert latencies[len(latencies) // 2] == pytest.approx(0.02, rel=0.01)
    assert latencies[len(latencies) * 99 // 100] == pytest.approx(0.064, rel=0.02)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Outage(at=-1.0, seconds=1.0), "Outage: at=-1.0 is not a number of seconds from 0 on"),
        (lambda: Outage(at=0.0, seconds=0.0), "seconds=0.0 is not a number of seconds above 0"),
        (lambda: Outage(at=0.0, seconds=1.0, kind="gone"), "kind='gone' is none of refused, hanging"),
        (lambda: Outage(at=0.0, seconds=1.0, share=0.0), "share=0.0 is not a share"),
        (lambda: Outage(at=0.0, seconds=1.0, share=0.5, kind="stalled"), "use 'hanging' for a share"),
        (lambda: Outage(at=0.0, seconds=1.0, retry_after=-1.0), "retry_after=-1.0 is not"),
        (lambda: Outage(at=0.0, seconds=1.0, slowness=0.5), "slowness=0.5 is not a number from 1 on"),
        (lambda: Service(latency=inf), "Service: latency=inf is not a number from 0 on"),
        (lambda: Service(capacity=0.0), "capacity=0.0 is not a number of requests a second above 0"),
        (lambda: crowd(clients=0), "simulate: clients=0 is not a whole number above 0"),
        (lambda: crowd(rate=0.0), "rate=0.0 is not a number of calls a second above 0"),
        (lambda: crowd(seconds=0.5), "seconds=0.5 is not a number of seconds from 1 on"),
        (lambda: crowd(sample=11), "sample=11 is not a number from 1 to the 10 clients there are"),
        (lambda: crowd(timeout=Timeout(total=None)), "what hangs would hang for ever"),
    ],
)
def test_what_cannot_be_played_is_refused(make, told):
    with pytest.raises(ConfigError, match=told):
        make()


# The story


def story(**seconds):
    zeros = (0.0,) * max(map(len, seconds.values()))
    names = ("offered", "first", "again", "answered", "failed", "refused", "came_through")
    return Story(**{name: tuple(map(float, seconds.get(name, zeros))) for name in names})


def test_amplification_is_what_is_sent_for_each_call():
    told = story(offered=(10, 10, 10, 0), first=(10, 10, 10, 0), again=(0, 20, 10, 0))
    assert told.sent == (10, 30, 20, 0)
    assert told.amplification() == 2.0
    assert told.amplification(1, 3) == 2.5
    assert told.amplification(3, 4) == 0.0
    assert told.peak() == 3.0
    assert told.peak(2) == 2.0
    assert told.peak(3) == 0.0


def test_it_is_recovered_when_no_bad_second_follows():
    told = story(offered=(100,) * 6, came_through=(100, 0, 99, 98, 99, 100))
    assert told.recovered(after=1) == 3
    assert told.recovered(after=1, share=0.98) == 1
    assert told.recovered(after=4) == told.recovered(after=4.5) == 0
    assert told.recovered(after=1, share=1.0) == 4
    assert story(offered=(100,) * 3, came_through=(100, 100, 0)).recovered(after=1) == inf
    assert told.share(0, 2) == 0.5


# The crowd


def crowd(**said):
    """Ten clients and a service for half as many more."""
    return simulate(
        **{
            "clients": 10,
            "rate": 20.0,
            "seconds": 10.0,
            "policies": (Retry(),),
            "service": Service(latency=0.02, capacity=300.0),
            "timeout": Timeout(total=4.0, attempt=1.0),
            **said,
        }
    )


DOWN = (Outage(at=3.0, seconds=4.0),)


def test_all_is_well_where_nothing_fails():
    told = crowd()
    assert told.seconds == 10
    assert sum(told.offered) == pytest.approx(2000, rel=0.1)
    assert told.first == told.offered
    assert told.came_through == told.offered
    assert sum(told.again) == sum(told.failed) == 0
    assert told.recovered(0.0) == 0


def test_it_goes_the_same_way_for_the_same_seed():
    one, same, other = (crowd(outages=(replace(DOWN[0], share=0.5),), seed=seed) for seed in (7, 7, 8))
    assert one == same
    assert one != other


outages = st.builds(
    Outage,
    at=st.floats(0, 4),
    seconds=st.floats(0.1, 4),
    kind=st.sampled_from(["refused", "hanging", "unavailable", "slow"]),
    share=st.floats(0.1, 1),
    retry_after=st.none() | st.floats(0, 3),
)
pipelines = st.sampled_from(
    [
        (),
        (Retry(),),
        (Retry(budget=None, retries=4),),
        standard(),
        (CircuitBreaker(),),
        (ConcurrencyLimit(limit=1, waiting=2),),
    ]
)


@settings(deadline=None, max_examples=25)
@given(st.lists(outages, max_size=3), pipelines, st.integers(0, 99), st.sampled_from([1, 2, 5]))
def test_every_call_ends_once(outages, policies, seed, sample):
    told = crowd(outages=outages, policies=policies, seed=seed, sample=sample, seconds=14.0)
    # The last outage is over long before the end, and so is every call that began until then.
    assert all(came <= offered for came, offered in zip(told.came_through, told.offered, strict=True))
    assert all(refused <= failed for refused, failed in zip(told.refused, told.failed, strict=True))
    under_way = sum(told.offered) - sum(told.answered) - sum(told.failed)
    assert 0 <= under_way <= sum(told.offered[-4:])
    assert sum(told.answered) <= sum(told.came_through)
    assert sum(told.first) <= sum(told.offered)


def test_a_503_is_waited_for_as_long_as_it_asks():
    told = crowd(
        outages=[Outage(at=3.0, seconds=0.5, kind="unavailable", retry_after=2.0)], policies=(Retry(budget=None),)
    )
    assert sum(told.again[:5]) == 0
    assert sum(told.again[5:]) > 0
    assert sum(told.failed) == 0


def test_each_client_is_a_process_of_its_own():
    policies = (Retry(retries=1, delay=0.0, budget=Budget(share=0.0, floor=1.0)),)
    told = crowd(outages=DOWN, policies=policies)
    assert told.again[3:7] == (10.0,) * 4  # one in each second and client, though each calls twenty times


def test_a_refusal_of_ours_is_told_apart():
    told = crowd(
        outages=[Outage(at=3.0, seconds=4.0, kind="hanging")], policies=(ConcurrencyLimit(limit=5, waiting=0),)
    )
    assert sum(told.refused) > 0
    assert sum(told.first) == sum(told.offered) - sum(told.refused)


def test_an_outage_of_a_share_fails_as_many_calls():
    told = crowd(outages=[Outage(at=3.0, seconds=4.0, share=0.3)], policies=())
    assert told.share(3, 7) == pytest.approx(0.7, abs=0.05)


@dataclass(frozen=True)
class Twice:
    """Sends everything twice at once, as a hedge without patience would."""

    def bind(self, send, upstream, /):
        async def twice(call):
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(send(call.fork(attempt))) for attempt in (1, 2)]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            return done.pop().result()

        return twice


def test_a_policy_may_start_tasks():
    told = crowd(policies=(Twice(),), seconds=3.0, service=Service())
    assert told.again == told.first
    assert told.came_through == told.offered


@dataclass(frozen=True)
class Idle:
    """Ours are played without a task, but beside a stranger."""

    def bind(self, send, upstream, /):
        async def idle(call):
            assert asyncio.current_task() is not None
            return await send(call)

        return idle


@pytest.mark.parametrize("kind", ["refused", "hanging", "stalled", "unavailable", "slow"])
def test_it_goes_the_same_way_in_tasks(kind):
    said = {"outages": [Outage(at=3.0, seconds=4.0, kind=kind)], "seed": 3}
    policies = (Retry(), CircuitBreaker(consecutive=20), ConcurrencyLimit(limit=4, waiting=8))
    assert crowd(**said, policies=(Idle(), *policies)) == crowd(**said, policies=policies)


def test_hedges_race_as_they_do_elsewhere():
    slow = [Outage(at=3.0, seconds=4.0, kind="slow", slowness=20.0, share=0.1)]
    service = Service(latency=0.02, spread=0.1)
    told = crowd(policies=(Hedge(),), outages=slow, service=service, clients=2, rate=100.0)
    assert told.came_through == told.offered
    assert 0.0 < told.amplification() - 1.0 < 0.2


@dataclass(frozen=True)
class Broken:
    def bind(self, send, upstream, /):
        async def broken(call):
            raise LookupError("a mistake")

        return broken


def test_a_mistake_of_a_policy_ends_it():
    with pytest.raises(LookupError, match="a mistake"):
        crowd(policies=(Broken(),))


@dataclass(frozen=True)
class Giving:
    def bind(self, send, upstream, /):
        async def giving(call):
            raise asyncio.CancelledError

        return giving


def test_a_call_that_is_cancelled_by_nobody_is_a_mistake_too():
    with pytest.raises(asyncio.CancelledError):
        crowd(policies=(Giving(),))


def test_a_sample_tells_what_the_whole_crowd_does():
    said = {
        "clients": 60,
        "rate": 40.0,
        "seconds": 12.0,
        "outages": [Outage(at=3.0, seconds=3.0, kind="stalled")],
        "service": Service(capacity=4200.0, line=1.5),
    }
    whole, sample = crowd(**said), crowd(**said, sample=6)
    for since in range(0, 12, 3):
        assert sample.amplification(since, since + 3) == pytest.approx(whole.amplification(since, since + 3), rel=0.05)
        # While it recovers, as much as this is between one seed and the next.
        assert sample.share(since, since + 3) == pytest.approx(whole.share(since, since + 3), abs=0.12)
    assert sample.recovered(6.0) == whole.recovered(6.0) == 3
    assert sum(sample.offered) == pytest.approx(sum(whole.offered), rel=0.02)


# The storm


def storm(*policies, kind, line=2.0):
    """A thousand clients of a hundred calls a second, of whom four are played; the service is down from 11 to 21."""
    return simulate(
        clients=1000,
        rate=100.0,
        seconds=40.0,
        policies=policies,
        service=Service(latency=0.02, capacity=150_000.0, line=line),
        outages=[Outage(at=11.0, seconds=10.0, kind=kind)],
        timeout=Timeout(total=10.0, attempt=1.0),
        sample=250,
        seed=1,
    )


@pytest.mark.parametrize("kind", ["refused", "stalled"])
def test_with_a_budget_no_more_is_sent_than_it_allows_and_the_service_comes_back(kind):
    told = storm(Retry(), kind=kind)
    floor = 1000 * 10.0
    for since in range(told.seconds - 10):
        calls = sum(told.offered[since : since + 10])
        assert sum(told.sent[since : since + 10]) <= 1.2 * calls + 11 * floor, f"from {since} s on"
    assert told.amplification(11, 21) < 1.32
    assert told.recovered(21.0) < 12  # and no second collapse after it


def test_without_a_budget_the_load_is_a_multiple_and_the_service_stays_down_for_good():
    told = storm(Retry(budget=None), kind="stalled")
    assert told.amplification(11, 21) > 2.8
    assert told.amplification(30) > 2.8
    assert told.share(30, 39) == 0.0


def test_the_storm_ends_with_the_outage_where_nothing_of_it_is_left_in_line():
    told = storm(Retry(budget=None), kind="refused")
    assert told.amplification(11, 21) > 2.8
    assert told.recovered(21.0) == 0
    assert storm(Retry(budget=None), kind="stalled", line=0.5).recovered(21.0) <= 1


def test_with_a_circuit_breaker_next_to_nothing_is_sent_and_the_clients_come_back_one_by_one():
    told = storm(*standard(), kind="stalled")
    assert told.amplification(13, 21) < 0.05
    assert told.peak(21) <= 1.3
    assert 0 < told.recovered(21.0) < inf
    assert any(0.1 < told.share(second, second + 1) < 0.9 for second in range(21, 40))


# The page


def test_the_page_and_the_picture_are_what_the_stored_run_says():
    import storm as benchmark

    results = json.loads(benchmark.RESULTS.read_text("utf-8"))
    mend = "run `python benchmarks/storm.py --render`"
    assert (ROOT / "docs" / "storm.md").read_text("utf-8") == benchmark.page(results), mend
    assert (ROOT / "docs" / "storm.svg").read_text("utf-8") == benchmark.picture(results), mend


def test_the_stored_run_is_what_the_page_is_about():
    import storm as benchmark

    results = json.loads(benchmark.RESULTS.read_text("utf-8"))
    since, back = benchmark.AT, benchmark.BACK
    for kind in benchmark.KINDS:
        bare, budget, all_of_it = (benchmark.told(results, benchmark.Scene(kind, name)) for name in benchmark.POLICIES)
        assert bare.amplification(since, back) > 2.9
        assert budget.amplification(since, back) < 1.31
        assert all_of_it.amplification(since, back) < 0.1
        assert budget.recovered(back) < 12
    assert benchmark.told(results, benchmark.Scene("stalled", "unbounded")).recovered(back) == inf


def test_the_picture_has_words_for_those_who_do_not_see_it():
    import storm as benchmark

    root = ET.fromstring((ROOT / "docs" / "storm.svg").read_text("utf-8"))
    svg = "{http://www.w3.org/2000/svg}"
    assert root.attrib["role"] == "img"
    told = root.find(f"{svg}desc")
    assert told is not None
    assert (
        "it stalls, retries without a budget: 3.0 times the load while it is down, answers never come back" in told.text
    )
    drawn = [path.attrib["class"] for path in root.iter(f"{svg}path")]
    panels = len(benchmark.DRAWN) * len(benchmark.KINDS)
    assert [drawn.count(kind) for kind in ("first", "again")] == [panels, panels]


def test_two_stories_are_apart_by_the_most_they_differ():
    import storm as benchmark

    calls = benchmark.CLIENTS * benchmark.RATE
    one = story(first=[calls] * 10, again=[0.0] * 10)
    other = replace(one, again=(*[0.0] * 5, *[calls / 10] * 5))
    assert benchmark.apart(one, one) == 0.0
    assert benchmark.apart(one, other) == pytest.approx(0.1)
