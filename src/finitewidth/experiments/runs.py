"""Runs of ensembles: networks by the million, with nothing lost and nothing that depends on who did what when."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from finitewidth._version import __version__
from finitewidth.architecture import whole_number
from finitewidth.errors import InputError, TrustWarning
from finitewidth.experiments import arguments
from finitewidth.experiments.accumulation import Shapes, same_shapes
from finitewidth.experiments.chunks import Chunk, chunks
from finitewidth.experiments.engines import Engine, chosen
from finitewidth.experiments.experiment import Experiment, Quantity
from finitewidth.experiments.ledger import Ledger
from finitewidth.experiments.statistics import Batch, Estimate, jackknife

Progress = Callable[[int, int], Any]

CHUNK_COST = 4e9  # floating-point operations: a second or two of one core, beside which a row of the ledger is nothing
LARGEST_CHUNK = 1 << 20


@dataclass(frozen=True)
class Run:
    """What an ensemble showed.

    n_networks: how many are in the averages. n_excluded: how many more were drawn, but contributed a number that is not
        finite (they overflowed, or diverged in training): averages are those of the others.
    estimates: by name, with the pseudo-values from which errors of functions of several of them follow.
    description: what the run is, as its ledger has it. path: of the ledger, if it was kept.
    """

    n_networks: int
    n_excluded: int
    estimates: Mapping[str, Estimate]
    description: Mapping[str, Any]
    path: Path | None
    quantities: Mapping[str, Quantity]

    def __repr__(self) -> str:
        kept = "" if self.path is None else f", path={str(self.path)!r}"
        return f"Run(n_networks={self.n_networks}, n_excluded={self.n_excluded}, estimate={list(self.estimates)}{kept})"

    @cached_property
    def estimate(self) -> dict[str, xr.Dataset]:
        """By name, a data set with the variables `value` and `standard_error`, axes labelled."""
        return {name: self._labelled(name) for name in self.estimates}

    def _labelled(self, name: str) -> xr.Dataset:
        found, quantity = self.estimates[name], self.quantities[name]
        variables = {"value": found.value, "standard_error": found.standard_error}
        labelled = {each: (quantity.dims, np.asarray(values)) for each, values in variables.items()}
        coords = dict(quantity.coords)
        if "layer" in quantity.dims and "layer" not in coords:  # from 1, as everywhere
            coords["layer"] = np.arange(1, np.shape(found.value)[quantity.dims.index("layer")] + 1)
        attributes = {"n_networks": self.n_networks, "n_excluded": self.n_excluded}
        return xr.Dataset(labelled, coords, attrs=attributes)


def run(
    experiment: Experiment,
    *,
    n_networks: int,
    path: str | Path | None = None,
    engine: str | None = None,
    workers: int | None = None,
    chunk: int | None = None,
    progress: Progress | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Run:
    """Networks 0 … n_networks − 1 of an experiment, those that a ledger has not yet, and the estimates from all.

    The estimates depend on the experiment, n_networks and chunk; not on engine, workers, or on how often and when the
    run was stopped. (Bits: on one kind of processor and one version of JAX.)

    Arguments
        experiment: what is drawn and what it contributes.
        n_networks: how many, at least 2. More than the ledger has extend it.
        path: of the ledger, a file on a disk of this machine; None keeps it until the run ends.
        engine: None or "threads", on all cores of this process; "processes"; the address of a Dask scheduler.
        workers: how many threads or processes; the number of cores when None.
        chunk: networks at most in a chunk, the unit of work, of storage and of loss; some seconds of work when None.
        progress: called as progress(networks done, of how many), first with those found in the ledger.
        extra: more to be kept in a new ledger, for whoever reads it.

    Raises
        InputError: naming the argument, its value and the remedy. What was done is kept in the ledger.
    """
    n_networks, largest = arguments.networks(n_networks), _chunk(experiment, chunk)
    if progress is not None and not callable(progress):
        raise InputError(f"`progress` must be a function of (networks done, of how many), but got {progress!r}")
    description = {
        "finitewidth": __version__,
        "jax": f"{jax.__version__} on {jax.default_backend()}",
        "chunk": largest,
        **experiment.describe(),
    }
    where = _path(path)
    with Ledger(where, description, extra=extra) as ledger:
        ledger.verify()
        ledger.ask(n_networks)
        _complete(ledger, experiment, n_networks, largest, lambda: chosen(engine, workers), progress)
        return read(ledger, experiment.quantities(), n_networks)


def read(ledger: Ledger, quantities: Mapping[str, Quantity], n_networks: int) -> Run:
    """The estimates from what the ledger has of the first `n_networks` networks.

    Raises
        InputError: when that is not enough for an estimate.
    """
    description = ledger.about["description"]
    batches = _batches(ledger, n_networks, description["chunk"])
    networks, excluded = (sum(getattr(batch, name) for batch in batches.values()) for name in ("count", "excluded"))
    useful = {number: batch for number, batch in batches.items() if batch.count}
    if len(useful) < 2:
        raise InputError(
            f"`n_networks` is too small for an estimate: of {networks + excluded} networks {excluded} contribute a "
            "number that is not finite, because signals, gradients or training diverge; choose C_W nearer to critical, "
            "smaller steps, or more networks"
        )
    if excluded:
        warnings.warn(
            f"{excluded} of {networks + excluded} networks contribute a number that is not finite and are left out: "
            "averages are those of the others",
            TrustWarning,
            stacklevel=4,
        )
    estimates = {name: jackknife(useful, quantity.statistic) for name, quantity in quantities.items()}
    return Run(networks, excluded, estimates, description, ledger.path, quantities)


def held(ledger: Ledger) -> int:
    """How many networks the ledger has, counted from the first until one is missing."""
    reached = 0
    for first, last in sorted(ledger.done()):
        if first <= reached:
            reached = max(reached, last)
    return reached


def _complete(
    ledger: Ledger,
    experiment: Experiment,
    n_networks: int,
    largest: int,
    engine: Callable[[], Engine],
    progress: Progress | None,
) -> None:
    have = ledger.done()
    wanted = list(chunks(n_networks, largest))
    missing = [chunk for chunk in wanted if (chunk.first, chunk.last) not in have]
    done = n_networks - sum(chunk.count for chunk in missing)
    shapes = next((_shapes(ledger.read(chunk)) for chunk in wanted if (chunk.first, chunk.last) in have), None)
    if progress is not None:
        progress(done, n_networks)
    if not missing:
        return
    with closing(_results(engine(), experiment, missing)) as results:
        for chunk, cells in results:
            shapes = shapes or _shapes(cells)
            same_shapes(shapes, _shapes(cells))
            ledger.write(chunk, cells)
            done += chunk.count
            if progress is not None:
                progress(done, n_networks)


def _results(
    engine: Engine, experiment: Experiment, missing: list[Chunk]
) -> Generator[tuple[Chunk, list[Batch]], None, None]:
    yield from engine.results(experiment, missing)


def _batches(ledger: Ledger, n_networks: int, largest: int) -> dict[int, Batch]:
    """The batches of the jackknife, every sum taken in the order of the networks."""
    batches: defaultdict[int, Batch] = defaultdict(Batch.empty)
    have = ledger.done()
    for chunk in chunks(n_networks, largest):
        if (chunk.first, chunk.last) in have:
            for number, cell in zip(chunk.batches, ledger.read(chunk), strict=True):
                batches[number] = batches[number] + cell
    return dict(batches)


def _chunk(experiment: Experiment, chunk: Any) -> int:
    if chunk is not None:
        return whole_number("chunk", chunk)
    together = experiment.together
    several = max(1, round(CHUNK_COST / experiment.cost / together))
    return min(together << (several.bit_length() - 1), max(together, LARGEST_CHUNK))


def _path(path: Any) -> Path | None:
    if path is None:
        return None
    if not isinstance(path, (str, Path)) or not str(path):
        raise InputError(f"`path` must be the name of a file, but got {path!r}")
    where = Path(path)
    try:
        where.stat()  # says of names that no file can have what exists() and is_dir() say in several ways
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"`path` {str(path)!r} cannot be the name of a file: {reason}; give another one") from error
    if where.is_dir():
        raise InputError(f"`path` {str(path)!r} is a directory; give a file in it, such as {str(where / 'run.db')!r}")
    if not where.parent.is_dir():
        raise InputError(f"`path` {str(path)!r}: there is no directory {str(where.parent)!r}; make it first")
    return where


def _shapes(cells: list[Batch]) -> Shapes:
    return {name: np.shape(each) for name, each in cells[0].sums.items()}
