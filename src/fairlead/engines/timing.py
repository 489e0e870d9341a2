"""How long an attempt may take, and whose fault it is when that time is up: one rule for every engine, in numbers.

An attempt ends after its allowance or at the call's deadline, whichever comes first. The end is known when the attempt starts, and so
is the verdict: an upstream that had (nearly) its whole allowance failed, one that was cut short by its caller's deadline did not.
"""

from __future__ import annotations

from math import inf
from typing import Final, Literal

from fairlead.core import Call
from fairlead.errors import AttemptTimedOut, DeadlineExceeded, Knowledge, Phase, TimedOut

Bound = Literal["connect", "read", "write"]
"""A bound of `Timeout` that ends an attempt early."""

ENOUGH: Final = 0.9
"""The share of its allowance after which an upstream is to blame: the rest may have gone to waiting in line."""

_DOING: Final[dict[Phase, str]] = {
    "connecting": "connecting",
    "sending": "sending the request",
    "head": "waiting for the answer",
    "body": "reading the body",
}


def ends(call: Call, started: float) -> float:
    """When an attempt (of a stream that has its head: a silence) that starts now must end, in loop time."""
    due = started + call.allowance
    if due < call.deadline:  # half the cost of min()
        return due
    return call.deadline


def streams(call: Call) -> None:
    """The head of a stream is here: where the call has a `read` of its own, that bounds each silence, and no attempt's time does."""
    if call.timeout.read is not None:
        call.allowance = inf


def expired(call: Call, *, started: float, phase: Phase, bound: Bound | None = None) -> TimedOut:
    """The error for a wait since `started` that went on until its end, or until `bound` of the call's own `Timeout`.

    The deadline is checked before anything else by `started >= call.deadline`; that is this error too, while "connecting".
    """
    knowledge = Knowledge.NOT_SENT if phase == "connecting" else Knowledge.UNKNOWN
    doing = _DOING.get(phase, phase)
    if bound is not None:
        message = f"{doing}: {bound} time-out after {getattr(call.timeout, bound)} s"
        return AttemptTimedOut(message, request=call.request, phase=phase, knowledge=knowledge)
    allowance = min(call.allowance, call.timeout.total or inf)
    left = call.deadline - started
    # What a stream had before this silence is not counted: only a silence of a whole allowance is the upstream's own.
    share = 1.0 if call.stream and phase == "body" else ENOUGH
    if left >= share * allowance:
        message = f"{doing}: no end after {min(left, allowance):.3g} s"
        return AttemptTimedOut(message, request=call.request, phase=phase, knowledge=knowledge)
    return DeadlineExceeded(f"{doing}: the deadline passed", request=call.request, phase=phase, knowledge=knowledge)
