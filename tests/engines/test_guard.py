"""Which addresses a guard permits: in numbers, and then on real sockets, where a name may lead anywhere."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import closing
from ipaddress import IPv4Address

import pytest

from fairlead import HTTPClient
from fairlead.engines import Guard, Wire, create
from fairlead.errors import ConfigError, Refused
from fairlead.testing import script
from peers import Peer, answer, echo

DENIED = {
    "0.0.0.0": "this host",
    "0.1.2.3": "this network",
    "10.0.0.1": "private",
    "100.64.0.1": "a carrier's customers",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "169.254.169.254": "metadata of a cloud",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.1": "protocol assignments",
    "192.0.2.1": "documentation",
    "192.168.1.1": "private",
    "198.18.0.1": "benchmarks",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::": "unspecified",
    "::1": "loopback",
    "fe80::1": "the link",
    "fe80::1%1": "the link, with its zone",
    "fc00::1": "private",
    "fd00:ec2::254": "metadata of a cloud",
    "fec0::1": "the site, deprecated",
    "ff02::1": "multicast",
    "2001:db8::1": "documentation",
    "3fff::1": "documentation",
    "100::1": "discarded",
    "5f00::1": "segment routing",
    "4000::1": "not given out",
    "::ffff:127.0.0.1": "IPv4, mapped",
    "::ffff:169.254.169.254": "IPv4, mapped",
    "::ffff:0:10.0.0.1": "IPv4, translated",
    "::127.0.0.1": "IPv4, compatible",
    "::8.8.8.8": "IPv4, compatible, which leads nowhere",
    "64:ff9b::10.0.0.1": "NAT64",
    "64:ff9b::a9fe:a9fe": "NAT64",
    "64:ff9b:1::8.8.8.8": "NAT64 of one's own network",
    "2002:7f00:1::": "6to4",
    "2002:a9fe:a9fe::1": "6to4",
    "2001:0:808:808::f5ff:fffe": "Teredo, a private client",
    "2001:0:7f00:1::f7f7:f7f7": "Teredo, a private server",
}
PERMITTED = (
    "1.1.1.1",
    "8.8.8.8",
    "11.0.0.0",
    "100.128.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
)


@pytest.mark.parametrize("address", DENIED, ids=lambda address: f"{address}, {DENIED[address]}")
def test_what_is_not_globally_routable_is_denied(address):
    assert not Guard().permits(address)


@pytest.mark.parametrize("address", PERMITTED)
def test_what_is_globally_routable_is_permitted(address):
    assert Guard().permits(address)


def test_of_ipv4_it_permits_what_python_calls_global_and_is_no_multicast():
    chosen = random.Random(7)
    for address in (IPv4Address(chosen.getrandbits(32)) for _ in range(5000)):
        assert Guard().permits(str(address)) == (address.is_global and not address.is_multicast), address


def test_what_is_allowed_is_permitted_beyond_that():
    guard = Guard(allow=("10.1.0.0/16", "fd00::/8", "127.0.0.1"))
    assert [guard.permits(one) for one in ("10.1.2.3", "fd12::1", "127.0.0.1", "8.8.8.8")] == [True] * 4
    assert [guard.permits(one) for one in ("10.2.0.1", "fe80::1", "127.0.0.2")] == [False] * 3


def test_what_is_denied_is_denied_whatever_is_allowed():
    guard = Guard(allow=("10.0.0.0/8",), deny=("10.0.0.5", "8.8.8.0/24"))
    assert guard.permits("10.0.0.4")
    assert not guard.permits("10.0.0.5")
    assert not guard.permits("8.8.8.8")


@pytest.mark.parametrize("form", ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::", "2001:0:808:808::f7f7:f7f7"])
def test_no_form_of_a_denied_address_gets_through(form):
    everything = ("0.0.0.0/0", "::/0")
    assert Guard(allow=everything).permits(form)
    assert not Guard(allow=everything, deny=("8.8.8.8",)).permits(form)


def test_an_allowed_translation_does_not_open_what_is_behind_it():
    guard = Guard(allow=("64:ff9b:1::/48",))
    assert guard.permits("64:ff9b:1::8.8.8.8")
    assert not guard.permits("64:ff9b:1::169.254.169.254")
    assert not guard.permits("64:ff9b:1:0:a9:fea9:fe00::"), "another place for the same address (RFC 6052)"
    assert not guard.permits("64:ff9b:1:a9fe:a9:fe00::")


def test_an_allowed_network_is_allowed_in_every_form():
    guard = Guard(allow=("10.0.0.0/8",))
    assert guard.permits("::ffff:10.0.0.1")
    assert guard.permits("64:ff9b::10.0.0.1")


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "10.0.0.0/33", "example.com", "", "fd00::/8/8"])
def test_what_is_no_network_is_said_to_be_so(wrong):
    with pytest.raises(ConfigError, match=r"Guard: deny: .*write a network as"):
        Guard(deny=(wrong,))


def test_one_string_is_no_list_of_networks():
    with pytest.raises(ConfigError, match=r"pass networks, \('10.0.0.0/8',\)"):
        Guard(allow="10.0.0.0/8")


def test_it_is_a_value():
    assert Guard(allow=["10.0.0.0/8"]) == Guard(allow=("10.0.0.0/8",))
    assert repr(Guard(deny=("8.8.8.8",))) == "Guard(allow=(), deny=('8.8.8.8/32',))"
    assert {Guard(), Guard()} == {Guard()}


# On real sockets


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "0x7f.1", "2130706433", "127.1", "017700000001", "0", "[::1]", "[::ffff:127.0.0.1]", "localhost"],
)
async def test_no_form_of_this_host_is_connected_to(host):
    async with Peer(echo) as peer, HTTPClient(guard=Guard()) as client:
        with pytest.raises(Refused, match="leads to no address that this client may connect to") as caught:
            await client.get(f"http://{host}:{peer.port}/")
        assert caught.value.knowledge == "not_sent"
        assert caught.value.phase == "connecting"
        assert peer.accepted == 0


async def test_a_name_that_leads_inside_is_refused_and_its_address_kept_quiet(names):
    names["rebound.example"] = ["169.254.169.254"]
    async with HTTPClient(guard=Guard()) as client:
        with pytest.raises(Refused) as caught:
            await client.get("http://rebound.example/latest/meta-data")
    assert "rebound.example" in str(caught.value)
    assert "169.254" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


async def test_of_several_addresses_only_permitted_ones_are_tried(names):
    names["several.example"] = ["127.0.0.2", "127.0.0.1", "10.0.0.1"]
    async with Peer(echo) as peer:
        with closing(socket.create_server(("127.0.0.2", peer.port))) as denied:
            denied.setblocking(False)
            url = f"http://several.example:{peer.port}/"
            async with HTTPClient(guard=Guard(allow=("127.0.0.1",))) as client:
                await asyncio.gather(*[client.get(url) for _ in range(3)])
            with pytest.raises(BlockingIOError):
                denied.accept()
        assert peer.accepted == 3


async def test_the_address_that_was_judged_is_the_one_connected_to(names):
    names["rebound.example"] = ["127.0.0.1"]
    async with Peer(echo) as peer, HTTPClient(guard=Guard(allow=("127.0.0.1",))) as client:
        await client.get(f"http://rebound.example:{peer.port}/")
        assert names["asked"] == ["rebound.example"], "a second look at the name might find another address"
        (connection,) = client.engine._open
        assert connection.transport.get_extra_info("peername")[0] == "127.0.0.1"


async def test_each_new_connection_is_judged(names):
    names["name.example"] = ["127.0.0.1"]
    async with Peer(echo) as peer, HTTPClient(guard=Guard(allow=("127.0.0.1",))) as client:
        await client.get(f"http://name.example:{peer.port}/")
        names["name.example"] = ["127.0.0.2"]
        client.engine._dialer._reach.forget("name.example")
        await client.get(f"http://name.example:{peer.port}/")  # on the connection that was judged
        for connection in list(client.engine._open):
            connection.abort()
        with pytest.raises(Refused):
            await client.get(f"http://name.example:{peer.port}/")
        assert peer.accepted == 1


async def test_a_redirect_is_judged_as_any_connection_is(names):
    names["inside.example"] = ["127.0.0.2"]

    async def redirecting(line):
        while await line.request():
            place = f"http://inside.example:{line.peer.port}/secret".encode()
            await line.say(answer(b"", b"Location: " + place, status=b"302 Found"))

    async with Peer(redirecting) as peer:
        async with HTTPClient(guard=Guard(allow=("127.0.0.1",)), follow_redirects=True) as client:
            with pytest.raises(Refused, match=r"inside\.example leads to no address"):
                await client.get(f"http://127.0.0.1:{peer.port}/")
        assert peer.accepted == 1


async def test_a_refusal_of_the_guard_is_no_verdict_and_is_not_tried_again():
    async with HTTPClient("http://127.0.0.1:1", guard=Guard(), max_retries=3) as client:
        with pytest.raises(Refused):
            await client.get("/")
        (circuit,) = client.upstream.states["CircuitBreaker", "default"].values()
        assert circuit.window.failed == 0


@pytest.mark.parametrize(
    "options", [{"engine": "httpx2"}, {"engine": "aiohttp"}, {"http2": True}, {"engine": script(200)}]
)
def test_no_other_engine_takes_a_guard_and_ignores_it(options):
    with pytest.raises(ConfigError, match="guard= is kept by the native engine alone"):
        HTTPClient(guard=Guard(), **options)


def test_behind_a_proxy_there_is_nothing_to_judge():
    with pytest.raises(ConfigError, match="nobody sees them"):
        create("native", Wire(guard=Guard(), proxy="http://user:hunter2@proxy.example:3128"))
    with pytest.raises(ConfigError, match="a Unix socket has none"):
        create("native", Wire(guard=Guard(), uds="/run/app.sock"))
