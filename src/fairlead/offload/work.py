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

from fairlead.errors import ConfigError

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

    def in_process(self, idle: list[ProcessPoolExecutor], parcel: bytes, told: str) -> Any:
        """In a thread: what comes of the parcel, in an idle process or in a new one. In errors it is called what is `told`."""
        process, work = _begun(idle, parcel, told)
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
        if isinstance(error, BrokenExecutor):
            raise type(error)(
                f"{told}: its process ended meanwhile: it crashed or was killed, or the program that starts it "
                'does not begin under `if __name__ == "__main__":`'
            ) from error
        answer = work.result()
        try:
            return pickle.loads(answer)  # noqa: S301  what this process's child has packed
        except Exception as fault:
            raise ConfigError(
                f"{told} returned what cannot be read again ({type(fault).__name__}): return what can be pickled"
            ) from fault


def packed(work: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Raises whatever pickle does for what it cannot pack."""
    return pickle.dumps((work, args, kwargs))


def end(processes: Iterable[ProcessPoolExecutor]) -> None:
    for process in processes:
        process.shutdown()


def _begun(idle: list[ProcessPoolExecutor], parcel: bytes, told: str) -> tuple[ProcessPoolExecutor, Work[Any]]:
    from concurrent.futures import ProcessPoolExecutor  # which takes long to import
    from multiprocessing import get_context

    while True:
        try:
            process = idle.pop()
        except IndexError:
            # Spawned: a fork beside threads copies locks that nobody will open.
            process = ProcessPoolExecutor(1, get_context("spawn"))
            return process, process.submit(_done, parcel, told)
        try:
            return process, process.submit(_done, parcel, told)
        except BrokenExecutor:  # it died while it had nothing to do
            process.shutdown()


def _done(parcel: bytes, told: str) -> bytes:
    """In the process. What cannot be sent back would else be taken for its death, where it is read."""
    work, args, kwargs = pickle.loads(parcel)  # noqa: S301  what this process's parent has packed
    try:
        answer = work(*args, **kwargs)
    except BaseException as error:
        kind = type(error).__name__
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301
        except Exception as fault:
            raise ConfigError(
                f"{told} raised {kind}, which cannot be sent back ({type(fault).__name__}): raise what can be pickled"
            ) from error
        raise
    try:
        return pickle.dumps(answer)
    except Exception as fault:
        raise ConfigError(
            f"{told} returned {type(answer).__name__}, which cannot be sent back ({type(fault).__name__}): "
            "return what can be pickled"
        ) from fault


def _kill(process: ProcessPoolExecutor) -> None:
    for one in tuple((process._processes or {}).values()):
        one.kill()
