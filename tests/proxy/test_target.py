"""Where a request goes: bytes in, a target out."""

from urllib.parse import unquote, unquote_to_bytes

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fairlead.proxy.status import Refusal
from fairlead.proxy.target import mounted, target

segments = st.lists(
    st.sampled_from(["a", "%2F", "%2e", "..", ".", "%2E%2e", "b;c", "", "%25", "~", "..a", "%5c", "\\"]), max_size=6
)


def scope(raw, root="", query=b"", method="GET"):
    return {"raw_path": raw, "path": unquote(raw.decode()), "root_path": root, "query_string": query, "method": method}


def test_a_path_is_put_below_the_base_as_it_stands():
    assert target(scope(b"/x%2Fy", query=b"q=%20"), "/base") == ("/base/x%2Fy?q=%20", "")
    assert target(scope(b"/api/x", "/api"), "/base") == ("/base/x", "/api")
    assert target(scope(b"/api", "/api"), "") == ("/", "/api")
    assert target(scope(b"/api/", "/api"), "/base") == ("/base/", "/api")
    assert target({"path": "/x", "method": "GET"}, "") == ("/x", "")


def test_the_place_it_is_mounted_at_may_be_written_otherwise():
    assert target(scope(b"/%61p%69/x", "/api"), "") == ("/x", "/%61p%69")
    assert target(scope(b"/caf%C3%A9/x", "/café"), "") == ("/x", "/caf%C3%A9")
    assert mounted(b"/apiary/x", "/api", "") == 0
    assert mounted(b"/a%2Fb/x", "/a", "") == 0


@pytest.mark.parametrize("raw", [b"x", b"http://evil.example/", b"/\xc3\xa9", b"/a b", b"/a\tb", b"/a\x00", b"*"])
def test_what_is_no_path_is_refused(raw):
    with pytest.raises(Refusal):
        target({"raw_path": raw, "path": "/", "method": "GET"}, "/base")


def test_a_query_of_other_bytes_is_refused():
    with pytest.raises(Refusal):
        target(scope(b"/", query=b"\xff"), "")
    with pytest.raises(Refusal):
        target(scope(b"/", query=b"a b"), "")


def normal(path):
    """What a server might make of a path that decodes first, and then goes up."""
    kept = []
    for segment in unquote(path).replace("\\", "/").split("/"):
        bare = segment.partition(";")[0]
        if bare == "..":
            if not kept:
                return None
            kept.pop()
        elif bare not in {"", "."}:
            kept.append(segment)
    return kept


@given(segments, st.sampled_from(["/", "%2F"]))
def test_nothing_leads_out_of_the_base_however_it_is_read(parts, glue):
    raw = ("/api/" + glue.join(parts)).encode()
    try:
        whole, _ = target(scope(raw, "/api"), "/inner/base")
    except Refusal:
        return
    assert normal(whole)[:2] == ["inner", "base"]
    assert whole == "/inner/base" + raw.decode().removeprefix("/api")


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#?"), max_size=40),
    st.binary(max_size=20),
)
def test_what_goes_on_is_what_came(path, query):
    assume(query.isascii() and query.decode().isprintable() and not {*b" #"} & {*query})
    raw = b"/" + path.encode()
    try:
        whole, _ = target(scope(raw, query=query), "")
    except Refusal:
        assert b".." in unquote_to_bytes(raw)
        return
    assert whole.encode() == raw + (b"?" + query if query else b"")
