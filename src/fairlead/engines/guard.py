"""Which addresses may be connected to, where a URL is chosen by somebody else (server-side request forgery).

A name is judged by the addresses it leads to, when a connection is made, and the address that was judged is the one connected to: a name
that leads elsewhere a moment later leads nowhere. Whatever form hides an IPv4 address in an IPv6 one is judged by both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from fairlead.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_CLOSED: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by the customers of a carrier
        "127.0.0.0/8",
        "169.254.0.0/16",  # the link: the metadata of many clouds is at 169.254.169.254
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_OPEN: Final = IPv6Network("2000::/3")
_CLOSED_WITHIN: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "3fff::/20",
    )
)
"""What is not reachable from everywhere: the special-purpose registries of IANA (RFC 6890), IPv6 beyond global unicast, multicast."""

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")
_TRANSLATED_HERE: Final = IPv6Network("64:ff9b:1::/48")
_ENDS_IN_IPV4: Final = (
    _MAPPED,
    _TRANSLATED,
    _TRANSLATED_HERE,
    IPv6Network("::/96"),
    IPv6Network("::ffff:0:0:0/96"),
)
_6TO4: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
_ALL_ONES: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Guard:
    """Permits what is globally routable, and nothing else. `allow` are networks to permit beyond that, `deny` win over everything.

    A network is written as `"10.1.0.0/16"`, `"fd00::/8"`, or as one address.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    _allowed: tuple[Network, ...] = field(init=False, repr=False, compare=False)
    _denied: tuple[Network, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, parsed in (("allow", "_allowed"), ("deny", "_denied")):
            networks = _networks(name, getattr(self, name))
            object.__setattr__(self, name, tuple(str(network) for network in networks))
            object.__setattr__(self, parsed, networks)

    def permits(self, address: str) -> bool:
        """Whether a connection to this address may be made; it is one that was resolved, never a name."""
        told = ip_address(address)
        forms = [told, *_inside(told)]
        if any(_within(form, self._denied) for form in forms):
            return False
        if isinstance(told, IPv6Address) and told in _MAPPED:
            forms = forms[1:]  # the same address, written otherwise
        return all(_within(form, self._allowed) or _routable(form) for form in forms)


def _networks(name: str, given: tuple[str, ...]) -> tuple[Network, ...]:
    if isinstance(given, str):
        raise ConfigError(f"Guard: {name}={given!r} is one string: pass networks, ({given!r},)")
    try:
        return tuple(ip_network(network) for network in given)
    except ValueError as error:
        raise ConfigError(f'Guard: {name}: {error}; write a network as "10.1.0.0/16" or "fd00::/8"') from None


def _inside(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 one stands for, by any of the ways to write one into it."""
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    if _within(address, _ENDS_IN_IPV4):
        yield IPv4Address(number & _ALL_ONES)
        if address in _TRANSLATED_HERE and number >> 32 & _ALL_ONES:
            yield IPv4Address(0)  # it stands in another of the places that RFC 6052 knows: no telling which
    elif address in _6TO4:
        yield IPv4Address(number >> 80 & _ALL_ONES)
    elif address in _TEREDO:
        yield IPv4Address(number >> 64 & _ALL_ONES)
        yield IPv4Address(number & _ALL_ONES ^ _ALL_ONES)


def _routable(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not _within(address, _CLOSED)
    return address in _TRANSLATED or (address in _OPEN and not _within(address, _CLOSED_WITHIN))


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
