"""Work on all cores, by threads: NumPy, BLAS and JAX leave the interpreter to the others while they compute."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from functools import lru_cache
from threading import Lock
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from finitewidth.precision import in_float64

A = TypeVar("A")
R = TypeVar("R")

Progress = Callable[[int, int], None]
"""Called with (parts done, parts in all)."""


class Tally:
    """How much is done of what several threads do. Where one of them fails, the others stop when they next count.

    Arguments
        total: parts in all.
        progress: called with (parts done, `total`) at every count, by one thread at a time.
    """

    def __init__(self, total: int, progress: Progress | None = None) -> None:
        self._total, self._progress = total, progress
        self._done, self._is_stopped, self._lock = 0, False, Lock()

    def add(self, parts: int = 1) -> None:
        """Count so many parts more.

        Raises
            Stopped: if another thread has failed, or the caller was interrupted.
        """
        with self._lock:
            if self._is_stopped:
                raise Stopped
            self._done += parts
            if self._progress is not None:
                self._progress(self._done, self._total)

    def stop(self) -> None:
        """Let every thread stop at its next count."""
        self._is_stopped = True


class Stopped(Exception):
    """The work was given up, for a reason that another thread has."""


def on_all_cores(work: Callable[[A], R], arguments: Iterable[A], tally: Tally | None = None) -> list[R]:
    """`work` of every argument, in float64, as many at once as there are cores, each on one.

    Arguments
        tally: what `work` counts by; it stops the rest when an exception ends the work, an interruption by the user
            included. Without it, what has begun is finished first.
    """
    with one_blas_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
        running = [pool.submit(in_float64(work), each) for each in arguments]
        try:
            for future in as_completed(running):
                future.result()
        except BaseException:
            if tally is not None:
                tally.stop()
            pool.shutdown(cancel_futures=True)
            raise
        return [future.result() for future in running]


def one_blas_thread() -> AbstractContextManager[object]:
    """Context in which BLAS uses one thread: for products on threads of our own, where its own would wait for one
    another longer than they compute."""
    return _blas().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()
