"""JSON into a type: whoever the type belongs to, wherever in it the fault is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any, Literal
from uuid import UUID

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


class Unit(Enum):
    METRIC = "metric"


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    unit: Unit | None = None


class Cat(msgspec.Struct, tag="cat"):
    name: str


class Dog(msgspec.Struct, tag="dog"):
    name: str


@dataclass
class Particular:
    name: str

    def __post_init__(self) -> None:
        raise ValueError(f"no such name: {self.name}")


class Account(pydantic.BaseModel, extra="forbid"):
    limits: dict[str, int] = {}
    kind: UUID | None = None
    name: str = pydantic.Field("", alias="accountName")

    @pydantic.field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        if name:
            raise ValueError(f"no such name: {name}")
        return name


@pytest.mark.parametrize(
    ("into", "content", "said"),
    [
        (Unit, b'"hunter2"', "Invalid enum value"),
        (Closed, b'{"unit": "hunter2"}', "Invalid enum value - at `$.unit`"),
        (list[Literal[1]], b"[4711]", "Invalid enum value - at `$[0]`"),
        (list[Unit], b'["hunter2 - at `$.x` hunter2"]', "Invalid enum value - at `$[0]`"),
        (dict[Unit, int], b'{"hunter2": 1}', "Invalid enum value - at `key` in `$`"),
        (list[Closed], b'[{"hunter2": 1}]', "Object contains unknown field - at `$[0]`"),
        (Cat | Dog, b'{"type": "hunter2"}', "Invalid value - at `$.type`"),
        (Cat, b"{}", "Object missing required field `name`"),
        (list[Particular], b'[{"name": "hunter2"}]', "the type refuses it - at `$[0]`"),
        (Account, b'{"hunter2": 1}', "extra forbidden - at `$[...]`"),
        (Account, b'{"limits": {"hunter2": "x"}}', "int parsing - at `$.limits[...]`"),
        (Account, b'{"kind": "hunter2"}', "uuid parsing - at `$.kind`"),
        (Account, b'{"accountName": "hunter2"}', "value error - at `$.accountName`"),
        (list[Account], b'[{"limits": {"hunter2": "x"}}]', "int parsing - at `$.limits[...]` - at `$[0]`"),
        (Account | Model, b'{"hunter2": "x"}', "extra forbidden - at `$.Account[...]`; missing - at `$.Model.day`"),
        (None, b"[" * 100_000, "nested too deeply"),
    ],
)
def test_the_kind_of_fault_and_its_place_are_told_and_what_is_data_is_not(into: Any, content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match="not the JSON") as caught:
        decoder(into)(content)
    told = str(caught.value).removeprefix("not the JSON that was asked for: ")
    assert "hunter2" not in told
    assert "4711" not in told
    assert told == said


def test_a_decoder_is_made_once() -> None:
    assert decoder(list[Model]) is decoder(list[Model])
