"""Header fields, sorted by name: whatever comes, what goes on is a field, in its order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.message import Response
from fairlead.proxy.fields import HOP_BY_HOP, Inward, Verdicts, answered, decoded, options_of, outward
from fairlead.proxy.status import Refusal

names = st.sampled_from(
    [
        b"x-a",
        b"x-b",
        b"connection",
        b"te",
        b"host",
        b"via",
        b"cookie",
        b"x_c",
        b"x-forwarded-for",
        b"x-forwarded-port",
        b"accept",
        b":path",
    ]
)
values = st.sampled_from([b"1", b"x-a", b"X-B, close", b"keep-alive", b"a b", b"te,host"])
pairs = st.lists(st.tuples(names, values), max_size=12)


@given(pairs)
def test_what_goes_on_was_there_in_that_order_and_is_nobody_elses(headers):
    inward = Inward(headers, Verdicts())
    named = options_of(value for name, value in headers if name == b"connection")
    assert inward.kept == [
        pair for pair in headers if pair[0] in {b"x-a", b"x-b", b"cookie", b"accept"} and pair[0] not in named
    ]
    assert not {name for name, _ in inward.claims} & named
    assert inward.said.get(b"host") == ([value for name, value in headers if name == b"host"] or None)


@given(st.lists(st.tuples(names.map(bytes.title), values), max_size=12))
def test_an_answers_fields_too(headers):
    named = options_of(value for name, value in headers if name.lower() == b"connection")
    kept = [(name.lower(), value) for name, value in headers]
    assert outward(headers)[0] == [
        pair for pair in kept if pair[0] not in HOP_BY_HOP and pair[0] not in named and pair[0] != b":path"
    ]


def test_the_length_is_told_and_nobody_can_name_it_away():
    assert outward([(b"Content-Length", b"3"), (b"Connection", b"content-length")]) == ([(b"content-length", b"3")], 3)
    assert outward([(b"X", b"1")])[1] == -1


@pytest.mark.parametrize("name", [b"", b"a" * 300, b"a b", b"a:", b"\xe9", b"a\n"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(Refusal):
        Inward([(name, b"1")], Verdicts())


def test_names_of_http_2_are_dropped():
    assert Inward([(b":path", b"/"), (b"x", b"1")], Verdicts()).kept == [(b"x", b"1")]


def test_names_in_other_cases_are_the_same():
    verdicts = Verdicts([b"authorization"])
    assert verdicts[b"AUTHORIZATION"] == verdicts[b"TE"] == verdicts[b"Keep-Alive"] == 0


def test_what_is_remembered_is_bounded():
    verdicts = Verdicts()
    for number in range(5000):
        assert verdicts[b"x-%d" % number] == 1
        outward([(b"X-%d" % number, b"")])
    assert len(verdicts) <= 1024


def test_what_is_true_of_coded_bytes_alone_goes_with_the_coding():
    head = [
        (b"content-encoding", b"gzip"),
        (b"etag", b'"1"'),
        (b"repr-digest", b"x"),
        (b"content-length", b"9"),
        (b"x", b"1"),
    ]
    assert decoded(head, b"hello") == [(b"etag", b'W/"1"'), (b"x", b"1"), (b"content-length", b"5")]
    assert decoded(head[1:], b"hello") == [
        (b"etag", b'"1"'),
        (b"repr-digest", b"x"),
        (b"x", b"1"),
        (b"content-length", b"5"),
    ]
    assert answered(Response(200, {"Content-Encoding": "gzip"}, b"hi")) == ([(b"content-length", b"2")], 2)
