"""The guard: no form of an address is permitted where the address itself is not, and nothing is that is not globally routable."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from fuzz.source import Source, text

from fairlead.engines.guard import Guard
from fairlead.errors import ConfigError

CLOSED, OPENED = Guard(), Guard(allow=("10.1.0.0/16", "fd00::/8"), deny=("8.8.8.8", "2606:4700::/32"))
KNOWN = (
    "127.0.0.1",
    "10.1.2.3",
    "169.254.169.254",
    "8.8.8.8",
    "1.1.1.1",
    "192.168.0.1",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
)
KNOWN6 = (
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "2606:4700::1111",
    "2001:4860:4860::8888",
    "ff02::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
)
SEEDS = [bytes([0]) + IPv4Address(one).packed for one in KNOWN] + [
    bytes([1]) + IPv6Address(one).packed for one in KNOWN6
]
SEEDS += [
    bytes([2]) + one
    for one in (b"10.0.0.0/8", b"::/0", b"1.2.3.4", b"10.0.0.1/8", b"x", b"fe80::1%eth0", b"1.2.3.4/33")
]


def check(data: bytes) -> None:
    source = Source(data)
    kind, rest = source.number(3), source.rest()
    if kind == 0:
        _ipv4(IPv4Address(rest[:4].ljust(4, b"\x00")))
    elif kind == 1:
        _ipv6(IPv6Address(rest[:16].ljust(16, b"\x00")))
    else:
        with suppress(ConfigError):
            Guard(allow=(text(rest),)).permits("8.8.8.8")


def _ipv4(address: IPv4Address) -> None:
    number = int(address)
    hidden = [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(number),
        IPv6Address(0x64FF9B << 96 | number),
        IPv6Address(0x2002 << 112 | number << 80),
        IPv6Address(0x20010000 << 96 | number ^ 0xFFFFFFFF),
        IPv6Address(0xFFFF << 48 | number),
    ]
    for guard in (CLOSED, OPENED):
        permitted = guard.permits(str(address))
        assert guard.permits(str(hidden[0])) == permitted, "the same address, written otherwise"
        for form in hidden:
            assert permitted or not guard.permits(str(form)), f"{form} is {address}, which is not permitted"
    if CLOSED.permits(str(address)):
        assert address.is_global, address
        assert not address.is_multicast


def _ipv6(address: IPv6Address) -> None:
    if CLOSED.permits(str(address)) and address.ipv4_mapped is None:
        assert address.is_global or address.sixtofour is not None, address  # of a 6to4 one its IPv4 address says it
        assert not address.is_multicast
    if OPENED.permits(str(address)) and not CLOSED.permits(str(address)) and address.ipv4_mapped is None:
        assert address.packed[0] == 0xFD or _ten_one(address), address


def _ten_one(address: IPv6Address) -> bool:
    """Whether a permitted IPv4 address is in it."""
    return any(address.packed[at : at + 2] == b"\x0a\x01" for at in (2, 12))
