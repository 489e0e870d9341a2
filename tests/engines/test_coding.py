"""Content codings undone: whole, in pieces however cut, in chains, within limits, and never by guess."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from random import Random
from types import SimpleNamespace

import brotli
import pytest

from fairlead.engines import coding as codings
from fairlead.engines.coding import accepted, coding, whole
from fairlead.errors import ProtocolError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def bare(plain: bytes) -> bytes:
    """deflate as some servers send it: without its wrapper (RFC 1951)."""
    made = zlib.compressobj(wbits=-15)
    return made.compress(plain) + made.flush()


CODINGS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b"x-gzip", gzip.compress),
    "deflate": (b"deflate", zlib.compress),
    "bare deflate": (b"deflate", bare),
    "br": (b"br", brotli.compress),
    "zstd": (b"zstd", zstd.compress),
}
PLAIN = {
    "nothing": b"",
    "a byte": b"x",
    "text": b"the quick brown fox " * 50,
    "zeros": bytes(1_000_000),
    "noise": Random(7).randbytes(200_000),
}
MOST = 96 * 1024
"""Bytes of the largest piece."""
each = pytest.mark.parametrize(("name", "compress"), CODINGS.values(), ids=CODINGS)


def undone(name: bytes, coded: bytes, cut: int) -> bytes:
    """Decoded from segments of `cut` bytes."""
    made = coding(name)
    assert made is not None
    pieces = [piece for start in range(0, len(coded), cut) for piece in made.feed(coded[start : start + cut])]
    made.end()
    assert all(pieces)
    assert max(map(len, pieces), default=0) <= MOST
    return b"".join(pieces)


@each
@pytest.mark.parametrize("plain", PLAIN.values(), ids=PLAIN)
def test_what_was_coded_comes_back_however_it_is_cut(
    name: bytes, compress: Callable[[bytes], bytes], plain: bytes
) -> None:
    coded = compress(plain)
    for cut in (len(coded), 65536, 1000, *([1, 2, 3, 7] if len(coded) < 5000 else [])):
        assert undone(name, coded, cut) == plain
    made = coding(name)
    assert made is not None
    assert whole(made, coded, max(len(plain), 1)) == plain


@each
def test_more_than_the_limit_is_refused_before_it_is_held(name: bytes, compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(bytes(50_000_000))
    made = coding(name)
    assert made is not None
    with pytest.raises(ProtocolError, match="more than 1000 bytes: read it as a stream"):
        whole(made, bomb, 1000)
    made = coding(name)
    assert made is not None
    assert len(next(made.feed(bomb))) <= MOST


@each
def test_a_body_of_exactly_the_limit_passes(name: bytes, compress: Callable[[bytes], bytes]) -> None:
    made = coding(name)
    assert made is not None
    assert len(whole(made, compress(bytes(1000)), 1000)) == 1000


@each
def test_one_that_stops_too_early_is_an_error(name: bytes, compress: Callable[[bytes], bytes]) -> None:
    coded = compress(os.urandom(1000))
    for end in (1, 5, len(coded) // 2, len(coded) - 1):
        made = coding(name)
        assert made is not None
        with pytest.raises(ProtocolError):
            whole(made, coded[:end], 10_000)


@each
def test_garbage_is_an_error(name: bytes, compress: Callable[[bytes], bytes]) -> None:
    made = coding(name)
    assert made is not None
    with pytest.raises(ProtocolError):
        whole(made, b"\xff\xfe<html>this is not coded at all</html>" * 100, 1_000_000)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_members_may_follow_one_another(name: str) -> None:
    token, compress = CODINGS[name]
    coded = compress(b"one, ") + compress(b"") + compress(b"two")
    for cut in (1, 7, len(coded)):
        assert undone(token, coded, cut) == b"one, two"


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_what_follows_the_end_is_an_error(name: str) -> None:
    token, compress = CODINGS[name]
    made = coding(token)
    assert made is not None
    with pytest.raises(ProtocolError):
        whole(made, compress(b"plain") + b"and then some", 1000)


def test_a_body_that_is_not_there_needs_no_coding() -> None:
    made = coding(b"gzip")
    assert made is not None
    assert whole(made, b"", 10) == b""


def test_a_chain_is_undone_from_its_end() -> None:
    coded = brotli.compress(gzip.compress(b"plain" * 1000))
    for cut in (1, 10, len(coded)):
        assert undone(b"gzip, br", coded, cut) == b"plain" * 1000


def test_a_chain_within_a_chain_is_bounded() -> None:
    with pytest.raises(ProtocolError, match="4 chained content codings: at most 3"):
        coding(b"gzip, gzip, gzip, gzip")
    made = coding(b"gzip,gzip,gzip")
    bomb = gzip.compress(gzip.compress(gzip.compress(bytes(10_000_000))))
    assert made is not None
    with pytest.raises(ProtocolError, match="1000 bytes"):
        whole(made, bomb, 1000)


@pytest.mark.parametrize("field", [b"", b"identity", b" , identity ,", b"rot13", b"gzip, rot13", b"compress"])
def test_what_is_not_known_is_left_as_it_is(field: bytes) -> None:
    assert coding(field) is None


@pytest.mark.parametrize("field", [b"GZIP", b" gzip ", b"identity, gzip", b"gzip,"])
def test_names_are_read_whatever_their_case_and_blanks(field: bytes) -> None:
    assert undone(field, gzip.compress(b"plain"), 3) == b"plain"


def test_only_what_can_be_undone_is_asked_for() -> None:
    assert accepted() == "gzip, deflate, br, zstd"
    assert all(coding(name.encode()) is not None for name in accepted().split(", "))


class Absent(MetaPathFinder):
    """Stands before the other finders: what it is told of is not installed."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname.startswith(self.names):
            raise ModuleNotFoundError(fullname, name=fullname)


@pytest.fixture
def asked_anew() -> Iterator[None]:
    for library in (codings._brotli, codings._zstd):
        library.cache_clear()
    yield
    for library in (codings._brotli, codings._zstd):
        library.cache_clear()


@pytest.mark.usefixtures("asked_anew")
def test_without_its_library_a_coding_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("brotli", "backports", "compression.zstd"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent("brotli", "backports", "compression.zstd"), *sys.meta_path])
    assert accepted() == "gzip, deflate"
    assert coding(b"br") is None
    assert coding(b"zstd") is None


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize("module", [SimpleNamespace(), SimpleNamespace(Decompressor=SimpleNamespace(process=None))])
def test_a_library_of_that_name_that_cannot_stop_at_a_bound_is_not_used(
    monkeypatch: pytest.MonkeyPatch, module: object
) -> None:
    monkeypatch.setitem(sys.modules, "brotli", module)
    assert accepted() == "gzip, deflate, zstd"
    assert coding(b"br") is None


@pytest.mark.parametrize("name", ["gzip", "bare deflate", "zstd"])
@pytest.mark.parametrize("each", [b"", b"x"])
def test_a_body_of_beginnings_is_given_up(name: str, each: bytes) -> None:
    token, compress = CODINGS[name]
    assert undone(token, compress(each) * 1000, 65536) == each * 1000
    made = coding(token)
    assert made is not None
    with pytest.raises(ProtocolError, match="hold next to nothing"):
        whole(made, compress(each) * 1100, 100_000)


def test_members_that_hold_something_may_be_many() -> None:
    assert undone(b"gzip", gzip.compress(b"x" * 64) * 3000, 65536) == b"x" * 64 * 3000


def test_a_chain_that_swells_inside_and_gives_nothing_is_given_up() -> None:
    stored = zlib.compressobj(wbits=31)
    hollow = stored.compress(b"") + stored.flush(zlib.Z_FULL_FLUSH) + b"\0\0\0\xff\xff" * 400_000
    made = coding(b"gzip, gzip")
    assert made is not None
    with pytest.raises(ProtocolError, match="inside one another"):
        whole(made, gzip.compress(hollow), 100)


def test_a_chain_of_what_cannot_be_made_smaller_passes() -> None:
    noise = Random(7).randbytes(3_000_000)
    assert undone(b"gzip, br, zstd", zstd.compress(brotli.compress(gzip.compress(noise), quality=1)), 65536) == noise


@pytest.mark.parametrize("name", ["gzip", "br", "zstd"])
def test_a_stream_gives_no_more_than_so_many_times_what_came(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(codings, "FREE", 1_000_000)
    token, compress = CODINGS[name]
    assert undone(token, compress(bytes(1_000_000)), 65536) == bytes(1_000_000)
    made, bomb, given = coding(token), compress(bytes(20_000_000)), 0
    assert made is not None
    with pytest.raises(ProtocolError, match="more than 200 times its size: read it with aiter_raw"):
        for piece in made.feed(bomb):
            given += len(piece)
    assert given <= 200 * len(bomb) + 1_000_000 + MOST


def test_what_shrinks_a_hundredfold_is_no_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codings, "FREE", 1_000_000)
    lines = b"".join([Random(number).randbytes(40) + bytes(5_000) for number in range(1000)])
    coded = gzip.compress(lines)
    assert 80 < len(lines) / len(coded) < 200
    assert undone(b"gzip", coded, 1000) == lines


def test_a_frame_of_zstd_is_judged_the_same_however_it_is_cut() -> None:
    odd = b"\x28\xb5\x2f\xfd\x20" + bytes(4) + b"\x03\0\0b"  # its last block repeats a byte no times
    for cut in (1, 7, len(odd)):
        with pytest.raises(ProtocolError):
            undone(b"zstd", odd, cut)


@pytest.mark.parametrize("log", [23, 24])
def test_a_window_of_zstd_has_at_most_8_mebibytes(log: int) -> None:
    press = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: log})
    coded = press.compress(b"plain") + press.flush()
    made = coding(b"zstd")
    assert made is not None
    if log == 23:
        assert whole(made, coded, 10) == b"plain"
    else:
        with pytest.raises(ProtocolError, match="a window of more than 8 MiB"):
            whole(made, coded, 10)


@each
def test_a_library_is_given_little_at_once(
    monkeypatch: pytest.MonkeyPatch, name: bytes, compress: Callable[[bytes], bytes]
) -> None:
    given: list[int] = []
    cut = codings._slices

    def counted(chunk: bytes) -> Iterator[memoryview]:
        for part in cut(chunk):
            given.append(len(part))
            yield part

    monkeypatch.setattr(codings, "_slices", counted)
    made = coding(name)
    assert made is not None
    noise = Random(7).randbytes(300_000)
    assert whole(made, compress(noise), len(noise)) == noise
    assert max(given) <= 65536
    assert sum(given) == len(compress(noise))
