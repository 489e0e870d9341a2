"""The live circuits: what has one of its own, and what an operator and other processes tell them."""

import asyncio
from math import inf, nan
from typing import Any

import pytest

from calls import call, now, recorded
from fairlead import HTTPClient, get
from fairlead.core import Pipeline, Upstream
from fairlead.errors import CircuitOpen, ConfigError, ConnectFailed
from fairlead.events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from fairlead.message import Request
from fairlead.policies import CircuitBreaker, ConcurrencyLimit
from fairlead.policies.circuit import verdict
from fairlead.policies.circuit_rule import CLOSED, HALF_OPEN, OPEN
from fairlead.policies.circuits import Circuits
from fairlead.testing import script, virtual_time
from fairlead.url import Origin

SHOP = Origin("https", "shop.test", 443)
NAME = "https://shop.test"


def bound(engine, upstream=None, inside=(), **numbers):
    upstream = upstream or Upstream("shop")
    recipe = CircuitBreaker(**{"random": lambda: 1.0, **numbers})
    send = Pipeline((recipe, *inside)).bind(engine.send, upstream)
    return send, upstream.states["CircuitBreaker", "default"]


async def fails(send, error, times=1, **asked):
    for _ in range(times):
        with pytest.raises(error):
            await send(call(**asked))


# What has a circuit of its own


@virtual_time
async def test_a_route_is_the_template_of_a_declared_call_or_else_the_method_and_the_path():
    send, circuits = bound(script(then=200), by="route")
    declared = call("GET", "https://shop.test/users/1?full=yes")
    declared.request.route = "/users/{id}"
    await send(declared)
    await send(call("GET", "https://shop.test/users/2?key=secret"))
    await send(call("PUT", "https://shop.test/users/2"))
    await send(call("GET", "https://other.test/users/2"))
    assert [circuit.key for circuit in circuits.values()] == [
        "GET https://shop.test/users/{id}",
        "GET https://shop.test/users/2",
        "PUT https://shop.test/users/2",
        "GET https://other.test/users/2",
    ]


@virtual_time
async def test_a_route_that_is_down_leaves_the_others_alone_and_says_which_it_is():
    upstream, events = recorded()
    send, _ = bound(script(500, 200), upstream, by="route", consecutive=1)
    await send(call("GET", "https://shop.test/reports?key=secret"))
    with pytest.raises(CircuitOpen, match=r"for GET https://shop.test/reports \(a failure\)") as caught:
        await send(call("GET", "https://shop.test/reports?key=secret"))
    assert "secret" not in str(caught.value)
    assert (await send(call("GET", "https://shop.test/users"))).status_code == 200
    assert events == [CircuitOpened("shop", "GET https://shop.test/reports", 5.0, "a failure")]


class Shop(HTTPClient, base_url="https://shop.test/v1"):
    @get("/users/{number}?full=yes")
    async def user(self, number: int) -> Any:
        raise NotImplementedError

    @get("/orders")
    async def orders(self) -> Any:
        raise NotImplementedError


@virtual_time
async def test_a_declared_call_tells_its_route():
    engine = script(then=(200, {}))
    async with Shop(engine=engine, policies=(CircuitBreaker(by="route"),)) as shop:
        await shop.user(1)
        await shop.user(2)
        await shop.orders()
        await shop.get("/orders/3")
        await shop.get("/orders/4", route="/orders/{id}")
        circuits = shop.upstream.states["CircuitBreaker", "default"]
        assert [circuit.key for circuit in circuits.values()] == [
            "GET https://shop.test/users/{number}",
            "GET https://shop.test/orders",
            "GET https://shop.test/v1/orders/3",
            "GET https://shop.test/orders/{id}",
        ]
    assert [request.target for request in engine.requests[:2]] == ["/v1/users/1?full=yes", "/v1/users/2?full=yes"]


@virtual_time
async def test_an_upstream_can_have_one_for_all_and_a_function_can_say_what_has_one():
    send, circuits = bound(script(then=200), by="upstream")
    await send(call())
    await send(call(url="https://other.test/"))
    assert [circuit.key for circuit in circuits.values()] == ["shop"]
    send, circuits = bound(script(then=200), by=lambda request: request.method)
    await send(call("GET"))
    await send(call("PUT"))
    assert list(circuits) == ["GET", "PUT"]


def test_how_many_there_are_is_bounded_and_open_circuits_stay():
    circuits = Circuits(CircuitBreaker(kept=3, consecutive=1), Upstream("shop"))
    ports = [Origin("http", "shop.test", port) for port in range(1, 7)]
    first = circuits[ports[0]]
    first.fail(first.admit(0.0), 0.0)
    for origin in ports[1:]:
        circuits[origin]
    assert len(circuits) == 3
    assert circuits[ports[0]] is first
    for circuit in list(circuits.values()):
        circuit.fail(circuit.admit(0.0), 0.0)
    circuits[SHOP]
    assert (len(circuits), SHOP in circuits) == (3, True)


# Modes


@virtual_time
async def test_in_shadow_it_tells_what_it_would_do_and_refuses_nothing():
    upstream, events = recorded()
    engine = script(500, 500, 500, 200, 200, 500)
    send, circuits = bound(engine, upstream, mode="shadow", consecutive=2)
    statuses = [(await send(call())).status_code for _ in range(4)]
    assert verdict(upstream) == "closed"
    await asyncio.sleep(5)
    statuses += [(await send(call())).status_code for _ in range(2)]
    assert statuses == [500, 500, 500, 200, 200, 500]
    assert (circuits[SHOP].refused, circuits[SHOP].row) == (2, 1)
    assert events == [
        CircuitOpened("shop", NAME, 5.0, "2 failures in a row", shadow=True),
        CircuitHalfOpened("shop", NAME, shadow=True),
        CircuitClosed("shop", NAME, shadow=True),
    ]


@virtual_time
async def test_in_shadow_the_probe_alone_decides():
    """Those that would have been refused meanwhile are not counted, however they end."""
    engine = script(500, 1.0, 200, 500, 500)
    send, circuits = bound(engine, mode="shadow", consecutive=1)
    await send(call())
    await asyncio.sleep(5)
    probe = asyncio.ensure_future(send(call()))
    await asyncio.sleep(0.5)
    assert circuits[SHOP].state is HALF_OPEN
    engine.answers.insert(0, 500)
    await send(call())
    assert circuits[SHOP].state is HALF_OPEN
    await probe
    assert (circuits[SHOP].state, circuits[SHOP].row) == (CLOSED, 0)


@virtual_time
async def test_off_it_is_not_there():
    engine, upstream = script(), Upstream("shop")
    assert CircuitBreaker(mode="off").bind(engine.send, upstream) == engine.send
    assert upstream.states == {}


@virtual_time
async def test_open_it_refuses_everything_until_it_is_told_otherwise():
    engine = script(200)
    send, circuits = bound(engine, mode="open")
    for _ in range(3):
        with pytest.raises(CircuitOpen, match=r"circuit open for https://shop.test \(forced open\) \(GET") as caught:
            await send(call())
        assert caught.value.retry_after is None
        await asyncio.sleep(1000)
    circuits.force("on")
    assert (await send(call())).status_code == 200


@virtual_time
async def test_an_operator_opens_what_runs_and_sets_it_back():
    upstream, events = recorded()
    engine = script(200, 1.0, 200, 200, 200)
    send, circuits = bound(engine, upstream, inside=(ConcurrencyLimit(limit=1),))
    await send(call())
    under_way = asyncio.ensure_future(send(call()))
    await asyncio.sleep(0)
    in_line = asyncio.ensure_future(send(call()))
    await asyncio.sleep(0)
    circuits.force("open")
    await fails(send, CircuitOpen)
    await fails(send, CircuitOpen, url="https://other.test/")
    with pytest.raises(CircuitOpen, match="forced open"):
        await in_line
    assert (await under_way).status_code == 200
    assert verdict(upstream) == "open"
    assert circuits[SHOP].state is OPEN
    circuits.force("on")
    assert verdict(upstream) == "closed"
    assert (await send(call())).status_code == 200
    assert events == [
        CircuitOpened("shop", NAME, inf, "forced open", told=True),
        CircuitClosed("shop", NAME, told=True),
        CircuitClosed("shop", "https://other.test", told=True),
    ]


@virtual_time
async def test_an_operator_closes_what_opened_and_what_was_under_way_before_is_forgotten():
    engine = script(*[ConnectFailed] * 5, 200)
    send, circuits = bound(engine)
    late = circuits[SHOP].admit(0.0)
    await fails(send, ConnectFailed, 5)
    circuits.force("on")
    assert not circuits[SHOP].fail(late, 0.0)
    assert circuits[SHOP].row == 0
    assert (await send(call())).status_code == 200


@virtual_time
async def test_an_operator_puts_it_in_shadow_and_back():
    upstream, events = recorded()
    send, circuits = bound(script(then=500), upstream, consecutive=1)
    await send(call())
    circuits.force("shadow")
    for _ in range(3):
        assert (await send(call())).status_code == 500
    circuits.force("on")
    await send(call())
    await fails(send, CircuitOpen)
    assert events == [
        CircuitOpened("shop", NAME, 5.0, "a failure"),
        CircuitClosed("shop", NAME, told=True),
        CircuitOpened("shop", NAME, 5.0, "a failure", shadow=True),
        CircuitClosed("shop", NAME, shadow=True, told=True),
        CircuitOpened("shop", NAME, 5.0, "a failure"),
    ]


def test_what_it_cannot_be_forced_to_be_is_said():
    circuits = Circuits(CircuitBreaker(), Upstream("shop"))
    with pytest.raises(ConfigError, match="shop: circuits cannot be forced 'off': use one of on, shadow, open"):
        circuits.force("off")


# What other processes tell


@virtual_time
async def test_an_opening_elsewhere_opens_it_here_and_is_not_told_as_ones_own():
    upstream, events = recorded()
    engine = script(200, 1.0, 200, 200)
    send, circuits = bound(engine, upstream, inside=(ConcurrencyLimit(limit=1),), random=lambda: 0.0)
    await send(call())
    under_way = asyncio.ensure_future(send(call()))
    await asyncio.sleep(0)
    in_line = asyncio.ensure_future(send(call()))
    await asyncio.sleep(0)
    circuits.opened_elsewhere(NAME, 7.0, now(), "5 failures in a row")
    with pytest.raises(CircuitOpen, match="told by another process: 5 failures in a row"):
        await in_line
    await under_way
    await fails(send, CircuitOpen)
    await asyncio.sleep(7)
    assert (await send(call())).status_code == 200
    reason = "told by another process: 5 failures in a row"
    assert events == [
        CircuitOpened("shop", NAME, 7.0, reason, told=True),
        CircuitHalfOpened("shop", NAME),
        CircuitClosed("shop", NAME),
    ]


def heard(**numbers):
    upstream, events = recorded()
    recipe = CircuitBreaker(**{"random": lambda: 0.0, "consecutive": 1, **numbers})
    return Circuits(recipe, upstream), events


def test_who_hears_of_it_probes_a_little_later_than_who_found_out():
    circuits, _ = heard(random=lambda: 1.0)
    circuits.opened_elsewhere(NAME, 10.0, 0.0)
    assert circuits[SHOP].until == 12.0


def test_an_opening_elsewhere_shortens_nothing_and_may_make_it_longer():
    circuits, events = heard()
    circuit = circuits[SHOP]
    circuit.open(0.0, 20.0, "a failure")
    circuits.opened_elsewhere(NAME, 5.0, 0.0)
    assert circuit.until == 20.0
    circuits.opened_elsewhere(NAME, 30.0, 0.0)
    assert (circuit.until, circuit.reason) == (30.0, "a failure")
    assert events == []


def test_an_opening_elsewhere_says_nothing_to_a_circuit_that_probes():
    circuits, events = heard()
    circuit = circuits[SHOP]
    circuit.open(0.0, 5.0, "a failure")
    probe = circuit.admit(5.0)
    circuits.opened_elsewhere(NAME, 30.0, 5.0)
    assert circuit.state is HALF_OPEN
    assert circuit.succeed(probe, 6.0)
    assert events == []


def test_an_opening_elsewhere_does_not_make_ones_own_longer():
    circuits, _ = heard()
    circuits.opened_elsewhere(NAME, 30.0, 0.0)
    circuit = circuits[SHOP]
    circuit.fail(circuit.admit(30.0), 30.0)
    assert circuit.seconds == 5.0


@pytest.mark.parametrize("seconds", [0.0, -1.0, nan, inf])
def test_what_cannot_be_a_time_is_not_heard(seconds):
    circuits, events = heard()
    circuits.opened_elsewhere(NAME, seconds, 0.0)
    assert (dict(circuits), events) == ({}, [])


def test_nobody_elsewhere_opens_it_for_longer_than_it_could_itself():
    circuits, _ = heard()
    circuits.opened_elsewhere(NAME, 1e9, 0.0)
    assert circuits[SHOP].until == 144.0


def test_a_closing_elsewhere_closes_it_here():
    circuits, events = heard()
    circuits.opened_elsewhere(NAME, 30.0, 0.0)
    circuits.closed_elsewhere(NAME)
    circuits.closed_elsewhere(NAME)
    circuits.closed_elsewhere("https://other.test")
    assert circuits[SHOP].state is CLOSED
    assert len(circuits) == 1
    assert events == [
        CircuitOpened("shop", NAME, 30.0, "told by another process", told=True),
        CircuitClosed("shop", NAME, told=True),
    ]


def test_what_an_operator_forced_open_no_other_process_closes():
    circuits, _ = heard()
    circuits[SHOP]
    circuits.force("open")
    circuits.closed_elsewhere(NAME)
    circuits.opened_elsewhere(NAME, 1.0, 0.0)
    assert (circuits[SHOP].state, circuits[SHOP].until) == (OPEN, inf)


def test_in_shadow_what_is_told_is_in_shadow_too():
    circuits, events = heard(mode="shadow")
    circuits.opened_elsewhere(NAME, 30.0, 0.0, "a failure")
    assert events == [CircuitOpened("shop", NAME, 30.0, "told by another process: a failure", shadow=True, told=True)]


@pytest.mark.parametrize(
    ("by", "name"),
    [
        ("origin", NAME),
        ("route", "GET https://shop.test/x"),
        ("upstream", "shop"),
        (lambda request: (request.origin.host, 1), "('shop.test', 1)"),
    ],
    ids=["origin", "route", "upstream", "function"],
)
def test_what_is_heard_of_before_it_is_called_is_open_at_the_first_call(by, name):
    circuits, _ = heard(by=by)
    circuits.opened_elsewhere(name, 30.0, 0.0)
    circuit = circuits[circuits.key(Request("GET", "https://shop.test/x?key=secret"))]
    assert (circuit.state, circuit.key, len(circuits)) == (OPEN, name, 1)
    circuits.opened_elsewhere(name, 60.0, 0.0)
    assert (circuit.until, len(circuits)) == (60.0, 1)
