"""The verdict on an attempt whose time is up, with bare numbers."""

from math import inf

import pytest

from fairlead.core import Call, Timeout
from fairlead.engines.timing import ends, expired
from fairlead.errors import AttemptTimedOut, DeadlineExceeded, Knowledge
from fairlead.message import Request


def call(*, deadline=inf, stream=False, **timeout):
    return Call(
        Request("GET", "http://a.example/x?secret=1"), Timeout(**timeout), deadline, stream=stream, clock=lambda: 0.0
    )


def test_an_attempt_ends_after_its_allowance_or_at_the_deadline():
    assert ends(call(total=30.0, attempt=10.0, deadline=130.0), 100.0) == 110.0
    assert ends(call(total=30.0, attempt=10.0, deadline=105.0), 100.0) == 105.0
    assert ends(call(total=None), 100.0) == inf


@pytest.mark.parametrize(
    ("waited_in_line", "error"),
    [
        (0.0, AttemptTimedOut),
        (0.29, AttemptTimedOut),
        (0.31, DeadlineExceeded),
        (3.0, DeadlineExceeded),
        (4.0, DeadlineExceeded),
    ],
)
def test_the_upstream_is_to_blame_when_it_had_nine_tenths_of_its_time(waited_in_line, error):
    made = call(total=3.0, deadline=103.0)
    assert type(expired(made, started=100.0 + waited_in_line, phase="head")) is error


def test_an_attempt_longer_than_the_total_is_measured_by_the_total():
    made = call(total=3.0, attempt=10.0, deadline=103.0)
    assert type(expired(made, started=100.0, phase="head")) is AttemptTimedOut


def test_an_inherited_deadline_never_blames_the_upstream():
    assert type(expired(call(total=30.0, deadline=101.0), started=100.0, phase="head")) is DeadlineExceeded
    assert type(expired(call(total=None, deadline=101.0), started=100.0, phase="head")) is DeadlineExceeded


def test_a_bound_of_its_own_blames_the_upstream_whatever_the_deadline_left():
    error = expired(call(total=30.0, read=0.5, deadline=101.0), started=100.0, phase="head", bound="read")
    assert type(error) is AttemptTimedOut
    assert "read time-out after 0.5 s" in str(error)


def test_a_streams_silence_is_the_upstreams_only_when_it_lasted_a_whole_allowance():
    made = call(total=30.0, attempt=1.0, deadline=105.0, stream=True)
    assert type(expired(made, started=104.0, phase="body")) is AttemptTimedOut
    assert type(expired(made, started=104.05, phase="body")) is DeadlineExceeded
    assert type(expired(made, started=104.05, phase="head")) is AttemptTimedOut


@pytest.mark.parametrize(
    ("phase", "knowledge"),
    [
        ("connecting", Knowledge.NOT_SENT),
        ("sending", Knowledge.UNKNOWN),
        ("head", Knowledge.UNKNOWN),
        ("body", Knowledge.UNKNOWN),
    ],
)
def test_only_what_ended_while_connecting_was_not_sent(phase, knowledge):
    made = call(total=3.0, deadline=103.0)
    for error in (expired(made, started=100.0, phase=phase), expired(made, started=102.0, phase=phase)):
        assert (error.phase, error.knowledge, error.request) == (phase, knowledge, made.request)
        assert "secret" not in str(error)
