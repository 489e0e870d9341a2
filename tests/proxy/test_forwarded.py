"""Who is believed, and about what: numbers and strings, no socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.proxy.forwarded import Tale, Told, Trusted, fields, told, valid_host

TRUSTED = Trusted(("10.0.0.0/8", "fd00::/8"))
addresses = st.ip_addresses().map(str)
anything = st.binary(max_size=60).map(lambda raw: raw.translate(None, b"\r\n\0"))


def heard(peer="10.0.0.1", **said):
    return told(peer, "http", "app", {name.replace("_", "-").encode(): value for name, value in said.items()}, TRUSTED)


def test_the_chain_is_walked_from_the_right_to_the_first_that_is_not_trusted():
    assert heard(x_forwarded_for=[b"6.6.6.6, 203.0.113.9", b"10.0.0.2"]).hops == ("203.0.113.9", "10.0.0.2", "10.0.0.1")
    assert heard(x_forwarded_for=[b"10.0.0.3, 10.0.0.2"]).hops == ("10.0.0.3", "10.0.0.2", "10.0.0.1")
    assert heard().hops == ("10.0.0.1",)


@pytest.mark.parametrize(
    "odd",
    [
        b"unknown",
        b"_hidden",
        b"<script>",
        b"<script>:80",
        b"[<script>]",
        b"\xe9:80",
        b"[",
        b"10.0.0.2.evil.example",
        b"",
    ],
)
def test_what_is_no_address_ends_the_chain(odd):
    hops = heard(x_forwarded_for=[b"6.6.6.6", odd, b"10.0.0.2"]).hops
    assert hops[-2:] == ("10.0.0.2", "10.0.0.1")
    assert odd == b"" or "6.6.6.6" not in hops
    assert b"<script>" not in ", ".join(hops).encode()


def test_ports_and_brackets_are_no_part_of_an_address():
    assert heard(x_forwarded_for=[b"203.0.113.9:4711, 10.0.0.2:80"]).hops == ("203.0.113.9", "10.0.0.2", "10.0.0.1")
    assert heard(x_forwarded_for=[b"[2001:db8::1]:4711, fd00::2"]).hops == ("2001:db8::1", "fd00::2", "10.0.0.1")


def test_an_address_of_version_4_in_one_of_version_6_is_that_address():
    assert TRUSTED.believes("::ffff:10.1.2.3")
    assert not TRUSTED.believes("::ffff:11.1.2.3")
    assert not TRUSTED.believes("proxy.internal")
    assert not Trusted(()).believes("10.0.0.1")


@pytest.mark.parametrize(
    ("prefix", "believed"),
    [
        (b"/outer", "/outer"),
        (b"/a%20b/c.d/", "/a%20b/c.d"),
        (b"//evil.example", ""),
        (b"/a//b", ""),
        (b"/\\evil.example", ""),
        (b"/../admin", ""),
        (b"/a/%2E%2e", ""),
        (b"/a?b", ""),
        (b"/a#b", ""),
        (b"/<script>", ""),
        (b"evil.example", ""),
        (b"/", ""),
    ],
)
def test_a_prefix_is_a_plain_path(prefix, believed):
    assert heard(x_forwarded_prefix=[prefix]).prefix == believed


def test_of_a_list_what_was_said_of_the_client_counts():
    said = heard(x_forwarded_for=[b"6.6.6.6, 203.0.113.9, 10.0.0.2"], x_forwarded_proto=[b"ftp, https, http"])
    assert (said.hops[0], said.scheme) == ("203.0.113.9", "https")
    assert heard(x_forwarded_proto=[b"HTTPS"]).scheme == "https"


def test_nonsense_is_not_passed_on():
    said = heard(
        x_forwarded_proto=[b"javascript"],
        x_forwarded_host=[b"a b"],
        x_forwarded_prefix=[b"no slash"],
        forwarded=[b"for="],
    )
    assert (said.scheme, said.host, said.prefix) == ("http", "app", "")


def test_forwarded_is_read_where_there_is_no_other():
    said = heard(forwarded=[b'For="[2001:db8::1]:47";Proto=https;host="a.example", for=10.0.0.2', b"for=10.0.0.3"])
    assert said == Told(("2001:db8::1", "10.0.0.2", "10.0.0.3", "10.0.0.1"), "https", "a.example")
    assert heard(x_forwarded_for=[b"203.0.113.9"], forwarded=[b"for=6.6.6.6;proto=https"]).scheme == "http"


def test_both_ways_of_writing_it():
    said = Told(("2001:db8::1", "_x"), "https", "a:8080", "/p")
    assert dict(fields(said, "both")) == {
        b"x-forwarded-for": b"2001:db8::1, _x",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"a:8080",
        b"x-forwarded-prefix": b"/p",
        b"forwarded": b'for="[2001:db8::1]";host="a:8080";proto=https, for=_x',
    }
    assert fields(said, "off") == ()


@given(st.lists(addresses, max_size=6), addresses, st.lists(anything, max_size=3))
def test_no_word_of_an_untrusted_peer_gets_through(chain, peer, noise):
    tale = Tale(("10.0.0.0/8",), "both")
    if tale.trusted.believes(peer):
        return
    assert dict(tale.seen(peer, "http", "app", ""))[b"x-forwarded-for"] == peer.encode()


@given(st.lists(addresses, max_size=6), st.lists(anything, max_size=3), anything, anything, anything)
def test_whatever_is_claimed_the_fields_are_fields_and_end_with_the_peer(chain, noise, proto, host, forwarded):
    for claims in (
        {
            b"x-forwarded-for": [*noise, ", ".join(chain).encode()],
            b"x-forwarded-proto": [proto],
            b"x-forwarded-host": [host],
        },
        {b"forwarded": [forwarded, *noise]},
    ):
        said = told("10.0.0.1", "http", "app", claims, TRUSTED)
        assert said.hops[-1] == "10.0.0.1"
        assert all(TRUSTED.believes(hop) for hop in said.hops[1:])
        for _, value in fields(said, "both"):
            assert value.isascii()
            assert value.decode().isprintable()


@pytest.mark.parametrize("host", ["a", "a.b:80", "[::1]", "[::1]:443", "a-b_c.example", "127.0.0.1:", "xn--nxasmq6b"])
def test_a_host(host):
    assert valid_host(host)


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "a@b", "a:b", "[::1", "::1", "a,b c", "a\x00", "a:80:80", "a#", "é"]
)
def test_no_host(host):
    assert not valid_host(host)
