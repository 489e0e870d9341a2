"""What an upstream says of its own address, and what its caller is told: strings, no socket."""

import re
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fairlead.headers import Headers
from fairlead.proxy.back import Back
from fairlead.proxy.forwarded import Tale
from fairlead.url import Origin
from proxy.proxied import scope

ORIGIN = Origin("http", "10.0.0.5", 8080)
OWN = "http://10.0.0.5:8080"


def told(value, *headers, name="location", base="/app", mount="/api", origin=ORIGIN, own=None, trusted=(), **more):
    preserve = more.pop("preserve_host", False)
    back = Back(origin, base, Headers(own), Tale(trusted, "both"), preserve)
    said = scope(*headers, root_path=mount, **more)
    return back(name.encode(), value.encode("latin-1"), said).decode("latin-1")


@pytest.mark.parametrize("name", ["location", "content-location"])
@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (OWN + "/app/login", "/api/login"),
        ("HTTP://10.0.0.5:8080/app/login", "/api/login"),
        ("//10.0.0.5:8080/app/login", "/api/login"),
        ("/app/login", "/api/login"),
        ("/app", "/api"),
        (OWN + "/app", "/api"),
        ("/app/", "/api/"),
        ("/app?a=/app/b&c=%2F#/app", "/api?a=/app/b&c=%2F#/app"),
        ("/app/caf%c3%a9/%2F;x?q=%20+é#é", "/api/caf%c3%a9/%2F;x?q=%20+é#é"),
    ],
)
def test_what_is_below_the_base_is_below_the_mount(name, said, seen):
    assert told(said, name=name) == seen


@pytest.mark.parametrize(
    "said",
    [
        "https://10.0.0.5:8080/app/login",
        "http://10.0.0.5/app/login",
        "http://10.0.0.5:80800/app/login",
        "http://10.0.0.5:8080.evil.example/app",
        "http://10.0.0.5:8080@evil.example/app",
        "http://user@10.0.0.5:8080/app",
        "http://evil.example/app?http://10.0.0.5:8080/app",
        "http://elsewhere.test/app/a?b=c#d",
        "//elsewhere.test/app",
        "///app",
        "/\\10.0.0.5:8080/app",
        "http:/\\10.0.0.5:8080/app",
        "mailto:app@10.0.0.5",
        "/apple",
        "/other",
        "/",
        OWN + "/other",
        OWN,
        "login",
        "../login",
        "?page=2",
        "#top",
        "",
        "/app/a\tb",
    ],
)
def test_what_is_not_its_own_is_left_as_it_is_written(said):
    assert told(said) == said


def test_without_a_base_all_of_its_paths_are_its_own():
    assert told("/login", base="") == "/api/login"
    assert told("/", base="") == "/api/"
    assert told(OWN, base="") == "/api/"
    assert told(OWN + "?a=1", base="") == "/api/?a=1"
    assert told("/apiary", base="") == "/api/apiary"


def test_without_a_mount_only_the_base_goes():
    assert told("/app/login", mount="") == "/login"
    assert told("/app", mount="") == "/"
    assert told("/app?a=1", mount="/") == "/?a=1"
    assert told(OWN + "/login", mount="", base="") == "/login"
    assert told("/login", mount="", base="") == "/login"


def test_an_upstream_that_was_told_the_prefix_is_not_told_twice():
    assert told("/api/login", base="") == "/api/login"
    assert told("/api", base="") == "/api"
    assert told("/api/app/login") == "/api/login"
    assert told(OWN + "/api/login", base="") == "/api/login"


@pytest.mark.parametrize(
    "said", ["/app//evil.example/x", OWN + "/app//evil.example/x", "/app/\\evil.example", "/app//"]
)
def test_a_path_never_becomes_another_host(said):
    seen = told(said, mount="")
    assert seen.startswith("/./")
    assert urlsplit(urljoin("http://app/x", seen)).netloc == "app"
    assert told(said, mount="//evil.example").startswith("/./")


@given(st.text(st.sampled_from("/\\.:@?#ab%app10.0.0.5:8080ehtp \t"), max_size=40), st.sampled_from(["", "/app"]))
def test_whatever_is_said_leads_to_the_caller_or_where_it_led(path, base):
    for said in (path, "/" + path, f"{OWN}{base}/{path}", f"//10.0.0.5:8080{path}"):
        for mount in ("", "/api", "//evil.example"):
            seen = told(said, base=base, mount=mount)
            assert seen == said or re.match(r"/(?![/\\])", seen)


def test_a_scheme_s_own_port_may_be_left_out():
    origin = Origin("https", "shop.internal", 443)
    assert told("https://shop.internal/app/x", origin=origin) == "/api/x"
    assert told("https://SHOP.internal:443/app/x", origin=origin) == "/api/x"
    assert told("http://shop.internal:443/app/x", origin=origin) == "http://shop.internal:443/app/x"
    assert told("http://[::1]:8080/app/x", origin=Origin("http", "::1", 8080)) == "/api/x"


def test_it_may_call_itself_what_it_is_called():
    assert told("http://app/app/x") == "http://app/app/x"
    assert told("http://app/app/x", preserve_host=True) == "/api/x"
    assert told("https://APP:443/app/x", preserve_host=True) == "/api/x"
    assert told("http://elsewhere.test/app/x", preserve_host=True) == "http://elsewhere.test/app/x"
    before = (b"x-forwarded-host", b"shop.example")
    assert told("http://app/app/x", before, preserve_host=True, trusted=("192.0.2.7",)) == "/api/x"
    own = {"Host": "shop.internal"}
    assert told("http://shop.internal/app/x", own=own) == "/api/x"
    assert told("http://app/app/x", own=own, preserve_host=True) == "http://app/app/x"


def test_the_mount_is_what_the_caller_sees():
    assert told("/app/x", mount="/a b/ü") == "/api/x".replace("api", "a%20b/%C3%BC")
    before = (b"x-forwarded-prefix", b"/outer")
    assert told("/app/x", before) == "/api/x"  # of whom nobody believes
    believed = {"trusted": ("192.0.2.0/24",)}
    assert told("/app/x", before, **believed) == "/outer/api/x"
    assert told("/outer/api/x", before, base="", **believed) == "/outer/api/x"
    assert told("/app/x", before, mount="/outer/api", app_root_path="/outer", **believed) == "/outer/api/x"


@pytest.mark.parametrize("prefix", [b"//evil.example", b"/\\evil.example", b"/a?b", b"/a#b", b"/a<b", b"evil.example"])
def test_a_prefix_that_is_no_path_is_nobodys(prefix):
    assert told("/app/x", (b"x-forwarded-prefix", prefix), trusted=("192.0.2.7",)) == "/api/x"


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("5; url=http://10.0.0.5:8080/app/x?a=1", "5; url=/api/x?a=1"),
        ("0;URL='/app/x'", "0;URL='/api/x'"),
        ('0, url = "/app/x"', '0, url = "/api/x"'),
        ("1.5 /app/x", "1.5 /api/x"),
        ("5; url=http://elsewhere.test/app", "5; url=http://elsewhere.test/app"),
        ("5", "5"),
        ("", ""),
        ("/app/x", "/app/x"),
    ],
)
def test_refresh_says_where_after_it_says_when(said, seen):
    assert told(said, name="refresh") == seen


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("a=1; Path=/app; HttpOnly", "a=1; Path=/api; HttpOnly"),
        ("a=/app; path=/app/x;Secure", "a=/app; path=/api/x;Secure"),
        ("a=1;PATH = /app/", "a=1;PATH =/api/"),
        ("a=1; Path=/", "a=1; Path=/"),
        ("a=1; Path=/apple", "a=1; Path=/apple"),
        ("a=1; Path=", "a=1; Path="),
        ("a=1; Path", "a=1; Path"),
        ("a=1; Domain=10.0.0.5; Path=/app", "a=1; Path=/api"),
        ("a=1; domain=.10.0.0.5", "a=1"),
        ("a=1; Domain=shop.example; Path=/app", "a=1; Domain=shop.example; Path=/api"),
        ("Path=/app", "Path=/app"),
        ("a=Domain=10.0.0.5; Secure", "a=Domain=10.0.0.5; Secure"),
    ],
)
def test_a_cookie_comes_back_to_whom_it_is_from(said, seen):
    assert told(said, name="set-cookie") == seen


def test_a_cookie_for_everything_stays_one():
    assert told("a=1; Path=/", name="set-cookie", base="") == "a=1; Path=/"
    assert told("a=1; Path=/x", name="set-cookie", base="") == "a=1; Path=/api/x"
    assert told("a=1; Path=", name="set-cookie", base="") == "a=1; Path="


def test_a_domain_that_the_caller_is_in_stays():
    shop = Origin("https", "shop.example", 443)
    said = "a=1; Domain=shop.example"
    for host, kept in ((b"shop.example", True), (b"www.shop.example:8443", True), (b"bookshop.example", False)):
        seen = told(said, name="set-cookie", origin=shop, headers=[(b"host", host)])
        assert (seen == said) is kept
    before = (b"x-forwarded-host", b"www.shop.example")
    assert told(said, before, name="set-cookie", origin=shop) == "a=1"
    assert told(said, before, name="set-cookie", origin=shop, trusted=("192.0.2.7",)) == said


@given(st.binary(max_size=60), st.sampled_from(["location", "refresh", "set-cookie"]))
def test_nothing_breaks_and_no_byte_is_added_that_breaks_a_line(value, name):
    assume(not re.search(rb"[\r\n\0]", value))
    seen = told(value.decode("latin-1"), name=name).encode("latin-1")
    assert not re.search(rb"[\r\n\0]", seen)
