"""The circuit breaker around calls: what counts as a failure, what open means, and what becomes of those in line."""

import asyncio
import gc
from contextlib import suppress
from math import inf

import pytest

from calls import call, now, recorded
from fairlead.core import Pipeline, Upstream
from fairlead.errors import (
    AttemptTimedOut,
    CircuitOpen,
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    DecodeError,
    Disconnected,
    Knowledge,
    LimitReached,
    ProtocolError,
)
from fairlead.events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from fairlead.message import Response
from fairlead.policies import CircuitBreaker, ConcurrencyLimit, Retry
from fairlead.policies.circuit import verdict
from fairlead.policies.circuit_rule import CLOSED, HALF_OPEN, OPEN
from fairlead.policies.circuits import went_well
from fairlead.testing import Pieces, at_every_step, script, virtual_time
from fairlead.url import Origin

SHOP = Origin("https", "shop.test", 443)


def one():
    return 1.0


def bound(engine, upstream=None, inside=(), **numbers):
    upstream = upstream or Upstream("shop")
    recipe = CircuitBreaker(random=one, **numbers)
    send = Pipeline((recipe, *inside)).bind(engine.send, upstream)
    return send, upstream.state(recipe, lambda: pytest.fail("no state was made"))


async def fails(send, error, times, **asked):
    for _ in range(times):
        with pytest.raises(error):
            await send(call(**asked))


# What a recipe may be


async def awaited(_):
    return True


@pytest.mark.parametrize(
    "numbers",
    [
        {"failure_rate": 0},
        {"failure_rate": 1.1},
        {"failure_rate": True},
        {"slow_rate": None},
        {"slow_rate": "0.5"},
        {"slow_after": 0.0},
        {"slow_after": inf},
        {"window": 0},
        {"window": None},
        {"open_for": inf},
        {"max_open_for": 4.0},
        {"growth": 0.9},
        {"growth": inf},
        {"lease": -1},
        {"minimum": 0},
        {"consecutive": 1.5},
        {"probes": True},
        {"at_once": 2},
        {"kept": 0},
        {"by": "host"},
        {"mode": "closed"},
        {"failure": 500},
        {"failure": awaited},
        {"by": awaited},
    ],
)
def test_what_cannot_work_is_refused_and_the_mend_is_named(numbers):
    with pytest.raises(ConfigError, match=f"CircuitBreaker: {next(iter(numbers))}=.* is not "):
        CircuitBreaker(**numbers)


def test_what_can_be_switched_off_says_so():
    with pytest.raises(ConfigError, match="None switches it off"):
        CircuitBreaker(consecutive=0)
    with pytest.raises(ConfigError, match=r"window=0 is not a number of seconds above 0$"):
        CircuitBreaker(window=0)


def explained(**numbers):
    """In sentences, as they are parted."""
    return CircuitBreaker(**numbers).explain().split("; ")


def test_it_explains_itself():
    assert explained(consecutive=1, failure_rate=None)[0].endswith("open after a failure")
    assert explained() == [
        "circuit breaker, one for each origin: open after 5 failures in a row, or 50% of at least 20 calls in 30 s",
        "for 5 s, doubling to 60 s",
        "then one call at a time probes",
    ]
    assert explained(failure_rate=None, slow_after=1.5, probes=4, at_once=2, growth=3.0, by="route") == [
        "circuit breaker, one for each route: open after 5 failures in a row, or 50% of at least 20 calls in 30 s taking 1.5 s or longer",
        "for 5 s, 3 times as long each time to 60 s",
        "then 2 calls at a time probe, and 4 good ones close it",
    ]
    assert explained(consecutive=None, failure_rate=None, by="upstream", mode="shadow") == [
        "circuit breaker, one for all: open when it is told",
        "for 5 s, doubling to 60 s",
        "then one call at a time probes",
        "in shadow: nothing is refused",
    ]
    assert explained(mode="off") == ["circuit breaker: off"]


# The verdicts


@pytest.mark.parametrize("status", [200, 301, 400, 404, 408, 429])
def test_an_answer_below_500_is_a_success(status):
    assert went_well(Response(status)) is True


@pytest.mark.parametrize(
    "outcome", [Response(500), Response(503), ConnectFailed(), Disconnected(), ProtocolError(), AttemptTimedOut()]
)
def test_a_fault_a_timed_out_attempt_and_a_5xx_are_failures(outcome):
    assert went_well(outcome) is False


def too_large():
    error = ProtocolError("the body is too large")
    error.too_large = True
    return error


@pytest.mark.parametrize(
    "outcome",
    [
        DeadlineExceeded(),
        DeadlineExceeded("in line for a slot", phase="waiting", knowledge=Knowledge.NOT_SENT),
        LimitReached(),
        CircuitOpen(),
        ConfigError(),
        DecodeError(response=Response(200)),
        asyncio.CancelledError(),
        KeyError(),
        too_large(),
    ],
)
def test_what_says_nothing_about_the_upstream_is_no_verdict(outcome):
    assert went_well(outcome) is None


@virtual_time
async def test_ones_own_judgement_comes_first_and_the_rule_where_it_has_none():
    asked = []

    def failure(outcome):
        asked.append(outcome)
        return {200: True, 500: False}.get(outcome.status_code) if isinstance(outcome, Response) else None

    engine = script(500, 200, 404, 503, Disconnected, 200)
    send, circuits = bound(engine, failure=failure)
    rows = []
    for _ in range(6):
        with suppress(Disconnected):
            await send(call())
        rows.append(circuits[SHOP].row)
    assert rows == [0, 1, 0, 1, 2, 3]
    assert [type(one) for one in asked] == [Response] * 4 + [Disconnected, Response]


@pytest.mark.parametrize("end", [asyncio.CancelledError, LimitReached, CircuitOpen, ConfigError])
@virtual_time
async def test_ones_own_judgement_is_not_asked_about_what_was_no_answer(end):
    send, circuits = bound(script(then=end), failure=lambda outcome: True)
    await fails(send, end, 10)
    assert (circuits[SHOP].state, circuits[SHOP].row) == (CLOSED, 0)


@virtual_time
async def test_a_judgement_that_fails_is_raised_and_keeps_no_probes_place():
    broken = False

    def failure(outcome):
        if broken:
            raise KeyError("oops")

    send, circuits = bound(script(*[500] * 5, then=200), failure=failure)
    for _ in range(5):
        await send(call())
    await asyncio.sleep(5)
    broken = True
    await fails(send, KeyError, 2)
    broken = False
    assert (await send(call())).status_code == 200
    assert circuits[SHOP].state is CLOSED


@virtual_time
async def test_the_end_of_a_stream_is_judged_by_what_ended_it():
    seen = []
    send, circuits = bound(script(then=(200, Pieces(b"a", Disconnected))), failure=seen.append)
    response = await send(call(stream=True))
    with pytest.raises(Disconnected):
        await response.aread()
    assert [type(outcome) for outcome in seen] == [Disconnected]
    assert circuits[SHOP].row == 1


# Open, and back


@virtual_time
async def test_an_upstream_that_is_down_is_left_alone_then_probed_then_used_again():
    upstream, events = recorded()
    engine = script(*[ConnectFailed] * 5, 200, 200)
    send, circuits = bound(engine, upstream)
    await fails(send, ConnectFailed, 5)
    with pytest.raises(CircuitOpen) as caught:
        await send(call(url="https://shop.test/x?key=secret"))
    told = "circuit open for https://shop.test (5 failures in a row): calls go through again in 5 s"
    assert str(caught.value) == f"shop: {told} (GET https://shop.test/x)"
    assert (caught.value.retry_after, caught.value.upstream) == (5.0, "shop")
    assert len(engine.calls) == 5
    await asyncio.sleep(5)
    assert (await send(call())).status_code == 200
    assert (await send(call())).status_code == 200
    assert (circuits[SHOP].state, circuits[SHOP].refused) == (CLOSED, 1)
    assert events == [
        CircuitOpened("shop", "https://shop.test", 5.0, "5 failures in a row"),
        CircuitHalfOpened("shop", "https://shop.test"),
        CircuitClosed("shop", "https://shop.test"),
    ]


@virtual_time
async def test_a_hanging_upstream_opens_it_and_a_callers_short_deadline_does_not():
    engine = script(then=inf)
    send, circuits = bound(engine)
    await fails(send, AttemptTimedOut, 4, timeout=3.0)
    for _ in range(10):
        hurried = call(timeout=3.0)
        hurried.deadline = now() + 1.0
        with pytest.raises(DeadlineExceeded):
            await send(hurried)
    assert circuits[SHOP].row == 4
    await fails(send, AttemptTimedOut, 1, timeout=3.0)
    assert circuits[SHOP].state is OPEN


@virtual_time
async def test_a_retry_after_that_is_longer_is_kept_and_one_that_is_shorter_is_not():
    upstream, events = recorded()
    asked = [(503, b"", {"Retry-After": seconds}) for seconds in ("1", "30", "9999")]
    send, _ = bound(script(*asked), upstream, consecutive=1)
    for wait in (5.0, 36.0, 0.0):
        await send(call())
        await fails(send, CircuitOpen, 1)
        await asyncio.sleep(wait)
    # A fifth more at most, by chance, so that a fleet that was told the same time does not return as one.
    assert [event.seconds for event in events if isinstance(event, CircuitOpened)] == [5.0, 36.0, 144.0]


@virtual_time
async def test_a_retry_after_of_a_success_is_about_something_else():
    accepted = (202, b"", {"Retry-After": "60"})
    send, circuits = bound(script(accepted, then=500), consecutive=1)
    await send(call())
    await send(call())
    assert circuits[SHOP].seconds == 5.0


@virtual_time
async def test_while_one_probes_the_others_are_refused():
    engine = script(*[500] * 5, 1.0, 200)
    send, circuits = bound(engine)
    for _ in range(5):
        await send(call())
    await asyncio.sleep(5)
    probe = asyncio.ensure_future(send(call()))
    await asyncio.sleep(0.5)
    with pytest.raises(CircuitOpen, match="half-open") as caught:
        await send(call())
    assert caught.value.retry_after == 5.0
    assert (await probe).status_code == 200
    assert circuits[SHOP].state is CLOSED


@virtual_time
async def test_three_good_probes_two_at_a_time():
    upstream, events = recorded()
    under_way, most = 0, 0

    async def answer(request):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(1)
        under_way -= 1
        return 200

    send, circuits = bound(script(*[500] * 5, then=answer), upstream, probes=3, at_once=2)
    for _ in range(5):
        await send(call())
    await asyncio.sleep(5)
    for sent in (2, 1):
        ends = await asyncio.gather(*[send(call()) for _ in range(5)], return_exceptions=True)
        assert [type(end) for end in ends] == [Response] * sent + [CircuitOpen] * (5 - sent)
    assert most == 2
    assert circuits[SHOP].state is CLOSED
    assert [type(event) for event in events] == [CircuitOpened, CircuitHalfOpened, CircuitClosed]


@pytest.mark.parametrize("end", [asyncio.CancelledError, DeadlineExceeded, LimitReached, KeyError])
@virtual_time
async def test_a_probe_without_a_verdict_makes_room_for_the_next(end):
    engine = script(*[500] * 5, end, 200)
    send, circuits = bound(engine)
    for _ in range(5):
        await send(call())
    await asyncio.sleep(5)
    with pytest.raises(end):
        await send(call())
    assert circuits[SHOP].state is HALF_OPEN
    assert (await send(call())).status_code == 200
    assert circuits[SHOP].state is CLOSED


@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])
def test_probes_cancelled_at_any_step_give_their_places_back(stream):
    """Two probes in line for one slot, one of them cancelled wherever it stands; whatever became of it, the circuit closes."""

    async def story(cut):
        body = Pieces(b"a", 1.0, b"b")
        engine = script(500, then=(200, body))
        inside = (ConcurrencyLimit(limit=1),)
        send, circuits = bound(engine, inside=inside, consecutive=1, probes=2, at_once=2)
        await send(call())
        await asyncio.sleep(5)

        async def probe():
            response = await send(call(stream=stream))
            try:
                await response.aread()
            finally:
                response.close()

        other = asyncio.ensure_future(probe())
        await asyncio.sleep(0)
        await cut(probe())
        await other
        circuit = circuits[SHOP]
        assert not circuit.leases
        if circuit.state is HALF_OPEN:
            await probe()
        assert circuit.state is CLOSED
        assert engine.open == 0

    assert at_every_step(story) > 5


@pytest.mark.parametrize(("head", "over"), [(200, True), (503, False)])
@virtual_time
async def test_a_probe_that_streams_for_hours_keeps_nobody_out_for_longer_than_its_lease(head, over):
    upstream, events = recorded()
    engine = script(*[503] * 5, (head, Pieces(b"a", inf)), then=200)
    recipe = CircuitBreaker(lease=30.0)
    send = recipe.bind(engine.send, upstream)
    for _ in range(5):
        await send(call())
    await asyncio.sleep(5.0)
    stream = await send(call(timeout=None, stream=True))
    with pytest.raises(CircuitOpen):
        await send(call())
    await asyncio.sleep(30.0)
    first = asyncio.create_task(send(call()))
    await asyncio.sleep(0)
    (circuit,) = upstream.state(recipe, dict).values()
    assert (await first).status_code == 200
    assert circuit.state is CLOSED
    told = [event for event in events if isinstance(event, CircuitClosed)]
    assert len(told) == 1
    assert circuit.window.good == over  # else it was the probe itself that closed it
    stream.close()
    assert circuit.window.failed == 0


# Slow calls


@virtual_time
async def test_slow_answers_open_it_and_a_stream_is_timed_to_its_head():
    upstream, events = recorded()
    send, circuits = bound(script(then=lambda request: 200), upstream, slow_after=2.0, minimum=4)
    slow, _ = bound(script(*[2.0, 200] * 9), upstream, slow_after=2.0, minimum=4)
    streams, _ = bound(script(then=(200, Pieces(b"a", 9.0, b"b"))), upstream, slow_after=2.0, minimum=4)
    for _ in range(2):
        await send(call())
        response = await streams(call(stream=True))
        await response.aread()
    assert (circuits[SHOP].pace.good, circuits[SHOP].pace.failed) == (4, 0)
    for _ in range(4):
        await slow(call())
    assert circuits[SHOP].window.good == 7, (
        "slow ones were good all the same, but for the last, which came when it was open"
    )
    assert events == [CircuitOpened("shop", "https://shop.test", 5.0, "4 of 8 calls in 30 s took 2 s or longer")]


@virtual_time
async def test_an_attempt_that_timed_out_was_slow_and_a_quick_fault_was_not():
    send, circuits = bound(script(ConnectFailed, then=inf), slow_after=1.0)
    await fails(send, ConnectFailed, 1)
    await fails(send, AttemptTimedOut, 1, timeout=3.0)
    assert (circuits[SHOP].pace.good, circuits[SHOP].pace.failed) == (1, 1)


@virtual_time
async def test_waiting_for_a_slot_of_ours_is_not_slow():
    engine = script(*[1.5, 200] * 5)
    send, circuits = bound(engine, inside=(ConcurrencyLimit(limit=1),), slow_after=2.0, minimum=2)
    await asyncio.gather(*[send(call()) for _ in range(5)])
    assert now() == 7.5
    assert (circuits[SHOP].pace.good, circuits[SHOP].pace.failed) == (5, 0)


# In line, when it opens


@virtual_time
async def test_calls_in_line_are_turned_away_when_it_opens():
    """The first of them too, who in the same turn was given the slot of the call that failed."""
    upstream, _ = recorded()
    engine = script(1.0, 500, then=200)
    send, circuits = bound(engine, upstream, inside=(ConcurrencyLimit(limit=1),), consecutive=1)
    failing, *waiting = [asyncio.ensure_future(send(call())) for _ in range(5)]
    elsewhere = asyncio.ensure_future(send(call(url="https://other.test/")))
    assert (await failing).status_code == 500
    for one_of_them in waiting:
        with pytest.raises(CircuitOpen) as caught:
            await one_of_them
        assert caught.value.retry_after == 5.0
    assert now() == 1.0
    assert (await elsewhere).status_code == 200
    assert len(engine.calls) == 2
    slots = upstream.states["ConcurrencyLimit", "default"]
    assert (slots.taken, len(slots.line), upstream.waiting) == (0, 0, {})
    assert (circuits[SHOP].state, circuits[SHOP].until) == (OPEN, 6.0)


@virtual_time
async def test_a_retry_does_not_try_again_what_was_turned_away():
    upstream = Upstream("shop")
    engine = script(1.0, ConnectFailed, then=200)
    recipes = Retry(retries=5), CircuitBreaker(consecutive=1), ConcurrencyLimit(limit=1)
    send = Pipeline(recipes).bind(engine.send, upstream)
    ends = await asyncio.gather(*[send(call()) for _ in range(4)], return_exceptions=True)
    assert [type(end) for end in ends] == [CircuitOpen] * 4
    assert len(engine.calls) == 1


@virtual_time
async def test_in_shadow_nobody_is_turned_away():
    engine = script(1.0, 500, then=200)
    send, _ = bound(engine, inside=(ConcurrencyLimit(limit=1),), consecutive=1, mode="shadow")
    answers = await asyncio.gather(*[send(call()) for _ in range(3)])
    assert [answer.status_code for answer in answers] == [500, 200, 200]


@virtual_time
async def test_a_probe_in_line_is_not_turned_away_by_what_opened_its_circuit_before():
    """A slot is held by a stream of another origin; the probe waits for it while old news comes in."""
    upstream = Upstream("shop")
    engine = script(500, (200, Pieces(b"a", 3.0, b"b")), then=200)
    send, circuits = bound(engine, upstream, inside=(ConcurrencyLimit(limit=1),), consecutive=1)
    await send(call())
    late = circuits[SHOP].epoch - 1
    await asyncio.sleep(5)
    held = await send(call(url="https://other.test/", stream=True))
    probe = asyncio.ensure_future(send(call()))
    await asyncio.sleep(0)
    assert circuits[SHOP].state is HALF_OPEN
    circuits.report(circuits[SHOP], late, call(), ConnectFailed())
    circuits.opened_elsewhere("https://shop.test", 30.0, now(), "5 failures in a row")
    circuits.opened_elsewhere("https://third.test", 30.0, now(), "5 failures in a row")
    await held.aread()
    assert (await probe).status_code == 200
    assert circuits[SHOP].state is CLOSED


def test_calls_turned_away_and_cancelled_at_any_step_leave_nothing():
    async def story(cut):
        upstream = Upstream("shop")
        engine = script(1.0, 500, then=200)
        send, circuits = bound(engine, upstream, inside=(ConcurrencyLimit(limit=1),), consecutive=1)
        first = asyncio.ensure_future(send(call()))

        async def in_line():
            with pytest.raises(CircuitOpen):
                await send(call())

        other = asyncio.ensure_future(in_line())
        await asyncio.sleep(0)
        await cut(in_line())
        await asyncio.gather(first, other)
        slots = upstream.states["ConcurrencyLimit", "default"]
        assert (slots.taken, len(slots.line), upstream.waiting, engine.open) == (0, 0, {}, 0)
        assert (circuits[SHOP].state, circuits[SHOP].leases) == (OPEN, {})
        gc.collect()  # an exception that nobody took would be told of now

    assert at_every_step(story) > 3


# Streams


@virtual_time
async def test_a_streams_verdict_comes_when_it_is_closed():
    engine = script(then=(200, Pieces(b"a", Disconnected)))
    send, circuits = bound(engine)
    for streams in range(1, 6):
        response = await send(call(stream=True))
        assert circuits[SHOP].row == streams - 1
        with pytest.raises(Disconnected):
            await response.aread()
        assert circuits[SHOP].row == streams
    assert circuits[SHOP].state is OPEN


@virtual_time
async def test_a_stream_whose_reader_had_enough_went_well_and_one_whose_reader_was_cancelled_says_nothing():
    engine = script(then=(200, Pieces(b"a", inf)))
    send, circuits = bound(engine)
    enough = await send(call(stream=True))
    assert await anext(enough.aiter_bytes()) == b"a"
    enough.close()
    assert circuits[SHOP].window.good == 1
    cancelled = await send(call(stream=True))
    task = asyncio.ensure_future(cancelled.aread())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    window = circuits[SHOP].window
    assert (cancelled.is_closed, window.good, window.failed) == (True, 1, 0)


@virtual_time
async def test_a_stream_that_probes_keeps_its_place_until_its_end():
    engine = script(*[500] * 5, then=(200, Pieces(b"a", 2.0, b"b")))
    send, circuits = bound(engine)
    for _ in range(5):
        await send(call())
    await asyncio.sleep(5)
    probe = await send(call(stream=True))
    await fails(send, CircuitOpen, 1)
    assert circuits[SHOP].state is HALF_OPEN
    await probe.aread()
    assert circuits[SHOP].state is CLOSED


# Several


@virtual_time
async def test_each_origin_has_its_own():
    engine = script(*[ConnectFailed] * 5, 200)
    send, _ = bound(engine)
    await fails(send, ConnectFailed, 5)
    assert (await send(call(url="https://other.test/"))).status_code == 200
    await fails(send, CircuitOpen, 1)


@virtual_time
async def test_two_pipelines_over_one_upstream_share_the_circuit():
    upstream, engine = Upstream("shop"), script(*[ConnectFailed] * 5)
    one_send, _ = bound(engine, upstream)
    other_send, _ = bound(engine, upstream)
    await fails(one_send, ConnectFailed, 5)
    await fails(other_send, CircuitOpen, 1)


@virtual_time
async def test_the_verdict_of_an_upstream_is_its_worst_circuit():
    upstream = Upstream("shop")
    assert verdict(upstream) is None
    send, _ = bound(script(200, *[ConnectFailed] * 5, 1.0, 200), upstream)
    await send(call(url="https://other.test/"))
    assert verdict(upstream) == "closed"
    await fails(send, ConnectFailed, 5)
    assert verdict(upstream) == "open"
    await asyncio.sleep(5)
    probe = asyncio.ensure_future(send(call()))
    await asyncio.sleep(0)
    assert verdict(upstream) == "half-open"
    await probe
    assert verdict(upstream) == "closed"
