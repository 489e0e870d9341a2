"""Header fields as they are sent: a list of byte pairs, in order, repeated names kept; read as a mapping that ignores case.

RFC 9110 section 5. Names and values are checked when they are set, so nothing that reaches an engine can break a line. A list
of pairs is never changed, only replaced: copies share it, and the encoded block beside it, so that headers that are the same in
every call are encoded once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Final, Self

from fairlead.errors import ConfigError

HeaderTypes = Mapping[str, str] | Iterable[tuple[str, str]] | Iterable[tuple[bytes, bytes]]
Pair = tuple[bytes, bytes]

_blank: Final = object.__new__  # asked of a class, it costs twice as much
FRAMING: Final = frozenset(b"host content-length transfer-encoding connection expect upgrade te trailer".split())
"""Fields that say where a message goes and where it ends."""
_LENGTHS: Final = frozenset(map(len, FRAMING))
_SECRET: Final = re.compile(
    rb"token|secret|passw|api[-_]?key|credential|signature|session|authorization|cookie"
    rb"|jwt|assertion|oidc|[cx]srf|client[-_]?cert|client[-_]principal|(?:^|[-_])(?:auth|otp)(?:[-_]|$)"
    rb"|websocket-protocol$"  # the one field that a browser lets a page set, so tokens are sent in it
    rb"|(?:^|(?<!idempotency)(?<!websocket)[-_])key$"  # a key opens something, but for these two
)
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_BROKEN: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


def is_sensitive(name: bytes) -> bool:
    """Whether a field of this lower-case name may hold a secret, so that its value is never shown."""
    return _SECRET.search(name) is not None


class Headers(MutableMapping[str, str]):
    """Case is kept on the wire and ignored when reading. `headers[name]` joins repeated fields with a comma; `get_list` does not."""

    __slots__ = ("_pairs", "_wire", "framing")

    def __init__(self, headers: HeaderTypes | Headers | None = None) -> None:
        self._pairs: Sequence[Pair] = []
        self._wire: bytes | None = b""
        self.framing = False
        """Whether an engine must look at the fields before it sends them: one that it sets itself is there, or they are a peer's."""
        if isinstance(headers, Headers):
            self._pairs, self._wire, self.framing = headers._pairs, headers._wire, headers.framing
        elif headers:
            for name, value in _fields(headers):
                self.add(name, value)

    @classmethod
    def received(cls, pairs: Sequence[Pair]) -> Self:
        """Headers as a peer sent them, taken as they are."""
        self = cls.__new__(cls)
        self._pairs, self._wire, self.framing = pairs, None, True
        return self

    def add(self, name: str | bytes, value: str | bytes) -> None:
        """Add a field, beside any of that name; raises ConfigError for what would break the line."""
        key = name.encode("latin-1", "replace") if isinstance(name, str) else name
        if type(key) is not bytes or _NAME(key) is None:
            raise ConfigError(f"{name!r} is not a header name: use letters, digits and hyphens")
        try:
            field = value.encode("latin-1") if isinstance(value, str) else value
        except UnicodeEncodeError:
            raise ConfigError(f"header {name!r}: the value is not Latin-1; encode it first (RFC 8187)") from None
        if not isinstance(field, bytes):
            raise ConfigError(f"header {name!r}: the value is {type(value).__name__}, not a string")
        if _BROKEN(field) is not None:
            raise ConfigError(f"header {name!r}: a control character in the value; remove line breaks first")
        field = field.strip(b" \t")
        if len(key) in _LENGTHS and key.lower() in FRAMING:
            self.framing = True
        self._pairs = [*self._pairs, (key, field)]
        if self._wire is not None:
            self._wire += b"%b: %b\r\n" % (key, field)

    @property
    def raw(self) -> Sequence[Pair]:
        """Name and value as bytes, in order. Another change, another list."""
        return self._pairs

    @property
    def wire(self) -> bytes:
        """All fields as they are sent, each with its CR LF."""
        if self._wire is None:
            self._wire = b"".join([b"%b: %b\r\n" % pair for pair in self._pairs])
        return self._wire

    def get_list(self, name: str) -> list[str]:
        """Every value of that name, in order."""
        key = name.lower().encode("latin-1", "replace")
        return [value.strip(b" \t").decode("latin-1") for field, value in self._pairs if field.lower() == key]

    def multi_items(self) -> list[tuple[str, str]]:
        """Name (lower-case) and value, one pair for each field."""
        return [(name.lower().decode("latin-1"), value.strip(b" \t").decode("latin-1")) for name, value in self._pairs]

    def joined(self, others: Headers) -> Headers:
        """These fields and then the others, none of which is checked or encoded again."""
        both = Headers.__new__(Headers)
        both._pairs, both._wire = [*self._pairs, *others._pairs], self.wire + others.wire
        both.framing = self.framing or others.framing
        return both

    def under(self, own: Headers) -> Headers:
        """These fields and then `own`, all of them: a name there replaces every field of that name here."""
        names = {name.lower() for name, _ in own._pairs}
        kept = [pair for pair in self._pairs if pair[0].lower() not in names]
        if len(kept) == len(self._pairs):
            return self.joined(own)
        below = Headers.received(kept)
        below.framing = self.framing
        return below.joined(own)

    def copy(self) -> Headers:
        copy: Headers = _blank(Headers)
        copy._pairs, copy._wire, copy.framing = self._pairs, self._wire, self.framing
        return copy

    def __getitem__(self, name: str) -> str:
        if found := self.get_list(name):
            return ", ".join(found)
        raise KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        if name in self:
            del self[name]
        self.add(name, value)

    def __delitem__(self, name: str) -> None:
        key = name.lower().encode("latin-1", "replace")
        kept = [pair for pair in self._pairs if pair[0].lower() != key]
        if len(kept) == len(self._pairs):
            raise KeyError(name)
        self._pairs, self._wire = kept, None

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        key = name.lower().encode("latin-1", "replace")
        return any(field.lower() == key for field, _ in self._pairs)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower().decode("latin-1") for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._pairs})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers | Mapping):
            return NotImplemented
        theirs = other if isinstance(other, Headers) else Headers(other)
        return sorted(self.multi_items()) == sorted(theirs.multi_items())

    def __repr__(self) -> str:
        return f"Headers({self.redacted()})"

    def redacted(self) -> dict[str, str]:
        """The fields as a log may show them: `***` for the values of sensitive names, and of an address's query (a Referer's, say)."""
        told: dict[str, str] = {}
        for name, value in self.items():
            place, mark, _ = value.partition("?")
            told[name] = "***" if is_sensitive(name.encode("latin-1")) else f"{place}?***" if mark else value
        return told


def _fields(headers: Any) -> Iterator[tuple[str | bytes, str | bytes]]:
    """Name and value, one by one; no value is shown, as it may be a secret."""
    if isinstance(headers, str | bytes) or not isinstance(headers, Iterable):
        raise ConfigError(f"headers= is {type(headers).__name__}: pass a mapping, or a list of (name, value)")
    for pair in headers.items() if isinstance(headers, Mapping) else headers:
        try:
            name, value = pair
        except (TypeError, ValueError):
            raise ConfigError(
                f"headers= has {type(pair).__name__} where (name, value) stands: pass a mapping, or a list of pairs"
            ) from None
        yield name, value
