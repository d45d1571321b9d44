"""Statistics of real networks at initialisation: draw many, take exact derivatives of each, average.

>>> import numpy as np
>>> from finitewidth import MLP
>>> from finitewidth.experiments import measure
>>> linear = MLP("linear", depth=2, width=8)
>>> seen = measure(linear, np.ones((1, 1)), n_networks=4000, tensors=["V"])  # V = 2 K² at every width, K = 1
>>> bool(abs(seen.mean["V"] - 2).item() < 5 * seen.standard_error["V"].item())
True
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth.architecture import MLP, whole_number
from finitewidth.experiments import arguments
from finitewidth.experiments.measured import Estimated, Widths
from finitewidth.experiments.sampling import Sampler
from finitewidth.experiments.statistics import Averages, Batch, Batches, Estimate, jackknife, merge
from finitewidth.experiments.tensors import TENSORS, Outputs, efficient_outputs

Progress = Callable[[int, int], Any]
Tensors = Sequence[str] | None

BATCHES = 64  # enough that a standard error is itself known to 9 %


@dataclass(frozen=True)
class Measurement(Estimated):
    """What real networks of one width showed.

    net: the architecture. x: (N, n_in) inputs. n_networks: how many were drawn.
    estimates: by name, `Estimate`s of shape (N, N) for K = E[z z] and Theta = E[H] at this width, and (N, N, N, N) for
        the tensors of order 1/n, times n; names and axis order of FACTS 1.4 (`finitewidth.experiments.tensors`).
    """

    net: MLP
    x: np.ndarray
    n_networks: int
    estimates: dict[str, Estimate]

    @property
    def n(self) -> int:
        """The width of the layer before the output, of which tensors are multiples of 1/n."""
        return width_before_output(self.net, self.x)

    @property
    def mean(self) -> dict[str, np.ndarray]:
        """By name, the estimate of an average over networks: `value`."""
        return self.value


@dataclass(frozen=True)
class WidthScan(Widths):
    """Measurements of one architecture at several widths, and what they say of infinite width."""

    measurements: tuple[Measurement, ...]


def measure(
    net: MLP,
    x: Any,
    *,
    n_networks: int,
    tensors: Tensors = None,
    seed: int = 0,
    outputs: Outputs | None = None,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Draw networks and measure tensors of their output layer, from exact derivatives (THEORY §1, FACTS 1.4).

    Network number k has the random key fold_in(seed's key, k): the same seed gives the same networks, however they are
    chunked.

    Arguments
        net: the architecture; its `n_out` is not read, since statistics per output do not depend on it.
        x: (N, n_in) inputs.
        n_networks: how many networks to draw, at least 2. Errors fall as its square root.
        tensors: names among K, V, Theta, A, B, D, F, P, Q, R, S, T, U; all of them when None. Derivatives of an order
            are paid for when a tensor needs them: K and V none, Theta to F the first, P and Q the second, R to U the
            second and third.
        seed: an integer ≥ 0.
        outputs: how many outputs each order of derivatives uses; chosen for efficiency when None.
        chunk: how many networks to do at once; chosen when None. It changes results in the last digits only.
        progress: called as progress(networks done, of how many) between chunks.

    Raises
        InputError: naming the argument, its value and the remedy; also when the networks' numbers overflow.
    """
    net = arguments.network(net)
    x, names = arguments.inputs(net, x), arguments.tensors(tensors)
    n_networks, seed = arguments.networks(n_networks), arguments.seed(seed)
    together = None if chunk is None else whole_number("chunk", chunk)
    n = width_before_output(net, x)
    outputs = efficient_outputs(names, n, x.shape[0]) if outputs is None else arguments.outputs(outputs, names)
    means = {mean for name in names for mean in TENSORS[name].means or ()}
    sampler = Sampler(net, x, names=sorted({*names, *means}), outputs=outputs, seed=seed, together=together)
    parts, done = [], 0
    for number, networks in enumerate(np.array_split(np.arange(n_networks), min(BATCHES, n_networks))):
        batch = Batch.empty()
        for part in sampler.chunks(networks):
            batch, done = batch + part, done + part.count
            if progress is not None:
                progress(done, n_networks)
        parts.append({number: batch})
    return Measurement(net, x, n_networks, {name: _estimate(name, merge(*parts), n) for name in names})


def measure_widths(
    net: MLP,
    x: Any,
    *,
    widths: Sequence[int | Sequence[int]],
    n_networks: int | Sequence[int],
    tensors: Tensors = None,
    seed: int = 0,
    outputs: Outputs | None = None,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> WidthScan:
    """`measure` at several widths, to be extrapolated in 1/n.

    Arguments
        net, x, tensors, seed, outputs, chunk: as for `measure`; the widths of `net` itself are not read. Networks of
            different widths are independent.
        widths: for each measurement, one width for all hidden layers, or one per hidden layer; the ratios of the layers
            must be the same throughout, for they enter the limit.
        n_networks: how many networks at every width, or one number per width. At equal errors of a tensor, the
            extrapolation gains most from the smallest and the largest width.
        progress: called as progress(networks done, of how many), over all widths.

    Raises
        InputError: naming the argument, its value and the remedy.
    """
    nets = arguments.scaled_networks(arguments.network(net), widths)
    counts = arguments.networks_by_width(n_networks, len(nets))
    done, seen = 0, []
    for scaled, count in zip(nets, counts, strict=True):
        seen.append(
            measure(
                scaled,
                x,
                n_networks=count,
                tensors=tensors,
                seed=seed,
                outputs=outputs,
                chunk=chunk,
                progress=_further(progress, done, sum(counts)),
            )
        )
        done += count
    return WidthScan(tuple(seen))


def width_before_output(net: MLP, x: np.ndarray) -> int:
    """n_{L-1}, of which tensors of the output layer are multiples of 1/n; n_0 for a network of one layer."""
    return (x.shape[1], *net.widths)[-1]


def _estimate(name: str, batches: Batches, n: int) -> Estimate:
    tensor = TENSORS[name]

    def statistic(averages: Averages) -> np.ndarray:
        product = averages[name]
        if tensor.means is not None:
            first, second = (averages[mean] for mean in tensor.means)
            product = product - np.einsum("rab,rcd->rabcd", first, second)
        return n**tensor.power * product

    return jackknife(batches, statistic)


def _further(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)
