"""What a caller gives becomes bytes, or an upload that is read while it is sent."""

from __future__ import annotations

import asyncio
import gc
import io
import re
from array import array
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest
from starlette.datastructures import Headers, UploadFile

from fairlead.body import CHUNK, Upload, encode, from_content, from_form, from_json, multipart
from fairlead.errors import ConfigError


async def read(upload: Upload | bytes) -> bytes:
    assert isinstance(upload, Upload)
    return b"".join([chunk async for chunk in upload])


# content=


@pytest.mark.parametrize("given", [b"h\xc3\xa9", "h\u00e9", bytearray(b"h\xc3\xa9"), memoryview(b"h\xc3\xa9")])
def test_what_is_here_already_is_sent_as_bytes(given: Any) -> None:
    assert from_content(given) == b"h\xc3\xa9"


async def test_a_list_can_be_sent_again() -> None:
    upload = from_content([b"a", bytearray(b"b"), memoryview(b"c")])
    assert isinstance(upload, Upload)
    assert upload.replayable
    assert upload.length is None
    assert [await read(upload), await read(upload)] == [b"abc", b"abc"]


async def test_a_generator_is_sent_once() -> None:
    def source() -> Iterator[bytes]:
        yield b"once"

    async def later() -> AsyncIterator[bytes]:
        yield b"once"

    for upload in (from_content(source()), from_content(later())):
        assert isinstance(upload, Upload)
        assert not upload.replayable
        assert await read(upload) == b"once"
        with pytest.raises(ConfigError, match="cannot be read again"):
            await read(upload)


async def test_a_function_is_asked_for_a_fresh_source_each_time() -> None:
    asked = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal asked
        asked += 1
        yield b"%d" % asked

    upload = from_content(source)
    assert isinstance(upload, Upload)
    assert upload.replayable
    assert [await read(upload), await read(upload)] == [b"1", b"2"]


async def test_a_source_is_closed_when_it_is_given_up() -> None:
    closed = False

    async def source() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            while True:
                yield b"x"
        finally:
            closed = True

    chunks = aiter(from_content(source))  # type: ignore[arg-type]
    assert await anext(chunks) == b"x"
    await chunks.aclose()
    assert closed


async def test_a_file_is_sent_from_where_it_stands_and_can_be_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"skip" + b"x" * (CHUNK + 1))
    with path.open("rb") as file:
        file.seek(4)
        upload = from_content(file)
        assert isinstance(upload, Upload)
        assert (upload.length, upload.replayable) == (CHUNK + 1, True)
        assert [await read(upload), await read(upload)] == [b"x" * (CHUNK + 1)] * 2


async def test_a_file_without_a_position_is_sent_once() -> None:
    class Pipe(io.RawIOBase):
        left = 2

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            return b"piece" if self.left >= 0 else b""

    upload = from_content(Pipe())  # type: ignore[arg-type]
    assert isinstance(upload, Upload)
    assert (upload.length, upload.replayable) == (None, False)
    assert await read(upload) == b"piecepiece"


async def test_a_file_of_text_is_told_how_to_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    with path.open() as file:
        upload = from_content(file)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="mode 'rb'"):
            await read(upload)


@pytest.mark.parametrize("given", [42, {"a": 1}, object()])
def test_what_is_no_body_is_said_to_be_none(given: Any) -> None:
    with pytest.raises(ConfigError, match="json= for objects"):
        from_content(given)


@pytest.mark.parametrize("given", [["text"], [1]])
async def test_pieces_are_bytes(given: Any) -> None:
    with pytest.raises(ConfigError, match="encode it first"):
        await read(from_content(given))


# json=, data=


@dataclass
class Point:
    x: int


class Struct(msgspec.Struct):
    x: int


class Model(pydantic.BaseModel):
    x: int


@pytest.mark.parametrize("value", [{"x": 1}, Point(1), Struct(1), Model(x=1)])
def test_json_of_whatever_has_fields(value: Any) -> None:
    assert from_json(value) == b'{"x":1}'
    assert from_json([value, None, "\u00e9"]) == b'[{"x":1},null,"\xc3\xa9"]'


@pytest.mark.parametrize("value", [object(), {"a": pydantic.SecretStr("hunter2")}, {1: object}])
def test_what_has_no_json_form_is_an_error_without_its_value(value: Any) -> None:
    with pytest.raises(ConfigError, match="json= cannot be encoded") as caught:
        from_json(value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        ({"a": "x y&z", "b": True, "c": None, "d": [1, 2]}, b"a=x+y%26z&b=true&d=1&d=2"),
        ([("a", "1"), ("a", "2")], b"a=1&a=2"),
        ({"\u00e9": "\u20ac"}, b"%C3%A9=%E2%82%AC"),
        ({}, b""),
    ],
)
def test_a_form(data: Any, sent: bytes) -> None:
    assert from_form(data) == sent


# One of them


@pytest.mark.parametrize(
    ("given", "body", "kind"),
    [
        ({}, None, None),
        ({"content": "x"}, b"x", None),
        ({"content": b""}, b"", None),
        ({"json": []}, b"[]", "application/json"),
        ({"data": {"a": "1"}}, b"a=1", "application/x-www-form-urlencoded"),
        ({"data": b"raw"}, b"raw", None),
    ],
)
def test_a_body_and_its_type(given: Any, body: bytes | None, kind: str | None) -> None:
    assert encode(**{"content": None, "json": None, "data": None, "files": None, **given}) == (body, kind)


@pytest.mark.parametrize(
    "given",
    [{"content": b"", "json": 1}, {"json": 1, "data": {}}, {"files": {}, "content": b""}, {"files": {}, "data": "raw"}],
)
def test_two_bodies_are_one_too_many(given: Any) -> None:
    with pytest.raises(ConfigError):
        encode(**{"content": None, "json": None, "data": None, "files": None, **given})


# files=


async def parts(upload: Upload, kind: str) -> list[tuple[str | None, str | None, str, bytes]]:
    """Name, filename, type and content of each part, as a reader not written here sees them."""
    message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + await read(upload))
    found = []
    for part in message.get_payload():
        assert not isinstance(part, str)
        name = part.get_param("name", header="content-disposition")
        found.append((name, part.get_filename(), part.get_content_type(), part.get_payload(decode=True)))
    return found


async def test_a_form_with_files(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"\x89PNG")
    with path.open("rb") as file:
        upload, kind = multipart(
            {"a": 1, "b": ["x", None]},
            [("f", file), ("g", ("n.txt", "text")), ("g", ("n", b"raw", "x/y")), ("h", b"bytes")],
        )
        assert upload.length == len(await read(upload))
        assert upload.replayable
        assert await parts(upload, kind) == [
            ("a", None, "text/plain", b"1"),
            ("b", None, "text/plain", b"x"),
            ("f", "cat.png", "image/png", b"\x89PNG"),
            ("g", "n.txt", "text/plain", b"text"),
            ("g", "n", "x/y", b"raw"),
            ("h", "h", "application/octet-stream", b"bytes"),
        ]


async def test_a_file_of_unknown_length_leaves_the_whole_unknown() -> None:
    upload, kind = multipart({}, {"f": ("n", iter([b"a", b"b"]))})
    assert (upload.length, upload.replayable) == (None, False)
    assert await parts(upload, kind) == [("f", "n", "application/octet-stream", b"ab")]


async def test_a_name_cannot_begin_a_line_of_its_own() -> None:
    upload, _ = multipart({'a"\r\nX: 1': "1"}, {"f": ('"\r\n\r\nevil', b"x")})
    sent = await read(upload)
    assert b'name="a%22%0D%0AX: 1"' in sent
    assert b'filename="%22%0D%0A%0D%0Aevil"' in sent
    assert not re.search(rb"^(X: 1|evil)", sent, re.MULTILINE)


@pytest.mark.parametrize(
    ("file", "said"),
    [((), "pass a file"), (("a", b"", "x/y", 1), "pass a file"), (("a", b"", "x\r\ny"), "content type")],
)
def test_what_is_no_file_is_said_to_be_none(file: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        multipart({}, {"f": file})


def test_boundaries_differ() -> None:
    assert multipart({}, {})[1] != multipart({}, {})[1]


async def test_a_part_without_a_filename_is_a_plain_field() -> None:
    upload, kind = multipart({}, [("a", (None, "v")), ("b", (None, b'{"x":1}', "application/json"))])
    assert await parts(upload, kind) == [("a", None, "text/plain", b"v"), ("b", None, "application/json", b'{"x":1}')]
    assert b'name="a"\r\n\r\nv' in await read(upload)


def uploaded(content: bytes, **about: Any) -> UploadFile:
    return UploadFile(io.BytesIO(content), **about)


async def test_a_file_that_was_uploaded_is_passed_on() -> None:
    content = b"x" * (CHUNK + 7)
    about = {"filename": "../cat.png", "headers": Headers({"content-type": "image/x-cat"})}
    upload, kind = multipart({}, {"f": uploaded(content, size=len(content), **about), "g": ("n.txt", uploaded(b"y"))})
    assert upload.length == len(await read(upload))
    assert upload.replayable
    for _ in range(2):
        assert await parts(upload, kind) == [
            ("f", "cat.png", "image/x-cat", content),
            ("g", "n.txt", "text/plain", b"y"),
        ]


async def test_a_file_that_was_uploaded_is_sent_from_where_it_stands_and_can_be_sent_again() -> None:
    file = uploaded(b"skipped rest", size=12)
    await file.read(8)
    upload = from_content(file)  # type: ignore[arg-type]
    assert isinstance(upload, Upload)
    assert (upload.length, upload.replayable) == (4, True)
    assert [await read(upload), await read(upload)] == [b"rest", b"rest"]


class Awaited:
    """A file whose reads are awaited, and which tells nothing else."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    async def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


class Sized(Awaited):
    size = 3

    async def seek(self, offset: int) -> None:
        self._file.seek(offset)


async def test_whatever_has_a_read_to_await_is_a_file() -> None:
    upload = from_content(Awaited(b"abc"))  # type: ignore[arg-type]
    assert isinstance(upload, Upload)
    assert (upload.length, upload.replayable) == (None, False)
    assert await read(upload) == b"abc"
    upload = from_content(Sized(b"abc"))  # type: ignore[arg-type]
    assert isinstance(upload, Upload)
    assert (upload.length, upload.replayable) == (3, True)
    assert [await read(upload), await read(upload)] == [b"abc", b"abc"]


class Threaded(Sized):
    """A file read as by threads: a read that has begun moves the file once it is let go, also when nobody waits for it."""

    fault: OSError | None = None

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.size = len(content)
        self.let_go = asyncio.Event()
        self.reads: list[asyncio.Task[bytes]] = []

    async def read(self, size: int = -1) -> bytes:
        self.reads.append(asyncio.create_task(self._read(size)))
        return await asyncio.shield(self.reads[-1])

    async def _read(self, size: int) -> bytes:
        await self.let_go.wait()
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        return self._file.read(size)


async def as_far_as_it_goes(reading: asyncio.Task[bytes]) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    assert not reading.done()


async def give_up(upload: Upload | bytes) -> None:
    """Begin a reading, and cancel it where it waits."""
    reading = asyncio.create_task(read(upload))
    await as_far_as_it_goes(reading)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


@pytest.mark.parametrize("given_up", [1, 2], ids=["once", "and again while it waits"])
async def test_a_read_that_was_given_up_ends_before_the_file_is_read_again(given_up: int) -> None:
    content = b"a" * CHUNK + b"b" * CHUNK + b"c"
    file = Threaded(content)
    upload = from_content(file)  # type: ignore[arg-type]
    for _ in range(given_up):
        await give_up(upload)
    reading = asyncio.create_task(read(upload))
    await as_far_as_it_goes(reading)
    assert len(file.reads) == 1, "none is begun beside the one under way"
    file.let_go.set()
    assert await reading == content


async def test_the_fault_of_a_read_that_was_given_up_is_nobodys() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    file = Threaded(b"abc")
    upload = from_content(file)  # type: ignore[arg-type]
    file.fault = OSError("gone")
    await give_up(upload)
    file.let_go.set()
    assert await read(upload) == b"abc"
    file.fault = OSError("gone again")
    with pytest.raises(OSError, match="gone again"):
        await read(upload)
    file.let_go.clear()
    file.fault = OSError("gone, and no reading follows")
    await give_up(upload)
    file.let_go.set()
    await asyncio.wait(file.reads)
    del file, upload
    gc.collect()
    assert told == []


async def test_a_file_that_stands_past_its_end_has_nothing_left() -> None:
    file = io.BytesIO(b"abc")
    file.seek(10)
    upload = from_content(file)
    assert isinstance(upload, Upload)
    assert upload.length == 0
    assert await read(upload) == b""


def test_a_closed_file_is_said_to_be_closed() -> None:
    file = io.BytesIO(b"abc")
    file.close()
    for given in (file, UploadFile(file)):
        with pytest.raises(ConfigError, match="closed"):
            from_content(given)  # type: ignore[arg-type]


async def test_an_array_of_numbers_is_sent_as_its_bytes() -> None:
    numbers = memoryview(array("I", [1, 2, 3]))
    assert from_content(numbers) == numbers.tobytes()
    assert await read(from_content([numbers])) == numbers.tobytes()


@pytest.mark.parametrize(
    "given",
    [
        {"content": "\ud800"},
        {"data": "\ud800"},
        {"data": {"a": "\ud800"}},
        {"json": "\ud800"},
        {"files": {"\ud800": b""}},
        {"files": {"a": ("\ud800", b"")}},
        {"files": {"a": "\ud800"}},
        {"files": {}, "data": {"a": "\ud800"}},
        {"data": 5},
        {"data": [1]},
        {"files": {"a": ("n", b"", 5)}},
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_sent(given: Any) -> None:
    with pytest.raises(ConfigError):
        encode(**{"content": None, "json": None, "data": None, "files": None, **given})


@pytest.mark.parametrize("files", [None, {}])
@pytest.mark.parametrize("data", [5, [1], [("a", 1, 2)]])
def test_a_form_without_names_is_refused_by_its_place(data: Any, files: Any) -> None:
    with pytest.raises(ConfigError, match=r"data= (is|has) .*: pass a mapping"):
        encode(content=None, json=None, data=data, files=files)


async def test_bytes_of_a_field_are_sent_as_they_are() -> None:
    upload, kind = multipart({"a": b"\xff"}, {})
    assert await parts(upload, kind) == [("a", None, "text/plain", b"\xff")]
