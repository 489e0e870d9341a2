"""The rule of a circuit, in numbers: when it opens and for how long, whom it lets probe, what closes it."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.policies import CircuitBreaker
from fairlead.policies.circuit_rule import CLOSED, HALF_OPEN, NOBODY, OPEN, Circuit


def opened(now=0.0, **numbers):
    """A circuit that as many failures opened as it takes."""
    circuit = Circuit(CircuitBreaker(**numbers))
    for _ in range(circuit.recipe.consecutive):
        circuit.fail(circuit.admit(now), now)
    assert circuit.state is OPEN
    return circuit


# When it opens


def test_five_failures_in_a_row_open_it():
    circuit = Circuit(CircuitBreaker())
    assert [circuit.fail(circuit.admit(0.0), 0.0) for _ in range(5)] == [False, False, False, False, True]
    assert (circuit.state, circuit.reason, circuit.seconds) == (OPEN, "5 failures in a row", 5.0)


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
    assert circuit.fail(circuit.admit(1.0), 1.0)
    assert circuit.reason == "10 of 20 calls failed in 30 s"


def test_failures_of_long_ago_do_not_count():
    circuit = Circuit(CircuitBreaker(consecutive=100))
    for _ in range(19):
        circuit.fail(circuit.admit(0.0), 0.0)
    assert not circuit.fail(circuit.admit(31.0), 31.0)
    assert circuit.state is CLOSED


def test_each_way_of_opening_can_be_switched_off():
    rate_alone = Circuit(CircuitBreaker(consecutive=None))
    assert [rate_alone.fail(0, 0.0) for _ in range(20)].index(True) == 19
    row_alone = Circuit(CircuitBreaker(failure_rate=None, consecutive=30))
    assert [row_alone.fail(0, 0.0) for _ in range(30)].index(True) == 29
    neither = Circuit(CircuitBreaker(failure_rate=None, consecutive=None))
    assert not any(neither.fail(0, 0.0) for _ in range(1000))


def test_half_of_twenty_calls_being_slow_open_it_though_all_were_good():
    circuit = Circuit(CircuitBreaker(slow_after=2.0))
    for number in range(19):
        assert not circuit.time(0, 1.0, slow=number % 2 == 0)
        circuit.succeed(0, 1.0)
    assert (circuit.window.good, circuit.window.failed) == (19, 0)
    assert not circuit.time(0, 1.0, slow=False)  # the tenth slow one of twenty was there, and only a slow one opens it
    assert circuit.time(0, 1.0, slow=True)
    assert circuit.reason == "11 of 21 calls in 30 s took 2 s or longer"


def test_slow_calls_of_long_ago_do_not_count():
    circuit = Circuit(CircuitBreaker(slow_after=2.0))
    for _ in range(19):
        circuit.time(0, 0.0, slow=True)
    assert not circuit.time(0, 31.0, slow=True)


# For how long


def test_open_lets_nobody_through_until_its_time_and_then_one():
    circuit = opened()
    assert circuit.admit(4.9) is None
    assert circuit.retry_after(4.0) == 1.0
    assert circuit.admit(5.0) is not None
    assert circuit.state is HALF_OPEN
    assert circuit.admit(5.0) is None
    assert circuit.retry_after(5.0) == 5.0


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_minute():
    circuit, seconds = opened(), []
    for _ in range(6):
        at = circuit.until
        assert circuit.fail(circuit.admit(at), at)
        seconds.append(circuit.seconds)
    assert seconds == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    assert circuit.reason == "the probe failed"


def test_how_it_grows_can_be_said_and_closing_it_begins_anew():
    circuit = opened(growth=1.5, open_for=2.0, max_open_for=4.0)
    seconds = []
    for _ in range(3):
        at = circuit.until
        circuit.fail(circuit.admit(at), at)
        seconds.append(circuit.seconds)
    assert seconds == [3.0, 4.0, 4.0]
    assert circuit.succeed(circuit.admit(circuit.until), circuit.until)
    for _ in range(5):
        circuit.fail(circuit.admit(100.0), 100.0)
    assert circuit.seconds == 2.0


def test_no_growth_is_too_much_for_it():
    circuit = opened(growth=1e300, max_open_for=1e9)
    for _ in range(3):
        at = circuit.until
        circuit.fail(circuit.admit(at), at)
    assert circuit.seconds == 1e9


def test_the_time_it_is_open_is_jittered_downwards():
    circuit = Circuit(CircuitBreaker(consecutive=1))
    assert circuit.fail(circuit.admit(0.0), 0.0, 0.0)
    assert (circuit.seconds, circuit.until) == (4.0, 4.0)


def test_it_is_held_open_as_long_as_it_is_asked_to_and_never_for_less():
    circuit = opened()
    circuit.hold(0.0, 3.0)
    assert (circuit.seconds, circuit.until) == (5.0, 5.0)
    circuit.hold(1.0, 30.0)
    assert (circuit.seconds, circuit.until) == (30.0, 31.0)
    assert circuit.admit(30.9) is None
    circuit.admit(31.0)
    circuit.hold(31.0, 30.0)
    assert (circuit.state, circuit.seconds, circuit.until) == (HALF_OPEN, 30.0, 31.0)


def test_opened_for_ever_it_lets_nobody_probe():
    circuit = Circuit(CircuitBreaker())
    circuit.open(0.0, inf, "forced open")
    assert circuit.admit(1e12) is None
    assert circuit.retry_after(1e12) == inf
    circuit.close()
    assert circuit.admit(1e12) is not None


# Half-open


def test_a_good_probe_closes_it_and_all_is_forgotten():
    circuit = opened()
    assert circuit.succeed(circuit.admit(5.0), 5.1)
    assert circuit.state is CLOSED
    assert [circuit.fail(circuit.admit(5.2), 5.2) for _ in range(5)] == [False, False, False, False, True]


def test_it_opens_and_closes_again_and_again():
    circuit = Circuit(CircuitBreaker(consecutive=1, probes=2))
    for at in (0.0, 100.0, 200.0):
        assert circuit.fail(circuit.admit(at), at)
        assert not circuit.succeed(circuit.admit(at + 5), at + 5)
        assert circuit.succeed(circuit.admit(at + 5), at + 5)
        assert circuit.seconds == 5.0


def test_it_counts_whom_it_had_no_place_for_since_it_opened():
    circuit = opened()
    circuit.refused = 7
    circuit.fail(circuit.admit(5.0), 5.0)
    assert circuit.refused == 7, "it did not close in between"
    circuit.close()
    assert circuit.refused == 7, "so that one can still see it"
    circuit.open(100.0, 5.0, "told")
    assert circuit.refused == 0


def test_several_probes_go_one_after_the_other():
    circuit = opened(probes=2)
    first = circuit.admit(5.0)
    assert circuit.admit(5.0) is None
    assert not circuit.succeed(first, 5.0)
    assert circuit.state is HALF_OPEN
    assert circuit.succeed(circuit.admit(5.0), 5.0)
    assert circuit.state is CLOSED


def test_some_of_several_probes_go_at_once_and_no_more_than_are_still_needed():
    circuit = opened(probes=3, at_once=2)
    one, two = circuit.admit(5.0), circuit.admit(5.0)
    assert circuit.admit(5.0) is None
    assert not circuit.succeed(two, 5.1)
    assert (three := circuit.admit(5.1)) is not None
    assert not circuit.succeed(one, 5.2)
    assert circuit.admit(5.2) is None, "the last one that is needed is under way"
    assert circuit.succeed(three, 5.3)


def test_one_failed_probe_of_several_opens_it_at_once_and_the_others_change_nothing():
    circuit = opened(probes=3, at_once=3)
    one, two, three = (circuit.admit(5.0) for _ in range(3))
    circuit.succeed(one, 5.1)
    assert circuit.fail(two, 5.2)
    assert (circuit.state, circuit.seconds) == (OPEN, 10.0)
    assert not circuit.succeed(three, 5.3)
    assert not circuit.fail(three, 5.3)
    assert (circuit.state, circuit.seconds) == (OPEN, 10.0)
    again = circuit.admit(circuit.until)
    assert not circuit.succeed(again, circuit.until), "the good one of before does not count"


def test_a_slow_probe_has_failed():
    circuit = opened(slow_after=1.0)
    probe = circuit.admit(5.0)
    assert circuit.time(probe, 7.0, slow=True)
    assert (circuit.state, circuit.reason) == (OPEN, "the probe was slow")
    probe = circuit.admit(circuit.until)
    assert not circuit.time(probe, circuit.until, slow=False)
    assert circuit.succeed(probe, circuit.until)


def test_a_released_probe_frees_its_place_and_is_no_verdict():
    circuit = opened()
    circuit.release(circuit.admit(5.0))
    assert circuit.state is HALF_OPEN
    assert circuit.admit(5.5) is not None


def test_a_probe_that_never_reports_loses_its_place_after_its_lease():
    circuit = opened(lease=30.0)
    lost = circuit.admit(5.0)
    assert circuit.admit(34.9) is None
    assert circuit.retry_after(34.9) == pytest.approx(0.1)
    probe = circuit.admit(35.0)
    assert probe is not None
    assert not circuit.succeed(lost, 35.1)
    assert circuit.state is HALF_OPEN
    assert circuit.succeed(probe, 35.2)


def test_a_probe_whose_answer_began_well_has_proven_as_much_when_its_lease_ends():
    circuit = opened(lease=30.0, probes=2)
    circuit.begin(circuit.admit(5.0))
    assert circuit.admit(34.9) is None
    probe = circuit.admit(35.0)
    assert (circuit.state, circuit.proven) == (HALF_OPEN, 1)
    circuit.begin(probe)
    assert circuit.admit(65.0) == circuit.epoch
    assert circuit.state is CLOSED
    assert not circuit.fail(probe, 66.0)


def test_one_that_began_well_and_was_given_up_has_proven_nothing():
    circuit = opened(lease=30.0)
    probe = circuit.admit(5.0)
    circuit.begin(probe)
    circuit.release(probe)
    assert circuit.admit(36.0) is not None
    assert circuit.state is HALF_OPEN


def test_each_probe_has_a_lease_of_its_own():
    circuit = opened(lease=30.0, probes=3, at_once=2)
    circuit.admit(5.0)
    circuit.admit(15.0)
    assert circuit.admit(34.9) is None
    assert circuit.admit(35.0) is not None
    assert circuit.admit(44.9) is None
    assert circuit.admit(45.0) is not None


def test_a_probe_that_gives_up_late_does_not_free_the_place_of_the_next():
    circuit = opened(lease=30.0)
    lost = circuit.admit(5.0)
    assert circuit.admit(35.0) is not None
    circuit.release(lost)
    assert circuit.admit(36.0) is None


def test_what_failed_before_it_was_closed_again_does_not_count():
    circuit = Circuit(CircuitBreaker(consecutive=100, slow_after=1.0))
    for _ in range(19):
        circuit.fail(circuit.admit(0.0), 0.0)
        circuit.time(circuit.admit(0.0), 0.0, slow=True)
    assert circuit.fail(circuit.admit(0.0), 0.0)
    assert circuit.reason == "20 of 20 calls failed in 30 s"
    assert circuit.succeed(circuit.admit(5.0), 5.0)
    assert not circuit.fail(circuit.admit(5.0), 5.0)
    assert not circuit.time(circuit.admit(5.0), 5.0, slow=True)
    assert circuit.state is CLOSED


# What is too late


def test_answers_to_an_older_state_change_nothing():
    circuit = Circuit(CircuitBreaker())
    late = [circuit.admit(0.0) for _ in range(4)]
    for _ in range(5):
        circuit.fail(circuit.admit(0.0), 0.0)

    def report_them(at):
        assert not circuit.succeed(late[0], at)
        assert not circuit.fail(late[1], at)
        assert not circuit.time(late[2], at, slow=True)
        circuit.release(late[3])

    report_them(1.0)
    assert (circuit.state, circuit.until) == (OPEN, 5.0)
    probe = circuit.admit(5.0)
    report_them(5.0)
    assert circuit.state is HALF_OPEN
    assert circuit.admit(5.0) is None
    assert circuit.succeed(probe, 6.0)
    report_them(6.0)
    assert (circuit.state, circuit.row, circuit.window.good, circuit.window.failed) == (CLOSED, 0, 0, 0)


def test_a_probe_that_is_under_way_when_it_is_closed_by_hand_changes_nothing():
    circuit = opened(consecutive=1)
    probe = circuit.admit(5.0)
    circuit.close()
    assert not circuit.fail(probe, 6.0)
    assert (circuit.state, circuit.row) == (CLOSED, 0)


def test_a_call_that_nobody_counts_is_not_counted():
    circuit = Circuit(CircuitBreaker(consecutive=1))
    assert not circuit.fail(NOBODY, 0.0)
    assert not circuit.time(NOBODY, 0.0, slow=True)
    circuit.succeed(NOBODY, 0.0)
    assert (circuit.state, circuit.window.good, circuit.window.failed) == (CLOSED, 0, 0)


def test_a_report_counts_once():
    circuit = opened(probes=2)
    probe = circuit.admit(5.0)
    circuit.succeed(probe, 5.0)
    assert not circuit.succeed(probe, 5.0)
    assert circuit.state is HALF_OPEN


DEEDS = ("admit", "succeed", "fail", "slow", "release", "lose", "open", "hold", "close")


@given(
    probes=st.integers(1, 4),
    at_once=st.integers(1, 4),
    deeds=st.lists(
        st.tuples(st.sampled_from(DEEDS), st.integers(0, 9), st.floats(0, 40)),
        max_size=150,
    ),
)
def test_whatever_happens_in_whatever_order(probes, at_once, deeds):
    """Never more than `at_once` probes under way, never closed by fewer than `probes` good ones of its own time, never opened by an old call."""
    at_once = min(at_once, probes)
    recipe = CircuitBreaker(probes=probes, at_once=at_once, minimum=4, consecutive=3, slow_after=1.0)
    circuit, at, out = Circuit(recipe), 0.0, []
    episode = 0
    """Counts changes of state: what a call began in, it must be reported in."""
    good: set[int] = set()
    """Probes of this half-open episode that went well."""
    for deed, which, after in deeds:
        at += after
        before, until = circuit.state, circuit.until
        if deed == "admit":
            ticket = circuit.admit(at)
            if circuit.state is not before:
                assert (before, circuit.state) == (OPEN, HALF_OPEN)
                assert at >= until
                episode += 1
                good.clear()
            if ticket is None:
                assert circuit.state is not CLOSED
                assert 0 < circuit.retry_after(at) <= max(recipe.max_open_for, until - at)
            else:
                assert circuit.state is not OPEN
                out.append((ticket, at, episode))
            if circuit.state is HALF_OPEN:
                under_way = [one for one, began, of in out if of == episode and at < began + recipe.lease]
                assert len(under_way) <= at_once
                assert len(set(under_way)) == len(under_way), "each has a ticket of its own"
                assert len(under_way) + len(good) <= probes, "no more go than are needed"
        elif deed in {"open", "hold", "close"}:
            if deed == "open":
                circuit.open(at, after + 1, "told")
            elif deed == "hold":
                circuit.hold(at, after)
                assert circuit.state is before
                assert circuit.until >= until
            else:
                circuit.close()
            if deed != "hold":
                episode += 1
                assert circuit.state is (OPEN if deed == "open" else CLOSED)
        elif out:
            ticket, began, of = out.pop(which % len(out))
            counts = (circuit.window.good, circuit.window.failed, circuit.row, circuit.proven, dict(circuit.leases))
            turned = False
            if deed == "succeed":
                turned = circuit.succeed(ticket, at)
                if of == episode and before is HALF_OPEN and (at < began + recipe.lease or circuit.proven > counts[3]):
                    good.add(ticket)
            elif deed == "fail":
                turned = circuit.fail(ticket, at)
            elif deed == "slow":
                turned = circuit.time(ticket, at, slow=True)
            elif deed == "release":
                circuit.release(ticket)
            assert turned == (circuit.state is not before)
            if of != episode:
                assert not turned, "a straggler"
                now = (circuit.window.good, circuit.window.failed, circuit.row, circuit.proven, circuit.leases)
                assert counts == now
            if turned:
                if circuit.state is CLOSED:
                    assert before is HALF_OPEN
                    assert len(good) == probes
                episode += 1
            if deed in {"fail", "slow"} and before is HALF_OPEN and of == episode and at < began + recipe.lease:
                assert turned, "a failed probe opens it at once"
    # However it stands, an upstream that is well again is found out, whatever became of the probes.
    at += max(recipe.max_open_for, 41.0) + recipe.lease
    if circuit.state is not CLOSED:
        for _ in range(probes - (circuit.proven if circuit.state is HALF_OPEN else 0)):
            ticket = circuit.admit(at)
            assert ticket is not None
            circuit.succeed(ticket, at)
    assert circuit.state is CLOSED
