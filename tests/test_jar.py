"""The rules of a jar: who may set a cookie, who is sent it, who may take it away, and how many there may be."""

import http.cookiejar
import warnings
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import ConfigError
from fairlead.headers import Headers
from fairlead.jar import FIELD, HERE, TOTAL
from fairlead.message import Request
from fairlead.policies import CookieJar

SHOP = "https://www.shop.test/a/b"


def told(jar: CookieJar, *fields: str, url: str = SHOP) -> CookieJar:
    """The jar, after `url` answered with these Set-Cookie fields."""
    jar.keep(Request("GET", url), Headers.received([(b"Set-Cookie", field.encode("latin-1")) for field in fields]))
    return jar


def sent(jar: CookieJar, url: str = SHOP) -> str | None:
    return jar.header(Request("GET", url))


class TestWhereACookieGoes:
    @pytest.mark.parametrize(
        ("domain", "url", "goes"),
        [
            ("", "https://www.shop.test/", True),
            ("", "https://www.shop.test:8443/", True),
            ("", "https://shop.test/", False),
            ("", "https://api.www.shop.test/", False),
            ("", "https://notwww.shop.test/", False),
            ("shop.test", "https://www.shop.test/", True),
            ("shop.test", "https://shop.test/", True),
            (".shop.test", "https://api.shop.test/", True),
            ("shop.test", "https://deep.api.shop.test/", True),
            ("SHOP.test", "https://www.Shop.Test/", True),
            ("shop.test", "https://myshop.test/", False),
            ("shop.test", "https://shop.test.evil.test/", False),
            ("www.shop.test", "https://shop.test/", False),
        ],
    )
    def test_to_its_own_host_or_to_the_domain_it_names(self, domain, url, goes):
        jar = told(CookieJar(), f"a=1; Path=/{f'; Domain={domain}' if domain else ''}")
        assert sent(jar, url) == ("a=1" if goes else None)

    @pytest.mark.parametrize(
        ("host", "domain"),
        [
            ("www.shop.test", "other.test"),
            ("www.shop.test", "api.shop.test"),
            ("www.shop.test", "test"),
            ("www.shop.test", ".test"),
            ("www.shop.co.uk", "co.uk"),
            ("myshop.test", "shop.test"),
            ("127.0.0.1", "0.0.1"),
            ("127.0.0.1", "1"),
            ("a.test.", "test."),
            ("printer.local", "local"),
        ],
    )
    def test_nobody_sets_one_for_others(self, host, domain):
        assert not told(CookieJar(), f"a=1; Domain={domain}", url=f"https://{host}/")

    @pytest.mark.parametrize("domain", ["Domain", "Domain=", "domain = "])
    def test_a_domain_that_is_empty_is_none(self, domain):
        assert sent(told(CookieJar(), f"a=1; {domain}; Path=/")) == "a=1"

    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "db", "shop.test."])
    def test_a_host_that_makes_no_domain_may_name_itself(self, host):
        for dot in ("", "."):
            jar = told(CookieJar(), f"a=1; Domain = {dot}{host}; Path=/", url=f"http://{host}:8080/")
            assert sent(jar, f"http://{host}/") == "a=1"
            assert sent(jar, f"http://below.{host}/" if host[0] != "[" else "http://[::2]/") is None

    @pytest.mark.parametrize(
        "host", ["127.0.0.1:80", "[::1]:8080", "[::1]", "localhost:3000", "db", "xn--mnchen-3ya.test"]
    )
    def test_hosts_of_any_kind_are_sent_their_own(self, host):
        jar = told(CookieJar(), "a=1; Path=/", url=f"http://{host}/")
        assert sent(jar, f"http://{host}/x") == "a=1"
        assert sent(jar, "http://127.0.0.2/") is None

    @pytest.mark.parametrize(
        ("path", "url", "goes"),
        [
            ("; Path=/", "/", True),
            ("; Path=/a", "/a", True),
            ("; Path=/a", "/a/b?x", True),
            ("; Path=/a", "/ab", False),
            ("; Path=/a/", "/a", False),
            ("; Path=/x", "/x", True),
            ("", "/a/c", True),
            ("", "/a", True),
            ("", "/", False),
            ("; Path= /x", "/x", True),
            ("; Path=relative", "/a/c", True),
            ("; Path=", "/a/c", True),
            ("; path", "/a/c", True),
        ],
    )
    def test_to_its_own_path_and_below(self, path, url, goes):
        assert sent(told(CookieJar(), f"a=1{path}"), f"https://www.shop.test{url}") == ("a=1" if goes else None)

    def test_a_secure_one_over_tls_alone(self):
        jar = told(CookieJar(), "a=1; Secure; Path=/", "b=2; Path=/")
        assert sent(jar, "https://www.shop.test/") == "a=1; b=2"
        assert sent(jar, "http://www.shop.test/") == "b=2"

    def test_the_longest_path_comes_first(self):
        assert sent(told(CookieJar(), "a=1; Path=/", "b=2; Path=/a/b", "c=3; Path=/a")) == "b=2; c=3; a=1"

    names = st.sampled_from(["shop.test", "www.shop.test", "api.shop.test", "a.api.shop.test", "test", "evil.test"])
    hosts = names | st.sampled_from(
        ["10.0.0.1", "0.0.1", "1", "a.co.uk", "b.co.uk", "co.uk", "db", "[::1]", "shop.test."]
    )

    @given(hosts, st.none() | hosts | hosts.map(".{}".format), hosts)
    def test_no_host_is_sent_what_was_not_set_for_it(self, setter, domain, asker):
        jar = told(CookieJar(), f"a=1; Path=/{f'; Domain={domain}' if domain else ''}", url=f"https://{setter}/")
        if sent(jar, f"https://{asker}/") is None or setter == asker:
            return
        assert domain, "without a domain it is its own host's"
        name = "." + domain.removeprefix(".")
        assert f".{setter}".endswith(name)
        assert f".{asker}".endswith(name)
        assert name.count(".") > 1, "a word is no domain"
        assert not name.endswith((".co.uk", ".1", ".")) or name == ".a.co.uk"


class TestHowLongItIsKept:
    @pytest.fixture
    def clock(self, monkeypatch):
        clock = SimpleNamespace(now=1_700_000_000.0, time=lambda: clock.now)
        monkeypatch.setattr(http.cookiejar, "time", clock)
        return clock

    def test_until_its_age_by_the_wall_clock(self, clock):
        jar = told(CookieJar(), "a=1; Max-Age=60")
        clock.now += 59
        assert sent(jar) == "a=1"
        clock.now += 1
        assert sent(jar) is None
        assert len(jar) == 0

    def test_until_its_date(self, clock):
        jar = told(CookieJar(), "a=1; Expires=Tue, 14 Nov 2023 22:14:20 GMT")
        assert sent(jar) == "a=1"
        clock.now += 61
        assert sent(jar) is None

    def test_an_age_is_more_than_a_date(self, clock):
        jar = told(CookieJar(), "a=1; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
        assert sent(jar) == "a=1"

    def test_for_ever_where_nothing_is_said(self, clock):
        jar = told(CookieJar(), "a=1")
        clock.now += 10**9
        assert sent(jar) == "a=1"

    @pytest.mark.parametrize(
        "age", ["max-age", "Max-Age=", "max-age=soon", "max-age = 1e9", "\xa0max-age", "max-age=" + "9" * 5000]
    )
    def test_an_age_that_is_no_number_is_none(self, age):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            jar = told(CookieJar(), f"a=1; {age}; Path=/a", f"b=2; {age}", "c=3")
        assert sent(jar) == "a=1; b=2; c=3"
        assert caught == []

    @pytest.mark.parametrize(
        "date", ["Wed, 09 Jum 2100 10:18:14 GMT", '"Wed, 09 Xyz 2100 10:18:14 GMT"', "09-Foo-00", "never"]
    )
    def test_a_date_that_is_none_is_none(self, date):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            jar = told(CookieJar(), f"a=1; Expires={date}", f"b=2;EXPIRES = {date}; Path=/")
        assert sent(jar) == "a=1; b=2"
        assert caught == []

    def test_until_it_is_taken_back(self):
        jar = told(CookieJar(), "a=1; Path=/", "b=2; Path=/")
        told(jar, "a=; Max-Age=0; Path=/", "b=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
        assert len(jar) == 0
        assert jar._jar._cookies == {}, "nor are its domain and its path kept"

    def test_the_last_word_of_an_answer_counts(self):
        assert sent(told(CookieJar(), "a=1", "a=2")) == "a=2"
        assert sent(told(CookieJar(), "a=1", "a=; Max-Age=0")) is None
        assert sent(told(CookieJar(), "a=; Max-Age=0", "a=1")) == "a=1"


class TestWhoMayTakeItAway:
    def test_nobody_but_its_own_domain(self):
        jar = told(CookieJar(), "a=1; Path=/", "b=2; Path=/; Domain=shop.test")
        for domain in ("www.shop.test", "shop.test"):
            told(jar, f"a=; Max-Age=0; Path=/; Domain={domain}", url="https://evil.test/")
            told(jar, f"b=; Max-Age=0; Path=/; Domain={domain}", url="https://evil.test/")
        assert sent(jar) == "a=1; b=2"
        told(jar, "b=; Max-Age=0; Path=/; Domain=shop.test", url="https://api.shop.test/")
        assert sent(jar) == "a=1"

    def test_nobody_without_tls_what_came_with_it(self):
        jar = told(CookieJar(), "a=1; Secure; Path=/; Domain=shop.test")
        for field in (
            "a=2; Path=/; Domain=shop.test",
            "a=2",
            "a=2; Path=/x",
            "a=; Max-Age=0; Path=/; Domain=shop.test",
        ):
            told(jar, field, url="http://www.shop.test/")
        assert sent(jar) == "a=1"
        assert len(jar) == 1
        assert sent(told(jar, "b=2", url="http://www.shop.test/a/b")) == "a=1; b=2" or sent(jar) == "b=2; a=1"

    def test_a_secure_one_is_set_over_tls(self):
        assert not told(CookieJar(), "a=1; Secure", url="http://www.shop.test/")

    @pytest.mark.parametrize(
        ("field", "kept"),
        [
            ("__Host-a=1; Secure; Path=/", True),
            ("__Host-a=1; Secure", False),
            ("__Host-a=1; Path=/", False),
            ("__Host-a=1; Secure; Path=/; Domain=www.shop.test", False),
            ("__Secure-a=1; Secure", True),
            ("__Secure-a=1", False),
        ],
    )
    def test_a_name_that_promises_is_held_to_it(self, field, kept):
        assert len(told(CookieJar(), field)) == kept


class TestHowMany:
    def test_a_field_that_is_too_long_is_not_read(self):
        jar = told(CookieJar(), "a=" + "x" * FIELD, "b=2")
        assert sent(jar) == "b=2"

    def test_a_domain_has_so_many_and_then_keeps_them(self):
        jar = told(CookieJar(), "session=1; Path=/")
        for _ in range(3):
            told(jar, *[f"c{number}=x; Path=/{number}" for number in range(2 * HERE)])
        assert len(jar) == HERE
        assert jar.get("session", SHOP) == "1"
        assert jar.get("session", (told(jar, "session=2; Path=/"), SHOP)[1]) == "2"

    def test_of_an_answer_so_many_are_read(self):
        fields = [f"c{number}=x{'; Domain=shop.test' if number % 2 else ''}" for number in range(2 * HERE)]
        assert len(told(CookieJar(), *fields)) == HERE

    def test_a_jar_has_so_many_and_then_keeps_them(self):
        jar = CookieJar()
        for number in range(TOTAL // HERE + 5):
            told(jar, *[f"c{number}=x" for number in range(HERE)], url=f"https://h{number}.test/")
        assert len(jar) == TOTAL


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=80))
def test_whatever_a_field_says_nothing_is_raised_nor_warned(field):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jar = told(CookieJar(), field, f"a=1; {field}", "b=2")
        assert sent(jar) in {None, "b=2"} or "b=2" in sent(jar)


class TestByHand:
    def test_one_that_is_set_goes_to_that_host_alone(self):
        jar = CookieJar()
        jar.set("session", "abc", "https://www.shop.test/any/where?x=1")
        assert sent(jar) == "session=abc"
        assert sent(jar, "http://www.shop.test/") is None
        assert sent(jar, "https://shop.test/") is None
        assert jar.get("session", SHOP) == "abc"
        assert jar.get("session", "https://other.test") is None
        assert jar.get("other", SHOP) is None
        jar.clear()
        assert (len(jar), bool(jar)) == (0, False)

    @pytest.mark.parametrize("value", ["s3cret;", "s3 cret", "s3cret\r\nX: 1", "s3crét", "s3cret\0"])
    def test_a_value_that_would_be_more_than_one_is_refused_unseen(self, value):
        with pytest.raises(ConfigError) as caught:
            CookieJar().set("a", value, SHOP)
        assert "s3cr" not in str(caught.value)

    @pytest.mark.parametrize("name", ["", "a b", "a=b", "a;b", "ä"])
    def test_a_name_that_is_none_is_refused(self, name):
        with pytest.raises(ConfigError, match="is not the name of a cookie"):
            CookieJar().set(name, "1", SHOP)

    def test_the_librarys_jars_fill_it_and_are_filled_by_it(self, tmp_path):
        jar = told(CookieJar(), "a=1; Max-Age=600; Secure")
        file = http.cookiejar.MozillaCookieJar(tmp_path / "cookies.txt")
        for cookie in jar:
            file.set_cookie(cookie)
        file.save()
        again = http.cookiejar.MozillaCookieJar(tmp_path / "cookies.txt")
        again.load()
        assert sent(CookieJar(again)) == "a=1"

    @pytest.mark.parametrize("given", [{"a": "1"}, "a=1", ["a=1"], [("a", "1")]])
    def test_what_is_no_cookie_is_told_how_to_become_one(self, given):
        with pytest.raises(ConfigError, match=r"use jar\.set\(name, value, url\)"):
            CookieJar(given)


def test_no_value_is_ever_shown():
    jar = told(CookieJar(), "a=s3cret")
    assert (repr(jar), str(jar)) == ("<CookieJar of 1>", "<CookieJar of 1>")
