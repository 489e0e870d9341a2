"""What an upstream says about its limits: for how many seconds it asks to be left alone, whichever header says so.

`Retry-After` of a 429 or 503 (RFC 9110 section 10.2.3) comes first. Else a field that says nothing is left: `RateLimit`, as of
draft-ietf-httpapi-ratelimit-headers-11 (`"name";r=0;t=30`) or -07 (`limit=9, remaining=0, reset=30`), and the pairs of older
drafts and of everybody's own. What is malformed is ignored, as that draft has it; what is left, when something is, says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from fairlead.dates import parse, retry_after
from fairlead.headers import Headers, Pair

THROTTLED: Final = frozenset({429, 503})
"""Statuses whose `Retry-After` is about more than one request."""
PAIRS: Final = tuple(
    (f"{family}-remaining", f"{family}-reset") for family in ("ratelimit", "x-ratelimit", "x-rate-limit")
)
"""What is left, and when there is more: as seconds from now, or, as GitHub and X send it, since 1970."""
PARTS: Final = ("x-ratelimit-bucket", "x-ratelimit-resource")
"""Discord's and GitHub's names for the part of an API that a limit is of: where one is spent, the others are not."""
WHOLE: Final = frozenset({"", "core"})

_NAMES: Final = frozenset([b"ratelimit", *[remaining.encode() for remaining, _ in PAIRS]])
_LENGTHS: Final = frozenset(map(len, _NAMES))
_NUMBER: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?").fullmatch
_INTEGER: Final = re.compile(r"[0-9]{1,15}").fullmatch

# Structured fields (RFC 9651). What does not match is given up in one pass: repetitions are possessive, or could match in no other way.
# The latter are groups that may fail half-way: in Python 3.11.2 a possessive one goes on from there.
_STRING: Final = r'"(?:[ !#-\[\]-~]|\\["\\])*+"'
_KEY: Final = r"[a-z*][a-z0-9_.*-]*+"
_WORD: Final = r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*+"
_BARE: Final = rf"%?{_STRING}|@?-?[0-9]{{1,15}}(?:\.[0-9]{{1,3}})?|{_WORD}|:[A-Za-z0-9+/=]*+:|\?[01]"
_END: Final = r"[ \t]*+(?:,(?=[ \t]*+[^ \t])[ \t]*+|\Z)"
_PARAMETERS: Final = rf"((?:;[ ]*+{_KEY}(?:=(?:{_BARE}))?)*)"
_ITEM: Final = re.compile(rf"(?:{_STRING}|{_WORD}){_PARAMETERS}{_END}")
_MEMBER: Final = re.compile(rf"({_KEY})(?:=({_BARE}))?{_PARAMETERS}{_END}")
_parameters: Final = re.compile(rf";[ ]*+({_KEY})(?:=({_BARE}))?").findall


def speaks(status: int, pairs: Sequence[Pair]) -> bool:
    """Whether an answer may say something of limits, so that most are asked no more: a look at each name's length."""
    if status in THROTTLED:
        return True
    for name, _ in pairs:  # noqa: SIM110  # any() takes twice as long
        if len(name) in _LENGTHS and name.lower() in _NAMES:
            return True
    return False


def hold(status: int, headers: Headers, now: float) -> float | None:
    """Seconds that an answer asks for without calls, above 0; None if it asks for none. `now` is in seconds since 1970."""
    if status in THROTTLED and (asked := retry_after(headers, lambda: now)) is not None:
        return asked or None
    seconds = 0.0
    if (field := headers.get("ratelimit")) is not None:
        for left, until in _limits(field):
            if left == 0:
                seconds = max(seconds, until)
    for remaining, reset in PAIRS:
        left_, until_ = headers.get(remaining, ""), headers.get(reset, "")
        if _NUMBER(left_) and float(left_) == 0 and _NUMBER(until_) and _of_all(headers):
            seconds = max(seconds, _until(float(until_), headers, now))
    return seconds or None


def _until(reset: float, headers: Headers, now: float) -> float:
    """Seconds until a reset. Nobody's window is thirty years long: a number as large as that is a time, if not in milliseconds."""
    if reset < 1e9:
        return reset
    since = parse(headers.get("date", ""), now)
    return max(0.0, (reset if reset < 1e11 else reset / 1000) - (now if since is None else since))


def _of_all(headers: Headers) -> bool:
    return all(headers.get(part, "") in WHOLE for part in PARTS)


def _limits(field: str) -> Iterator[tuple[float, float]]:
    """What is left and for how many seconds, of each limit of a `RateLimit` field; nothing of one that is malformed."""
    if (items := _read(_ITEM, field)) is not None:
        told = [(dict(_parameters(item[1])), "r", "t") for item in items]
    elif (members := _read(_MEMBER, field)) is not None:
        told = [({member[1]: member[2] or "" for member in members}, "remaining", "reset")]
    else:
        return
    for said, remaining, reset in told:
        left, until = said.get(remaining, ""), said.get(reset, "")
        if _INTEGER(left) and _INTEGER(until):
            yield float(left), float(until)


def _read(member: re.Pattern[str], field: str) -> list[re.Match[str]] | None:
    """Every member of a list or a dictionary, or None where one is not right."""
    found, at = [], 0
    while at < len(field):
        if (one := member.match(field, at)) is None:
            return None
        found.append(one)
        at = one.end()
    return found
