"""Processes of this machine, started afresh, for a forked JAX deadlocks. A killed one loses its chunk: it is redone."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for

from finitewidth.errors import InputError
from finitewidth.experiments.chunks import Chunk
from finitewidth.experiments.engines.work import learn, name_of, packed, work
from finitewidth.experiments.experiment import Experiment
from finitewidth.experiments.statistics import Batch

PATIENCE = 3  # pools that die one after the other without having done a chunk


class Processes:
    """`workers` processes."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def results(self, experiment: Experiment, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[Batch]]]:
        sent = packed(experiment)
        again: deque[Chunk] = deque()
        waiting, deaths = iter(chunks), 0
        while True:
            pool = self._pool(sent)
            running: dict[Future[list[Batch]], Chunk] = {}
            try:
                while True:
                    # one chunk each: of what a kill takes along, nothing has been waiting behind another chunk
                    while len(running) < self._workers and (chunk := _next(again, waiting)) is not None:
                        running[pool.submit(work, name_of(sent), chunk)] = chunk
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        cells = future.result()
                        deaths = 0
                        yield running.pop(future), cells
            except BrokenProcessPool:
                deaths += 1
                if deaths > PATIENCE:
                    raise InputError(
                        f"`engine` 'processes': workers died {deaths} times in a row, perhaps for want of memory; ask "
                        "for fewer `workers` or a smaller `chunk`. What was done is kept where there is a `path`"
                    ) from None
                again.extend(running.values())
                if chunk is not None and chunk not in again:  # the one whose submission failed
                    again.append(chunk)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _pool(self, experiment: bytes) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._workers, mp_context=context, initializer=_begin, initargs=(experiment,))


def _next(again: deque[Chunk], waiting: Iterator[Chunk]) -> Chunk | None:
    return again.popleft() if again else next(waiting, None)


def _begin(experiment: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    learn(experiment)


def _end_with_parent() -> None:
    """A pool's processes would wait forever for work when their parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
