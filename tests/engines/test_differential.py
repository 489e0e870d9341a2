"""The corpus of strange servers: what is decided, that it does not depend on how the bytes were cut, and what it costs.

The parser alone is asked about every cut in two; sockets about some. `benchmarks/differences.py` asks other clients too, and writes
docs/differences.md.
"""

from __future__ import annotations

import gc
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus import BROKEN, CHUNKED, CORPUS, CUT, GROUPS, HELLO, LATE, OK, OPEN, RST, TE, Case, Outcome, bombs
from fairlead.engines import Limits, coding
from fairlead.engines.native.answer import Answer
from fairlead.errors import ProtocolError
from played import AGAIN, Ours, Seen, at, byte_by_byte, play_all, whole

SEGMENT = 64 * 1024
"""The most that is read at once."""
ENOUGH = 1_000_000
"""Bytes of what has no end, after which something must have been decided."""
BY_PARSER = [case for case in CORPUS if case.wire]
BY_SOCKET = {f"{case.group}: {case.name}": case for case in CORPUS}
OF_GROUP = {group: [case for case in BY_PARSER if case.group == group] for group in GROUPS}
NATIVE = {"buffered": lambda: Ours("native"), "stream": lambda: Ours("native", stream=True)}


def bytes_of(case: Case) -> bytes:
    return case.says + case.forever * (ENOUGH // len(case.forever) if case.forever else 0)


def decided(case: Case, places: list[int], answer: Answer | None = None) -> Seen:
    """What the parser makes of a case whose bytes are cut there. Bytes that come when all is decided are the connection's to see."""
    says = bytes_of(case)
    edges = sorted({0, len(says), *places, *range(0, len(says), SEGMENT)})
    answer = answer or Answer(Limits())
    answer.expect(case.method, streamed=False)
    surplus = False
    for start, end in pairwise(edges):
        if answer.fault:
            break
        if answer.complete:
            surplus = True
            break
        answer.feed(memoryview(says)[start:end])
    if answer.fault:
        return Seen(BROKEN, told=answer.fault)
    if not answer.complete and (case.end is OPEN or case.end is RST or not answer.end()):
        return Seen(LATE if case.end is OPEN else CUT)
    body = b"".join(answer.chunks)
    answer.chunks.clear()
    try:
        if body and (decode := coding.coding(answer.coding)) is not None:
            body = coding.whole(decode, body, Limits().body)
    except ProtocolError as error:
        return Seen(BROKEN, told=str(error))
    fields = tuple((name.lower(), value.strip(b" \t")) for name, value in answer.headers)
    trailers = tuple((name, value.strip(b" \t")) for name, value in answer.trailers)
    kept = not (answer.odd or surplus or case.end is not OPEN)
    return Seen("", answer.status, body, fields, trailers, kept)


def places(case: Case) -> list[int]:
    """Where a case is cut in two: everywhere, or if it is long where something may happen."""
    size = len(bytes_of(case))
    if size <= 2000:
        return list(range(1, size))
    near = {edge + step for edge in (0, 65536, 131072, 196608, size) for step in range(-20, 21)}
    return sorted(place for place in near | set(range(0, size, size // 20)) if 0 < place < size)


@pytest.mark.parametrize("case", BY_PARSER, ids=lambda case: f"{case.group}: {case.name}")
def test_the_parser_decides_as_it_shall(case: Case) -> None:
    seen = decided(case, [])
    assert seen.is_exactly(case.ours), f"{seen} {seen.told}"


@pytest.mark.parametrize("group", OF_GROUP)
def test_a_cut_anywhere_changes_nothing(group: str) -> None:
    for case in OF_GROUP[group]:
        for place in places(case):
            seen = decided(case, [place])
            assert seen.is_exactly(case.ours), f"{case.name}, cut at {place}: {seen} {seen.told}"


@pytest.mark.parametrize("group", OF_GROUP)
def test_bytes_one_by_one_change_nothing(group: str) -> None:
    for case in OF_GROUP[group]:
        seen = decided(case, byte_by_byte(bytes_of(case)))
        assert seen.is_exactly(case.ours), f"{case.name}: {seen} {seen.told}"


@pytest.mark.parametrize(
    "second", [OK + HELLO, OK + CHUNKED, b"HTTP/1.0 200 OK\r\n\r\nhello"], ids=["length", "chunks", "close"]
)
def test_what_was_strange_is_forgotten_with_its_answer(second: bytes) -> None:
    for case in BY_PARSER:
        answer = Answer(Limits())
        if decided(case, [], answer).kept:
            for place in range(1, len(second)):
                answer.expect("GET", streamed=False)
                answer.feed(memoryview(second)[:place])
                answer.feed(memoryview(second)[place:])
                assert answer.complete or answer.end(), f"{case.name}, then cut at {place}: {answer.fault}"
                assert b"".join(answer.chunks) == b"hello", f"{case.name}, then cut at {place}"
                assert (answer.status, answer.trailers) == (200, [])
                answer = Answer(Limits())
                decided(case, [], answer)


@given(case=st.sampled_from(BY_PARSER), parts=st.lists(st.floats(0, 1, allow_nan=False), max_size=12))
def test_no_number_of_cuts_changes_anything(case: Case, parts: list[float]) -> None:
    size = len(bytes_of(case))
    seen = decided(case, [int(part * size) for part in parts])
    assert seen.is_exactly(case.ours), f"{seen} {seen.told}"


@pytest.mark.parametrize("cut", [whole, byte_by_byte, at(1 / 3, 2 / 3)], ids=["whole", "byte by byte", "in thirds"])
@pytest.mark.parametrize("how", NATIVE)
async def test_over_a_socket_it_is_the_same(how: str, cut) -> None:
    wanted = {name: wanted_of(case, how) for name, case in BY_SOCKET.items()}
    seen = await play_all(CORPUS, NATIVE[how], cut)
    assert {name: f"{one} {one.told}" for name, one in seen.items() if not one.is_exactly(wanted[name])} == {}


def wanted_of(case: Case, how: str) -> Outcome:
    return case.streamed or case.ours if how == "stream" else case.ours


@pytest.mark.parametrize("name", ["httpx2", "aiohttp"])
async def test_other_engines_name_what_they_see_and_confuse_no_calls(name) -> None:
    seen = await play_all(CORPUS, lambda: Ours(name), whole, seconds=0.5)
    assert {one.error for one in seen.values()} == {"", BROKEN, CUT, LATE}
    assert [name for name, one in seen.items() if one.next != AGAIN] == []


def test_of_the_corpus_nearly_all_is_decided_as_the_rfcs_say() -> None:
    chosen = [case.name for case in CORPUS if case.chosen]
    assert len(CORPUS) >= 200
    assert len(chosen) <= len(CORPUS) * 0.02, chosen


# What it costs


def peak(case: Case, size: int, *, stream: bool, body: int = 0) -> tuple[Answer, int]:
    """The most bytes held while so many of a case come, after a chunk of that many bytes of body which the caller has taken."""
    answer = Answer(Limits())
    answer.expect(case.method, stream)
    before, loop = case.says, case.forever * max(1, SEGMENT // len(case.forever))
    buffer = memoryview(bytearray(SEGMENT))
    gc.collect()
    tracemalloc.start()
    try:
        if body:
            answer.feed(memoryview(before[: before.index(b"\r\n\r\n") + 4] + b"%x\r\n" % body))
            before = b"\r\n" + before[before.index(b"\r\n\r\n") + 4 :]
            for _ in range(body // SEGMENT):
                answer.feed(buffer)
                answer.chunks.clear()
        if before:
            answer.feed(memoryview(before))
        for _ in range(size // len(loop)):
            if answer.fault:
                break
            answer.feed(memoryview(loop))
        return answer, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


ENDLESS = [case for case in BY_PARSER if case.forever]


@pytest.mark.parametrize("case", ENDLESS, ids=lambda case: case.name)
def test_what_has_no_end_is_refused_before_it_is_held(case: Case) -> None:
    answer, most = peak(case, 64 * ENOUGH, stream=False)
    assert answer.fault
    assert answer.read < 4 * SEGMENT
    assert most < 2 * ENOUGH


@pytest.mark.parametrize("case", [case for case in ENDLESS if TE in case.says], ids=lambda case: case.name)
def test_a_long_stream_buys_no_long_trailer(case: Case) -> None:
    answer, most = peak(case, 64 * ENOUGH, stream=True, body=32 * SEGMENT)
    assert answer.fault
    assert answer.read - answer.size < 32 * SEGMENT
    assert most < 8 * ENOUGH


@pytest.mark.parametrize("how", ["buffered", "stream"])
async def test_a_bomb_is_refused_by_its_name(how: str) -> None:
    seen = await play_all(bombs(), NATIVE[how], most=1)
    assert {one.error for one in seen.values()} == {BROKEN}
    assert {one.next for one in seen.values()} == {AGAIN}


# What is written about it


def test_the_documented_decisions_are_these() -> None:
    page = (Path(__file__).parents[2] / "docs" / "differences.md").read_text()
    rows, group = {}, ""
    for line in page.splitlines():
        if line.startswith("### "):
            group = line[4:].removesuffix(", alike")
        elif line.startswith("| ") and len(cells := line.strip("| ").split(" | ")) > 2:
            rows[f"{group}: {cells[0]}"] = cells[2].strip("*")
    told = {f"{case.group}: {case.name}": str(decided(case, [])) for case in BY_PARSER}
    assert {name: rows.get(name) for name in told} == told
