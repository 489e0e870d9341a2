"""The rolling window against a plain list of what was counted."""

from hypothesis import given
from hypothesis import strategies as st

from fairlead.policies.window import BUCKETS, Window


def test_it_forgets_by_tenths():
    window = Window(10.0)
    window.count(0.5, failed=True)
    window.count(1.5, failed=False)
    assert (window.good, window.failed) == (1, 1)
    window.count(9.9, failed=False)
    assert (window.good, window.failed) == (2, 1)
    window.count(10.0, failed=False)
    assert (window.good, window.failed) == (3, 0)
    window.count(1e9, failed=True)
    assert (window.good, window.failed) == (0, 1)


def test_it_can_be_emptied_and_used_again():
    window = Window(10.0)
    window.count(100.0, failed=True)
    window.clear()
    assert (window.good, window.failed) == (0, 0)
    window.count(100.0, failed=False)
    assert (window.good, window.failed) == (1, 0)


@given(st.floats(0, 1e6), st.lists(st.tuples(st.floats(0, 25), st.booleans()), max_size=80))
def test_it_counts_what_a_list_of_all_calls_would(start, counts):
    seconds = 30.0
    width = seconds / BUCKETS
    window, seen, now = Window(seconds), [], start
    for after, failed in counts:
        now += after
        window.count(now, failed=failed)
        seen.append((int(now // width), failed))
        kept = [bad for slot, bad in seen if slot > seen[-1][0] - BUCKETS]
        assert (window.good, window.failed) == (kept.count(False), kept.count(True))
