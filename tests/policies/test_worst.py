"""The worst that a call can come to: told before it happens, and never exceeded."""

import asyncio
from contextlib import suppress
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calls import call, now
from fairlead import HTTPClient
from fairlead.core import Pipeline, Timeout, Upstream
from fairlead.errors import ConnectFailed, FairleadError
from fairlead.policies import Hedge, Redirect, Retry, standard
from fairlead.policies.worst import Worst, worst
from fairlead.testing import run, script


@pytest.mark.parametrize(
    ("policies", "timeout", "told"),
    [
        ((), Timeout(3.0), Worst(1, 3.0)),
        ((), Timeout(None), Worst(1, inf)),
        ((Retry(retries=0),), Timeout(), Worst(1, 30.0)),  # no other can follow, so the attempt has all the time
        ((Hedge(attempts=1),), Timeout(), Worst(1, 30.0)),
        ((Retry(retries=1),), Timeout(None), Worst(2, inf)),  # as has one that is not safe to repeat
        (standard(), Timeout(), Worst(3, 30.0)),
        (standard(), Timeout(None), Worst(3, inf)),  # the line has no bound of its own
        (standard(), Timeout(None, attempt=1.0, wait=2.0), Worst(3, 3 * 3.0 + 2 * 120.0 + 1.0 + 2.0)),
        ((Retry(retries=4),), Timeout(1.0), Worst(5, 1.0)),
        ((Hedge(attempts=3),), Timeout(20.0), Worst(3, 20.0)),
        ((Redirect(limit=2), Retry(retries=1)), Timeout(30.0), Worst(6, 30.0)),
    ],
)
def test_requests_multiply_and_the_deadline_bounds_the_time(policies, timeout, told):
    assert worst(policies, timeout) == told


@settings(max_examples=50)
@given(
    method=st.sampled_from(["GET", "POST"]),
    retries=st.integers(0, 3),
    total=st.none() | st.floats(5.0, 50.0),
    attempt=st.none() | st.floats(0.1, 5.0),
    answers=st.lists(st.sampled_from([503, 429, 6.0, ConnectFailed, (503, b"", {"Retry-After": "3"})]), max_size=8),
)
def test_no_call_is_worse(method, retries, total, attempt, answers):
    timeout = Timeout(total, attempt=attempt, wait=1.0)
    policies = standard(retries=retries)

    async def story():
        engine = script(*answers, then=inf)
        with suppress(FairleadError, TimeoutError):
            async with asyncio.timeout(1000.0):
                await Pipeline(policies).bind(engine.send, Upstream("shop"))(call(method, timeout=timeout))
        return len(engine.calls), now()

    requests, seconds = run(story())
    told = worst(policies, timeout)
    assert requests <= told.requests
    assert seconds <= told.seconds


def test_a_client_tells_it():
    told = HTTPClient("https://shop.test", engine=script()).explain()
    assert "at the worst, one takes 30 s, and becomes 3 requests" in told
    told = HTTPClient("https://shop.test", engine=script(), timeout=None, max_retries=0).explain()
    assert "at the worst, one takes for ever (timeout= would bound it), and becomes 1 request" in told
