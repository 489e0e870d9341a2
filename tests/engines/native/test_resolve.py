"""Names to addresses: asked for once, kept for a while, on virtual time; and what the system's own resolver says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest
from aiohappyeyeballs import AddrInfoType

from fairlead.engines.native.resolve import NAMES, NEGATIVE_TTL, TTL, Resolver
from fairlead.testing import Cut, at_every_step, virtual_time


def info(address: str) -> AddrInfoType:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 0, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)


class System:
    """Answers what it was told, after some time; `asked` holds what it was asked, `given_up` what nobody waited for."""

    def __init__(self, *addresses: str, takes: float = 0.0, fault: Exception | None = None) -> None:
        self.addresses = addresses
        self.takes = takes
        self.fault = fault
        self.asked: list[str] = []
        self.given_up: list[str] = []

    async def __call__(self, host: str) -> Sequence[AddrInfoType]:
        self.asked.append(host)
        try:
            await asyncio.sleep(self.takes)
        except asyncio.CancelledError:
            self.given_up.append(host)
            raise
        if self.fault is not None:
            raise self.fault
        return [info(address) for address in self.addresses]


def places(addresses: Sequence[AddrInfoType]) -> list[str]:
    return [address[4][0] for address in addresses]


UNKNOWN = socket.gaierror(socket.EAI_NONAME, "unknown")


# Kept


@virtual_time
async def test_an_answer_is_kept_for_its_time_and_no_longer():
    system = System("192.0.2.1")
    resolve = Resolver(system)
    assert await resolve("a.example", 80) == [(*info("192.0.2.1")[:4], ("192.0.2.1", 80))]
    await asyncio.sleep(TTL - 0.1)
    await resolve("a.example", 80)
    assert len(system.asked) == 1
    await asyncio.sleep(0.2)
    await resolve("a.example", 80)
    assert len(system.asked) == 2


@virtual_time
async def test_a_failure_is_kept_for_a_moment():
    system = System("192.0.2.1", fault=UNKNOWN)
    resolve = Resolver(system)
    for _ in range(5):
        with pytest.raises(socket.gaierror):
            await resolve("a.example", 80)
        await asyncio.sleep(NEGATIVE_TTL / 10)
    assert len(system.asked) == 1
    system.fault = None
    await asyncio.sleep(NEGATIVE_TTL)
    assert places(await resolve("a.example", 80)) == ["192.0.2.1"]


@virtual_time
async def test_each_who_is_told_of_a_failure_is_given_an_error_of_its_own():
    resolve = Resolver(System(fault=UNKNOWN, takes=1.0))
    first, second = await asyncio.gather(*[resolve("a.example", 80) for _ in range(2)], return_exceptions=True)
    assert type(first) is type(second) is socket.gaierror
    assert first is not second
    assert UNKNOWN.__traceback__ is None, "what is kept holds no frame"


@virtual_time
async def test_a_host_without_addresses_is_unknown():
    with pytest.raises(socket.gaierror):
        await Resolver(System())("a.example", 80)


@virtual_time
async def test_a_host_that_no_query_can_name_is_unknown():
    with pytest.raises(socket.gaierror):
        await Resolver(System(fault=UnicodeError("label too long")))("a" * 64 + ".example", 80)


@virtual_time
async def test_what_is_kept_serves_every_port():
    system = System("192.0.2.1", "2001:db8::1")
    resolve = Resolver(system)
    await resolve("a.example", 80)
    assert [address[4] for address in await resolve("a.example", 8443)] == [
        ("192.0.2.1", 8443),
        ("2001:db8::1", 8443, 0, 0),
    ]
    assert system.asked == ["a.example"]


@virtual_time
async def test_what_could_not_be_connected_to_is_asked_for_anew():
    system = System("192.0.2.1")
    resolve = Resolver(system)
    await resolve("a.example", 80)
    system.addresses = ("192.0.2.2",)
    resolve.forget("a.example")
    assert places(await resolve("a.example", 80)) == ["192.0.2.2"]
    resolve.forget("never.example")


@virtual_time
async def test_names_are_bounded_and_the_oldest_makes_room():
    system = System("192.0.2.1")
    resolve = Resolver(system)
    for number in range(NAMES + 10):
        await resolve(f"{number}.example", 80)
    assert len(resolve._known) == NAMES
    asked = len(system.asked)
    await resolve(f"{NAMES + 9}.example", 80)
    assert len(system.asked) == asked
    await resolve("0.example", 80)
    assert len(system.asked) == asked + 1


@virtual_time
async def test_a_name_asked_for_again_is_as_young_as_its_answer():
    resolve = Resolver(System("192.0.2.1"))
    await resolve("0.example", 80)
    await asyncio.sleep(TTL)
    for number in range(1, NAMES):
        await resolve(f"{number}.example", 80)
    await resolve("0.example", 80)
    await resolve("new.example", 80)
    assert "0.example" in resolve._known
    assert "1.example" not in resolve._known


@virtual_time
async def test_connections_are_spread_over_the_addresses_of_a_family():
    resolve = Resolver(System("2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2", "192.0.2.3"))
    begun = [places(await resolve("a.example", 80)) for _ in range(4)]
    assert begun[0] == ["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert begun[1] == ["2001:db8::2", "2001:db8::1", "192.0.2.2", "192.0.2.3", "192.0.2.1"]
    assert begun[2][:3] == ["2001:db8::1", "2001:db8::2", "192.0.2.3"]
    assert begun[3][2] == "192.0.2.1"


# Shared


@virtual_time
async def test_all_who_wait_for_a_name_share_one_lookup():
    system = System("192.0.2.1", takes=2.0)
    resolve = Resolver(system)
    found = await asyncio.gather(*[resolve("a.example", 80) for _ in range(50)])
    assert {tuple(places(one)) for one in found} == {("192.0.2.1",)}
    assert system.asked == ["a.example"]
    assert not resolve._asked


@virtual_time
@pytest.mark.parametrize("leaves", [0, 1, 2])
async def test_one_who_leaves_does_not_take_the_answer_from_the_others(leaves):
    system = System("192.0.2.1", takes=2.0)
    resolve = Resolver(system)
    askers = [asyncio.create_task(resolve("a.example", 80)) for _ in range(3)]
    await asyncio.sleep(1.0)
    askers[leaves].cancel()
    ends = await asyncio.gather(*askers, return_exceptions=True)
    assert isinstance(ends.pop(leaves), asyncio.CancelledError)
    assert [places(end) for end in ends] == [["192.0.2.1"]] * 2
    assert system.asked == ["a.example"]


@virtual_time
async def test_the_last_who_leaves_ends_the_lookup():
    system = System("192.0.2.1", takes=60.0)
    resolve = Resolver(system)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(resolve("a.example", 80), resolve("a.example", 80))
        await asyncio.sleep(0)
        assert not resolve._asked
    assert system.given_up == ["a.example", "a.example"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_cancellation_at_any_step_leaves_no_lookup():
    async def story(cut: Cut) -> None:
        system = System("192.0.2.1", takes=1.0)
        resolve = Resolver(system)
        other = asyncio.create_task(resolve("a.example", 80))
        await asyncio.sleep(0.5)
        await cut(resolve("a.example", 80))
        assert places(await other) == ["192.0.2.1"]
        await cut(resolve("b.example", 80))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not resolve._asked
        assert asyncio.all_tasks() == {asyncio.current_task()}

    assert at_every_step(story) > 3


def test_another_loop_asks_anew():
    system = System("192.0.2.1")
    resolve = Resolver(system)
    for _ in range(2):
        asyncio.run(resolve("a.example", 80))
    assert len(system.asked) == 2


# The system


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("::1", "::1"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("fe80::1%25lo", "fe80::1"),
    ],
)
async def test_an_address_in_whatever_form_needs_no_lookup(host, address):
    system = System()
    assert places(await Resolver(system)(host, 443)) == [address]
    assert not system.asked


async def test_a_name_of_this_host_is_resolved():
    (first, *_) = await Resolver()("localhost", 443)
    assert first[4][:2] in {("127.0.0.1", 443), ("::1", 443)}


async def test_a_name_that_nobody_has_is_unknown():
    with pytest.raises(socket.gaierror):
        await Resolver()("no-such-host.invalid", 443)
