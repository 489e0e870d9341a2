"""Cookies of a jar: kept from answers, sent with attempts, and nobody else's."""

import asyncio
import logging

import pytest

from calls import call
from fairlead.auth import ApiKey, Bearer
from fairlead.core import Pipeline, Upstream
from fairlead.errors import ConfigError
from fairlead.policies import ConcurrencyLimit, CookieJar, Cookies, Observe, Redirect, Retry, standard
from fairlead.testing import Pieces, at_every_step, script, virtual_time


def sets(*fields, status=200, body=b"", **others):
    return status, body, [*[("Set-Cookie", field) for field in fields], *others.items()]


def bound(engine, jar, *outer):
    return Pipeline((*outer, Cookies(jar))).bind(engine.send, Upstream("shop"))


def carried(engine):
    return [request.headers.get("cookie") for request in engine.requests]


@virtual_time
async def test_what_an_answer_sets_goes_with_the_next_request():
    engine = script(sets("a=1; Path=/", "b=2; Path=/"), sets("a=3; Path=/"), then=200)
    send = bound(engine, CookieJar())
    for _ in range(3):
        await send(call())
    await send(call(url="https://other.test/"))
    assert carried(engine) == [None, "a=1; b=2", "a=3; b=2", None]
    assert engine.requests[1].headers.wire == b"Cookie: a=1; b=2\r\n"


@virtual_time
async def test_two_jars_are_two_users():
    engine = script(sets("user=ada"), sets("user=bob"), then=200)
    ada, bob = bound(engine, CookieJar()), bound(engine, CookieJar())
    for send in (ada, bob, ada, bob):
        await send(call())
    assert carried(engine) == [None, None, "user=ada", "user=bob"]


@virtual_time
async def test_calls_at_once_share_one_jar():
    jar = CookieJar()
    engine = script(0.5, sets("a=1"), 0.1, sets("b=2"), then=200)
    send = bound(engine, jar)
    await asyncio.gather(send(call()), send(call()))
    await send(call())
    assert carried(engine) == [None, None, "a=1; b=2"] or carried(engine)[2] == "b=2; a=1"


@virtual_time
async def test_a_field_set_by_hand_is_sent_as_it_stands_and_the_answers_are_kept():
    jar = CookieJar()
    jar.set("a", "jar", "https://shop.test/")
    engine = script(sets("b=2; Path=/"), 200)
    send = bound(engine, jar)
    await send(call(headers={"cookie": "a=own"}))
    await send(call())
    assert [request.headers.get_list("cookie") for request in engine.requests] == [["a=own"], ["a=jar; b=2"]]


@virtual_time
async def test_each_attempt_is_given_them_afresh():
    engine = script(sets("a=1", status=503), sets("a=2", status=503), 200)
    await bound(engine, CookieJar(), Retry(delay=0.0))(call())
    assert carried(engine) == [None, "a=1", "a=2"]


@virtual_time
async def test_those_of_a_stream_are_kept_from_its_head():
    jar = CookieJar()
    engine = script(sets("a=1", body=Pieces(b"x", 60.0)))
    response = await bound(engine, jar)(call(stream=True))
    assert len(jar) == 1
    response.close()


@virtual_time
async def test_the_callers_request_is_never_changed():
    jar = CookieJar()
    jar.set("a", "1", "https://shop.test/")
    asked = call()
    request = asked.request
    await bound(script(200), jar)(asked)
    assert request.headers.raw == []


class TestWithRedirects:
    @virtual_time
    async def test_a_hop_sends_what_the_one_before_was_given(self):
        engine = script(sets("a=1; Path=/", status=302, Location="/in"), 200)
        await bound(engine, CookieJar(), Redirect())(call("POST", content=b"login"))
        assert carried(engine) == [None, "a=1"]

    @virtual_time
    async def test_elsewhere_they_go_by_their_domain_though_nothing_else_does(self):
        jar = CookieJar()
        jar.set("shop", "s3cret", "https://shop.test/")
        jar.set("other", "1", "https://other.test/")
        to = [(302, b"", {"Location": place}) for place in ("//other.test/", "http://shop.test/", "https://shop.test/")]
        engine = script(*to, 200)
        send = Pipeline((Redirect(), Cookies(jar), Bearer("s3cret"))).bind(engine.send, Upstream("shop"))
        await send(call())
        assert carried(engine) == ["shop=s3cret", "other=1", None, "shop=s3cret"]
        assert [request.headers.get("authorization") for request in engine.requests[1:]] == [None] * 3

    @virtual_time
    async def test_another_origin_can_neither_set_nor_take_them(self):
        jar = CookieJar()
        jar.set("a", "1", "https://shop.test/")
        engine = script(
            (302, b"", {"Location": "//evil.test/"}),
            sets("a=2; Domain=shop.test; Path=/", "a=; Max-Age=0; Domain=shop.test; Path=/", "a=; Max-Age=0; Path=/"),
        )
        await bound(engine, jar, Redirect())(call())
        assert jar.get("a", "https://shop.test/") == "1"


@virtual_time
async def test_a_value_is_in_no_log_no_error_and_no_repr(caplog):
    caplog.set_level(logging.DEBUG)
    jar = CookieJar()
    jar.set("a", "s3cret", "https://shop.test/")
    engine = script(sets("b=s3cret"), ConfigError("x"))
    told = []
    upstream = Upstream("shop", (lambda event: told.append(repr(event)),))
    send = Pipeline((Observe(), Cookies(jar))).bind(engine.send, upstream)
    response = await send(call())
    with pytest.raises(ConfigError) as caught:
        await send(call())
    shown = [repr(jar), repr(Cookies(jar)), Cookies(jar).explain(), repr(response), repr(response.headers)]
    shown += [str(caught.value), repr(engine.requests), repr(engine.requests[0].headers), *told, caplog.text]
    assert not [text for text in shown if "s3cret" in text]


def test_cancelled_at_any_step_it_leaves_nothing():
    async def story(cut):
        jar = CookieJar()
        engine = script(0.1, sets("a=1; Path=/", status=302, Location="/x"), 0.1, 503, 0.1, 200)
        observe, retry, circuit, limit = standard()
        upstream = Upstream("shop")
        send = Pipeline((observe, Redirect(), retry, circuit, limit, Cookies(jar))).bind(engine.send, upstream)
        await cut(send(call()))
        assert engine.open == 0
        assert upstream.states["ConcurrencyLimit", "default"].taken == 0
        assert jar._jar._telling is None

    assert at_every_step(story) > 5


def test_a_recipe_is_its_jars():
    jar = CookieJar()
    assert Cookies(jar) == Cookies(jar)
    assert hash(Cookies(jar)) == hash(Cookies(jar))
    assert Cookies(jar) != Cookies(CookieJar())


@pytest.mark.parametrize("jar", [None, {"a": "s3cret"}, "a=s3cret", True])
def test_what_is_no_jar_is_refused_unseen(jar):
    with pytest.raises(ConfigError, match=r"pass a CookieJar\(\)") as caught:
        Cookies(jar)
    assert "s3cret" not in str(caught.value)


def test_it_stands_among_the_innermost():
    jar = CookieJar()
    Pipeline((ConcurrencyLimit(), Cookies(jar), ApiKey("k")))
    with pytest.raises(ConfigError, match="ApiKey cannot stand outside Cookies"):
        Pipeline((ApiKey("k"), Cookies(jar)))


def test_it_explains_itself():
    assert Cookies(CookieJar()).explain() == "cookies: those of a jar, each to the domain and path that set it"
