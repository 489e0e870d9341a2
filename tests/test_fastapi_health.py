"""Three questions: whether the process lives, whether it can do its work, how its upstreams are. And what the answers cost."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import inf

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from calls import now
from fairlead.client import HTTPClient
from fairlead.core import Upstream
from fairlead.errors import AttemptTimedOut, ConfigError, ConnectFailed, DeadlineExceeded, Disconnected, FairleadError
from fairlead.fastapi import Use, install, lifespan
from fairlead.fastapi.vitals import LAST, Seen, Vitals, circuit, report
from fairlead.message import Response
from fairlead.policies import CircuitBreaker, ConcurrencyLimit
from fairlead.policies.circuits import Circuits
from fairlead.sync import SyncHTTPClient
from fairlead.testing import Pieces, VirtualLoop, at_every_await, at_every_step, script, virtual_time
from peers import Peer, answer, says


class Weather(HTTPClient, base_url="http://weather.test", max_retries=0):
    pass


class Orders(HTTPClient, base_url="http://orders.test", max_retries=0):
    pass


def weather(*answers, then=None, **options):
    return Weather(engine=script(*answers, then=then), **options)


def orders(*answers, then=None, **options):
    return Orders(engine=script(*answers, then=then), **options)


async def ask(app, path):
    """Status and document of a GET, as an ASGI server would ask for it."""
    answers = []
    leaves = asyncio.get_running_loop().create_future()
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        return messages.pop() if messages else await leaves

    async def send(message):
        answers.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    await app(scope, receive, send)
    body = b"".join(answer.get("body", b"") for answer in answers)
    return answers[0]["status"], json.loads(body)


@asynccontextmanager
async def running(*clients, then=None, **options):
    """An application that has started; what it leaves is its own."""
    app = FastAPI(lifespan=lifespan(*clients, then=then, **options))
    async with app.router.lifespan_context(app):
        yield app
    assert asyncio.all_tasks() == {asyncio.current_task()}


def asked(client):
    return len(client.engine.requests)


# alive


@virtual_time
async def test_alive_is_who_answers_whatever_its_upstreams_do():
    client = weather(inf, 200)
    async with running(client, required=[Weather]) as app:
        assert await ask(app, "/health/live") == (200, {"live": True})
    assert now() == 0.0
    assert asked(client) == 0


# ready


@virtual_time
async def test_nobody_is_asked_unless_somebody_is_required():
    client = weather(ConnectFailed)
    async with running(client) as app:
        assert await ask(app, "/health/ready") == (200, {"ready": True, "draining": False, "services": {}})
    assert asked(client) == 0


@virtual_time
@pytest.mark.parametrize("required", [[Weather], ["Weather"], (Weather, "Weather"), {Weather}])
async def test_without_what_is_required_it_is_not_ready(required):
    first, other = weather(200, ConnectFailed, 200), orders(then=ConnectFailed)
    async with running(first, other, required=required) as app:
        said = []
        for _ in range(3):
            status, document = await ask(app, "/health/ready")
            said.append((status, document["ready"], document["services"]["Weather"]["healthy"]))
            await asyncio.sleep(1.1)
        assert said == [(200, True, True), (503, False, False), (200, True, True)]
        assert list(document["services"]) == ["Weather"]
    assert asked(other) == 0


@virtual_time
async def test_an_open_circuit_is_not_ready_and_one_that_would_let_a_call_through_is():
    breaker = CircuitBreaker(by="route", consecutive=1, open_for=5.0, random=lambda: 1.0)
    client = weather(500, then=200, policies=(breaker,), raise_for_status=False)
    async with running(client, required=[Weather]) as app:
        assert (await ask(app, "/health/ready"))[0] == 503, "it is the health check that failed"
        assert (await ask(app, "/health/ready"))[1]["services"]["Weather"]["circuit"] == "open"
        await asyncio.sleep(1.1)
        client.engine.answers.append(500)
        await client.get("/rare")
        await asyncio.sleep(4.5)
        status, document = await ask(app, "/health/ready")
        assert document["services"]["Weather"] == {"healthy": True, "circuit": "open"}
        assert status == 503
        await asyncio.sleep(5.0)
        # Nobody calls what is not ready: an open circuit that waited for a call would keep it so for ever.
        status, document = await ask(app, "/health/ready")
        assert document["services"]["Weather"] == {"healthy": True, "circuit": "half-open"}
        assert status == 200


@virtual_time
async def test_what_stops_is_not_ready_and_asks_nobody():
    seen = []

    @asynccontextmanager
    async def own(app):
        yield {}
        seen.append(await ask(app, "/health/ready"))
        seen.append(await ask(app, "/health/live"))

    client = weather()
    async with running(client, then=own, required=[Weather]):
        pass
    assert seen == [(503, {"ready": False, "draining": True, "services": {}}), (200, {"live": True})]
    assert asked(client) == 0


@virtual_time
async def test_who_knows_earlier_that_it_stops_says_so():
    async with running(weather()) as app:
        app.state.fairlead.draining = True
        assert (await ask(app, "/health/ready"))[0] == 503


@virtual_time
async def test_it_is_ready_again_when_it_starts_again():
    app = FastAPI(lifespan=lifespan(lambda: weather(200), required=[Weather]))
    for _ in range(2):
        async with app.router.lifespan_context(app):
            assert (await ask(app, "/health/ready"))[0] == 200
        assert (await ask(app, "/health/ready"))[0] == 503


@pytest.mark.parametrize("argument", ["required", "eager"])
@pytest.mark.parametrize("wrong", ["Weather", Weather, 7])
def test_a_list_is_a_list(argument, wrong):
    with pytest.raises(ConfigError, match=rf"lifespan\(\): {argument}=.* is no list of classes and names"):
        lifespan(Weather, **{argument: wrong})


@pytest.mark.parametrize("argument", ["required", "eager"])
@pytest.mark.parametrize("wrong", [Orders, "Orders", 7])
@virtual_time
async def test_what_nobody_opens_is_refused_at_the_start(argument, wrong):
    client = weather()
    with pytest.raises(ConfigError, match=rf"lifespan\(\): {argument}\[1\] is .*: pass the class or the name"):
        async with running(client, **{argument: [Weather, wrong]}):
            pass
    assert client.engine.closed


# the health of every upstream


@virtual_time
async def test_health_tells_of_every_client():
    async with running(weather(0.25, 200), orders(404)) as app:
        status, document = await ask(app, "/health")
    calm = {"in_flight": 0, "waiting": 0, "limit": 100, "last_error": None}
    assert status == 200
    assert document == {
        "healthy": True,
        "services": {
            "Weather": {
                "healthy": True,
                "circuit": "closed",
                "latency": {"last": 0.25, "p50": 0.25, "p95": 0.25, "answers": 1},
                **calm,
            },
            "Orders": {
                "healthy": True,
                "circuit": "closed",
                "latency": {"last": 0.0, "p50": 0.0, "p95": 0.0, "answers": 1},
                **calm,
            },
        },
    }


@virtual_time
async def test_one_unhealthy_client_makes_it_503():
    app = FastAPI(lifespan=lifespan(weather(then=200, policies=()), orders(then=ConnectFailed)))
    install(app, health="/healthz")
    said = []
    async with app.router.lifespan_context(app):
        for _ in range(5):
            status, document = await ask(app, "/healthz")
            said.append((status, document["healthy"], document["services"]["Orders"]["circuit"]))
            await asyncio.sleep(1.1)
        one = document["services"]["Weather"]
        assert (await ask(app, "/healthz/ready"))[0] == 200
    assert said == [(503, False, "closed")] * 4 + [(503, False, "open")]
    assert (one["healthy"], one["circuit"], one["limit"]) == (True, None, None)


async def slow(request):
    await asyncio.sleep(1.0)
    return 200


@virtual_time
async def test_who_waits_and_who_is_under_way_is_told():
    client = weather(200, then=slow, policies=(ConcurrencyLimit(limit=2),))
    async with running(client) as app:
        await ask(app, "/health")
        calls = [asyncio.create_task(client.get("/")) for _ in range(3)]
        await asyncio.sleep(0.5)
        one = (await ask(app, "/health"))[1]["services"]["Weather"]
        assert (one["in_flight"], one["waiting"], one["limit"]) == (2, 1, 2)
        await asyncio.gather(*calls)


@virtual_time
async def test_without_a_limit_those_under_way_are_told_all_the_same():
    client = weather(200, 1.0, 200, policies=())
    async with running(client) as app:
        await ask(app, "/health")
        call = asyncio.create_task(client.get("/"))
        await asyncio.sleep(0.5)
        one = (await ask(app, "/health"))[1]["services"]["Weather"]
        assert (one["in_flight"], one["waiting"], one["limit"]) == (1, 0, None)
        await call


SECRET = "hunter2"


@virtual_time
@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (ConnectFailed(f"could not connect to 10.0.0.7 ({SECRET})"), "ConnectFailed", "could not connect"),
        (Disconnected, "Disconnected", "disconnected before the answer was complete"),
        ((503, SECRET, {"X-Key": SECRET}), "StatusError", "answered 503 Service Unavailable"),
        ((200, Pieces(b"half", Disconnected)), "Disconnected", "disconnected before the answer was complete"),
    ],
)
async def test_the_last_error_is_told_without_a_secret(answer, error, message):
    client = weather(200, answer, then=200, headers={"Authorization": SECRET})
    began = datetime.now(UTC)
    async with running(client) as app:
        await ask(app, "/health")
        with pytest.raises(FairleadError):
            await client.get(f"/{SECRET}", params={"key": SECRET})
        await client.get("/good")
        document = (await ask(app, "/health"))[1]
    last = document["services"]["Weather"]["last_error"]
    assert (last["error"], last["message"]) == (error, message)
    assert abs((datetime.fromisoformat(last["at"]) - began).total_seconds()) < 60
    assert SECRET not in json.dumps(document)
    assert "10.0.0.7" not in json.dumps(document)


@virtual_time
async def test_an_error_that_a_retry_made_good_is_told_too():
    client = weather(200, 502, 200, max_retries=1)
    async with running(client) as app:
        await ask(app, "/health")
        await client.get("/")
        one = (await ask(app, "/health"))[1]["services"]["Weather"]
    assert one["last_error"]["message"] == "answered 502 Bad Gateway"


@virtual_time
async def test_a_time_out_is_told_and_a_callers_own_haste_is_not():
    client = weather(200, inf, inf)
    async with running(client) as app:
        await ask(app, "/health")
        with pytest.raises(DeadlineExceeded):
            await client.send(client.build_request("GET", "/"), deadline=now() + 0.1)
        assert report(client)["last_error"] is None
        with pytest.raises(AttemptTimedOut):
            await client.get("/", timeout=2.0)
        assert report(client)["last_error"]["error"] == "AttemptTimedOut"


@virtual_time
async def test_of_streams_the_head_is_timed_and_the_end_judged():
    client = weather(200, (200, Pieces(b"a", 3.0, b"b")), (200, Pieces(0.5, Disconnected)))
    async with running(client) as app:
        await ask(app, "/health")
        async with client.stream("GET", "/") as response:
            assert await response.aread() == b"ab"
        assert report(client)["latency"]["last"] == 0.0
        assert report(client)["last_error"] is None
        with pytest.raises(Disconnected):
            async with client.stream("GET", "/") as response:
                await response.aread()
        assert report(client)["last_error"]["error"] == "Disconnected"


@given(st.lists(st.floats(0, 60), min_size=1, max_size=3 * LAST))
def test_the_quantiles_are_of_the_last_answers(seconds):
    seen = Seen()
    seen.seconds.extend(seconds)
    told, last = seen.latency(), seconds[-LAST:]
    assert (told["last"], told["answers"]) == (round(seconds[-1], 6), len(last))
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        within = sum(round(one, 6) <= told[name] for one in last)
        below = sum(round(one, 6) < told[name] for one in last)
        assert within >= share * len(last) > below - 1
        assert told[name] in [round(one, 6) for one in last]


def test_before_the_first_answer_there_is_no_latency():
    assert Seen().latency() is None


async def test_what_is_no_error_of_an_upstream_is_not_noted():
    seen = Seen()
    for outcome in (Response(200), Response(404), Response(429), DeadlineExceeded(), ConfigError("odd"), OSError()):
        seen.fail(outcome)
        assert seen.last is None
    seen.fail(Response(500))
    assert seen.last.error == "StatusError"


def test_clients_of_one_name_are_told_apart_and_one_without_an_address_is_not_asked():
    one = HTTPClient("http://a.test/x", engine=script(200))
    two = HTTPClient("http://a.test/y", engine=script(200))
    app = FastAPI(lifespan=lifespan(one, two, HTTPClient(engine=script())))
    with TestClient(app) as caller:
        assert list(caller.get("/health").json()["services"]) == ["a.test", "a.test (2)"]


class Own:
    """Somebody's own client, that is none of ours."""

    name = "own"

    def __init__(self, *answers):
        self.answers = list(answers)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def health_check(self):
        answer = self.answers.pop(0)
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer


@virtual_time
@pytest.mark.parametrize(
    ("answer", "healthy", "after"),
    [(True, True, 0.0), (None, False, 0.0), (OSError("x"), False, 0.0), (9.0, False, 6.0)],
)
async def test_a_health_check_of_ones_own_is_asked_whatever_it_does(answer, healthy, after):
    async with running(Own(answer)) as app:
        document = (await ask(app, "/health"))[1]
        assert document["services"] == {"own": {"healthy": healthy, "circuit": None}}
        assert now() == after


@virtual_time
async def test_one_that_opens_again_is_asked_again():
    own = Own(True, False)
    app = FastAPI(lifespan=lifespan(own))
    for healthy in (True, False):
        async with app.router.lifespan_context(app):
            assert (await ask(app, "/health"))[1]["healthy"] is healthy
        assert app.state.fairlead.checks == {}


def test_of_several_circuits_those_in_shadow_say_nothing():
    client = weather(policies=())
    for name, mode, until in (("real", "on", 5.0), ("trial", "shadow", 50.0)):
        recipe = CircuitBreaker(name=name, mode=mode)
        circuits = client.upstream.state(recipe, lambda recipe=recipe: Circuits(recipe, client.upstream))
        circuits["x"].open(0.0, until, "too many")
    assert [circuit(client, now) for now in (4.0, 6.0, 60.0)] == ["open", "half-open", "half-open"]


async def test_of_a_client_for_threads_the_same_is_told():
    class Shop(SyncHTTPClient, of=Weather):
        pass

    async with Peer(says(answer(), answer(status=b"500 Oops"))) as peer:
        shop = Shop(peer.url, name="shop")
        async with running(shop, eager=True, required=["shop"]) as app:
            with pytest.raises(FairleadError):
                await asyncio.to_thread(shop.get, "/")
            assert (await ask(app, "/health/ready"))[0] == 200
            one = (await ask(app, "/health"))[1]["services"]["shop"]
    assert (one["healthy"], one["circuit"], one["limit"]) == (True, "closed", 100)
    assert one["latency"]["answers"] == 2
    assert one["last_error"]["message"] == "answered 500 Internal Server Error"


# what it costs


@virtual_time
async def test_ten_who_ask_at_once_and_within_a_second_are_one():
    client = weather(0.2, 200, then=200)
    async with running(client, required=[Weather]) as app:
        answers = await asyncio.gather(*[ask(app, path) for path in ["/health", "/health/ready"] * 5])
        assert [status for status, _ in answers] == [200] * 10
        await asyncio.sleep(0.99)
        await ask(app, "/health")
        assert asked(client) == 1
        await asyncio.sleep(0.02)
        await ask(app, "/health")
        assert asked(client) == 2


@virtual_time
async def test_who_asks_first_may_leave():
    client = weather(0.2, 200)
    async with running(client) as app:
        first, second = asyncio.create_task(ask(app, "/health")), asyncio.create_task(ask(app, "/health"))
        await asyncio.sleep(0.1)
        first.cancel()
        assert (await second)[0] == 200
        assert asked(client) == 1


@virtual_time
async def test_a_check_that_is_under_way_at_the_stop_is_ended():
    client = weather(3.0, 200)
    async with running(client) as app:
        probe = asyncio.create_task(ask(app, "/health"))
        await asyncio.sleep(0.1)
    assert now() == 0.1, "nobody waits for it"
    assert (await probe)[0] == 503
    assert client.engine.open == 0


def test_cancelled_at_any_step_it_leaves_nothing():
    async def story(cut):
        client = weather(0.1, 200, 0.1, 200, then=200)
        async with running(client, required=[Weather]) as app:
            await cut(ask(app, "/health"))
            await asyncio.sleep(2.0)
            assert (await ask(app, "/health/ready"))[0] == 200
            assert client.engine.open == 0

    at_every_step(story)


async def test_nothing_is_noted_where_nobody_asks():
    client = weather()
    bound = client._bound_send
    app = FastAPI()
    install(app, health=None)
    app.router.lifespan_context = lifespan(client)
    async with app.router.lifespan_context(app):
        assert client._bound_send is bound
        assert ("Vitals", "default") not in client.upstream.states


async def test_who_installs_twice_is_told_all_the_same():
    client = weather(200)
    app = FastAPI(lifespan=lifespan(client))
    install(app)
    install(app)
    async with app.router.lifespan_context(app):
        await client.get("/")
        assert report(client)["latency"]["answers"] == 1


async def test_a_client_of_two_applications_notes_once():
    client = weather(200)
    async with running(client) as _, running(client, client):
        await client.get("/")
        assert report(client)["latency"]["answers"] == 1


async def test_it_stands_around_the_engine_for_calls_of_every_kind():
    """Bound anew, a call's own retry, a declared call and the state of the pipeline are what they were."""
    client = weather(then=200)
    slots = client.upstream.states["ConcurrencyLimit", "default"]
    async with running(client):
        await client.get("/")
        await client.send(client.build_request("GET", "/"), retry=None)
        await client.get("/", follow_redirects=True)
        assert report(client)["latency"]["answers"] == 3
        assert client.upstream.states["ConcurrencyLimit", "default"] is slots


def test_the_policy_is_one_like_others():
    upstream = Upstream("shop")
    Vitals().bind(script(200).send, upstream)
    assert isinstance(upstream.states["Vitals", "default"], Seen)


# where it is asked


def test_health_may_be_left_out_and_is_no_part_of_the_schema():
    app = FastAPI()
    install(app, health=None)
    assert TestClient(app).get("/health").status_code == 404
    assert TestClient(app).get("/health/live").status_code == 404
    app = FastAPI()
    install(app)
    assert app.openapi()["paths"] == {}
    assert TestClient(app).get("/health").json() == {"healthy": True, "services": {}}


def test_it_serves_a_plain_starlette_application_too():
    app = Starlette(lifespan=lifespan(weather(200)))
    with TestClient(app) as caller:
        assert caller.get("/health").json()["services"]["Weather"]["healthy"] is True


def test_a_path_that_is_taken_stays_whose_it_is():
    app = FastAPI(lifespan=lifespan(weather(200)))

    @app.get("/health/ready")
    async def own():
        return "mine"

    with TestClient(app) as caller:
        assert caller.get("/health/ready").json() == "mine"
        assert caller.get("/health/live").json() == {"live": True}


def test_what_takes_every_path_does_not_take_these():
    """Probed there, the page of a website would say that everything is well."""

    async def page(scope, receive, send):
        await PlainTextResponse("page")(scope, receive, send)

    mounted, routed = FastAPI(lifespan=lifespan(weather(503))), FastAPI(lifespan=lifespan(weather(503)))
    mounted.mount("/files", page)
    mounted.mount("/", page)

    @routed.get("/{path:path}")
    async def route(path: str):
        return "page"

    for app in (mounted, routed):
        with TestClient(app) as caller:
            assert caller.get("/health").status_code == 503
            assert caller.get("/health/live").json() == {"live": True}
            assert caller.get("/health/ready").json()["ready"] is True
            assert "page" in caller.get("/other").text
            assert "page" in caller.get("/").text
    assert TestClient(mounted).get("/files/x").text == "page"


def test_a_parameter_that_is_one_segment_takes_no_more_than_it_says():
    app = FastAPI(lifespan=lifespan(weather(200)))

    @app.get("/{city}")
    async def route(city: str):
        return city

    with TestClient(app) as caller:
        assert caller.get("/health").json() == "health", "a route of the application's own, that was there before"
        assert caller.get("/health/live").json() == {"live": True}


def test_who_answers_errors_in_a_way_of_its_own_has_health_all_the_same():
    app = FastAPI(lifespan=lifespan(weather(200, ConnectFailed)))

    @app.exception_handler(FairleadError)
    async def answer(request, error):
        return PlainTextResponse("mine", 418)

    @app.get("/")
    async def route(weather: Use[Weather]):
        await weather.get("/")

    with TestClient(app) as caller:
        assert caller.get("/health").status_code == 200
        assert caller.get("/").status_code == 418
        assert list(app.openapi()["paths"]["/"]["get"]["responses"]) == ["200"]


def test_whoever_left_health_out_has_it_left_out_whatever_answers_errors():
    app = FastAPI(lifespan=lifespan(weather(200)))
    install(app, health=None)
    app.add_exception_handler(FairleadError, lambda request, error: PlainTextResponse("mine", 418))
    with TestClient(app) as caller:
        assert caller.get("/health").status_code == 404


async def test_nothing_is_noted_where_health_is_told_by_the_application_itself():
    client = weather()
    app = FastAPI(lifespan=lifespan(client))

    @app.get("/health")
    async def own():
        raise AssertionError

    async with app.router.lifespan_context(app):
        assert ("Vitals", "default") not in client.upstream.states


@pytest.mark.parametrize("engine", ["native", "httpx2", "aiohttp"])
async def test_on_every_engine_the_same_is_noted(engine):
    async with Peer(says(answer(), answer(status=b"500 Oops"))) as peer:
        client = Weather(peer.url, engine=engine)
        async with lifespan(client)(FastAPI()):
            await client.get("/")
            assert report(client)["latency"]["last"] > 0
            assert report(client)["last_error"] is None
            with pytest.raises(FairleadError):
                await client.get("/")
            assert report(client)["latency"]["answers"] == 2
            assert report(client)["last_error"]["message"] == "answered 500 Internal Server Error"


# at the start


@virtual_time
async def test_at_the_start_nobody_is_asked():
    client = weather()
    async with running(client):
        assert asked(client) == 0


@virtual_time
@pytest.mark.parametrize("eager", [True, [Weather], ["Weather"]])
async def test_who_is_eager_asks_and_the_first_probe_need_not(eager):
    client, other = weather(0.3, 200, then=200), orders(0.3, 200)
    async with running(client, other, eager=eager) as app:
        assert now() == 0.3, "all at once"
        assert (asked(client), asked(other)) == (1, 1 if eager is True else 0)
        await ask(app, "/health")
        assert asked(client) == 1


@virtual_time
async def test_a_start_that_fails_names_who_where_and_why():
    first = weather(ConnectFailed("could not connect to 10.0.0.7:80: refused"), base_url="http://weather.test/v1")
    whole = weather(500, base_url="http://weather.test/v1", health_path="http://weather.test/up", name="whole")
    second = orders(503, health_path="/up?key=hunter2")
    third = Own(False)
    log = []

    async def own(app):
        log.append("own")
        yield

    with pytest.raises(FairleadError) as caught:
        async with running(first, second, third, whole, then=own, eager=True):
            log.append("running")
    assert str(caught.value) == (
        "lifespan(eager=...): Weather at http://weather.test/v1 is not healthy: "
        "ConnectFailed: could not connect to 10.0.0.7:80: refused; "
        "Orders at http://orders.test/up?key=*** is not healthy: StatusError: answered 503 Service Unavailable; "
        "own is not healthy: its health_check() did not say True; "
        "whole at http://weather.test/up is not healthy: StatusError: answered 500 Internal Server Error"
    )
    assert log == []
    assert first.engine.closed
    assert second.engine.closed


@virtual_time
async def test_a_start_that_fails_says_why_without_health_routes_too():
    app = FastAPI(lifespan=lifespan(weather(503), eager=["Weather"]))
    install(app, health=None)
    with pytest.raises(FairleadError, match="StatusError: answered 503"):
        async with app.router.lifespan_context(app):
            pass


@virtual_time
async def test_one_that_hangs_at_the_start_fails_it_after_five_seconds():
    with pytest.raises(
        FairleadError, match=r"Weather at http://weather\.test is not healthy: AttemptTimedOut: .* no end after 5 s"
    ):
        async with running(weather(inf), eager=True):
            pass
    assert now() == 5.0


def test_an_eager_start_reaches_the_server():
    app = FastAPI(lifespan=lifespan(weather(ConnectFailed), eager=True))
    with pytest.raises(FairleadError, match=r"Weather at http://weather\.test is not healthy"), TestClient(app):
        pass


def test_cancelled_at_any_step_an_eager_start_leaves_nothing():
    async def story(cut):
        one, two = weather(0.1, 200, then=200), orders(0.2, 200, then=200)
        app = FastAPI(lifespan=lifespan(one, two, eager=True))

        async def start():
            async with app.router.lifespan_context(app):
                await asyncio.sleep(0.1)

        await cut(start())
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert one.engine.open == two.engine.open == 0

    at_every_step(story)


# at the stop


@virtual_time
async def test_what_is_under_way_at_the_stop_has_its_seconds():
    client = weather(4.0, 200)
    async with running(client, drain=5.0):
        call = asyncio.create_task(client.get("/"))
        await asyncio.sleep(0.5)
    assert now() == 4.0, "and no longer than it takes"
    assert (await call).status_code == 200


@virtual_time
async def test_all_clients_share_them():
    clients = [weather(60.0, 200), orders(60.0, 200), weather(60.0, 200)]
    app = FastAPI(lifespan=lifespan(*clients, drain=5.0))
    async with app.router.lifespan_context(app):
        calls = [asyncio.create_task(client.get("/")) for client in clients]
        await asyncio.sleep(0.5)
    assert now() == 5.5
    assert all(client.engine.closed for client in clients)
    for call in calls:
        call.cancel()


@virtual_time
async def test_who_needs_another_is_closed_before_it():
    tokens = weather(0.5, 200)

    async def with_a_token(request):
        await asyncio.sleep(1.0)
        return (await tokens.get("/token")).status_code

    shop = orders(with_a_token)
    async with running(tokens, shop, drain=5.0):
        paid = asyncio.create_task(shop.get("/pay"))
        await asyncio.sleep(0.2)
    assert now() == 1.5
    assert (await paid).status_code == 200


@virtual_time
async def test_an_error_that_ends_the_application_waits_for_nobody():
    client = weather(4.0, 200)
    app = FastAPI(lifespan=lifespan(client, drain=5.0))
    with pytest.raises(RuntimeError, match="over"):
        async with app.router.lifespan_context(app):
            call = asyncio.create_task(client.get("/"))
            await asyncio.sleep(0.5)
            raise RuntimeError("over")
    assert now() == 0.5
    assert client.engine.closed
    call.cancel()


def test_a_life_torn_at_every_await_leaves_nothing():
    async def story(cut):
        one, two = weather(0.1, 200, then=slow), orders(0.2, 200)
        app = FastAPI(lifespan=lifespan(one, two, eager=True, drain=5.0))

        async def life():
            async with app.router.lifespan_context(app):
                call = asyncio.create_task(one.get("/"))
                await ask(app, "/health")
                await asyncio.sleep(0.1)
            await call

        await cut(life())
        await asyncio.sleep(5.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert one.engine.open == two.engine.open == one._under_way == 0
        assert (app.state.fairlead, app.state.fairlead.checks) == ([], {})

    assert at_every_await(story, loop_factory=VirtualLoop) > 10


@pytest.mark.parametrize("drain", [-1, inf, "5", True, None])
def test_seconds_that_cannot_be_are_refused(drain):
    with pytest.raises(ConfigError, match=r"lifespan\(\): drain=.* is not a number of seconds from 0 on"):
        lifespan(Weather, drain=drain)
