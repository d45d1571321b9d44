"""A Dask cluster, by the address of its scheduler. Its workers need finitewidth installed, and nothing else.

A worker that dies, its chunk is done by another. A scheduler that dies ends the run; the ledger has what was done.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any
from uuid import uuid4

import distributed

from finitewidth.errors import InputError
from finitewidth.experiments.chunks import Chunk
from finitewidth.experiments.engines.work import Unknown, learn, name_of, packed, taught, work
from finitewidth.experiments.experiment import Experiment
from finitewidth.experiments.statistics import Batch

PATIENCE = 5.0  # seconds for a scheduler to answer
AHEAD = 2  # chunks for each thread of a worker: one in work, one that waits, so that it never waits for the scheduler


class Cluster:
    """The cluster whose scheduler is at `address`."""

    def __init__(self, address: str) -> None:
        self._address = address
        try:
            self._client = distributed.Client(address, timeout=PATIENCE, set_as_default=False, name="finitewidth")
        # what is no scheduler may answer anything, which distributed takes for sizes and types of messages
        except Exception as error:
            raise InputError(
                f"`engine` {address!r}: no scheduler answers there within {PATIENCE:g} s; start one (dask scheduler), "
                "or check the address and the firewall"
            ) from error

    def results(self, experiment: Experiment, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[Batch]]]:
        sent = packed(experiment)
        client, run, waiting = self._client, uuid4().hex[:8], iter(chunks)
        done, running = distributed.as_completed(loop=client.loop), dict[Any, Chunk]()

        def begin(function: Any, what: Any, chunk: Chunk, suffix: str = "") -> None:
            key = f"finitewidth-{run}-{chunk.first}-{chunk.last}{suffix}"
            future = client.submit(function, what, chunk, key=key, pure=False, priority=-chunk.first)
            running[future] = chunk
            done.add(future)

        def fill() -> None:
            threads = sum(client.nthreads().values())
            for chunk in islice(waiting, max(0, max(1, AHEAD * threads) - len(running))):
                begin(work, name_of(sent), chunk)

        try:
            client.register_plugin(_Taught(sent))
            fill()
            while running:
                future = next(done)
                chunk = running.pop(future)
                try:
                    cells = future.result()
                except Unknown:  # a worker that came while the plugin was being handed round
                    begin(taught, sent, chunk, "-taught")
                    continue
                yield chunk, cells
                fill()
        except distributed.KilledWorker as error:
            raise InputError(
                f"`engine` {self._address!r}: several workers died over the same chunk, perhaps for want of memory; "
                "ask for a smaller `chunk`. What was done is kept where there is a `path`"
            ) from error
        except (distributed.CancelledError, OSError) as error:
            raise InputError(
                f"`engine` {self._address!r}: the scheduler is gone; what was done is kept where there is a `path`: "
                "start it again and call again"
            ) from error
        finally:
            client.close()


class _Taught(distributed.WorkerPlugin):
    """Tells every worker, however late it comes, what the experiment is: once, not with every chunk."""

    def __init__(self, experiment: bytes) -> None:
        self.name = f"finitewidth-{name_of(experiment)}"
        self._experiment = experiment

    def setup(self, worker: Any) -> None:
        learn(self._experiment)
