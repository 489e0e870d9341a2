"""Redirects: where they lead, with which method, what goes along, and what never does."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import call, now, recorded
from fairlead.auth import ApiKey, Bearer
from fairlead.core import Pipeline, Timeout, Upstream
from fairlead.errors import AttemptTimedOut, ConfigError, DeadlineExceeded, Knowledge, ProtocolError
from fairlead.headers import Headers
from fairlead.message import Request
from fairlead.policies import ConcurrencyLimit, Observe, Redirect, Retry, standard
from fairlead.policies.redirect import carried, locations, redirected, resolved
from fairlead.testing import Pieces, at_every_step, script, virtual_time
from fairlead.url import split

SHOP = "https://shop.test/a/b?q=s3cret"


def to(location, status=302, body=b"", **fields):
    """An answer that redirects."""
    return status, body, {"Location": location, **fields}


async def sent(*answers, policies=(), limit=20, **asked):
    """The answer, and the engine that was asked."""
    engine = script(*answers)
    send = Pipeline((Redirect(limit=limit), *policies)).bind(engine.send, Upstream("shop"))
    return await send(call(**asked)), engine


class TestWhere:
    @pytest.mark.parametrize(
        ("location", "url"),
        [
            ("https://other.test/x", "https://other.test/x"),
            ("//other.test/x", "https://other.test/x"),
            ("/x?y=1", "https://shop.test/x?y=1"),
            ("x", "https://shop.test/a/x"),
            ("../x/./y/..", "https://shop.test/x/"),
            ("?y", "https://shop.test/a/b?y"),
            ("https:x", "https://shop.test/a/x"),
            ("HTTP://Shop.Test:80", "http://shop.test/"),
            ("https://shop.test:443/", "https://shop.test/"),
            ("/x#part", "https://shop.test/x"),
            ("#part", "https://shop.test/a/b?q=s3cret"),
            ("/a b/ü%20%zz", "https://shop.test/a%20b/%C3%BC%20%25zz"),
            ("/\\evil.test/x", "https://shop.test/%5Cevil.test/x"),
            ("\\\\evil.test", "https://shop.test/a/%5C%5Cevil.test"),
            ("https://münchen.test/", "https://xn--mnchen-3ya.test/"),
            ("https://[::1]:8080/", "https://[::1]:8080/"),
        ],
    )
    def test_a_location_is_read_against_the_url_it_answers(self, location, url):
        origin, target = resolved(Request("GET", SHOP), 302, location.encode())
        assert f"{origin}{target}" == url

    def test_octets_of_another_charset_stay_what_they_are(self):
        assert resolved(Request("GET", SHOP), 302, b"/caf\xe9")[1] == "/caf%E9"

    @pytest.mark.parametrize(
        ("location", "fault"),
        [
            ("ftp://other.test/", "neither http nor https"),
            ("javascript:alert(1)", "neither http nor https"),
            ("https://me:s3cret@other.test/", "a user or a password"),
            ("//me@other.test/", "a user or a password"),
            ("http://shop.test@evil.test/", "a user or a password"),
            ("file:///etc/passwd", "names no host"),
            ("https://", "names no host"),
            ("https:///evil.test", "names no host"),
            ("///evil.test", "names no host"),
            ("//?x", "names no host"),
            ("http:x", "no URL"),
            ("https://other.test:0/", "no URL"),
            ("https://other.test:99999/", "no URL"),
            ("https://other.test:x/", "no URL"),
            ("https://[::1/", "no URL"),
            ("https://a b.test/", "no URL"),
            ("https://evil.test\\@shop.test/", "a user or a password"),
            ("https://evil.test%2Fshop.test/", "no URL"),
            ("/x\ty", "a control character"),
            ("/x\x7f", "a control character"),
        ],
    )
    def test_one_that_leads_nowhere_is_named_and_not_repeated(self, location, fault):
        with pytest.raises(ProtocolError, match=fault) as caught:
            resolved(Request("GET", SHOP), 307, location.encode())
        assert str(caught.value).startswith("answered 307 with a")
        assert str(caught.value).endswith(" (GET https://shop.test/a/b)")
        for part in ("s3cret", "evil", "passwd", "other.test"):
            assert part not in str(caught.value)

    def test_a_peers_urls_are_not_remembered(self):
        before = split.cache_info().currsize
        for number in range(10):
            resolved(Request("GET", SHOP), 302, b"https://other.test/%d" % number)
        assert split.cache_info().currsize <= before + 1

    @given(st.binary(min_size=1, max_size=60), st.sampled_from([b"", b"/", b"//", b"https://", b"?", b"//x.test"]))
    def test_whatever_it_says_it_is_a_place_or_an_error(self, junk, lead):
        try:
            origin, target = resolved(Request("GET", SHOP), 302, lead + junk)
        except ProtocolError:
            return
        assert origin.scheme in {"http", "https"}
        assert target.startswith("/")
        assert target.isascii()
        assert not set(target) & set(" #\r\n\t")

    @pytest.mark.parametrize("locations", [["/x", "/y"], ["/x", "/x"], ["", "/x"]])
    def test_two_locations_are_one_too_many(self, locations):
        @virtual_time
        async def asked():
            await sent((302, b"", [("Location", location) for location in locations]))

        with pytest.raises(ProtocolError, match="answered 302 with more than one Location"):
            asked()

    @virtual_time
    async def test_without_a_location_it_is_an_answer(self):
        for answer in (302, to(""), to("  ")):
            response, engine = await sent(answer)
            assert (response.status_code, len(engine.requests)) == (302, 1)
        assert locations(Headers()) == []

    @virtual_time
    async def test_a_status_that_names_no_one_place_is_an_answer(self):
        for status in (200, 201, 300, 304, 305, 306, 399, 404):
            response, engine = await sent(to("/x", status))
            assert (response.status_code, len(engine.requests)) == (status, 1)

    @virtual_time
    async def test_the_answer_is_that_of_the_last_hop(self):
        response, engine = await sent(to("/1", 301), to("//other.test/2", 308), (200, b"here"), url=SHOP)
        assert (response.url, response.content) == ("https://other.test/2", b"here")
        assert response.request is engine.requests[-1]
        assert [request.url for request in engine.requests] == [SHOP, "https://shop.test/1", "https://other.test/2"]


class TestMethod:
    @pytest.mark.parametrize(
        ("status", "method", "then"),
        [
            *[(status, method, method) for status in (307, 308) for method in ("GET", "HEAD", "POST", "PUT", "DELETE")],
            *[(status, "POST", "GET") for status in (301, 302, 303)],
            *[(status, method, method) for status in (301, 302) for method in ("GET", "HEAD", "PUT", "PATCH", "QUERY")],
            *[(303, method, "GET") for method in ("GET", "PUT", "DELETE", "PATCH", "QUERY", "OPTIONS")],
            (303, "HEAD", "HEAD"),
        ],
    )
    def test_it_is_as_rfc_9110_section_15_4_says(self, status, method, then):
        body = b"" if method in {"GET", "HEAD"} else b"body"
        asked = Request(method, SHOP, content=body, headers={"Content-Type": "text/plain", "X-Id": "1"})
        onward = redirected(asked, status, [b"/x"])
        assert onward.method == then
        assert onward.content == (body if method == then else b"")
        assert onward.idempotent == (then != "POST" and then != "PATCH")
        assert onward.headers.get("content-type") == ("text/plain" if method == then else None)
        assert onward.headers["x-id"] == "1"

    def test_what_describes_a_body_goes_with_it(self):
        fields = (
            "Content-Type Content-Encoding Content-Language Content-Location Content-Length Content-Digest Digest"
            " Transfer-Encoding Expect Trailer Last-Modified"
        )
        asked = Request("POST", SHOP, content=b"x", headers=dict.fromkeys([*fields.split(), "Accept"], "1"))
        assert redirected(asked, 303, [b"/x"]).headers.raw == [(b"Accept", b"1")]
        assert redirected(asked, 308, [b"/x"]).headers is asked.headers

    def test_a_key_that_makes_it_idempotent_is_kept(self):
        keyed = Request("POST", SHOP, content=b"x", headers={"Idempotency-Key": "k"})
        assert redirected(keyed, 307, [b"/x"]).idempotent
        assert redirected(Request("POST", SHOP, idempotent=True), 307, [b"/x"]).idempotent
        assert not redirected(Request("POST", SHOP), 307, [b"/x"]).idempotent

    @virtual_time
    async def test_a_body_that_can_be_read_again_is_sent_again(self):
        response, engine = await sent(
            to("/x", 307), 200, method="POST", content=lambda: iter([b"one", b"two"]), policies=standard()[1:]
        )
        assert (response.status_code, engine.bodies) == (200, [b"onetwo", b"onetwo"])

    @pytest.mark.parametrize(("method", "status"), [("POST", 307), ("POST", 308), ("PUT", 301), ("PATCH", 302)])
    def test_one_that_cannot_is_an_error_that_says_the_mend(self, method, status):
        asked = Request(method, SHOP, content=iter([b"once"]))
        with pytest.raises(ConfigError, match=f"answered {status}.* cannot be read twice: pass bytes") as caught:
            redirected(asked, status, [b"/x"])
        assert caught.value.knowledge is Knowledge.REJECTED

    @pytest.mark.parametrize("status", [301, 302, 303])
    def test_a_body_that_is_left_behind_need_not_be_read_again(self, status):
        assert redirected(Request("POST", SHOP, content=iter([b"once"])), status, [b"/x"]).method == "GET"


SECRETS = {
    "Authorization": "Basic s3cret",
    "Cookie": "session=s3cret",
    "Proxy-Authorization": "Basic s3cret",
    "X-Api-Key": "s3cret",
    "X-Auth-Token": "s3cret",
    "X-Session-Id": "s3cret",
    "Signature": "s3cret",
}
OURS = {"Host": "shop.example", "Origin": "https://shop.test", "Referer": "https://shop.test/s3cret"}
PLAIN = {"Accept": "*/*", "X-Request-Id": "7", "traceparent": "00-1-1-00"}


class TestCredentials:
    @pytest.mark.parametrize(
        "elsewhere",
        [
            "https://other.test/x",
            "https://api.shop.test/x",
            "https://shop.test.evil.test/x",
            "https://shop.test:8443/x",
            "http://shop.test/x",
            "http://shop.test:443/x",
        ],
    )
    @virtual_time
    async def test_none_goes_to_another_origin(self, elsewhere):
        _, engine = await sent(
            to(elsewhere), 200, url=SHOP, headers=SECRETS | OURS | PLAIN, policies=(Bearer("s3cret"),)
        )
        assert dict(engine.requests[1].headers) == {name.lower(): value for name, value in PLAIN.items()}
        assert engine.calls[1].anonymous
        assert not engine.calls[0].anonymous

    @virtual_time
    async def test_no_copy_of_a_field_stays_behind(self):
        fields = [("Authorization", "one"), ("authorization", "two"), ("COOKIE", "a=1"), ("cookie", "b=2")]
        _, engine = await sent(to("//other.test"), 200, headers=fields)
        assert engine.requests[1].headers.raw == []

    @virtual_time
    async def test_within_the_origin_all_goes_along(self):
        fields = SECRETS | OURS | PLAIN
        for near in ("/x", "https://shop.test:443/x", "https://SHOP.test/x"):
            _, engine = await sent(to(near), 200, url=SHOP, headers=fields)
            assert engine.requests[1].headers.raw == engine.requests[0].headers.raw

    @virtual_time
    async def test_each_hop_within_the_origin_is_given_its_own(self):
        _, engine = await sent(to("/x"), 200, policies=(ApiKey("k", query="key"),))
        assert [request.target for request in engine.requests] == ["/x?key=k", "/x?key=k"]
        _, engine = await sent(to("/x"), 200, policies=(Bearer("t"),))
        assert [request.headers.get_list("authorization") for request in engine.requests] == [["Bearer t"]] * 2

    @virtual_time
    async def test_a_way_back_brings_none_back(self):
        _, engine = await sent(
            to("//evil.test"),
            to("https://shop.test/admin"),
            to("/again"),
            200,
            url=SHOP,
            headers={"Cookie": "a=1"},
            policies=(Bearer("s3cret"),),
        )
        assert [request.headers.get("authorization") for request in engine.requests] == [
            "Bearer s3cret",
            None,
            None,
            None,
        ]
        assert [request.headers.get("cookie") for request in engine.requests] == ["a=1", None, None, None]

    @virtual_time
    async def test_they_stay_away_from_every_attempt_elsewhere(self):
        _, engine = await sent(to("//other.test"), 503, 503, 200, policies=(Retry(), Bearer("s3cret")))
        assert [request.headers.get("authorization") for request in engine.requests] == [
            "Bearer s3cret",
            None,
            None,
            None,
        ]

    @virtual_time
    async def test_the_callers_request_is_never_changed(self):
        engine = script(to("//other.test", 307), 200)
        asked = call("POST", content=b"x", headers=SECRETS)
        request, before = asked.request, list(asked.request.headers.raw)
        await Pipeline((Redirect(), Bearer("t"))).bind(engine.send, Upstream("shop"))(asked)
        assert asked.request is request
        assert (request.headers.raw, request.content) == (before, b"x")
        assert not asked.anonymous

    def test_fields_that_stay_are_not_copied(self):
        headers = Headers(PLAIN)
        assert carried(headers, elsewhere=True, bodiless=True) is headers


class TestLimit:
    @virtual_time
    async def test_so_many_are_followed_and_no_more(self):
        response, engine = await sent(*[to(f"/{number}") for number in range(3)], 200, limit=3)
        assert (response.status_code, len(engine.requests)) == (200, 4)
        with pytest.raises(ProtocolError, match="more than 20 redirects") as caught:
            await sent(*[to(f"/{number}") for number in range(21)])
        assert caught.value.request.place == "https://shop.test/19"

    @virtual_time
    async def test_a_circle_ends_too(self):
        engine = script(then=to("/x"))
        send = Redirect(limit=5).bind(engine.send, Upstream("shop"))
        with pytest.raises(ProtocolError, match="more than 5 redirects"):
            await send(call())
        assert len(engine.requests) == 6

    @pytest.mark.parametrize("limit", [0, -1, 1.5, True, None, "20"])
    def test_a_limit_is_a_whole_number(self, limit):
        with pytest.raises(ConfigError, match="limit="):
            Redirect(limit=limit)


class TestTogether:
    @virtual_time
    async def test_the_deadline_covers_every_hop(self):
        engine = script(1.5, to("/1"), 1.5, to("/2"), 1.5, 200)
        send = Redirect().bind(engine.send, Upstream("shop"))
        with pytest.raises((AttemptTimedOut, DeadlineExceeded)) as caught:
            await send(call(timeout=4.0))
        assert type(caught.value) is DeadlineExceeded, "the last hop was cut short: nobody is to blame"
        assert now() == 4.0
        assert len(engine.requests) == 3

    @virtual_time
    async def test_every_hop_has_its_own_retries_and_they_are_counted(self):
        asked = call(timeout=Timeout(total=60.0))
        upstream, events = recorded()
        engine = script(503, to("/x", 307), 503, 503, 200)
        send = Pipeline((Observe(), Redirect(), Retry())).bind(engine.send, upstream)
        assert (await send(asked)).status_code == 200
        assert asked.attempt == 5
        assert events[-1].attempt == 5
        assert [request.target for request in engine.requests] == ["/x"] * 5

    @virtual_time
    async def test_a_redirect_is_no_failure_and_a_bad_one_is_not_tried_again(self):
        engine = script(then=to("ftp://other.test"))
        upstream = Upstream("shop")
        observe, retry, circuit, limit = standard()
        send = Pipeline((observe, Redirect(), retry, circuit, limit)).bind(engine.send, upstream)
        for _ in range(10):
            with pytest.raises(ProtocolError):
                await send(call())
        assert len(engine.requests) == 10
        assert upstream.states["ConcurrencyLimit", "default"].taken == 0

    @virtual_time
    async def test_a_stream_is_closed_before_the_next_hop_is_asked(self):
        left = []

        def here(request):
            left.append(engine.open)
            return 200, Pieces(b"here", b"!")

        engine = script(to("/1", body=Pieces(b"gone", 5.0, b"on")), to("/2", body=Pieces(b"gone")), here)
        slots = ConcurrencyLimit(limit=1)
        upstream = Upstream("shop")
        send = Pipeline((Redirect(), slots)).bind(engine.send, upstream)
        response = await send(call(stream=True))
        assert (left, engine.open) == ([1], 1)
        assert upstream.states["ConcurrencyLimit", "default"].taken == 1
        assert await response.aread() == b"here!"
        assert (engine.open, upstream.states["ConcurrencyLimit", "default"].taken) == (0, 0)
        assert now() == 0.0, "what is given up is not waited for"

    @pytest.mark.parametrize(
        "answer", [to("ftp://x", body=Pieces(b"a")), (302, Pieces(b"a"), [("Location", "/1"), ("Location", "/2")])]
    )
    @virtual_time
    async def test_a_stream_that_leads_nowhere_is_closed_too(self, answer):
        engine = script(answer)
        with pytest.raises(ProtocolError):
            await Redirect().bind(engine.send, Upstream("shop"))(call(stream=True))
        assert engine.open == 0

    @pytest.mark.parametrize("stream", [False, True])
    def test_cancelled_at_any_step_it_leaves_nothing(self, stream):
        async def story(cut):
            engine = script(0.1, to("/1", body=Pieces(b"a", 0.1, b"b")), 0.1, to("//other.test"), 0.1, (200, b"here"))
            upstream = Upstream("shop")
            observe, retry, circuit, limit = standard()
            send = Pipeline((observe, Redirect(), retry, circuit, limit)).bind(engine.send, upstream)

            async def ask():
                response = await send(call(stream=stream))
                try:
                    await response.aread()
                finally:
                    response.close()

            await cut(ask())
            assert engine.open == 0
            assert upstream.states["ConcurrencyLimit", "default"].taken == 0
            assert asyncio.all_tasks() == {asyncio.current_task()}

        assert at_every_step(story) > 5


def test_it_explains_itself():
    assert Redirect(limit=3).explain() == "redirect: up to 3, without credentials from the first other origin on"


def test_it_stands_outside_retry():
    with pytest.raises(ConfigError, match="Retry cannot stand outside Redirect"):
        Pipeline((Retry(), Redirect()))
