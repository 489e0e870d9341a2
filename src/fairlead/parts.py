"""What became of each of several calls, told in words that may be shown: of a foreign error only its class."""

from __future__ import annotations

from asyncio import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from fairlead.errors import DecodeError
from fairlead.message import Response
from fairlead.tasks import fault, safe

Status = Literal["ok", "timeout", "error", "skipped"]


@dataclass(slots=True)
class Part:
    """What became of one part, after `ms` milliseconds. `error` may be shown to anyone; `cause` is the exception itself."""

    status: Status
    ms: float = 0.0
    error: str | None = None
    used: Literal["default"] | None = None
    """What filled the data in its place, if anything did."""
    value: Any = field(default=None, repr=False)
    cause: BaseException | None = field(default=None, repr=False, compare=False)

    @classmethod
    def ended(cls, task: Future[Any], seconds: float) -> Self:
        """The part that a finished task was."""
        ms = milliseconds(seconds)
        if (error := fault(task)) is None:
            return cls("ok", ms, None, None, task.result())
        return cls("timeout" if isinstance(error, TimeoutError) else "error", ms, safe(error), None, None, error)

    def as_dict(self) -> dict[str, Any]:
        told = {"status": self.status, "ms": self.ms, "error": self.error}
        return told if self.used is None else {**told, "used": self.used}


@dataclass(slots=True)
class Gathered:
    """The data of every part (its default, or None, where it has none) and, as `services`, what became of each."""

    data: dict[str, Any]
    services: dict[str, Part]

    @property
    def complete(self) -> bool:
        """Whether every part is ok."""
        return all(part.status == "ok" for part in self.services.values())

    @property
    def errors(self) -> list[dict[str, str]]:
        return [
            {"service": name, "error": part.error} for name, part in self.services.items() if part.error is not None
        ]

    def as_dict(self) -> dict[str, Any]:
        """An answer to hand out: `data`, `complete`, `services`, `errors`. Of a Response, its JSON, or else its text."""
        return {
            "data": {name: _plain(value) for name, value in self.data.items()},
            "complete": self.complete,
            "services": {name: part.as_dict() for name, part in self.services.items()},
            "errors": self.errors,
        }


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _plain(value: Any) -> Any:
    if not isinstance(value, Response):
        return value
    if "json" in value.headers.get("content-type", ""):
        with suppress(DecodeError):
            return value.json()
    return value.text
