"""JSON into a type: whoever the type belongs to, wherever in it the fault is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec
import pydantic
import pytest

from fairlead.typed import decoder


class Model(pydantic.BaseModel):
    day: date


class Other(pydantic.BaseModel):
    name: str


class Strict(pydantic.BaseModel, strict=True):
    day: date


@dataclass
class Holder:
    model: Model


class Struct(msgspec.Struct):
    models: dict[str, Model]


DAY = date(2026, 1, 2)
JSON = b'{"day": "2026-01-02"}'


@pytest.mark.parametrize(
    ("into", "content", "value"),
    [
        (Model, JSON, Model(day=DAY)),
        (Strict, JSON, Strict(day=DAY)),
        (list[Model], b"[%b]" % JSON, [Model(day=DAY)]),
        (list[Strict], b"[%b]" % JSON, [Strict(day=DAY)]),
        (Model | None, b"null", None),
        (Model | None, JSON, Model(day=DAY)),
        (Model | Other, b'{"name": "x"}', Other(name="x")),
        (Holder, b'{"model": %b}' % JSON, Holder(Model(day=DAY))),
        (Struct, b'{"models": {"a": %b}}' % JSON, Struct({"a": Model(day=DAY)})),
        (dict[str, list[int]], b'{"a": [1]}', {"a": [1]}),
        (int, b"7", 7),
        (Any, b"[]", []),
        (None, b'{"a": null}', {"a": None}),
    ],
)
def test_a_value_of_the_type_that_was_asked_for(into: Any, content: bytes, value: Any) -> None:
    assert decoder(into)(content) == value


@pytest.mark.parametrize(
    ("into", "content"),
    [
        (Model, b'{"day": "hunter2"}'),
        (list[Model], b'[{"day": "hunter2"}]'),
        (Model | Other, b'{"name": ["hunter2"]}'),
        (Holder, b'{"model": {"day": "hunter2"}}'),
        (Holder, b'{"model": "hunter2"}'),
        (list[int], b'["hunter2"]'),
        (list[object], b'["hunter2'),
        (int, b"\xffhunter2"),
        (list[ValueError], b'["hunter2"]'),
    ],
)
def test_a_fault_is_named_and_nothing_of_the_body_repeated(into: Any, content: bytes) -> None:
    with pytest.raises(ValueError, match="not the JSON that was asked for") as caught:
        decoder(into)(content)
    assert "hunter2" not in str(caught.value)


def test_a_decoder_is_made_once() -> None:
    assert decoder(list[Model]) is decoder(list[Model])
