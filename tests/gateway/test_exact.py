"""JSON passes through as it was written."""

import pytest

from fairlead.gateway.exact import checked, decoded, text
from fairlead.message import Response


@pytest.mark.parametrize(
    "written", [b"1.10", b"12345678901234567890123", b"1E400", b"-0.0", b'{"a":1,"a":2}', b" [1 , 2] "]
)
def test_what_is_json_stays_as_it_was_written(written):
    assert checked(Response(200, content=written)) == written


@pytest.mark.parametrize(
    "written", [b"", b"<html>", b"{", b"[1,]", b"01", b"NaN", b'"\xff"', b'{"\xff":1}', b'"a\nb"', b"1 2", b"{'a':1}"]
)
def test_what_is_not_json_is_refused_and_not_repeated(written):
    with pytest.raises(ValueError, match=r"^the answer is not JSON$"):
        checked(Response(200, content=written))


def test_a_byte_order_mark_is_left_out():
    assert checked(Response(200, content=b"\xef\xbb\xbf[1]")) == b"[1]"


def test_no_content_is_null():
    assert checked(Response(204)) == b"null"


def test_a_hundred_thousand_brackets_are_an_error_and_no_crash():
    with pytest.raises(ValueError, match="nested too deeply"):
        checked(Response(200, content=b"[" * 100_000 + b"]" * 100_000))


@pytest.mark.parametrize(
    ("written", "carried"),
    [
        (b'"a b"', "a b"),
        (b"true", "true"),
        (b"false", "false"),
        (b"1.10", "1.10"),
        (b"1e400", "1e400"),
        (b"12345678901234567890123", "12345678901234567890123"),
        (b"-7", "-7"),
    ],
)
def test_a_value_is_carried_as_it_was_written(written, carried):
    assert text(decoded(written)) == carried


@pytest.mark.parametrize(("value", "kind"), [([1], "a list"), ({}, "an object"), (float("inf"), "no number")])
def test_what_is_not_one_value_is_refused(value, kind):
    with pytest.raises(ValueError, match=kind):
        text(value)


@pytest.mark.parametrize("written", [b'"\\ud800 and no more"', b'{"\\udc00": 1}'])
def test_half_a_character_is_no_answer(written):
    with pytest.raises(ValueError, match=r"^the answer is not JSON$"):
        decoded(written)


def test_an_exact_number_is_still_a_number():
    assert decoded(b"[1.5, 2.5]") == [1.5, 2.5]
