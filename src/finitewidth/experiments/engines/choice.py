"""Which engine is meant."""

import os
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, Protocol

from finitewidth.architecture import whole_number
from finitewidth.errors import InputError
from finitewidth.experiments.chunks import Chunk
from finitewidth.experiments.experiment import Experiment
from finitewidth.experiments.statistics import Batch

NAMES = ("threads", "processes")


class Engine(Protocol):
    """Does chunks, in whatever order."""

    def results(self, experiment: Experiment, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, list[Batch]]]:
        """Every chunk with the sums of its cells, as they come. Closing the iterator stops the work."""


def chosen(engine: Any, workers: Any) -> Engine:
    """The engine of this name or address.

    Raises
        InputError: when there is no such engine, or nobody answers at the address.
    """
    count = None if workers is None else whole_number("workers", workers)
    if engine is None or engine == "threads":
        from finitewidth.experiments.engines.threads import Threads

        return Threads(count or cores())
    if engine == "processes":
        from finitewidth.experiments.engines.processes import Processes

        return Processes(count or cores())
    if isinstance(engine, str) and re.match(r"^(\w+://)?[^\s/]+:\d+$", engine):
        if count is not None:
            raise InputError(f"`workers` is decided by the cluster at {engine!r}, but got {workers!r}; leave it out")
        try:
            from finitewidth.experiments.engines.cluster import Cluster
        except ImportError as error:
            raise InputError(
                f"`engine` {engine!r} is the address of a Dask scheduler, which needs the package distributed; "
                "install it: pip install 'finitewidth[cluster]'"
            ) from error
        return Cluster(engine)
    near = get_close_matches(str(engine), NAMES, n=1)
    raise InputError(
        f"`engine` must be 'threads', 'processes' or the address of a scheduler, as 'tcp://10.0.0.1:8786', but got "
        f"{engine!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    )


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
