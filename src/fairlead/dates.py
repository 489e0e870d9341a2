"""When a peer says that something is: HTTP dates (RFC 9110 section 5.6.7), and how long it asks to be left alone.

The grammar, and nothing beside it: what is nearly a date is none, and whoever asks goes on without. `email.utils` reads what is
written in mails: other zones or none, names in any case, years of its own choice. Integers only, so no year is too early or too late.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import gmtime, time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # a name for the checker: header fields are handed in
    from fairlead.headers import Headers

_MONTHS: Final = {
    "Jan": (1, 31, 0), "Feb": (2, 28, 31), "Mar": (3, 31, 59), "Apr": (4, 30, 90), "May": (5, 31, 120), "Jun": (6, 30, 151),
    "Jul": (7, 31, 181), "Aug": (8, 31, 212), "Sep": (9, 30, 243), "Oct": (10, 31, 273), "Nov": (11, 30, 304), "Dec": (12, 31, 334),
}  # fmt: skip
"""Each month's number, its days and the days before it, in a year that is no leap year."""
_SHORT: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG: Final = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_MONTH: Final = f"({'|'.join(_MONTHS)})"
_TIME: Final = "([0-9]{2}):([0-9]{2}):([0-9]{2})"
_FIXED: Final = re.compile(f"{_SHORT}, ([0-9]{{2}}) {_MONTH} ([0-9]{{4}}) {_TIME} GMT").fullmatch
_RFC850: Final = re.compile(f"{_LONG}, ([0-9]{{2}})-{_MONTH}-([0-9]{{2}}) {_TIME} GMT").fullmatch
_ASCTIME: Final = re.compile(f"{_SHORT} {_MONTH} ([0-9]{{2}}| [0-9]) {_TIME} ([0-9]{{4}})").fullmatch
_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?").fullmatch
_EPOCH: Final = 719163
"""The first of January 1970, where that of year 1 is day 1."""


def parse(text: str, now: float | None = None) -> float | None:
    """Seconds since 1970 of an HTTP date in any of its three forms; None for what is none.

    `now` is for the form of RFC 850, whose year has two digits: the latest that is at most 50 years ahead. Left out, it is the clock's.

    Any weekday will do: a recipient must accept what the grammar allows, which says nothing of the right one, and the date is
    whole without. A 60th second is one only at the end of a day, where leap seconds are.
    """
    if (found := _FIXED(text)) is not None:
        day, month, year, hour, minute, second = found.groups()
    elif (found := _ASCTIME(text)) is not None:
        month, day, hour, minute, second, year = found.groups()
    elif (found := _RFC850(text)) is not None:
        day, month, year, hour, minute, second = found.groups()
        return _seconds(_recent(year, month, day, hour, minute, second, now), month, day, hour, minute, second)
    else:
        return None
    return _seconds(int(year), month, day, hour, minute, second)


def retry_after(headers: Headers, now: Callable[[], float] = time) -> float | None:
    """Seconds a peer asks to wait: `retry-after-ms`, or `Retry-After` (RFC 9110 section 10.2.3); None for what is neither.

    A date is read against the answer's own `Date`, so that clocks that differ do no harm.
    """
    if (milliseconds := headers.get("retry-after-ms")) is not None and _SECONDS(milliseconds):
        return float(milliseconds) / 1000
    if (value := headers.get("retry-after")) is None:
        return None
    if _SECONDS(value):
        return float(value)
    present = now()
    if (until := parse(value, present)) is None:
        return None
    since = parse(headers.get("date", ""), present)
    return max(0.0, until - (present if since is None else since))


def _seconds(year: int, month: str, day: str, hour: str, minute: str, second: str) -> float | None:
    _, days, before = _MONTHS[month]
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not (year and 1 <= int(day) <= days + (leap and month == "Feb")):
        return None
    if hour > "23" or minute > "59" or second > ("60" if hour + minute == "2359" else "59"):
        return None
    last = year - 1
    date = 365 * last + last // 4 - last // 100 + last // 400 + before + (leap and before > 31) + int(day) - _EPOCH
    return float(86400 * date + 3600 * int(hour) + 60 * int(minute) + int(second))


def _recent(digits: str, month: str, day: str, hour: str, minute: str, second: str, now: float | None) -> int:
    """The latest year with these last two digits in which the date is at most 50 years ahead."""
    present = gmtime(time() if now is None else now)
    latest = present.tm_year + 50
    year = latest - (latest - int(digits)) % 100
    at = _MONTHS[month][0], int(day), int(hour), int(minute), int(second)
    return year - 100 if year == latest and at > present[1:6] else year
