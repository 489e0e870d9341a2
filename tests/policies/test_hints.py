"""What an upstream says about its limits: every form that is sent, and nothing that is malformed."""

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.headers import Headers
from fairlead.policies.hints import hold, speaks

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's own examples


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "3"}, 3.0),
        (503, {"Retry-After": "3"}, 3.0),
        (429, {"Retry-After": "Sun, 06 Nov 1994 08:49:47 GMT"}, 10.0),
        (429, {"Retry-After-Ms": "250"}, 0.25),
        (429, {"Retry-After": "0"}, None),
        (429, {"Retry-After": "Sun, 06 Nov 1994 08:49:27 GMT"}, None),
        (429, {"Retry-After": "soon"}, None),
        (429, {}, None),
        (200, {"Retry-After": "3"}, None),
        (301, {"Retry-After": "3"}, None),
        (500, {"Retry-After": "3"}, None),
    ],
)
def test_a_429_or_503_with_a_retry_after_holds(status, headers, seconds):
    assert hold(status, Headers(headers), NOW) == seconds


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ('"default";r=0;t=30', 30.0),
        ('"default";t=30;r=0', 30.0),
        ('"default"; r=0; t=30', 30.0),
        ("default;r=0;t=30", 30.0),
        ('"default";r=0;t=30;pk=:cHsdsRa894==:', 30.0),
        ('"default";q=100;r=0;t=30;acme-note="a, b;r=9"', 30.0),
        ('"burst";r=0;t=5, "daily";r=0;t=30', 30.0),
        ('"burst";r=0;t=5,"daily";r=9;t=30', 5.0),
        ('"a \\"quoted\\" name";r=0;t=30', 30.0),
        ('"default";r=5;r=0;t=30', 30.0),
        ("limit=9, remaining=0, reset=30", 30.0),
        ("limit=9, remaining=0;w=60, reset=30", 30.0),
        # something is left, or nothing is said
        ('"default";r=1;t=30', None),
        ('"default";r=0', None),
        ('"default";r=0;t=0', None),
        ('"default";q="r=0;t=30";r=1;t=3', None),
        ("limit=9, remaining=1, reset=30", None),
        ("limit=9, reset=30", None),
        # malformed: all of it is ignored
        ("", None),
        ("0", None),
        ('"default";r=0;t=30,', None),
        ('"default";r=0;t=30;', None),
        ('"default";r=0;t=30;w=1.', None),
        ("limit=9, remaining=0, reset=30, more=", None),
        ('"default" ;r=0;t=30', None),
        ('"default";r=0;t=30 "other"', None),
        ('"default;r=0;t=30', None),
        ('"a";r=0;t=5, "b";r=!', None),
        ('"default";r=-0;t=30', None),
        ('"default";r=0;t=-30', None),
        ('"default";r=0;t=3.5', None),
        ('"default";r="0";t=30', None),
        ('"default";r=0;t=' + "9" * 16, None),
        ("limit=9, remaining=0, reset=30,", None),
        ("remaining=0; reset=30", None),
    ],
)
def test_the_ratelimit_field(field, seconds):
    assert hold(200, Headers({"RateLimit": field}), NOW) == seconds


def test_a_field_may_be_split_over_lines():
    assert hold(200, Headers([("RateLimit", '"a";r=1;t=5'), ("ratelimit", '"b";r=0;t=9')]), NOW) == 9.0


@pytest.mark.parametrize("family", ["RateLimit", "X-RateLimit", "x-ratelimit", "X-Ratelimit", "x-rate-limit"])
@pytest.mark.parametrize(
    ("remaining", "reset", "seconds"),
    [
        ("0", "30", 30.0),
        ("0.0", "29.5", 29.5),
        ("0", "0", None),
        ("1", "30", None),
        ("0", "", None),
        ("", "30", None),
        ("0", "soon", None),
        ("0", "-1", None),
        ("0, 5", "30", None),
        ("0", "1e3", None),
        ("0", "nan", None),
        ("\xb2", "30", None),
    ],
)
def test_the_pairs_that_came_before_it(family, remaining, reset, seconds):
    assert hold(200, Headers({f"{family}-Remaining": remaining, f"{family}-Reset": reset}), NOW) == seconds


def test_a_reset_may_be_a_time():
    """As GitHub sends it; against the answer's own date, where it has one; in milliseconds, too."""
    now = 1_700_000_000.0

    def asked(reset, **more):
        return hold(403, Headers({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset, **more}), now)

    assert asked("1700000030") == 30.0
    assert asked("1700000030.25") == 30.25
    assert asked("1700000030000") == 30.0
    assert asked("1699999999") is None
    assert asked("1700000030", Date="Tue, 14 Nov 2023 22:13:40 GMT") == 10.0
    assert asked("1700000030", Date="yesterday") == 30.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X-RateLimit-Resource": "core"}, 30.0),
        ({"X-RateLimit-Resource": "search"}, None),
        ({"X-RateLimit-Bucket": "80c17d2f203122d936070c88c8d10f33"}, None),
    ],
)
def test_a_limit_of_a_part_holds_nothing(headers, seconds):
    assert hold(200, Headers({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30", **headers}), NOW) == seconds


def test_retry_after_is_what_counts_where_both_are_there():
    headers = Headers({"Retry-After": "3", "RateLimit": '"default";r=0;t=30'})
    assert hold(429, headers, NOW) == 3.0
    assert hold(200, headers, NOW) == 30.0
    assert hold(429, Headers({"RateLimit": '"default";r=0;t=30'}), NOW) == 30.0


def test_most_answers_are_not_asked():
    plain = [(b"Content-Type", b"text/plain"), (b"Retry-After", b"3"), (b"X-Frame-Options-And-Others", b"1")]
    assert not speaks(200, plain)
    assert speaks(429, plain)
    for name in (b"RateLimit", b"ratelimit-remaining", b"X-RATELIMIT-REMAINING", b"x-rate-limit-remaining"):
        assert speaks(200, [*plain, (name, b"0")])


def test_a_long_field_is_read_once():
    """No repetition is tried in two ways, so what is long and wrong takes no longer than what is long and right."""
    for field in ('"a";' * 20000, '"' * 60000, ";" * 60000, '"a";r=0;t=1,' * 5000, '"a"' + ";r=" * 20000, "a" * 60000):
        assert hold(200, Headers({"RateLimit": field}), NOW) is None


@given(
    st.integers(200, 599),
    st.dictionaries(
        st.sampled_from(
            [
                "RateLimit",
                "RateLimit-Remaining",
                "RateLimit-Reset",
                "X-RateLimit-Remaining",
                "X-RateLimit-Reset",
                "Retry-After",
            ]
        ),
        st.one_of(
            st.text('0123456789.,;="rt -', max_size=20), st.sampled_from(['"a";r=0;t=9', "0", "30", "1700000000"])
        ),
    ),
)
def test_whatever_is_sent_a_hold_is_a_time_to_wait(status, headers):
    seconds = hold(status, Headers(headers), NOW)
    assert seconds is None or (isfinite(seconds) and seconds > 0)
    if seconds is not None:
        assert speaks(status, Headers(headers).raw)
