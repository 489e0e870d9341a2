"""One work that has a place: run in a thread, or in a process that a thread waits for.

To start a process takes milliseconds, which a loop has not, and to kill one must take nothing from its neighbours: so a thread sees to
each, and each is a pool of its own.
"""

from __future__ import annotations

import pickle
from asyncio import Future
from collections.abc import Iterable
from concurrent.futures import BrokenExecutor
from concurrent.futures import Future as Work
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor


class Running:
    """What is known of it. `outcome` is settled when it has ended, or when it is waited for no longer."""

    __slots__ = ("_lock", "_process", "left", "outcome", "told", "work")

    def __init__(self, outcome: Future[None], told: str) -> None:
        self.outcome = outcome
        self.told = told
        """What it is called."""
        self.left = False
        """Whether nobody waits for it any more."""
        self.work: Work[Any]
        self._process: ProcessPoolExecutor | None = None
        self._lock = Lock()

    def leave(self) -> None:
        """Nobody waits any more: a process is killed, a thread goes on."""
        with self._lock:
            self.left = True
            if self._process is not None:
                _kill(self._process)

    def in_process(self, idle: list[ProcessPoolExecutor], parcel: bytes) -> Any:
        """In a thread: what comes of the parcel, in an idle process or in a new one."""
        process, work = _begun(idle, parcel)
        with self._lock:
            self._process = process
            if self.left:
                _kill(process)
        error = work.exception()
        with self._lock:
            self._process = None
            whole = not self.left and not isinstance(error, BrokenExecutor)
        if whole:
            idle.append(process)
        else:
            process.shutdown()
        return work.result()


def packed(work: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Raises whatever pickle does for what it cannot pack."""
    return pickle.dumps((work, args, kwargs))


def end(processes: Iterable[ProcessPoolExecutor]) -> None:
    for process in processes:
        process.shutdown()


def _begun(idle: list[ProcessPoolExecutor], parcel: bytes) -> tuple[ProcessPoolExecutor, Work[Any]]:
    from concurrent.futures import ProcessPoolExecutor  # which takes long to import
    from multiprocessing import get_context

    while True:
        try:
            process = idle.pop()
        except IndexError:
            # Spawned: a fork beside threads copies locks that nobody will open.
            process = ProcessPoolExecutor(1, get_context("spawn"))
            return process, process.submit(_unpacked, parcel)
        try:
            return process, process.submit(_unpacked, parcel)
        except BrokenExecutor:  # it died while it had nothing to do
            process.shutdown()


def _unpacked(parcel: bytes) -> Any:
    work, args, kwargs = pickle.loads(parcel)  # noqa: S301  what this process's parent has packed
    return work(*args, **kwargs)


def _kill(process: ProcessPoolExecutor) -> None:
    for one in tuple((process._processes or {}).values()):
        one.kill()
