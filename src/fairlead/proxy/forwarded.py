"""Who asked, by which scheme and which host: believed from the peers that are listed, and otherwise said anew.

RFC 7239 section 8: anybody can write `Forwarded` and `X-Forwarded-*`. A chain is walked from its right end, the peer that is connected,
as long as each hop is trusted; what stands left of the first that is not is worth nothing, and is cut off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, Literal, cast, get_args

from fairlead.errors import ConfigError
from fairlead.headers import Pair

Style = Literal["both", "x-forwarded", "forwarded", "off"]
"""Which fields are sent on: `X-Forwarded-For`, `-Proto`, `-Host`, `-Prefix`; `Forwarded`; both; or none."""

UNIX: Final = "unix"
"""Among the trusted: whoever is connected by a Unix socket, which has no address."""
LONGEST: Final = 4096
"""Bytes of `Forwarded` that are read; a longer one says nothing."""
HOPS: Final = 100
"""Of a chain that are walked; nobody is that far away."""
LONGEST_HOST: Final = 262
"""Bytes: a name has 255 at most (RFC 1035 section 2.3.4), and a port behind it. What is remembered of a host is bounded by this."""
_SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]{0,5})?").fullmatch
_PREFIX: Final = re.compile(
    r"(?:/(?!(?:\.|%2e){1,2}(?:/|$))[\w.~!$&'()*+,;=:@%-]+)*/?", re.ASCII | re.IGNORECASE
).fullmatch
"""A plain path. One that begins with two slashes would make another host of every address that is built of it."""
_SAFE: Final = re.compile(r"[\w.:%-]{1,255}", re.ASCII).fullmatch
_TOKEN: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII).fullmatch
# Nothing of it is read twice: whoever asks may have written all of it. Where nothing follows, a group needs no `*+` for that, and
# in Python 3.11.2 one goes on from where its last round failed.
_QUOTED: Final = r'"(?:[^"\\]++|\\.)*+"'
_ELEMENT: Final = re.compile(rf'(?:[^",]++|{_QUOTED})*').match
_PART: Final = re.compile(rf'(?:[^";]++|{_QUOTED})*').match
_PARAMETER: Final = re.compile(rf"\s*+([\w!#$%&'*+.^`|~-]++)=({_QUOTED}|[^;\"\s]*+)\s*+", re.ASCII).fullmatch


def valid_host(host: str) -> bool:
    """Whether a `Host` names one (RFC 9110 section 7.2): a name or an address, and perhaps a port."""
    return len(host) <= LONGEST_HOST and _HOST(host) is not None


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of the request before it came here. `hops`: who asked, and whom it came through, first to last."""

    hops: tuple[str, ...]
    scheme: str
    host: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Trusted:
    """The networks whose hosts are believed, as `("10.0.0.0/8", "::1", "unix")`."""

    networks: tuple[str, ...] = ()
    _parsed: tuple[IPv4Network | IPv6Network, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given: Any = self.networks
        if isinstance(given, str):
            raise ConfigError(f"ReverseProxy: trusted={given!r} is one string: pass networks, ({given!r},)")
        try:
            parsed = tuple(ip_network(network) for network in given if network != UNIX)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f'ReverseProxy: trusted: {error}; write a network as "10.0.0.0/8" or "fd00::/8"'
            ) from None
        object.__setattr__(self, "_parsed", parsed)

    def believes(self, peer: str | None) -> bool:
        """Whether what this peer says is true."""
        if not self.networks:
            return False
        if not peer:  # some servers say "" for None
            return UNIX in self.networks
        return len(peer) <= LONGEST_HOST and _within(peer, self._parsed)


@lru_cache(maxsize=4096)
def _within(peer: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        address = ip_address(peer.strip("[]"))
    except ValueError:  # a name, an obfuscated one, or nonsense
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def told(peer: str | None, scheme: str, host: str, said: Mapping[bytes, Sequence[bytes]], trusted: Trusted) -> Told:
    """What a believed peer adds to what is seen: the rest of the chain, and the scheme, host and prefix that its client used."""
    seen = _node(peer or "unknown")
    x_for = _listed(said.get(b"x-forwarded-for"))
    before = x_for
    elements: list[dict[str, str]] = []
    if not x_for and (forwarded := said.get(b"forwarded")):
        elements = _elements(b",".join(forwarded).decode("latin-1"))[-HOPS:]
        before = [_node(element.get("for", "unknown")) for element in elements]
    hops = [seen]
    for hop in reversed(before):
        hops.insert(0, hop)
        if not trusted.believes(hop):
            break
    kept = len(hops) - 1
    if elements:
        first = elements[-kept]
        proto, named, prefix = first.get("proto", ""), first.get("host", ""), ""
    else:
        proto, named = _at(said.get(b"x-forwarded-proto"), kept), _at(said.get(b"x-forwarded-host"), kept)
        prefix = _at(said.get(b"x-forwarded-prefix"), kept)
    proto = proto.lower()
    return Told(
        tuple(hops),
        proto if proto in _SCHEMES else scheme,
        named if named and valid_host(named) else host,
        prefix.rstrip("/") if _PREFIX(prefix) is not None else "",
    )


def _listed(values: Sequence[bytes] | None) -> list[str]:
    if not values:
        return []
    listed = [one for value in values for one in value.decode("latin-1").split(",") if one.strip()]
    return [_node(one.strip()) for one in listed[-HOPS:]]


def _at(values: Sequence[bytes] | None, kept: int) -> str:
    """Of a list that each hop added to, what was said of the first that is kept; of one value, that."""
    listed = [one.strip() for value in values or () for one in value.decode("latin-1").split(",") if one.strip()]
    if not listed:
        return ""
    return listed[-max(kept, 1)] if kept <= len(listed) else listed[0]


def _elements(value: str) -> list[dict[str, str]]:
    """`Forwarded` (RFC 7239 section 4). An element that does not read as one says nothing, and is no trusted hop.

    With a quote that never closes nobody can tell which hop wrote what, so then all of it is one of these.
    """
    listed = _split(value, _ELEMENT) if len(value) <= LONGEST else None
    if listed is None:
        return [{}]
    found: list[dict[str, str]] = []
    for element in listed:
        if element.strip():
            parameters = [_PARAMETER(part) for part in _split(element, _PART) or ()]
            found.append({one[1].lower(): _unquoted(one[2]) for one in parameters if one is not None})
    return found


def _split(text: str, part: Callable[[str, int], re.Match[str] | None]) -> list[str] | None:
    """What stands between the separators, at which `part` ends; None where it ends at a quote that never closes."""
    parts: list[str] = []
    at = 0
    while (found := part(text, at)) is not None:
        parts.append(found[0])
        at = found.end() + 1
        if at > len(text):
            return parts
        if text[at - 1] == '"':
            break
    return None


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[:1] == '"' else text


def _node(text: str) -> str:
    """An address without its port; what is none, such as `_hidden`, as it is, and what nobody would write as `unknown`."""
    if text[:1] == "[":
        text = text[1:].partition("]")[0]
    else:
        host, colon, port = text.partition(":")
        text = host if colon and port.isdigit() else text
    return text if _SAFE(text) is not None else "unknown"


def fields(told: Told, style: Style) -> tuple[Pair, ...]:
    """What is sent on of it."""
    pairs: list[Pair] = []
    if style in {"both", "x-forwarded"}:
        pairs += [
            (b"x-forwarded-for", ", ".join(told.hops).encode("latin-1", "replace")),
            (b"x-forwarded-proto", told.scheme.encode()),
        ]
        if told.host:
            pairs.append((b"x-forwarded-host", told.host.encode("latin-1", "replace")))
        if told.prefix:
            pairs.append((b"x-forwarded-prefix", told.prefix.encode("latin-1", "replace")))
    if style in {"both", "forwarded"}:
        first, *rest = [f"for={_quoted(hop)}" for hop in told.hops]
        host = f";host={_quoted(told.host)}" if told.host else ""
        pairs.append(
            (b"forwarded", ", ".join([f"{first}{host};proto={told.scheme}", *rest]).encode("latin-1", "replace"))
        )
    return tuple(pairs)


def _quoted(text: str) -> str:
    if ":" in text and "[" not in text and text.count(":") > 1:
        text = f"[{text}]"
    return text if _TOKEN(text) is not None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def checked(style: str) -> Style:
    """The style; raises ConfigError for what is none."""
    if style not in get_args(Style):
        raise ConfigError(f"ReverseProxy: forwarded={style!r} is not one of {', '.join(get_args(Style))}")
    return cast("Style", style)


class Tale:
    """What is sent on of the way here: what a peer that is believed tells of it, and of any other what is seen."""

    __slots__ = ("style", "trusted")

    def __init__(self, trusted: Sequence[str], style: str) -> None:
        networks: Any = trusted if isinstance(trusted, str) else tuple(trusted)  # one string is told apart there
        self.trusted = Trusted(networks)
        self.style = checked(style)

    def seen(self, peer: str | None, scheme: str, host: str, prefix: str) -> tuple[Pair, ...]:
        # A server that believes others may have it from them, and they from anybody.
        return fields(Told((_node(peer or "unknown"),), scheme, host, prefix), self.style)

    def believed(
        self, peer: str | None, scheme: str, host: str, prefix: str, said: Mapping[bytes, Sequence[bytes]]
    ) -> tuple[Pair, ...]:
        known = told(peer, scheme, host, said, self.trusted)
        return fields(Told(known.hops, known.scheme, known.host, known.prefix + prefix), self.style)
