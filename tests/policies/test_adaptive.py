"""A limit that follows what the upstream bears: the rules with numbers, then the policy, then an upstream whose capacity changes."""

import asyncio
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import call, now
from fairlead.core import Timeout, Upstream
from fairlead.errors import AttemptTimedOut, CircuitOpen, ConfigError, ConnectFailed, DeadlineExceeded, Disconnected
from fairlead.policies import Aimd, ConcurrencyLimit, Gradient, standard
from fairlead.policies.adaptive import STALE
from fairlead.testing import Pieces, script, virtual_time


def answers(rule, number, *, inflight=None, seconds=0.1, epoch=None):
    """So many good answers, one after another, with all slots in use unless said otherwise."""
    for _ in range(number):
        rule.answered(
            rule.epoch if epoch is None else epoch, rule.limit if inflight is None else inflight, seconds, 0.0
        )
    return rule.limit


# Additive increase, multiplicative decrease


def test_aimd_starts_where_it_is_told():
    assert Aimd().start().limit == 20
    assert Aimd(initial=7).start().limit == 7


def test_aimd_is_one_more_after_each_round_trip_that_went_well():
    rule = Aimd(initial=4).start()
    assert [answers(rule, 1) for _ in range(10)] == [4, 4, 4, 5, 5, 5, 5, 5, 6, 6]


def test_aimd_does_not_grow_while_less_than_half_is_in_use():
    rule = Aimd(initial=4).start()
    assert answers(rule, 100, inflight=1) == 4
    assert answers(rule, 4, inflight=2) == 5


def test_aimd_is_a_tenth_less_after_a_failure_and_once_in_a_round_trip():
    rule = Aimd(initial=20).start()
    burst = rule.epoch
    assert [rule.failed(burst) for _ in range(20)] == [18] * 20
    after = rule.epoch
    assert [rule.failed(after) for _ in range(20)] == [16] * 20


def test_aimd_counts_no_answer_to_a_call_from_before_the_decrease():
    rule = Aimd(initial=4, backoff=0.5).start()
    answers(rule, 3)
    before = rule.epoch
    assert rule.failed(before) == 2
    assert answers(rule, 9, epoch=before) == 2
    assert [answers(rule, 1) for _ in range(2)] == [2, 3]


def test_aimd_takes_an_answer_that_was_slow_for_none_that_is_good():
    rule = Aimd(initial=10, slow=0.5).start()
    assert answers(rule, 1, seconds=0.5) == 10
    assert answers(rule, 1, seconds=0.6) == 9


def test_aimd_bears_the_rare_failure():
    """One call in a hundred fails whatever the load: it goes up and down around the square root of ten hundreds."""
    rule, limits = Aimd().start(), []
    for _ in range(200):
        answers(rule, 99)
        limits.append(rule.failed(rule.epoch))
    assert 25 <= sum(limits[50:]) / 150 <= 40


# The gradient


def windows(rule, number, seconds, *, inflight=None, start=0.0):
    """So many windows, in each of which 50 answers took so many seconds."""
    for window in range(number):
        for answer in range(50):
            at = start + (window + (answer + 1) / 50) * max(seconds, 1e-3) * 1.1
            rule.answered(rule.epoch, rule.limit if inflight is None else inflight, seconds, at)
    return rule.limit


def test_the_gradient_does_nothing_before_it_has_enough_answers():
    rule = Gradient().start()
    for answer in range(49):
        rule.answered(0, 20, 0.1, answer / 2)
    assert (rule.exact, rule.baseline) == (20.0, 0.0)
    rule.answered(0, 20, 0.1, 29.0)
    assert (rule.exact, rule.baseline) == (20.8, pytest.approx(0.1))


def test_the_gradient_grows_while_nothing_is_slower():
    rule = Gradient().start()
    windows(rule, 25, 0.1)
    assert rule.exact == pytest.approx(40.0)


def test_the_gradient_does_not_move_while_less_than_half_is_in_use():
    rule = Gradient().start()
    windows(rule, 10, 0.1, inflight=9)
    windows(rule, 10, 1.0, inflight=9, start=10.0)
    assert rule.exact == 20.0


def test_the_gradient_bears_what_its_tolerance_says_and_no_more():
    rule = Gradient().start()
    windows(rule, 10, 0.1)
    grown = rule.exact
    windows(rule, 1, 0.149, start=10.0)
    assert rule.exact > grown
    grown = rule.exact
    windows(rule, 1, 0.16, start=20.0)
    assert rule.exact < grown


def test_the_gradient_gives_no_queue_to_answers_that_are_mildly_slower():
    """With it, a limit creeps up as long as the overload is mild: the queue is then more than what the gradient takes."""
    rule = Gradient(initial=10).start()
    windows(rule, 1, 0.1)
    windows(rule, 3, 0.18, start=10.0)
    assert rule.exact < 10.0


def test_the_gradient_takes_a_tenth_at_most_in_one_step():
    rule = Gradient(initial=100).start()
    windows(rule, 1, 0.1)
    grown = rule.exact
    windows(rule, 1, 5.0, start=10.0)
    assert rule.exact == pytest.approx(0.9 * grown)


def test_a_window_is_a_round_trip_at_least():
    rule = Gradient(initial=20).start()
    for _ in range(400):
        rule.answered(0, 20, 2.0, 1.0)
    assert rule.baseline == 0.0
    rule.answered(0, 20, 2.0, 3.0)
    assert rule.baseline == pytest.approx(2.0)


def test_answers_that_are_long_ago_are_compared_with_nothing():
    rule = Gradient().start()
    for _ in range(49):
        rule.answered(0, 20, 0.1, 1.0)
    rule.answered(0, 20, 0.1, 1.5 + STALE)
    assert (rule.samples, rule.baseline) == (1, 0.0)


def test_what_is_usual_does_not_follow_a_load_of_our_own():
    rule = Gradient().start()
    windows(rule, 5, 0.1)
    windows(rule, 500, 0.14, start=10.0)
    assert rule.baseline == pytest.approx(0.1)


def test_what_is_usual_follows_slowly_where_the_limit_is_not_reached_and_soon_where_it_is_faster():
    rule = Gradient(least=20, most=40).start()
    windows(rule, 5, 0.1, inflight=15)
    windows(rule, 100, 0.14, inflight=15, start=10.0)
    assert 0.105 < rule.baseline < 0.115
    windows(rule, 60, 0.07, inflight=15, start=100.0)
    assert 0.07 < rule.baseline < 0.073


@pytest.mark.parametrize("limit", [2, 3, 20, 200])
def test_an_upstream_that_is_slower_for_good_and_not_by_our_load_gets_its_calls_back(limit):
    rule = Gradient(initial=limit).start()
    windows(rule, 1, 0.1)
    seen = [windows(rule, 1, 0.3, start=10.0 + window) for window in range(400)]
    assert min(seen) >= min(limit, max(2, 0.6 * limit))
    assert seen[-1] == 200
    assert rule.baseline == pytest.approx(0.3)


def test_an_upstream_that_is_slower_for_good_and_by_our_load_too_gets_its_calls_back():
    rule = Gradient(initial=100).start()
    windows(rule, 1, 0.1)
    seen = [windows(rule, 1, max(0.5, rule.exact / 100), start=10.0 + 2 * window) for window in range(400)]
    assert min(seen) < 60
    assert seen[-1] == 75
    assert rule.baseline == pytest.approx(0.5)


def test_a_descent_that_ended_is_not_compared_with_the_next():
    rule = Gradient(initial=100).start()
    windows(rule, 1, 0.1)
    windows(rule, 1, 0.3, start=10.0)
    windows(rule, 1, 0.1, start=20.0)
    while rule.exact > 50:
        rule.failed(rule.epoch)
    windows(rule, 1, 0.29, start=30.0)
    assert rule.baseline == pytest.approx(0.1)


def test_a_clock_that_sees_no_time_pass_moves_nothing():
    rule = Gradient().start()
    for moment in range(500):
        rule.answered(0, 20, 0.0, moment)
    assert rule.exact == 20.0


def test_the_gradient_hears_a_failure_too_once_in_a_round_trip_and_not_as_a_time():
    rule = Gradient().start()
    assert [rule.failed(0) for _ in range(20)] == [18] * 20
    assert (rule.failed(1), rule.samples) == (16, 0)


# Both


@given(
    recipe=st.sampled_from(
        [Aimd(initial=3, least=2, most=5), Aimd(slow=0.5), Gradient(initial=3, least=2, most=5, samples=2), Gradient()]
    ),
    deeds=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.integers(0, 300), st.floats(0, 100), st.floats(0, 50)), max_size=300
    ),
)
def test_least_and_most_are_never_left(recipe, deeds):
    rule, at = recipe.start(), 0.0
    for failed, late, inflight, seconds, passed in deeds:
        at += passed
        epoch = max(0, rule.epoch - late)
        limit = rule.failed(epoch) if failed else rule.answered(epoch, inflight, seconds, at)
        assert recipe.least <= limit <= recipe.most
        assert limit == rule.limit == int(rule.exact)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (kind, numbers)
        for kind in (Aimd, Gradient)
        for numbers in (
            {"initial": 0}, {"initial": 1.5}, {"least": True}, {"most": 10}, {"least": 21}, {"backoff": 1.0}, {"backoff": 0}, {"backoff": "x"},
        )
    ] + [
        (Aimd, {"slow": 0}), (Aimd, {"slow": inf}), (Gradient, {"smoothing": 0}), (Gradient, {"smoothing": 1.1}),
        (Gradient, {"tolerance": 0.9}), (Gradient, {"queue": 0}), (Gradient, {"samples": 0}), (Gradient, {"baseline": 0}),
        (Aimd, {"slow": "1"}), (Gradient, {"smoothing": None}), (Gradient, {"tolerance": "2"}), (Gradient, {"baseline": True}),
    ],
)  # fmt: skip
def test_numbers_that_cannot_work_are_refused(kind, numbers):
    (name,) = numbers
    with pytest.raises(ConfigError, match=rf"{kind.__name__}: .*{name}="):
        kind(**numbers)


# The policy


def bound(engine, recipe, upstream=None, **options):
    upstream = upstream or Upstream("shop")
    limit = ConcurrencyLimit(limit=recipe, **options)
    return limit.bind(engine.send, upstream), upstream.states["ConcurrencyLimit", "default"]


UP, SAME, DOWN = 3, 2, 1
ONE = Aimd(initial=2, least=1, backoff=0.5)
"""One more after two answers; half after a failure."""


@pytest.mark.parametrize(
    ("outcome", "limit"),
    [
        (200, UP),
        (304, UP),
        (404, UP),
        (429, DOWN),
        (500, SAME),
        (502, SAME),
        (503, DOWN),
        (504, DOWN),
        (AttemptTimedOut, DOWN),
        (DeadlineExceeded, SAME),
        (ConnectFailed, SAME),
        (Disconnected, SAME),
        (CircuitOpen, SAME),
        (asyncio.CancelledError, SAME),
        (KeyError, SAME),
    ],
)
@virtual_time
async def test_only_what_says_something_about_the_load_moves_the_limit(outcome, limit):
    send, slots = bound(script(then=outcome), ONE)
    await asyncio.gather(*[send(call()) for _ in range(2)], return_exceptions=True)
    assert (slots.limit, slots.taken) == (limit, 0)


@virtual_time
async def test_a_burst_of_failures_is_one_failure():
    send, slots = bound(script(then=lambda _: asyncio.sleep(1, 503)), Aimd())
    await asyncio.gather(*[send(call()) for _ in range(20)])
    assert slots.limit == 18
    await asyncio.gather(*[send(call()) for _ in range(18)])
    assert (slots.limit, slots.taken) == (16, 0)


@virtual_time
async def test_a_limit_that_grows_lets_the_line_through_at_once():
    engine = script(then=lambda _: asyncio.sleep(1, 200))
    send, slots = bound(engine, Aimd(initial=1, least=1))
    tasks = [asyncio.ensure_future(send(call())) for _ in range(7)]
    await asyncio.sleep(1.5)
    assert (slots.limit, slots.taken, slots.waiting) == (2, 2, 4)
    await asyncio.gather(*tasks)
    assert (now(), slots.taken, slots.waiting) == (4.0, 0, 0)


@virtual_time
async def test_a_limit_that_shrinks_cuts_nobody_short():
    engine = script(lambda _: asyncio.sleep(0.5, 503), then=lambda _: asyncio.sleep(2, 200))
    send, slots = bound(engine, Aimd(initial=4, backoff=0.5))
    tasks = [asyncio.ensure_future(send(call())) for _ in range(6)]
    await asyncio.sleep(1)
    assert (slots.limit, slots.taken, slots.waiting) == (2, 3, 2)
    assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [503, *[200] * 5]
    assert (slots.taken, slots.waiting) == (0, 0)


@virtual_time
async def test_the_sample_of_a_stream_is_the_time_to_its_head_and_its_slot_is_held_to_its_end():
    send, slots = bound(script(0.25, (200, Pieces(b"a", 5.0, b"b"))), Gradient())
    response = await send(call(stream=True))
    assert (slots.rule.samples, slots.rule.total, slots.taken) == (1, 0.25, 1)
    await response.aread()
    response.close()
    assert (slots.rule.samples, slots.taken) == (1, 0)


@virtual_time
async def test_a_stream_whose_body_falls_silent_is_a_time_out():
    send, slots = bound(script((200, Pieces(b"a", inf))), Aimd())
    response = await send(call(stream=True, timeout=Timeout(total=60.0, attempt=1.0)))
    with pytest.raises(AttemptTimedOut):
        await response.aread()
    assert (slots.limit, slots.taken) == (18, 0)


@virtual_time
async def test_a_stream_that_its_reader_gives_up_says_nothing():
    send, slots = bound(script((200, Pieces(b"a", inf))), Aimd())
    (await send(call(stream=True))).close()
    assert (slots.limit, slots.taken) == (20, 0)


@virtual_time
async def test_two_pipelines_over_one_upstream_learn_together():
    upstream, engine = Upstream("shop"), script(then=503)
    send, slots = bound(engine, Aimd(), upstream)
    other, same = bound(engine, Aimd(), upstream)
    await send(call())
    await other(call())
    assert same is slots
    assert slots.limit == 16
    with pytest.raises(ConfigError, match="two different ConcurrencyLimit recipes"):
        bound(engine, Aimd(initial=3), upstream)


def test_a_standard_pipeline_takes_one():
    assert standard(limit=Aimd())[-1] == ConcurrencyLimit(limit=Aimd())


# An upstream whose capacity changes


class Shop:
    """Answers in 0.1 s as long as no more than `capacity` are under way; more of them share what it has, or are refused."""

    def __init__(self, capacity, *, refuses=False):
        self.capacity = capacity
        self.refuses = refuses
        self.under_way = self.served = self.refused = 0

    async def answer(self, request):
        self.under_way += 1
        try:
            if self.refuses and self.under_way > self.capacity:
                self.refused += 1
                return await asyncio.sleep(0.01, 503)
            await asyncio.sleep(0.1 * max(1.0, self.under_way / self.capacity))
            self.served += 1
            return 200
        finally:
            self.under_way -= 1


async def settled(recipe, shop, capacities, *, seconds):
    """For each capacity: the mean limit of the last five seconds, how many were served in each of them, and how many refused."""
    send, slots = bound(script(then=shop.answer), recipe)
    over = asyncio.Event()

    async def ask():
        while not over.is_set():
            await send(call(timeout=None))

    asking = [asyncio.ensure_future(ask()) for _ in range(100)]
    found = []
    for shop.capacity in capacities:
        await asyncio.sleep(seconds - 5)
        served, refused, limits = shop.served, shop.refused, []
        for _ in range(50):
            await asyncio.sleep(0.1)
            limits.append(slots.limit)
        found.append((sum(limits) / 50, (shop.served - served) / 5, (shop.refused - refused) / 5))
    over.set()
    await asyncio.gather(*asking)
    assert (slots.taken, slots.waiting) == (0, 0)
    return found


CAPACITIES = (40, 10, 40)


@virtual_time
async def test_aimd_finds_the_capacity_and_finds_it_again():
    found = await settled(Aimd(), Shop(40, refuses=True), CAPACITIES, seconds=15)
    for (limit, served, refused), capacity in zip(found, CAPACITIES, strict=True):
        assert 0.8 * capacity <= limit <= 1.1 * capacity
        assert served >= 9 * capacity  # of ten times as many
        assert refused <= 0.05 * served


@virtual_time
async def test_aimd_finds_the_load_at_which_answers_are_too_slow():
    found = await settled(Aimd(slow=0.15), Shop(40), CAPACITIES, seconds=15)
    for (limit, served, _), capacity in zip(found, CAPACITIES, strict=True):
        assert capacity <= limit <= 1.6 * capacity
        assert served >= 9 * capacity


@virtual_time
async def test_the_gradient_finds_the_capacity_and_finds_it_again():
    found = await settled(Gradient(), Shop(40), CAPACITIES, seconds=30)
    for (limit, served, _), capacity in zip(found, CAPACITIES, strict=True):
        assert capacity <= limit <= 1.75 * capacity
        assert served >= 9 * capacity
