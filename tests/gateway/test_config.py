"""What the file says, and how it is told where it is wrong."""

import re

import pytest

from fairlead.errors import ConfigError
from fairlead.gateway.config import load
from gateway.asking import read

SHOP = """
[services.users]
url = "http://127.0.0.1:8101"
timeout = "300ms"

[services.orders]
url = "http://127.0.0.1:8102"

[services.prices]
url = "http://127.0.0.1:8103"

[[aggregates]]
get = "/home/{id}"
within = "800ms"
[aggregates.parts]
user   = { call = "users /users/{id}", required = true }
orders = { call = "orders /orders?user={id}", or = [] }
prices = { call = "prices /prices?sku={orders[*].sku}" }
"""


def told(toml, environ=None):
    with pytest.raises(ConfigError) as caught:
        read(toml, environ)
    return re.sub(r"^.*/(?=fairlead\.toml: )", "", caught.value.message)


def test_what_is_not_said_is_as_a_client_has_it():
    service = read(SHOP).services["orders"]
    assert (service.timeout, service.retries, service.max_connections, service.verify) == (30.0, 2, 100, True)


def test_every_key_of_a_service_is_read():
    config = read(
        """
        [services.users]
        url = "https://${HOST}/api"
        timeout = 2
        retries = 0
        max_connections = 7
        verify = false
        health = "/ready"
        headers = { X-Tenant = "acme", X-Key = "${KEY}" }
        auth = { bearer = "${TOKEN}" }
        [[aggregates]]
        get = "/"
        parts = { user = { call = "users /" } }
        """,
        {"HOST": "users.example", "KEY": "k", "TOKEN": "t"},
    )
    service = config.services["users"]
    assert (service.url, service.timeout, service.retries) == ("https://users.example/api", 2.0, 0)
    assert (service.max_connections, service.verify, service.health) == (7, False, "/ready")
    assert service.headers == {"X-Tenant": "acme", "X-Key": "k"}
    assert service.bearer == "t"
    assert "'k'" not in repr(config)
    assert "'t'" not in repr(config)


@pytest.mark.parametrize(
    ("written", "seconds"), [('"300ms"', 0.3), ('"2s"', 2.0), ("2", 2.0), ("0.25", 0.25), ('"1.5s"', 1.5)]
)
def test_a_duration_is_milliseconds_seconds_or_a_number_of_seconds(written, seconds):
    assert read(SHOP.replace('"300ms"', written)).services["users"].timeout == seconds


def test_the_parts_keep_the_order_of_the_file_and_wait_by_reference():
    plan = read(SHOP).plans[0]
    assert [step.part.name for step in plan.steps] == ["user", "orders", "prices"]
    assert plan.stages == (("user", "orders"), ("prices",))
    assert plan.within == 0.8


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ('"price /', '"prices /', 'aggregates[0].parts.prices: no service "price"; did you mean "prices"?'),
        ("timeot", "timeout", 'services.users.timeot: no such key; did you mean "timeout"?'),
        ("requird", "required", 'aggregates[0].parts.user.requird: no such key; did you mean "required"?'),
        ("gte =", "get =", 'aggregates[0].gte: no such key; did you mean "get"?'),
        ("[servces.users]", "[services.users]", 'servces: no such key; did you mean "services"?'),
        ("ordrs[", "orders[", 'aggregates[0].parts.prices: no part or path parameter "ordrs"; did you mean "orders"?'),
        ('"300 mS"', '"300ms"', 'services.users.timeout: "300 mS" is not a duration above 0; write "300ms", "2s" or a number of seconds'),
        ("true", '"300ms"', 'services.users.timeout: true is not a duration above 0; write "300ms", "2s" or a number of seconds'),
        ('"0ms"', '"800ms"', 'aggregates[0].within: "0ms" is not a duration above 0; write "300ms", "2s" or a number of seconds'),
        ('"yes"', "true", 'aggregates[0].parts.user.required: "yes" is not a yes or no; write true or false'),
        ('"home"', '"/home/{id}"', 'aggregates[0].get: "home" is not a path: begin it with one "/"'),
        ('"/health"', '"/home/{id}"', 'aggregates[0].get: "/health" is the gateway\'s own; choose another path'),
        ("[*.sku", "[*].sku", 'aggregates[0].parts.prices.call: "{orders[*.sku}" is not JMESPath: write a name and a path into it, as in {orders[*].sku}'),
        ("ftp:", "http:", "services.users.url: no engine speaks 'ftp': use http:// or https:// in 'ftp://127.0.0.1:8101'"),
        ("GET /orders", "orders /orders", 'aggregates[0].parts.orders.call: "GET /orders?user={id}" begins with no service; write "users /users/{id}", which is a GET'),
        ("or = [], required = true", "or = []", "aggregates[0].parts.orders.or: never used, as the part is required; remove one of the two"),
        ("user={prices[0]}", "user={id}", "aggregates[0].parts.orders: waits for prices, which waits for orders: a circle; drop one of these references"),
        ("user={orders[0]}", "user={id}", "aggregates[0].parts.orders: refers to itself; refer to another part"),
        ("id     = {", "user   = {", "aggregates[0].parts.id: 'id' is a path parameter already; give the part another name"),
        ("header = {", "user   = {", "aggregates[0].parts.header: 'header' is what references call the request already; give the part another name"),
        ("[aggregates]", "[[aggregates]]", None),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_its_value_and_the_mend(wrong, right, message):
    assert right in SHOP
    told_of = told(SHOP.replace(right, wrong, 1))
    if message is None:
        assert told_of.startswith("fairlead.toml: aggregates: {")
        assert told_of.endswith("is not a list of tables; begin each with [[aggregates]]")
    else:
        assert told_of == f"fairlead.toml: {message}"


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ('[services.users]\ncache = { fresh = "30s" }', "services.users.cache"),
        ("[services.users]\nhedge = 2", "services.users.hedge"),
        ("[services.users]\nrate_limit = 2", "services.users.rate_limit"),
        ("[routes]\nx = 1\n[services.users]", "routes"),
        ("[dashboard]\nport = 1\n[services.users]", "dashboard"),
    ],
)
def test_a_key_of_a_later_version_says_so(line, place):
    assert (
        told(SHOP.replace("[services.users]", line))
        == f"fairlead.toml: {place}: belongs to a later version; remove it for now"
    )


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("", 'services is missing; write [services.users] with url = "http://..."'),
        ("services = 3", "services: 3 is not a table; write { key = value }"),
        ("[services]", 'services: nothing is in it; write [services.users] with url = "http://..."'),
        ("[services.a]", 'services.a: url is missing; write url = "http://127.0.0.1:8101"'),
        ('[services."a b"]', 'services."a b": not a name; use letters, digits, _ and -, and begin with a letter'),
        ('[services.a]\nurl = ""', 'services.a.url: "" is not a text; write it in quotes: "..."'),
        ('[services.a]\nurl = "http://h/?k=v"', 'services.a.url: "http://h/?k=v" has a query; write it in the call of a part'),
        ('[services.a]\nurl = "http://h"', 'aggregates is missing; write [[aggregates]] with get = "/home/{id}" and parts'),
        ('[services.a]\nurl = "http://h"\nretries = -1', "services.a.retries: -1 is not a whole number from 0 up"),
        ('[services.a]\nurl = "http://h"\nhealth = "/{id}"', 'services.a.health: "/{id}" refers to something, and a health check knows nothing; write a plain path'),
        ('[services.a]\nurl = "http://h"\nverify = "/no/ca.pem"', 'services.a.verify: "/no/ca.pem" is not there; name a file of certificates, or write false to trust anyone'),
        ("a = [", "is not TOML: Invalid value (at end of document)"),
    ],
)  # fmt: skip
def test_what_is_missing_is_asked_for(toml, message):
    assert told(toml) == f"fairlead.toml: {message}"


def test_one_route_cannot_be_two_aggregates():
    twice = SHOP + '[[aggregates]]\nget = "/home/{other}"\nparts = { user = { call = "users /" } }'
    assert (
        told(twice) == 'fairlead.toml: aggregates[1].get: "/home/{other}" is the route of aggregates[0] too; change one'
    )


def test_a_variable_that_is_not_set_is_named_and_no_secret_shown():
    headers = SHOP.replace('"300ms"', '"300ms"\nheaders = { X-Key = "${KEY}" }')
    assert (
        told(headers, {"KEY": ""})
        == "fairlead.toml: services.users.headers.X-Key: ${KEY} is not set; set KEY in the environment"
    )
    secret = SHOP.replace('"300ms"', '"300ms"\nauth = { bearer = 12345 }')
    assert (
        told(secret) == 'fairlead.toml: services.users.auth.bearer: the value is not a text; write it in quotes: "..."'
    )


@pytest.mark.parametrize("key", ["auth", "headers"])
def test_a_secret_in_the_wrong_place_is_not_shown(key):
    message = f'fairlead.toml: services.users.{key}: not a table; write {{ name = "..." }}'
    assert told(SHOP.replace('"300ms"', f'"300ms"\n{key} = "hunter2"')) == message


def test_a_password_in_a_url_is_refused_and_not_shown():
    assert "hunter2" not in told(SHOP.replace("http://127.0.0.1:8101", "http://me:hunter2@users.example"))


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read: No such file or directory"):
        load(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes(b'a = "\xff"')
    with pytest.raises(ConfigError, match=r"latin\.toml: is not UTF-8"):
        load(tmp_path / "latin.toml")


def test_a_line_break_in_a_header_of_a_part_is_told():
    toml = SHOP.replace("required = true }", 'required = true, headers = { X = "a\\r\\nb" } }')
    assert "aggregates[0].parts.user.headers: header 'X': a control character" in told(toml)
