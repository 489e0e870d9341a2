"""Credentials: on the wire, and nowhere else."""

import pytest
from pydantic import SecretStr

from calls import call
from fairlead.auth import ApiKey, Basic, Bearer
from fairlead.core import Upstream
from fairlead.errors import ConfigError
from fairlead.testing import run, script, virtual_time


async def sent(recipe, **asked):
    engine = script(200)
    await recipe.bind(engine.send, Upstream("shop"))(call(**asked))
    return engine.requests[0]


@virtual_time
async def test_a_bearer_token_is_sent():
    request = await sent(Bearer("tok-1"))
    assert request.headers["authorization"] == "Bearer tok-1"
    assert request.headers.wire == b"Authorization: Bearer tok-1\r\n"


@virtual_time
async def test_a_key_is_sent_in_the_header_that_the_upstream_asks_for():
    assert (await sent(ApiKey("k-1"))).headers["x-api-key"] == "k-1"
    assert (await sent(ApiKey("k-1", header="X-Shop-Key"))).headers["x-shop-key"] == "k-1"


@virtual_time
async def test_a_key_is_sent_in_the_query_where_asked_for():
    request = await sent(ApiKey("k&1", query="key"), url="https://shop.test/x?page=2")
    assert request.target == "/x?page=2&key=k%261"
    assert "x-api-key" not in request.headers


@virtual_time
async def test_name_and_password_are_sent_as_rfc_7617_says():
    assert (await sent(Basic("Aladdin", "open sesame"))).headers[
        "authorization"
    ] == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert (await sent(Basic("test", "123£"))).headers["authorization"] == "Basic dGVzdDoxMjPCow=="
    assert (await sent(Basic("token", ""))).headers["authorization"] == "Basic dG9rZW46"


@virtual_time
async def test_a_request_that_brings_its_own_is_left_alone():
    request = await sent(Bearer("client"), headers={"authorization": "Bearer own"})
    assert request.headers.get_list("authorization") == ["Bearer own"]


@pytest.mark.parametrize("recipe", [Bearer("t"), Basic("me", "p"), ApiKey("k"), ApiKey("k", query="key")])
def test_an_anonymous_call_is_given_nothing(recipe):
    async def asked():
        engine = script(200)
        leaving = call()
        leaving.anonymous = True
        await recipe.bind(engine.send, Upstream("shop"))(leaving.fork(1))
        return engine.requests[0]

    request = run(asked())
    assert (request.target, request.headers.raw) == ("/x", [])


@virtual_time
async def test_the_callers_request_is_never_changed():
    asked = call()
    request, before = asked.request, asked.request.headers.wire
    engine = script(200)
    await Bearer("t").bind(engine.send, Upstream("shop"))(asked)
    assert (request.headers.wire, len(request.headers.raw)) == (before, 0)
    assert engine.requests[0] is not request


@virtual_time
async def test_a_wrapped_secret_is_unwrapped_only_for_the_wire():
    for recipe, header in (
        (Bearer(SecretStr("s")), "Bearer s"),
        (Basic("u", SecretStr("p")), "Basic dTpw"),
        (ApiKey(SecretStr("s"), header="Authorization"), "s"),
    ):
        assert (await sent(recipe)).headers["authorization"] == header


@virtual_time
async def test_a_secret_can_be_named_by_its_environment_variable(monkeypatch):
    monkeypatch.setenv("SHOP_KEY", "from-env")
    assert (await sent(Bearer(env="SHOP_KEY"))).headers["authorization"] == "Bearer from-env"
    assert (await sent(ApiKey(env="SHOP_KEY"))).headers["x-api-key"] == "from-env"


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("recipe", [Bearer(env="SHOP_KEY"), ApiKey(env="SHOP_KEY")])
def test_a_missing_environment_variable_is_named_when_the_client_is_built(monkeypatch, recipe, value):
    monkeypatch.delenv("SHOP_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SHOP_KEY", value)
    with pytest.raises(ConfigError, match="environment variable SHOP_KEY is not set"):
        recipe.bind(script().send, Upstream("shop"))


@pytest.mark.parametrize(
    "recipe", [Bearer(), ApiKey(), Bearer("a", env="B"), Bearer(""), Bearer(7), ApiKey(SecretStr(""))]
)
def test_what_is_no_secret_is_refused_when_the_client_is_built(recipe):
    with pytest.raises(ConfigError, match=type(recipe).__name__):
        recipe.bind(script().send, Upstream("shop"))


def test_a_secret_that_would_break_the_header_is_refused_without_being_shown():
    with pytest.raises(ConfigError) as caught:
        Bearer("s3cret\n").bind(script().send, Upstream("shop"))
    assert "s3cret" not in str(caught.value)


def test_a_colon_ends_the_name():
    with pytest.raises(ConfigError, match="username='a:b' has a colon"):
        Basic("a:b", "p")


@pytest.mark.parametrize(
    "recipe", [Bearer("s3cret"), ApiKey("s3cret"), ApiKey("s3cret", query="key"), Basic("me", "s3cret")]
)
def test_a_secret_is_never_shown(recipe):
    assert "s3cret" not in repr(recipe)
    assert "s3cret" not in recipe.explain()


def test_each_explains_itself():
    assert Bearer(env="SHOP_KEY").explain() == "auth: a bearer token from SHOP_KEY"
    assert ApiKey("k").explain() == "auth: a key in the header X-API-Key"
    assert ApiKey("k", query="key").explain() == "auth: a key in the query as key"
    assert Basic("me", "p").explain() == "auth: name and password of me"


def test_recipes_can_be_told_apart():
    assert Bearer("a") == Bearer("a")
    assert Bearer("a") != Bearer("b")
    assert len({Bearer("a"), Bearer("a"), Basic("u", "p"), ApiKey("k")}) == 3
