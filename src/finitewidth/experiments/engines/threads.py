"""In this process, a thread a core: compiled programs run beside each other, and nothing has to be sent anywhere."""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from threading import Event

from finitewidth.experiments.accumulation import accumulated
from finitewidth.experiments.chunks import Chunk
from finitewidth.experiments.experiment import Experiment
from finitewidth.experiments.statistics import Batch


class Threads:
    """`workers` threads."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def results(self, experiment: Experiment, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[Batch]]]:
        waiting, stopped = iter(chunks), Event()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="finitewidth")
        running: dict[Future[list[Batch]], Chunk] = {}
        try:
            while True:
                for chunk in islice(waiting, self._workers - len(running)):
                    running[pool.submit(accumulated, experiment, chunk, stopped.is_set)] = chunk
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            stopped.set()  # within a group of networks, not a chunk
            pool.shutdown(cancel_futures=True)
