"""What a value becomes in a path, a query and a form."""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pydantic
import pytest

from fairlead.body import from_form
from fairlead.errors import ConfigError
from fairlead.url import segment, text, with_params


class Plain(Enum):
    METRIC = "metric"


class Mixed(str, Enum):  # noqa: UP042  as many have written it
    METRIC = "metric"


class Strict(StrEnum):
    METRIC = "metric"


class Number(IntEnum):
    TWO = 2


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a b", "a b"),
        (7, "7"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        (b"raw", "raw"),
        (Plain.METRIC, "metric"),
        (Mixed.METRIC, "metric"),
        (Strict.METRIC, "metric"),
        (Number.TWO, "2"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_value_is_written_as_apis_read_it(value: object, written: str) -> None:
    assert text(value) == written


@pytest.mark.parametrize(
    "write", [text, segment, lambda one: with_params("/", {"key": one}), lambda one: from_form({"key": one})]
)
def test_a_secret_is_never_written_by_accident(write: Any) -> None:
    with pytest.raises(ConfigError, match="get_secret_value") as caught:
        write(pydantic.SecretStr("hidden"))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("params", "target"),
    [
        ({}, "/x"),
        ({"a": None}, "/x"),
        ({"a": ["1", None, "2"]}, "/x?a=1&a=2"),
        ({"page[size]": 1, "q": "a&b=c d+e/ü~"}, "/x?page%5Bsize%5D=1&q=a%26b%3Dc%20d%2Be%2F%C3%BC~"),
        ([("a", 1), ("a", True)], "/x?a=1&a=true"),
        ({"empty": ""}, "/x?empty="),
    ],
)
def test_parameters_become_a_query(params: Any, target: str) -> None:
    assert with_params("/x", params) == target


def test_parameters_join_the_query_that_is_there() -> None:
    assert with_params("/x?a=1", {"b": 2}) == "/x?a=1&b=2"


@pytest.mark.parametrize("value", ["", ".", "..", b"..", None])
def test_a_segment_that_would_be_another_path_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="segment"):
        segment(value)


@pytest.mark.parametrize(
    ("value", "written"),
    [("a/../b", "a%2F..%2Fb"), ("a%2fb", "a%252fb"), ("a\r\nb", "a%0D%0Ab"), ("..a", "..a"), (7, "7")],
)
def test_a_segment_holds_whatever_it_is_given(value: object, written: str) -> None:
    assert segment(value) == written
