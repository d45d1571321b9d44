"""What is measured of every network of an ensemble: built-in observables, and how to write one.

An observable is a function of one network, and says how averages over networks become the estimate:

>>> import finitewidth as fw, jax.numpy as jnp
>>> @fw.observable(dims=("a",))
... def mean_square(network):
...     return (network.z() ** 2).mean(0)  # over the outputs, for every input
>>> net = fw.MLP("tanh", depth=2, width=8)
>>> run = fw.ensemble(net, [[1.0], [2.0]], observables=[mean_square, "K"], n_networks=100)
>>> run.estimate["mean_square"].value.dims
('a',)

`network` has `z(layer)`, `parameters`, `H`, `derivatives`, `net` and `x` (`finitewidth.experiments.drawn`).
"""

import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.errors import InputError
from finitewidth.experiments.drawn import Network, WithWeights, metric, place
from finitewidth.experiments.experiment import Quantity
from finitewidth.experiments.patterns import cumulant_terms, distinct_mean, pattern_of
from finitewidth.experiments.statistics import Averages
from finitewidth.experiments.tensors import TENSORS

Contribution = Any  # an array, or several by name
AXES = "abcdef"
NEEDS = ("z", "weights", "H", "dH", "ddH")


def the_average(averages: Averages) -> np.ndarray:
    """The average of the one thing that is contributed."""
    return averages[""]


@dataclass(frozen=True)
class Observable:
    """One thing that is measured of every network.

    Arguments
        name: by which the estimate is found.
        function: of one network, what it contributes: a JAX array, or several by name.
        dims: names of the axes of the estimate.
        statistic: of averages by name ("" for a single array), each with a first axis of resamples that is kept, the
            estimate. None: the average itself. Functions of averages, such as E[xy] − E[x] E[y], belong here, where
            their error is found by the jackknife.
        needs: "z", preactivations only (the exact layer sampler will do); "weights"; "H" where the tangent kernel of
            the outputs is read; "dH", "ddH" for built-in tensors.
        coords: labels along some of the axes; an axis `layer` without any counts from 1.

    Raises
        InputError: naming the argument, its value and the remedy.
    """

    name: str
    function: Callable[[Any], Contribution]
    dims: tuple[str, ...] = ()
    statistic: Callable[[Averages], np.ndarray] = the_average
    needs: str = "z"
    coords: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or "/" in self.name:
            raise InputError(f"`name` of an observable must be text without '/', but got {self.name!r}")
        if not callable(self.function):
            raise InputError(f"`function` of observable {self.name!r} must be callable, but got {self.function!r}")
        if self.needs not in NEEDS:
            raise InputError(
                f"`needs` of observable {self.name!r} must be one of {', '.join(NEEDS)}, but got {self.needs!r}"
            )
        dims = (self.dims,) if isinstance(self.dims, str) else tuple(self.dims)
        if not all(isinstance(each, str) for each in dims) or len(set(dims)) < len(dims):
            raise InputError(
                f"`dims` of observable {self.name!r} must be different names of axes, as ('a', 'b'), but got {dims}"
            )
        object.__setattr__(self, "dims", dims)

    def __reduce__(self) -> Any:
        # a decorated function's name in its module is that of the observable, so that is what is sent
        module, name = (getattr(self.function, each, None) for each in ("__module__", "__qualname__"))
        if module not in (None, "__main__") and getattr(sys.modules.get(module), str(name), None) is self:
            return _find, (module, name)
        return Observable, (self.name, self.function, self.dims, self.statistic, self.needs, self.coords)

    @property
    def computed(self) -> Hashable:
        """By what a compiled program knows it; None of a user's function, which may read what changes between runs."""
        function: Any = self.function
        held: Any = ()
        if isinstance(function, partial):
            function, held = function.func, (function.args, tuple(sorted(function.keywords.items())))
        ours = str(getattr(function, "__module__", "")).startswith("finitewidth.")
        return (self.name, function, held) if ours else None

    def contributions(self, network: Any) -> dict[str, Any]:
        """What one network contributes, by the name of the observable and of the part."""
        value = self.function(network)
        parts = value if isinstance(value, Mapping) else {"": value}
        return {f"{self.name}/{part}": _real(each) for part, each in parts.items()}

    def estimated(self, averages: Averages) -> np.ndarray:
        """The estimate, from averages of everything that is contributed by whatever observable."""
        mine = {name[len(self.name) + 1 :]: each for name, each in averages.items() if name.startswith(self.name + "/")}
        return np.asarray(self.statistic(mine))


def observable(
    dims: Sequence[str] = (), *, needs: str = "z", name: str | None = None
) -> Callable[[Callable[[Any], Contribution]], Observable]:
    """Make an observable of a function of one network whose average is wanted; `name`, if None, is the function's.

    Raises
        InputError: naming the argument, its value and the remedy.
    """
    if callable(dims):
        raise InputError(
            f"`dims` of an observable must be names of axes, but got {dims!r}; write @fw.observable() with its brackets"
        )
    return lambda function: Observable(name or function.__name__, function, tuple(dims), needs=needs)


def tensor(name: str) -> Observable:
    """K, Theta or a tensor of order 1/n at the output, times n (`finitewidth.experiments.tensors` has definitions)."""
    if name not in TENSORS:
        raise InputError(f"`name` of a tensor must be among {', '.join(TENSORS)}, but got {name!r}")
    dims = tuple(AXES[: 4 if TENSORS[name].power else 2])
    return Observable(name, partial(_tensor, name), dims, _product_less_means, TENSORS[name].level)


def moment(pattern: str, layer: int | None = None, *, name: str | None = None) -> Observable:
    """E[z z …] of neurons and inputs as in the pattern, each of a layer's neurons taken in turn.

    A letter for each factor: equal letters are one neuron, different letters different ones. "iijj" is
    E[z_ia z_ib z_jc z_jd], i ≠ j, with the axes a, b, c, d. Up to six factors.

    Arguments
        pattern: one to six letters. layer: 1 … L; the output when None. name: of the estimate.
    """
    pattern = pattern_of(pattern)
    function = partial(_moments, (pattern,), layer)
    return Observable(name or _label("moment", pattern, layer), function, tuple(AXES[: len(pattern)]), _only)


def cumulant(pattern: str, layer: int | None = None, *, name: str | None = None) -> Observable:
    """The connected part of `moment`: Σ_π (−1)^(|π|−1) (|π|−1)! Π_B E[Π_{p∈B} z_p] over partitions π of the factors.

    Its bias of order 1/networks is removed by the jackknife. At initialisation, n × cumulant("iijj") is V.
    """
    pattern = pattern_of(pattern)
    terms = cumulant_terms(pattern)
    needed = tuple(sorted({block for _, blocks in terms for block, _ in blocks}))
    return Observable(
        name or _label("cumulant", pattern, layer),
        partial(_moments, needed, layer),
        tuple(AXES[: len(pattern)]),
        partial(_connected, pattern),
    )


def kernel(layer: int | None = None, *, name: str | None = None) -> Observable:
    """E[Ĝ⁽ℓ⁾_ab], Ĝ = C_b + (C_W/n) Σ_j σ_ja σ_jb: the empirical kernel, a layer's covariance given the one before."""
    return Observable(name or _label("kernel", "", layer), partial(_metric, layer), ("a", "b"))


def kernel_covariance(layer: int | None = None, *, name: str | None = None) -> Observable:
    """n Cov(Ĝ⁽ℓ⁾_ab, Ĝ⁽ℓ⁾_cd), n the width of the layer before: V of that layer, without the noise of its neurons."""
    function = partial(_metric_products, layer)
    return Observable(name or _label("kernel_covariance", "", layer), function, tuple(AXES[:4]), _product_less_means)


def histogram(edges: Any, layer: int | None = None, *, name: str | None = None) -> Observable:
    """The fraction of preactivations of a layer in every bin, by input: (bin, a).

    Arguments
        edges: increasing numbers. The first and the last bin are open: below and above all edges.
        layer: 1 … L; the output when None.
    """
    try:
        at = np.asarray(edges, dtype=np.float64)
    except (TypeError, ValueError):
        at = np.empty(0)
    if at.ndim != 1 or at.size == 0 or not np.isfinite(at).all() or not (np.diff(at) > 0).all():
        raise InputError(f"`edges` must be increasing finite numbers, but got {edges!r}")
    coords = {
        "bin": np.arange(at.size + 1),
        "above": ("bin", np.append(-np.inf, at)),
        "below": ("bin", np.append(at, np.inf)),
    }
    function = partial(_histogram, tuple(at.tolist()), layer)
    return Observable(name or _label("histogram", "", layer), function, ("bin", "a"), coords=coords)


def gradient_norms(*, name: str = "gradient_norms") -> Observable:
    """E[Σ_{μ of layer ℓ} (∂_μ z_ia)²], averaged over the outputs i: (layer, a). Biases and weights, without λ."""
    return Observable(name, _gradient_norms, ("layer", "a"), needs="weights")


def quantities_of(observables: Sequence[Observable]) -> dict[str, Quantity]:
    """What observables estimate, by name."""
    return {each.name: Quantity(each.estimated, each.dims, each.coords) for each in observables}


def _real(value: Any) -> jax.Array:
    if jnp.iscomplexobj(value):
        raise TypeError("it is complex; contribute real and imaginary part by name")
    return jnp.asarray(value, dtype=jnp.float64)


def _find(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def _tensor(name: str, network: Network) -> Mapping[str, jax.Array]:
    return network.tensor(name)


def _moments(patterns: Sequence[str], layer: int | None, network: Network) -> dict[str, jax.Array]:
    z = network.z(layer)
    return {pattern: distinct_mean(pattern, z) for pattern in patterns}


def _metric(layer: int | None, network: Network) -> jax.Array:
    return metric(network, place(network.net, layer) + 1)


def _metric_products(layer: int | None, network: Network) -> dict[str, jax.Array]:
    l = place(network.net, layer)
    n = float(network.x.shape[1] if l == 0 else network.net.widths[l - 1])
    G = metric(network, l + 1)
    return {"product": n * jnp.einsum("ab,cd->abcd", G, G), "first": n * G, "second": G}


def _histogram(edges: tuple[float, ...], layer: int | None, network: Network) -> jax.Array:
    z = network.z(layer)
    bins = jnp.searchsorted(jnp.asarray(edges), z, side="right")  # NaN is above all: then z itself must say so
    count = jnp.stack([(bins == b).mean(0, dtype=z.dtype) for b in range(len(edges) + 1)])
    return jnp.where(jnp.isfinite(z).all(0), count, jnp.nan)


def _gradient_norms(network: WithWeights) -> jax.Array:
    from finitewidth.experiments.networks import preactivations

    net, parameters, x = network.net, network.parameters, network.x
    z, pull = jax.vjp(lambda at: preactivations(net, at, x), parameters)
    units = jnp.eye(z.size).reshape(-1, *z.shape)
    gradients = jax.vmap(lambda unit: pull(unit)[0])(units)
    squares = [sum(jnp.sum(each.reshape(z.size, -1) ** 2, axis=1) for each in layer) for layer in gradients]
    return jnp.stack(squares).reshape(net.depth, *z.shape).mean(1)


def _only(averages: Averages) -> np.ndarray:
    return next(iter(averages.values()))


def _connected(pattern: str, averages: Averages) -> np.ndarray:
    total: Any = 0.0
    for weight, blocks in cumulant_terms(pattern):
        axes = ["r" + "".join(AXES[p] for p in places) for _, places in blocks]
        factors = [averages[block] for block, _ in blocks]
        total = total + weight * np.einsum(f"{','.join(axes)}->r{AXES[: len(pattern)]}", *factors)
    return np.asarray(total)


def _product_less_means(averages: Averages) -> np.ndarray:
    if "first" not in averages:
        return averages["product"]
    return averages["product"] - np.einsum("rab,rcd->rabcd", averages["first"], averages["second"])


def _label(kind: str, pattern: str, layer: int | None) -> str:
    return "_".join(part for part in (kind, pattern, "" if layer is None else f"layer{layer}") if part)
