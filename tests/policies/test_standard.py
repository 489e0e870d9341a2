"""The standard pipeline: what is in it, in which order, and that a cancellation at any step leaves nothing behind."""

import asyncio
from math import inf

import pytest

from calls import call, recorded
from fairlead import policies
from fairlead.auth import Bearer
from fairlead.core import ORDER, Pipeline, Upstream
from fairlead.engines.wire import too_large
from fairlead.errors import CircuitOpen, ConfigError, ConnectFailed, FairleadError, ProtocolError
from fairlead.events import CircuitOpened, Finished, Started
from fairlead.policies import CircuitBreaker, ConcurrencyLimit, Fallback, Observe, Retry, standard
from fairlead.policies.circuit_rule import CLOSED, HALF_OPEN
from fairlead.testing import Pieces, at_every_step, script, virtual_time


def test_the_order_is_observe_retry_circuit_breaker_concurrency_limit():
    assert standard() == (Observe(), Retry(), CircuitBreaker(), ConcurrencyLimit())
    assert [type(policy).__name__ for policy in standard()] == [
        "Observe",
        "Retry",
        "CircuitBreaker",
        "ConcurrencyLimit",
    ]


def test_its_numbers_are_the_contracts():
    observe, retry, circuit, limit = standard()
    assert (retry.retries, retry.delay, retry.backoff) == (2, 0.05, 2.0)
    assert (circuit.failure_rate, circuit.window, circuit.minimum, circuit.consecutive) == (0.5, 30.0, 20, 5)
    assert (circuit.open_for, circuit.max_open_for, circuit.probes) == (5.0, 60.0, 1)
    assert (limit.limit, limit.waiting) == (100, None)
    assert observe.place == "Observe"


def test_numbers_are_handed_on():
    _, retry, _, limit = standard(retries=5, delay=1.0, backoff=3.0, limit=7)
    assert (retry, limit) == (Retry(retries=5, delay=1.0, backoff=3.0), ConcurrencyLimit(limit=7))


def test_each_policy_has_a_place_a_name_and_a_sentence():
    for name in policies.__all__:
        if name not in {"Aimd", "Budget", "CookieJar", "Gradient", "standard"}:
            needed = {"Cookies": [policies.CookieJar()], "Fallback": [[]], "RateLimit": [50]}.get(name, [])
            recipe = getattr(policies, name)(*needed)
            assert recipe.place in ORDER
            assert recipe.name == "default"
            assert recipe.explain()
    assert policies.__all__ == sorted(policies.__all__)


@pytest.mark.parametrize(
    "wrong",
    [
        (Retry(), Observe()),
        (ConcurrencyLimit(), CircuitBreaker()),
        (CircuitBreaker(), Retry()),
        (Retry(), Fallback([])),
        (Bearer("t"), ConcurrencyLimit()),
        (Retry(), Retry(retries=1, name="other")),
    ],
)
def test_an_order_that_cannot_work_is_refused(wrong):
    with pytest.raises(ConfigError):
        Pipeline(wrong)


@virtual_time
async def test_every_attempt_is_a_verdict_and_an_open_circuit_ends_the_retries():
    engine = script(then=ConnectFailed)
    upstream, events = recorded()
    send = Pipeline(standard(retries=9, delay=0.0)).bind(engine.send, upstream)
    with pytest.raises(CircuitOpen):
        await send(call())
    assert len(engine.calls) == 5
    assert [type(event) for event in events].count(CircuitOpened) == 1


@virtual_time
async def test_no_slot_is_held_while_retry_pauses():
    engine = script(503, 200, 200)
    retry, limit = Retry(delay=10.0, random=lambda: 1.0), ConcurrencyLimit(limit=1)
    upstream = Upstream("shop")
    send = Pipeline((retry, limit)).bind(engine.send, upstream)
    pausing = asyncio.ensure_future(send(call()))
    await asyncio.sleep(1)
    assert (await send(call())).status_code == 200
    assert not pausing.done()
    assert (await pausing).status_code == 200


@virtual_time
async def test_each_attempt_has_its_own_credentials_and_the_request_stays_as_it_was():
    engine = script(503, 200)
    asked = call()
    await Pipeline((*standard(), Bearer("t"))).bind(engine.send, Upstream("shop"))(asked)
    assert [request.headers["authorization"] for request in engine.requests] == ["Bearer t", "Bearer t"]
    assert "authorization" not in asked.request.headers


# Cancelled at every step


def pipeline(engine):
    upstream, events = recorded()
    recipes = (
        Observe(),
        Retry(retries=2, delay=1.0, random=lambda: 0.5),
        CircuitBreaker(consecutive=2, open_for=5.0, random=lambda: 1.0),
        ConcurrencyLimit(limit=1),
    )
    send = Pipeline(recipes).bind(engine.send, upstream)
    circuits, slots = (upstream.states[kind, "default"] for kind in ("CircuitBreaker", "ConcurrencyLimit"))
    return send, circuits, slots, events


def ended(events):
    """The calls that began, and those that ended, in pairs."""
    began = [event.call for event in events if isinstance(event, Started)]
    over = [event.call for event in events if isinstance(event, Finished)]
    return len(began) == len(over) and set(began) == set(over)


@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])
def test_cancelled_at_any_step_nothing_is_held(stream):
    """Attempts that fail, pause, wait in line behind another, and arrive piece by piece."""

    async def story(cut):
        slow = (200, Pieces(b"a", 0.1, b"b", 0.1, b"c"))
        engine = script(0.2, slow, 0.1, 503, 0.1, slow, then=slow)
        send, circuits, slots, events = pipeline(engine)

        async def work():
            response = await send(call(stream=stream))
            try:
                await response.aread()
            finally:
                response.close()

        first = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        await cut(work())
        await first
        assert (slots.taken, len(slots.line), engine.open) == (0, 0, 0)
        assert ended(events)
        circuit = next(iter(circuits.values()))
        assert circuit.state is CLOSED
        assert circuit.row <= 1
        # Cancelled or not, each verdict is one of an attempt that came to an end.
        assert circuit.window.good + circuit.window.failed <= len(engine.calls)
        await work()
        assert (slots.taken, engine.open) == (0, 0)

    assert at_every_step(story) > 15


@pytest.mark.parametrize("stream", [False, True], ids=["buffered", "streamed"])
def test_a_probe_cancelled_at_any_step_makes_room_for_the_next(stream):
    async def story(cut):
        engine = script(ConnectFailed, ConnectFailed, 0.1, (200, Pieces(b"a", 0.1, b"b")), then=200)
        send, circuits, slots, events = pipeline(engine)

        async def work():
            response = await send(call(stream=stream))
            try:
                await response.aread()
            finally:
                response.close()

        with pytest.raises(FairleadError):
            await work()
        (circuit,) = circuits.values()
        await asyncio.sleep(5)
        await cut(work())
        if circuit.state is HALF_OPEN:
            assert circuit.admit(asyncio.get_running_loop().time()) is not None
            circuit.release(circuit.epoch)
        await work()
        assert circuit.state is CLOSED
        assert (slots.taken, len(slots.line), engine.open) == (0, 0, 0)
        assert ended(events)

    assert at_every_step(story) > 5


def test_a_slot_granted_in_the_turn_of_the_cancellation_is_handed_on():
    async def story(cut):
        engine = script(then=lambda _: asyncio.sleep(0.1, 200))
        send, _, slots, events = pipeline(engine)
        first = asyncio.ensure_future(send(call()))
        await asyncio.sleep(0)
        victim = asyncio.ensure_future(cut(send(call())))
        await asyncio.sleep(0)
        last = asyncio.ensure_future(send(call()))
        await asyncio.gather(first, victim, last)
        assert last.result().status_code == 200
        assert (slots.taken, len(slots.line)) == (0, 0)
        assert ended(events)

    assert at_every_step(story) > 5


def test_two_that_wait_are_cut_while_the_deadline_passes():
    async def story(cut):
        engine = script(inf, then=200)
        send, _, slots, _ = pipeline(engine)
        holding = asyncio.ensure_future(send(call("POST", timeout=5.0)))
        await asyncio.sleep(0)
        other = asyncio.ensure_future(send(call("POST", timeout=1.0)))

        async def late():
            with pytest.raises(FairleadError):
                await send(call("POST", timeout=1.0))

        await cut(late())
        await asyncio.gather(holding, other, return_exceptions=True)
        assert isinstance(other.exception(), FairleadError)
        assert (slots.taken, len(slots.line), engine.open) == (0, 0, 0)

    assert at_every_step(story) > 3


@virtual_time
async def test_a_body_of_more_than_is_held_is_asked_for_once_and_is_no_verdict():
    upstream, _ = recorded()
    engine = script(then=too_large(1000))
    send = Pipeline(standard()).bind(engine.send, upstream)
    for _ in range(6):
        with pytest.raises(ProtocolError, match="read it as a stream"):
            await send(call())
    assert len(engine.requests) == 6
    (circuit,) = upstream.states["CircuitBreaker", "default"].values()
    assert (str(circuit.state), circuit.window.failed) == ("closed", 0)
