"""What a call asks for otherwise than its client: redirects, cookies, credentials, retries."""

import asyncio
import gc
import weakref
from json import dumps

import pytest

from fairlead import ConfigError, HTTPClient
from fairlead.auth import Bearer
from fairlead.bound import KEPT
from fairlead.endpoint import get
from fairlead.errors import ProtocolError
from fairlead.message import Response
from fairlead.policies import CookieJar, Fallback, Redirect, Retry, standard
from fairlead.testing import Pieces, script, virtual_time

BASE = "https://api.test"
THERE = (302, b"", {"Location": "/there"})


def client(*answers, **options):
    return HTTPClient(BASE, engine=script(*answers), **options)


def asked(client):
    return [request.target for request in client.engine.requests]


class TestRedirects:
    @virtual_time
    async def test_none_is_followed_unless_asked_for(self):
        async with client(THERE) as shop:
            assert (await shop.get("/")).status_code == 302

    @virtual_time
    async def test_a_client_follows_and_a_call_says_otherwise(self):
        async with client(THERE, 200, THERE, follow_redirects=True) as shop:
            response = await shop.get("/")
            assert (response.status_code, response.url) == (200, f"{BASE}/there")
            assert (await shop.get("/", follow_redirects=False)).status_code == 302

    @virtual_time
    async def test_a_call_follows_though_its_client_does_not(self):
        async with client(THERE, 200, THERE) as shop:
            assert (await shop.get("/", follow_redirects=True)).status_code == 200
            assert (await shop.get("/")).status_code == 302

    @virtual_time
    async def test_the_limit_is_the_clients(self):
        for options, call in (({"follow_redirects": True}, {}), ({}, {"follow_redirects": True})):
            async with HTTPClient(BASE, engine=script(then=THERE), max_redirects=3, **options) as shop:
                with pytest.raises(ProtocolError, match="more than 3 redirects"):
                    await shop.get("/", **call)

    @virtual_time
    async def test_one_that_stands_in_the_pipeline_keeps_its_own(self):
        observe, *rest = standard()
        policies = (observe, Redirect(limit=2), *rest)
        for call in ({}, {"follow_redirects": True}):
            async with HTTPClient(BASE, engine=script(then=THERE), policies=policies) as shop:
                with pytest.raises(ProtocolError, match="more than 2 redirects"):
                    await shop.get("/", **call)
        async with HTTPClient(BASE, engine=script(THERE), policies=policies) as shop:
            assert (await shop.get("/", follow_redirects=False)).status_code == 302

    @virtual_time
    async def test_every_verb_and_a_stream_follow(self):
        names = ("get", "head", "options", "put", "patch", "delete")
        async with client(*[THERE, 200] * len(names), THERE, (200, Pieces(b"a"))) as shop:
            for name in names:
                assert (await getattr(shop, name)("/", follow_redirects=True)).status_code == 200
            async with shop.stream("GET", "/", follow_redirects=True) as response:
                assert await response.aread() == b"a"

    @virtual_time
    async def test_a_declared_call_follows(self):
        class Shop(HTTPClient, base_url=BASE):
            @get("/here", follow_redirects=True)
            async def here(self) -> Response: ...

        async with Shop(engine=script(THERE, 200)) as shop:
            assert (await shop.here()).url == f"{BASE}/there"

    @virtual_time
    async def test_another_origin_is_followed_and_given_nothing_of_ours(self):
        away = (307, b"", {"Location": "https://other.test/x"})
        headers = {"X-Api-Key": "s3cret", "X-Tenant": "7"}
        async with client(away, 200, follow_redirects=True, auth=Bearer("s3cret"), headers=headers) as shop:
            response = await shop.post("/", json={"a": 1}, headers={"Cookie": "s3cret"})
        request = shop.engine.requests[1]
        assert "s3cret" not in str(request.headers.raw)
        assert (request.headers["x-tenant"], request.content, request.method) == ("7", b'{"a":1}', "POST")
        assert response.url == "https://other.test/x"

    @virtual_time
    async def test_the_answers_before_are_told_without_their_bodies(self):
        hops = [(301, b"moved", {"Location": "/1"}), (307, Pieces(b"moved"), {"Location": "//other.test/2"})]
        async with client(*hops, 200, *hops, (200, Pieces(b"a")), 200, follow_redirects=True) as shop:
            response = await shop.get("/")
            async with shop.stream("GET", "/") as stream:
                await stream.aread()
            plain = await shop.get("/")
        for found in (response, stream):
            assert [(hop.status_code, hop.url) for hop in found.history] == [(301, f"{BASE}/"), (307, f"{BASE}/1")]
            assert [(hop.content, hop.headers["location"]) for hop in found.history] == [
                (b"", "/1"),
                (b"", "//other.test/2"),
            ]
        assert plain.history == Response(200).history == ()

    @pytest.mark.parametrize("limit", [0, -3])
    def test_a_limit_below_one_is_refused(self, limit):
        with pytest.raises(ConfigError, match=r"max_redirects=.* follow_redirects=False follows none"):
            client(max_redirects=limit)


class TestCookies:
    @virtual_time
    async def test_without_a_jar_none_is_kept_and_none_is_sent(self):
        async with client((200, b"", {"Set-Cookie": "a=1"}), 200) as shop:
            await shop.get("/")
            await shop.get("/")
        assert "cookie" not in shop.engine.requests[1].headers

    @virtual_time
    async def test_a_clients_jar_is_all_its_callers(self):
        jar = CookieJar()
        async with client((200, b"", {"Set-Cookie": "a=1; Path=/"}), 200, 200, cookies=jar) as shop:
            await shop.get("/")
            await shop.get("/")
            await shop.get("/", cookies=None)
        assert [request.headers.get("cookie") for request in shop.engine.requests] == [None, "a=1", None]
        assert jar.get("a", BASE) == "1"

    @virtual_time
    async def test_a_calls_jar_is_that_calls_alone(self):
        jars = [CookieJar(), CookieJar()]
        sets = [(200, b"", {"Set-Cookie": f"user={number}; Path=/"}) for number in range(2)]
        async with client(*sets, then_ok := (200, Pieces(b"")), then_ok, 200) as shop:
            for jar in jars:
                await shop.get("/", cookies=jar)
            for jar in jars:
                async with shop.stream("GET", "/", cookies=jar):
                    pass
            await shop.get("/")
        sent = [request.headers.get("cookie") for request in shop.engine.requests]
        assert sent == [None, None, "user=0", "user=1", None]

    @virtual_time
    async def test_nothing_of_a_calls_jar_stays_with_the_client(self):
        async with HTTPClient(BASE, engine=script(then=200)) as shop:
            for _ in range(5):
                jar = CookieJar()
                gone = weakref.ref(jar._jar)
                await shop.get("/", cookies=jar)
                shop.engine.calls.clear()
                del jar
                gc.collect()
                assert gone() is None
        assert len(shop._bound._kept) == 0

    @virtual_time
    async def test_all_jars_share_one_circuit_and_its_slots(self):
        async with HTTPClient(BASE, engine=script(then=200), max_connections=1) as shop:
            await asyncio.gather(*[shop.get("/", cookies=CookieJar()) for _ in range(5)])
            kinds = {kind for kind, _ in shop.upstream.states}
            assert kinds == {"Budget", "CircuitBreaker", "ConcurrencyLimit"}
            assert len(shop.upstream.states) == 3


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            ({"auth": "s3cret"}, r"auth=str cannot work: pass Bearer\("),
            ({"auth": ("me",)}, "auth=tuple cannot work"),
            ({"auth": ("me", "s3cret", "x")}, "auth=tuple cannot work"),
            ({"auth": ["me", "s3cret"]}, "auth=list cannot work"),
            ({"auth": Bearer}, "auth=type cannot work"),
            ({"retry": 3}, r"retry=3 cannot work: pass Retry\(...\), or None"),
            ({"retry": Retry}, "retry=type cannot work"),
            ({"follow_redirects": 1}, "follow_redirects=1 cannot work: pass True or False"),
            ({"follow_redirects": "yes"}, "follow_redirects='yes' cannot work"),
            ({"cookies": {"a": "s3cret"}}, r"cookies=dict cannot work: pass a CookieJar\(\)"),
            ({"cookies": "a=s3cret"}, "cookies=str cannot work"),
            ({"cookies": True}, "cookies=bool cannot work"),
        ],
    )
    @virtual_time
    async def test_it_is_told_with_its_mend_and_shows_no_secret(self, asked, told):
        async with client() as shop:
            for send in (shop.get("/", **asked), shop.send(shop.build_request("GET", "/"), **asked)):
                with pytest.raises(ConfigError, match=told) as caught:
                    await send
                assert "s3cret" not in str(caught.value)
        assert shop.engine.requests == []

    @pytest.mark.parametrize("cookies", [{"a": "s3cret"}, "a=s3cret", True])
    def test_so_it_is_of_a_client(self, cookies):
        with pytest.raises(ConfigError, match=r"HTTPClient: cookies=\w+ cannot work: pass a CookieJar\(\)") as caught:
            client(cookies=cookies)
        assert "s3cret" not in str(caught.value)


@virtual_time
async def test_what_is_equal_to_python_and_not_to_json_is_kept_apart():
    async with HTTPClient(BASE, engine=script(then=503), max_retries=0) as shop:
        for given in (False, 0, 0.0, True, 1):
            assert (await shop.get("/", fallback=given)).text == dumps(given)
            assert (await shop.get("/", fallback=Fallback((given,)))).text == dumps([given])
        kept = len(shop._bound._kept)
        value = []
        for number in range(3):
            for _ in range(2):
                assert (await shop.get("/", fallback=value)).json() == list(range(number))
            value.append(number)
        assert len(shop._bound._kept) == kept + 3


@virtual_time
async def test_what_is_kept_is_bounded():
    async with HTTPClient(BASE, engine=script(then=200)) as shop:
        for number in range(KEPT + 40):
            await shop.get("/", auth=Bearer(f"user-{number}"), follow_redirects=bool(number % 2), cookies=None)
        assert len(shop._bound._kept) == KEPT


@virtual_time
async def test_a_name_and_a_password_may_be_given_for_one_call():
    async with client(200, 200, auth=("client", "p")) as shop:
        await shop.get("/", auth=("call", "p"))
        await shop.get("/", auth=None)
    assert [request.headers.get("authorization") for request in shop.engine.requests] == ["Basic Y2FsbDpw", None]


def test_settings_and_class_keywords_say_it_too(monkeypatch):
    class Shop(HTTPClient, base_url=BASE, follow_redirects=True, max_redirects=7):
        pass

    assert "redirect: up to 7" in Shop(engine=script()).explain()
    monkeypatch.setenv("SHOP__FOLLOW_REDIRECTS", "false")
    assert "redirect" not in Shop(engine=script()).explain()
    monkeypatch.setenv("SHOP__FOLLOW_REDIRECTS", "true")
    monkeypatch.setenv("SHOP__MAX_REDIRECTS", "9")
    assert "redirect: up to 9" in Shop(engine=script()).explain()
    assert "cookies: those of a jar" in Shop(engine=script(), cookies=CookieJar()).explain()
