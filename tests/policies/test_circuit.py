"""The circuit breaker: when it opens, what open means, and who may close it."""

import asyncio
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import call, now, recorded
from fairlead.core import Upstream
from fairlead.errors import (
    AttemptTimedOut,
    CircuitOpen,
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    DecodeError,
    Disconnected,
    LimitReached,
    ProtocolError,
)
from fairlead.events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from fairlead.message import Response
from fairlead.policies import CircuitBreaker
from fairlead.policies.circuit import CLOSED, HALF_OPEN, OPEN, Circuit, Circuits, went_well
from fairlead.testing import Pieces, script, virtual_time
from fairlead.url import Origin

SHOP = Origin("https", "shop.test", 443)


def one():
    return 1.0


def opened(now=0.0, **numbers):
    """A circuit that five failures opened."""
    circuit = Circuit(CircuitBreaker(**numbers))
    for _ in range(circuit.recipe.consecutive):
        circuit.fail(circuit.admit(now), now)
    assert circuit.state is OPEN
    return circuit


# The rule, in numbers


def test_five_failures_in_a_row_open_it():
    circuit = Circuit(CircuitBreaker())
    assert [circuit.fail(circuit.admit(0.0), 0.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 5.0]
    assert (circuit.state, circuit.reason) == (OPEN, "5 failures in a row")


def test_a_success_between_starts_the_row_anew():
    circuit = Circuit(CircuitBreaker())
    for went_wrong in [True] * 4 + [False] + [True] * 4:
        report = circuit.fail if went_wrong else circuit.succeed
        report(circuit.admit(0.0), 0.0)
    assert circuit.state is CLOSED


def test_half_of_twenty_calls_in_the_window_open_it():
    circuit = Circuit(CircuitBreaker())
    for _ in range(9):
        circuit.succeed(circuit.admit(1.0), 1.0)
        circuit.fail(circuit.admit(1.0), 1.0)
    circuit.succeed(circuit.admit(1.0), 1.0)
    assert circuit.state is CLOSED
    assert circuit.fail(circuit.admit(1.0), 1.0) == 5.0
    assert circuit.reason == "10 of 20 calls failed in 30 s"


def test_failures_of_long_ago_do_not_count():
    circuit = Circuit(CircuitBreaker(consecutive=100))
    for _ in range(19):
        circuit.fail(circuit.admit(0.0), 0.0)
    assert circuit.fail(circuit.admit(31.0), 31.0) == 0.0
    assert circuit.state is CLOSED


def test_open_lets_nobody_through_until_its_time_and_then_one():
    circuit = opened()
    assert circuit.admit(4.9) is None
    assert circuit.retry_after(4.0) == 1.0
    assert circuit.admit(5.0) is not None
    assert circuit.state is HALF_OPEN
    assert circuit.admit(5.0) is None
    assert circuit.retry_after(5.0) == 5.0


def test_a_good_probe_closes_it_and_all_is_forgotten():
    circuit = opened()
    assert circuit.succeed(circuit.admit(5.0), 5.1)
    assert circuit.state is CLOSED
    assert [circuit.fail(circuit.admit(5.2), 5.2) for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 5.0]


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_minute():
    circuit, at, seconds = opened(), 0.0, []
    for _ in range(6):
        at = circuit.until
        seconds.append(circuit.fail(circuit.admit(at), at))
    assert seconds == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    assert circuit.reason == "the probe failed"


def test_the_time_it_is_open_is_jittered_downwards():
    circuit = Circuit(CircuitBreaker(consecutive=1))
    assert circuit.fail(circuit.admit(0.0), 0.0, 0.0) == 4.0


def test_several_probes_go_one_after_the_other():
    circuit = opened(probes=2)
    assert not circuit.succeed(circuit.admit(5.0), 5.0)
    assert circuit.state is HALF_OPEN
    assert circuit.succeed(circuit.admit(5.0), 5.0)
    assert circuit.state is CLOSED


def test_a_released_probe_frees_its_place_and_is_no_verdict():
    circuit = opened()
    circuit.release(circuit.admit(5.0), 5.5)
    assert circuit.state is HALF_OPEN
    assert circuit.admit(5.5) is not None


def test_a_probe_that_never_reports_loses_its_place_after_its_lease():
    circuit = opened(lease=30.0)
    lost = circuit.admit(5.0)
    assert circuit.admit(34.9) is None
    probe = circuit.admit(35.0)
    assert probe is not None
    assert not circuit.succeed(lost, 35.1)
    assert circuit.state is HALF_OPEN
    assert circuit.succeed(probe, 35.2)


def test_a_probe_that_gives_up_late_does_not_free_the_place_of_the_next():
    circuit = opened(lease=30.0)
    lost = circuit.admit(5.0)
    assert circuit.admit(35.0) is not None
    circuit.release(lost, 36.0)
    assert circuit.admit(36.0) is None


def test_what_failed_before_it_was_closed_again_does_not_count():
    circuit = Circuit(CircuitBreaker(consecutive=100))
    while circuit.state is CLOSED:
        circuit.fail(circuit.admit(0.0), 0.0)
    assert circuit.reason == "20 of 20 calls failed in 30 s"
    assert circuit.succeed(circuit.admit(5.0), 5.0)
    assert circuit.fail(circuit.admit(5.0), 5.0) == 0.0
    assert circuit.state is CLOSED


def test_answers_to_an_older_state_change_nothing():
    circuit = Circuit(CircuitBreaker())
    late = [circuit.admit(0.0) for _ in range(3)]
    for _ in range(5):
        circuit.fail(circuit.admit(0.0), 0.0)
    assert not circuit.succeed(late[0], 1.0)
    assert circuit.fail(late[1], 1.0) == 0.0
    circuit.release(late[2], 1.0)
    assert (circuit.state, circuit.until, circuit.opened) == (OPEN, 5.0, 1)


def test_a_report_counts_once():
    circuit = opened(probes=2)
    probe = circuit.admit(5.0)
    circuit.succeed(probe, 5.0)
    assert not circuit.succeed(probe, 5.0)
    assert circuit.state is HALF_OPEN


@given(
    probes=st.integers(1, 3),
    deeds=st.lists(
        st.tuples(
            st.sampled_from(["admit", "succeed", "fail", "release", "lose"]), st.integers(0, 9), st.floats(0, 40)
        ),
        max_size=120,
    ),
)
def test_whatever_happens_one_probe_at_a_time_and_a_way_back(probes, deeds):
    recipe = CircuitBreaker(probes=probes, minimum=4)
    circuit, at, out = Circuit(recipe), 0.0, []
    for deed, which, after in deeds:
        at += after
        before = circuit.state
        if deed == "admit":
            ticket = circuit.admit(at)
            if ticket is not None:
                if circuit.state is HALF_OPEN:
                    leased = [one for one, began in out if one == circuit.epoch and at < began + recipe.lease]
                    assert not leased, "two probes at a time"
                out.append((ticket, at))
            else:
                assert circuit.state is not CLOSED
                assert 0 < circuit.retry_after(at) <= recipe.max_open_for
        elif out:
            ticket, _ = out.pop(which % len(out))
            current = ticket == circuit.epoch
            if deed == "succeed":
                closed = circuit.succeed(ticket, at)
                assert closed == (before is not CLOSED and circuit.state is CLOSED)
            elif deed == "fail":
                seconds = circuit.fail(ticket, at)
                assert (seconds > 0) == (before is not OPEN and circuit.state is OPEN)
                assert seconds <= recipe.max_open_for
            elif deed == "release":
                circuit.release(ticket, at)
                assert circuit.state is before
            if not current:
                assert circuit.state is before
    # However it stands, an upstream that is well again is found out, whatever became of the probes.
    at += recipe.max_open_for + recipe.lease
    for _ in range(probes):
        ticket = circuit.admit(at)
        assert ticket is not None
        circuit.succeed(ticket, at)
    assert circuit.state is CLOSED


def test_the_number_of_origins_is_bounded_and_open_circuits_stay():
    recipe = CircuitBreaker(origins=3, consecutive=1)
    circuits = Circuits(recipe)
    ports = [Origin("http", "shop.test", port) for port in range(1, 7)]
    first = circuits[ports[0]]
    first.fail(first.admit(0.0), 0.0)
    for origin in ports[1:]:
        circuits[origin]
    assert len(circuits) == 3
    assert circuits[ports[0]] is first
    for circuit in list(circuits.values()):
        circuit.fail(circuit.admit(0.0), 0.0)
    circuits[SHOP]
    assert (len(circuits), SHOP in circuits) == (3, True)


@pytest.mark.parametrize(
    "numbers",
    [
        {"failure_rate": 0},
        {"failure_rate": 1.1},
        {"window": 0},
        {"open_for": inf},
        {"lease": -1},
        {"minimum": 0},
        {"consecutive": 1.5},
        {"probes": True},
        {"origins": 0},
    ],
)
def test_numbers_that_cannot_work_are_refused(numbers):
    with pytest.raises(ConfigError, match=f"CircuitBreaker: {next(iter(numbers))}="):
        CircuitBreaker(**numbers)


def test_it_explains_itself():
    told = CircuitBreaker().explain()
    assert "open after 5 failures in a row, or 50% of at least 20 calls in 30 s; for 5 s, doubling to 60 s" in told


# The verdicts


@pytest.mark.parametrize("status", [200, 301, 400, 404, 408, 429])
def test_an_answer_below_500_is_a_success(status):
    assert went_well(Response(status)) is True


@pytest.mark.parametrize(
    "outcome", [Response(500), Response(503), ConnectFailed(), Disconnected(), ProtocolError(), AttemptTimedOut()]
)
def test_a_fault_a_timed_out_attempt_and_a_5xx_are_failures(outcome):
    assert went_well(outcome) is False


@pytest.mark.parametrize(
    "outcome",
    [
        DeadlineExceeded(),
        LimitReached(),
        CircuitOpen(),
        ConfigError(),
        DecodeError(response=Response(200)),
        asyncio.CancelledError(),
        KeyError(),
    ],
)
def test_what_says_nothing_about_the_upstream_is_no_verdict(outcome):
    assert went_well(outcome) is None


# The policy


def bound(engine, upstream=None, **numbers):
    upstream = upstream or Upstream("shop")
    recipe = CircuitBreaker(random=one, **numbers)
    return recipe.bind(engine.send, upstream), upstream.state(recipe, lambda: pytest.fail("no state was made"))


async def fails(send, error, times, **asked):
    for _ in range(times):
        with pytest.raises(error):
            await send(call(**asked))


@virtual_time
async def test_an_upstream_that_is_down_is_left_alone_then_probed_then_used_again():
    upstream, events = recorded()
    engine = script(*[ConnectFailed] * 5, 200, 200)
    send, circuits = bound(engine, upstream)
    await fails(send, ConnectFailed, 5)
    with pytest.raises(CircuitOpen, match="5 failures in a row") as caught:
        await send(call())
    assert (caught.value.retry_after, caught.value.upstream) == (5.0, "shop")
    assert len(engine.calls) == 5
    await asyncio.sleep(5)
    assert (await send(call())).status_code == 200
    assert (await send(call())).status_code == 200
    assert circuits[SHOP].state is CLOSED
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
async def test_each_origin_has_its_own():
    engine = script(*[ConnectFailed] * 5, 200)
    send, _ = bound(engine)
    await fails(send, ConnectFailed, 5)
    assert (await send(call(url="https://other.test/"))).status_code == 200
    await fails(send, CircuitOpen, 1)


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
async def test_two_pipelines_over_one_upstream_share_the_circuit():
    upstream, engine = Upstream("shop"), script(*[ConnectFailed] * 5)
    one_send, _ = bound(engine, upstream)
    other_send, _ = bound(engine, upstream)
    await fails(one_send, ConnectFailed, 5)
    await fails(other_send, CircuitOpen, 1)
