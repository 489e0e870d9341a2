"""What a reference finds, and how it stands in a URL."""

from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis.strategies import text

from fairlead.errors import ConfigError
from fairlead.gateway.exact import decoded
from fairlead.gateway.reference import Absent, Unfit
from fairlead.gateway.target import joined, pieces, target

VALUES = {
    "id": "a/b?c",
    "query": {"q": "x y", "tag": ["one", "two"], "empty": ""},
    "header": {"x-tenant": "acme"},
    "orders": decoded(b'[{"sku":"a&b","price":1.10},{"sku":null,"price":2.0},{"sku":"\xc3\xa9","price":3e2}]'),
    "user": {
        "name": "Ann",
        "dots": "..",
        "manager": None,
        "vip": False,
        "count": 0,
        "home": {},
        "zip": "01",
        "huge": decoded(b"1e400"),
    },
    "by-name": [7],
}


@pytest.mark.parametrize(
    ("written", "filled"),
    [
        ("/users/{id}", "/users/a%2Fb%3Fc"),
        ("/users/{id}.json", "/users/a%2Fb%3Fc.json"),
        ("/search?q={query.q}", "/search?q=x%20y"),
        ("/search?q={query.empty}", "/search?q="),
        ("/search?tag={query.tag}&n=1", "/search?tag=one&tag=two&n=1"),
        ("/tenants/{header.X-Tenant}", "/tenants/acme"),
        ("/prices?sku={orders[*].sku}", "/prices?sku=a%26b&sku=%C3%A9"),
        ("/sum?price={orders[*].price}", "/sum?price=1.10&price=2.0&price=3e2"),
        ("/prices?sku={orders[9:].sku}", "/prices"),
        ("/prices?sku={orders[9:].sku}&all=no", "/prices?all=no"),
        ("/prices?sku=eu-{orders[*].sku}", "/prices?sku=eu-a%26b&sku=eu-%C3%A9"),
        ("/users/{user.zip}", "/users/01"),
        ("/vip/{user.vip}", "/vip/false"),
        ("/x?y=a-{user.name}-{user.zip}", "/x?y=a-Ann-01"),
        ("/x?page={query.page || '1'}", "/x?page=1"),
        ("/x?first={orders[?price > `1.5`] | [0].price}", "/x?first=2.0"),
        ("/x?n={length(orders)}", "/x?n=3"),
        ("/x/{by-name[0]}", "/x/7"),
        ("/x/{orders[?sku=='}'] | length(@)}", "/x/0"),
        ("/static?a=b c&flag", "/static?a=b%20c&flag"),
    ],
)
def test_a_value_takes_its_place_and_no_more(written, filled):
    assert target(written).fill(VALUES) == filled


@pytest.mark.parametrize(
    "written", ["/x?y={user.manager}", "/x/{user.nobody}", "/x?y={query.z}", "/x?a=b-{user.manager}"]
)
def test_null_is_absent(written):
    with pytest.raises(Absent, match="is null"):
        target(written).fill(VALUES)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("/x/{user.dots}", "empty or only dots"),
        ("/x/{query.empty}", "empty or only dots"),
        ("/x/{orders[*].sku}", "a list is not one value"),
        ("/x?y={orders[*].sku}z", "a list is not one value"),
        ("/x?y={user.home}", "an object is not one value"),
        ("/x?y={orders}", "an object is not one value"),
        ("/x?y={avg(orders[*].sku)}", "does not fit"),
        ("/x?y={ceil(user.huge)}", "does not fit"),
        ("/x?y={abs(user.name)}", "does not fit"),
    ],
)
def test_what_cannot_stand_in_a_url_is_unfit_and_not_shown(written, why):
    with pytest.raises(Unfit, match=why):
        target(written).fill(VALUES)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("users", "is not a path"),
        ("//elsewhere/x", "is not a path"),
        ("/x/{id", "without its"),
        ("/x/id}", "closes nothing"),
        ("/x#y", "is never sent"),
        ("/x?{id}", "stands for a value"),
        ("/x?{id}=1", "stands for a value"),
        ("/x?a&{id}", "stands for a value"),
        ("/x?a{id}={id}", "cannot name a parameter"),
        ("/x\ny", "control character"),
    ],
)
def test_what_is_no_target_is_refused_when_it_is_read(written, why):
    with pytest.raises(ConfigError, match=why):
        target(written)


def test_a_header_is_filled_as_it_is():
    assert joined(pieces("Bearer {user.name}-{header.x-tenant}"), VALUES) == "Bearer Ann-acme"


@given(text())
def test_no_text_leaves_its_place(value):
    try:
        path, _, query = target("/a/{x}/b?q={x}&r=1").fill({"x": value}).partition("?")
    except Unfit:
        assert value.strip(".") == "" or any("\ud800" <= mark <= "\udfff" for mark in value)
        return
    assert [unquote(segment) for segment in path.split("/")] == ["", "a", value, "b"]
    assert parse_qsl(query, keep_blank_values=True, strict_parsing=True) == [("q", value), ("r", "1")]
    assert path.isascii()
    assert query.isascii()
