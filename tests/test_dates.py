"""Dates of HTTP: each form of the grammar, nothing beside it, and how long a peer asks to wait."""

import calendar
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.dates import parse, retry_after
from fairlead.errors import StatusError
from fairlead.headers import Headers
from fairlead.message import Response

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's own examples
SHORT = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LONG = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

moments = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31, 23, 59, 59)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)


def fixed(at: datetime) -> str:
    return f"{SHORT[at.weekday()]}, {at.day:02} {MONTHS[at.month - 1]} {at.year:04} {at:%H:%M:%S} GMT"


def rfc850(at: datetime) -> str:
    return f"{LONG[at.weekday()]}, {at.day:02}-{MONTHS[at.month - 1]}-{at.year % 100:02} {at:%H:%M:%S} GMT"


def asctime(at: datetime) -> str:
    return f"{SHORT[at.weekday()]} {MONTHS[at.month - 1]} {at.day:2} {at:%H:%M:%S} {at.year:04}"


def seconds(at: datetime) -> float:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)


# What is a date


@pytest.mark.parametrize(
    "date", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_the_rfcs_own_examples_are_one_moment(date):
    assert parse(date, NOW) == NOW
    assert isinstance(parse(date, NOW), float)


@given(moments)
def test_what_is_written_in_a_form_with_four_digits_is_read_back(at):
    assert parse(fixed(at)) == parse(asctime(at)) == seconds(at)


@given(st.integers(315532800, 250000000000), st.integers(-18262, 18262), st.integers(0, 86399))
def test_two_digits_of_a_year_are_the_latest_that_is_at_most_fifty_years_ahead(now, days, second):
    at = datetime.fromtimestamp((now // 86400 + days) * 86400 + second, UTC)
    ahead = at.year - datetime.fromtimestamp(now, UTC).year
    read = datetime.fromtimestamp(parse(rfc850(at), now), UTC)
    assert read == at if -50 < ahead < 50 else read.year in {at.year - 100, at.year, at.year + 100}


@given(moments, st.text("0123456789:-, GMTSunday", max_size=3), st.integers(0, 40))
def test_a_date_with_something_in_it_is_none(at, junk, place):
    for date in (fixed(at), rfc850(at), asctime(at)):
        torn = date[:place] + junk + date[place:]
        if junk and len(torn) > len(date) and torn.split() != date.split():
            assert parse(torn, NOW) is None
        assert parse(date[:place] + date[place + 1 :], NOW) is None or place >= len(date)


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    assert parse(text, NOW) is None


@pytest.mark.parametrize(
    "date",
    [
        "",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 gmt",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 NOV 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun,  6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 94",
        "Sun Nov  6 08:49:37 1994 GMT",
        "06 Nov 1994 08:49:37 GMT",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, 06 Nov 1994 08:49:37 GMT; GMT",
        "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:3\xb2 GMT",
        "Sun, 06 Nov -994 08:49:37 GMT",
        "Sun Nov +6 08:49:37 1994",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
        "784111777",
    ],
)
def test_what_is_nearly_a_date_is_none(date):
    assert parse(date, NOW) is None


@pytest.mark.parametrize("name", SHORT)
def test_any_weekday_will_do_as_long_as_it_is_one(name):
    assert parse(f"{name}, 06 Nov 1994 08:49:37 GMT") == NOW
    assert parse(f"{name} Nov  6 08:49:37 1994") == NOW
    assert parse(f"{name[0]}xx, 06 Nov 1994 08:49:37 GMT") is None


@pytest.mark.parametrize("year", [1, 4, 100, 400, 1900, 1999, 2000, 2023, 2024, 2100, 2400, 9999])
def test_a_month_has_its_days_and_no_more(year):
    for month, name in enumerate(MONTHS, 1):
        days = calendar.monthrange(year, month)[1]
        for day in range(100):
            date = f"Sun, {day:02} {name} {year:04} 00:00:00 GMT"
            right = seconds(datetime(year, month, day, tzinfo=UTC)) if 1 <= day <= days else None
            assert parse(date) == right


@pytest.mark.parametrize(
    ("at", "good"),
    [
        ("00:00:00", True),
        ("23:59:59", True),
        ("24:00:00", False),
        ("00:60:00", False),
        ("00:00:60", False),
        ("22:59:60", False),
        ("23:58:60", False),
        ("23:59:60", True),
        ("23:59:61", False),
        ("99:99:99", False),
    ],
)
def test_a_day_has_its_hours_and_a_sixtieth_second_only_at_its_end(at, good):
    for date in (f"Wed, 31 Dec 2008 {at} GMT", f"Wednesday, 31-Dec-08 {at} GMT", f"Wed Dec 31 {at} 2008"):
        assert (parse(date, NOW) is not None) is good


def test_a_leap_second_is_the_first_of_the_next_day():
    assert parse("Wed, 31 Dec 2008 23:59:60 GMT") == 1230768000 == parse("Thu, 01 Jan 2009 00:00:00 GMT")


def test_the_first_and_the_last_year_are_read():
    assert parse("Mon, 01 Jan 0001 00:00:00 GMT") == -62135596800
    assert parse("Fri, 31 Dec 9999 23:59:59 GMT") == 253402300799


@pytest.mark.parametrize(
    ("date", "year"),
    [
        ("Sunday, 06-Nov-94 08:49:37 GMT", 1994),
        ("Sunday, 06-Nov-44 08:49:37 GMT", 2044),  # to the second fifty years ahead, and so not more
        ("Sunday, 06-Nov-44 08:49:38 GMT", 1944),
        ("Sunday, 05-Nov-44 23:59:59 GMT", 2044),
        ("Sunday, 07-Nov-44 00:00:00 GMT", 1944),
        ("Sunday, 01-Jan-45 00:00:00 GMT", 1945),
        ("Sunday, 31-Dec-43 23:59:59 GMT", 2043),
        ("Sunday, 29-Feb-00 00:00:00 GMT", 2000),
        ("Sunday, 31-Dec-95 23:59:59 GMT", 1995),
    ],
)
def test_a_year_of_two_digits_is_read_against_the_present(date, year):
    assert datetime.fromtimestamp(parse(date, NOW), UTC).year == year


def test_left_out_the_present_is_the_clocks():
    year = datetime.now(UTC).year - 1
    assert parse(f"Sunday, 06-Nov-{year % 100:02} 08:49:37 GMT") == parse(f"Sun, 06 Nov {year} 08:49:37 GMT")


# How long a peer asks to wait


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "1e3"}, None),
        ({"Retry-After": "1."}, None),
        ({"Retry-After": "9" * 30}, None),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:47 GMT"}, 10.0),
        ({"Retry-After": "Sunday, 06-Nov-94 08:49:47 GMT"}, 10.0),
        ({"Retry-After": "Sun Nov  6 08:49:47 1994"}, 10.0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:27 GMT"}, 0.0),
        ({"Retry-After": "Sun, 99 Nov 1994 08:49:47 GMT"}, None),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:47 +0100"}, None),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:47 GMT", "Date": "Sun, 06 Nov 1994 08:49:45 GMT"}, 2.0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:47 GMT", "Date": "Sunday, 06-Nov-94 08:49:45 GMT"}, 2.0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:47 GMT", "Date": "yesterday"}, 10.0),
        ({"Retry-After-Ms": "250", "Retry-After": "3"}, 0.25),
        ({"Retry-After-Ms": "soon", "Retry-After": "3"}, 3.0),
    ],
)
def test_what_a_peer_asks_to_wait_is_read_strictly(headers, seconds):
    assert retry_after(Headers(headers), lambda: NOW) == seconds


def test_a_response_and_its_error_say_how_long_to_wait():
    response = Response(429, {"Retry-After": "300"})
    assert response.retry_after == 300.0
    error = StatusError(response)
    assert error.retry_after == 300.0
    assert str(error) == "answered 429 Too Many Requests and asks for 300 s without calls"


def test_a_response_that_asks_for_nothing_says_so():
    response = Response(503, {"Retry-After": "soon"})
    assert response.retry_after is None
    assert str(StatusError(response)) == "answered 503 Service Unavailable"
