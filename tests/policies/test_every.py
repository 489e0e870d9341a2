"""What every policy must bear: a caller that leaves at any step, with a body that is here or one that arrives, and no trace of it."""

import asyncio

import pytest

from calls import call, recorded
from fairlead import policies
from fairlead.auth import ApiKey, Basic, Bearer
from fairlead.core import Pipeline, Upstream
from fairlead.events import Finished, Started
from fairlead.policies import (
    Aimd,
    CircuitBreaker,
    ConcurrencyLimit,
    CookieJar,
    Cookies,
    DeadlineHeader,
    Fallback,
    Gradient,
    Hedge,
    Observe,
    RateLimit,
    Redirect,
    Retry,
)
from fairlead.testing import Pieces, at_every_step, script

MOVED = (302, b"", {"Location": "/there"})
CASES = [
    (Observe(), ()),
    (Fallback({"instead": True}), (0.1, 503)),
    (Redirect(), (0.1, MOVED, 0.1, MOVED)),
    (Retry(random=lambda: 0.5), (0.1, 503, 0.1, 503)),
    (Hedge(delay=0.05, attempts=3), (0.2, 503)),
    (CircuitBreaker(), (0.1, 503)),
    (CircuitBreaker(slow_after=0.1, probes=2), ()),
    (RateLimit(100.0), (0.1, 429)),
    (RateLimit(None), (0.1, (429, b"", {"Retry-After": "1"}))),
    (ConcurrencyLimit(limit=1), ()),
    (ConcurrencyLimit(limit=Aimd(initial=2)), (0.1, 503)),
    (ConcurrencyLimit(limit=Gradient(initial=2)), ()),
    (DeadlineHeader(), ()),
    (Cookies(CookieJar()), ()),
    (Bearer("t"), ()),
    (ApiKey("k"), ()),
    (Basic("me", "p"), ()),
]
"""Each recipe, and what is answered before the answer that is read."""


def test_no_policy_is_left_out():
    tried = {type(recipe) for recipe, _ in CASES}
    assert tried >= {one for name in policies.__all__ if hasattr(one := getattr(policies, name), "place")}


@pytest.mark.parametrize("stream", [False, True], ids=["here", "arriving"])
@pytest.mark.parametrize(("recipe", "before"), CASES, ids=lambda value: type(value).__name__)
def test_cut_at_any_step_it_leaves_nothing_and_the_next_call_works(recipe, before, stream):
    async def story(cut):
        upstream, events = recorded()
        engine = script(*before, 0.1, (200, Pieces(b"a", 0.1, b"b")), then=200)
        send = Pipeline((recipe,)).bind(engine.send, upstream)

        async def one():
            response = await send(call(stream=stream))
            try:
                return [chunk async for chunk in response.aiter_bytes()]
            finally:
                response.close()

        await cut(one())
        assert engine.open == 0
        assert upstream.waiting == {}
        assert asyncio.all_tasks() == {asyncio.current_task()}
        engine.answers.clear()
        assert (await send(call())).status_code == 200
        kinds = [type(event) for event in events]
        assert kinds.count(Started) == kinds.count(Finished)

    assert at_every_step(story) > 2


@pytest.mark.parametrize(
    "recipe",
    [
        Observe(),
        Retry(retries=0),
        Hedge(attempts=1),
        CircuitBreaker(mode="off"),
        RateLimit(None, hints=False),
        ConcurrencyLimit(limit=None),
    ],
    ids=lambda recipe: type(recipe).__name__,
)
def test_with_nothing_to_do_it_is_not_there(recipe):
    send = script().send
    assert recipe.bind(send, Upstream("shop")) is send
