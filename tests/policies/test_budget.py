"""The budget: how much may be sent beside first attempts, by whomever, and no more over any run."""

import asyncio
from math import ceil, inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import call, now
from fairlead.core import Pipeline, Upstream
from fairlead.errors import ConfigError, Disconnected
from fairlead.events import GaveUp
from fairlead.policies import Budget, Retry
from fairlead.policies.budget import Spending
from fairlead.testing import script, virtual_time

steps = st.lists(st.tuples(st.sampled_from(["call", "charge"]), st.floats(0, 4)), max_size=300)


def charged(spending, now, times):
    return sum(spending.charge(now) for _ in range(times))


# The rule, in numbers


def test_a_fifth_of_the_calls_and_ten_in_each_second():
    spending = Spending(Budget())
    for _ in range(100):
        spending.call(0.0)
    assert charged(spending, 0.5, 100) == 20 + 10
    assert charged(spending, 0.9, 100) == 0
    assert charged(spending, 1.0, 100) == 10


def test_a_share_is_spent_before_the_floor():
    spending = Spending(Budget(floor=1))
    for _ in range(5):
        spending.call(0.0)
    assert [spending.charge(0.0) for _ in range(3)] == [True, True, False]
    assert (spending.calls, spending.spent) == (5, 1)


def test_calls_count_for_the_window_and_then_no_more():
    spending = Spending(Budget(floor=0))
    for _ in range(10):
        spending.call(0.0)
    assert charged(spending, 9.9, 1) == 1
    assert charged(spending, 10.0, 1) == 0
    assert spending.calls == 0


def test_what_was_spent_is_forgotten_after_what_it_was_spent_of():
    spending = Spending(Budget(floor=0))
    for _ in range(10):
        spending.call(0.0)
    assert [charged(spending, second, 9) for second in (7.0, 8.0, 9.0)] == [1, 1, 0]
    for _ in range(10):
        spending.call(12.0)
    assert charged(spending, 12.0, 9) == 0
    assert [charged(spending, second, 9) for second in (18.5, 19.5)] == [1, 1]


def test_what_ten_seconds_earned_is_not_spent_in_one():
    """Else a fleet whose upstream goes down would send three times its load at once, and once more each ten seconds later."""
    spending = Spending(Budget(floor=0))
    granted = []
    for second in range(30):
        for _ in range(100):
            spending.call(second + 0.5)
        granted.append(charged(spending, second + 0.9, 100) if second >= 10 else 0)
    assert set(granted[10:]) == {20}


def test_a_second_with_more_calls_than_most_earns_more():
    spending = Spending(Budget(floor=0))
    for second, calls in [(0, 10), (1, 10), (2, 200)]:
        for _ in range(calls):
            spending.call(second + 0.5)
    assert charged(spending, 2.9, 999) == 40
    assert charged(spending, 3.0, 999) == 4


def test_after_a_long_silence_it_begins_anew():
    spending = Spending(Budget(floor=0))
    for _ in range(1000):
        spending.call(3.0)
    spending.call(1e9)
    assert (spending.calls, spending.charge(1e9)) == (1, False)


@pytest.mark.parametrize(
    ("floor", "granted"),
    [
        (0, [0, 0, 0, 0]),
        (0.5, [1, 0, 1, 0]),
        (0.25, [1, 0, 0, 0]),
        (1, [1, 1, 1, 1]),
        (10, [10, 10, 10, 10]),
        (2.5, [3, 3, 0, 3]),  # three in every 1.2 s
    ],
)
def test_a_floor_is_kept_over_as_many_seconds_as_make_it_a_whole_number(floor, granted):
    spending = Spending(Budget(share=0, floor=floor))
    assert [charged(spending, second + 0.3, 99) for second in range(4)] == granted


@given(steps, st.sampled_from([0, 0.05, 0.2, 0.5, 1, 1.5]), st.sampled_from([0, 0.4, 0.5, 1, 3, 10, 12.5]))
def test_over_any_run_no_more_is_granted_than_a_share_of_its_calls_and_its_floor(story, share, floor):
    spending = Spending(Budget(share=share, floor=floor))
    time = calls = granted = 0
    for what, later in story:
        time += later
        if what == "call":
            spending.call(time)
            calls += 1
        else:
            granted += spending.charge(time)
        period = ceil(floor) / floor if floor else inf
        assert granted <= share * calls + 1e-9 + ceil(floor) * (int(time // period) + 1)


@given(steps, st.floats(0.01, 100))
def test_of_each_window_no_more_is_granted_than_its_share(story, window):
    spending = Spending(Budget(floor=0, window=window))
    time, told = 0.0, []
    for what, later in story:
        time += later
        if what == "call":
            spending.call(time)
            told.append((time, 1, 0))
        elif spending.charge(time):
            told.append((time, 0, 1))
            lately = [one for one in told if one[0] > time - window]
            assert sum(one[2] for one in lately) <= 0.2 * sum(one[1] for one in lately) + 1e-9


# Several processes


def test_what_was_taken_is_told_once_and_is_ones_own():
    spending = Spending(Budget(floor=0))
    for _ in range(10):
        spending.call(0.0)
    spending.charge(0.0)
    spending.heard(100, 5, 0.0)
    assert spending.taken() == (10, 1)
    assert spending.taken() == (0, 0)
    spending.call(50.0)
    assert spending.taken() == (1, 0)


def test_what_others_did_counts_as_if_it_happened_here():
    spending = Spending(Budget(floor=0))
    spending.heard(100, 15, 0.0)
    assert (spending.calls, spending.spent) == (100, 15)
    assert [charged(spending, second, 99) for second in (5.0, 6.0, 7.0, 8.0)] == [2, 2, 1, 0]
    assert charged(spending, 10.0, 99) == 0
    spending.heard(3, 1, 50.0)
    assert (spending.calls, spending.spent) == (3, 1)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["call", "charge", "tell"]), st.floats(0, 2)), max_size=300)
)
def test_what_each_process_takes_adds_up_whatever_it_hears(story):
    processes = [Spending(Budget(floor=0)) for _ in range(3)]
    took = [[0, 0] for _ in processes]
    told = [[0, 0] for _ in processes]
    time = 0.0
    for who, what, later in [*story, (0, "tell", 0), (1, "tell", 0), (2, "tell", 0)]:
        time += later
        if what == "call":
            processes[who].call(time)
            took[who][0] += 1
        elif what == "charge":
            took[who][1] += processes[who].charge(time)
        else:
            calls, spent = processes[who].taken()
            told[who][0] += calls
            told[who][1] += spent
            for other in processes:
                if other is not processes[who]:
                    other.heard(calls, spent, time)
    assert told == took


# The recipe


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"share": -0.1}, "share=-0.1"),
        ({"share": "20%"}, "share='20%'"),
        ({"share": True}, "share=True"),
        ({"floor": -1}, "floor=-1"),
        ({"floor": inf}, "floor=inf"),
        ({"window": 0}, "window=0"),
        ({"window": nan}, "window=nan"),
        ({"window": None}, "window=None"),
    ],
)
def test_numbers_that_cannot_work_are_refused(numbers, said):
    with pytest.raises(ConfigError, match=f"Budget: {said}"):
        Budget(**numbers)


def test_it_explains_itself():
    assert Budget().explain() == "from a budget of 20% of the calls of 10 s and 10 in each second"


def test_alone_in_a_pipeline_it_does_nothing():
    engine = script()
    assert Pipeline((Budget(),)).bind(engine.send, Upstream("shop")) == engine.send


def test_two_budgets_of_one_name_are_one_too_many():
    upstream = Upstream("shop")
    assert Budget().of(upstream) is Budget().of(upstream)
    assert Budget(name="other", share=0.5).of(upstream) is not Budget().of(upstream)
    with pytest.raises(ConfigError, match="two different Budget recipes"):
        Budget(share=0.5).of(upstream)


# With retries


@virtual_time
async def test_two_recipes_on_one_upstream_spend_one_budget():
    upstream = Upstream("shop")
    budget = Budget(share=0, floor=1)
    engine = script(then=503)
    for retries in (1, 2):
        await Retry(retries=retries, delay=0, budget=budget).bind(engine.send, upstream)(call())
    assert len(engine.calls) == 2 + 1


@virtual_time
async def test_with_the_budget_spent_the_answer_is_handed_out_at_once_and_the_reason_told():
    events = []
    send = Retry(budget=Budget(share=0, floor=1)).bind(script(then=503).send, Upstream("shop", (events.append,)))
    await asyncio.gather(send(call()), send(call()))
    reasons = [event.reason for event in events if isinstance(event, GaveUp)]
    assert reasons == ["the budget is spent, 0% of the calls of 10 s and 1 in each second"] * 2
    assert now() < 0.05


@virtual_time
async def test_an_error_that_is_not_tried_again_has_a_note_that_says_why():
    send = Retry(budget=Budget(share=0, floor=0)).bind(script(Disconnected).send, Upstream("shop"))
    with pytest.raises(Disconnected) as caught:
        await send(call())
    assert caught.value.__notes__ == [
        "not tried again: the budget is spent, 0% of the calls of 10 s and 0 in each second"
    ]


@virtual_time
async def test_it_is_charged_before_the_pause():
    engine = script(then=503)
    send = Retry(retries=1, delay=10, random=lambda: 0.5, budget=Budget(share=0, floor=3)).bind(
        engine.send, Upstream("shop")
    )
    await asyncio.gather(*[send(call()) for _ in range(20)])
    assert len(engine.calls) == 20 + 3


@virtual_time
async def test_each_call_counts_once_whatever_becomes_of_it():
    upstream = Upstream("shop")
    recipe = Retry(delay=0)
    send = recipe.bind(script(200, 503, 503, 200, 500, Disconnected, 200, then=503).send, upstream)

    async def once():
        yield b""

    await send(call())
    await send(call())
    await send(call("POST"))
    with pytest.raises(Disconnected):
        await send(call("POST"))
    await send(call("PUT", content=once()))
    spending = recipe.budget.of(upstream)
    assert (spending.calls, repr(spending)) == (5, "<budget: 0 sent beside 5 calls, 2 of the floor>")


@virtual_time
async def test_without_a_budget_nothing_is_counted_and_nothing_bound():
    upstream = Upstream("shop")
    engine = script(then=503)
    send = Retry(retries=1, delay=0, budget=None).bind(engine.send, upstream)
    for _ in range(50):
        await send(call())
    assert len(engine.calls) == 100
    assert upstream.states == {}


@virtual_time
async def test_a_first_attempt_is_never_held_up():
    engine = script(then=503)
    send = Retry(budget=Budget(share=0, floor=0)).bind(engine.send, Upstream("shop"))
    for _ in range(1000):
        assert (await send(call())).status_code == 503
    assert (len(engine.calls), now()) == (1000, 0.0)


@given(
    st.lists(st.tuples(st.floats(0, 0.5), st.sampled_from([200, 503, 503, Disconnected])), min_size=1, max_size=60),
    st.integers(0, 5),
)
def test_over_any_run_attempts_beyond_the_first_stay_within_the_budget(story, retries):
    @virtual_time
    async def told():
        engine = script(then=lambda _: next(answers, 503))
        answers = iter([answer for _, answer in story])
        send = Retry(retries=retries, budget=Budget(floor=2)).bind(engine.send, Upstream("shop"))

        async def one(later):
            await asyncio.sleep(later)
            await send(call())

        await asyncio.gather(*[one(later) for later, _ in story], return_exceptions=True)
        assert len(engine.calls) - len(story) <= 0.2 * len(story) + 2 * (int(now()) + 1) + 1e-9

    told()
