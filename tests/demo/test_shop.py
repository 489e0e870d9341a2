"""The demo's upstreams answer the same thing always, for any customer."""

import json

import pytest

from fairlead.demo import shop
from fairlead.testing import virtual_time


@virtual_time
async def test_any_customer_has_a_name_and_orders():
    for customer in ("1", "0", "99999999999999999999", "a b", "é"):
        status, body = await shop.users(f"/users/{customer}", {})
        assert (status, str(json.loads(body)["id"])) == (200, customer)
        status, body = await shop.orders("/orders", {"user": [customer]})
        goods = [order["sku"] for order in json.loads(body)]
        assert status == 200
        assert len(goods) == len(set(goods)) == 2


@virtual_time
async def test_every_good_has_a_price_with_two_decimals():
    status, body = await shop.prices("/prices", {"sku": list(shop.GOODS)})
    assert status == 200
    assert list(json.loads(body)) == list(shop.GOODS)
    assert body.count(".") == len(shop.GOODS)
    assert await shop.prices("/prices", {}) == (200, "{}")


@virtual_time
async def test_customer_13_has_no_orders_to_be_found():
    assert (await shop.orders("/orders", {"user": ["13"]}))[0] == 404


@virtual_time
async def test_customer_7_bought_what_takes_long_to_be_priced():
    _, body = await shop.orders("/orders", {"user": ["7"]})
    assert shop.SLOW in [order["sku"] for order in json.loads(body)]


@pytest.mark.parametrize("one", [shop.users, shop.orders, shop.prices])
@virtual_time
async def test_another_path_is_not_found(one):
    assert (await one("/other", {}))[0] == 404
