r"""`predict`: the mean and the covariance of a trained network's outputs over its initialisations (PDLT ch. 6, 10, 11, ∞)."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from finitewidth.algorithms import Adam, Algorithm, Bayes, GradientFlow, Sgd
from finitewidth.architecture import MLP
from finitewidth.errors import InputError, TrustWarning
from finitewidth.flow import flow
from finitewidth.precision import in_float64
from finitewidth.training.bayes import posterior
from finitewidth.training.infinite_width import Kernels, gain, trained_covariance
from finitewidth.training.problem import Problem

OUTPUTS = ("sample", "output")
PAIRS = ("sample", "output", "sample_b", "output_b")


@dataclass(frozen=True)
class Covariance:
    """δ_ij shared_ab + between_{ia,jb}: most of it is the same for every output, and often all of it."""

    shared: np.ndarray
    between: np.ndarray | None = None

    def dense(self, outputs: int) -> np.ndarray:
        """Shape (N_X, n_L, N_X, n_L)."""
        found = np.einsum("ab,ij->aibj", self.shared, np.eye(outputs))
        return found if self.between is None else found + self.between

    def variance(self, outputs: int) -> np.ndarray:
        """Its diagonal, shape (N_X, n_L), without the rest."""
        found = np.repeat(np.diag(self.shared)[:, None], outputs, axis=1)
        return found if self.between is None else found + np.einsum("aiai->ai", self.between)


@dataclass(frozen=True)
class Prediction:
    """The outputs of trained networks on N_X inputs, over initialisations. Made by `fw.predict`.

    Everything is labelled: `sample` counts the inputs that are asked about, `output` the network's outputs, from 0;
    `sample_b` and `output_b` are the same, a second time, of covariances.

    Attributes
        mean_infinite: at infinite width, (sample, output).
        terms, covariance_terms: corrections of first order by their source, coefficients of 1/n, n the width of the
            layer before the output: `terms[name]` (sample, output), `covariance_terms[name]` (sample, output, sample_b,
            output_b). Empty at order 0.
        log_evidence: of `Bayes`, log p(y) at infinite width plus its correction at this width; else None.
        order: 0 or 1. n: the width of the layer before the output. r: Σ 1/n_ℓ over hidden layers, the size of first order.
        error: numerical errors of `mean` and `variance` (sample, output), and `truncation`, the size that the terms of
            order 1/n² dropped from `mean` may have: that of first order times r.
        notes: what a reader must know: modes that are not trained, terms that are left out.
    """

    mean_infinite: xr.DataArray
    terms: xr.Dataset
    covariance_terms: xr.Dataset
    error: xr.Dataset
    order: int
    n: int
    r: float
    log_evidence: float | None = None
    notes: tuple[str, ...] = ()
    _infinite: Covariance = field(repr=False, kw_only=True)

    @cached_property
    def mean(self) -> xr.DataArray:
        """E z, order 1/n included, (sample, output)."""
        return self.mean_infinite + sum((each / self.n for each in self.terms.values()), xr.zeros_like(self.mean_infinite))

    @cached_property
    def covariance_infinite(self) -> xr.DataArray:
        """Cov[z, z] at infinite width, (sample, output, sample_b, output_b)."""
        return _labelled(self._infinite.dense(self.mean_infinite.sizes["output"]))

    @cached_property
    def covariance(self) -> xr.DataArray:
        """Cov[z, z], order 1/n included, (sample, output, sample_b, output_b)."""
        return self.covariance_infinite + sum(each / self.n for each in self.covariance_terms.values())

    @cached_property
    def variance(self) -> xr.DataArray:
        """The covariance's diagonal, (sample, output)."""
        value = self._infinite.variance(self.mean_infinite.sizes["output"])
        for each in self.covariance_terms.values():
            value = value + np.einsum("aiai->ai", each.values) / self.n
        return _labelled(value)

    @cached_property
    def std(self) -> xr.DataArray:
        """√variance, (sample, output); zero where rounding leaves less than nothing.

        Warns
            TrustWarning: where first order makes a variance negative: then this width is too small for it.
        """
        variance = self.variance
        infinite = self._infinite.variance(variance.sizes["output"])
        if np.any(variance < -1e-6 * infinite.max() - 10 * self.error["variance"]):
            warnings.warn(
                f"the variance is negative at first order in 1/n (r = {self.r:.3g}): {int((variance < 0).sum())} of "
                f"{variance.size} values; `std` shows 0 there. Use a larger width, less depth, or order=0",
                TrustWarning,
                stacklevel=2,
            )
        return np.sqrt(np.maximum(variance, 0.0))

    @property
    def evidence(self) -> float | None:
        """exp of `log_evidence`; None where the algorithm has none."""
        return None if self.log_evidence is None else float(np.exp(self.log_evidence))


@in_float64
def predict(
    net: MLP,
    x_train: Any,
    y_train: Any,
    x_test: Any = None,
    *,
    algorithm: Algorithm = GradientFlow(),  # noqa: B008  (frozen)
    order: int = 1,
    loss: str = "mse",
    regularisation: float | None = None,
) -> Prediction:
    """What networks predict after training: mean and covariance over initialisations, to order 1/n.

    E z = g y + (1/n) Σ terms ,     g = Θ_XT φ(Θ_TT) ,     loss ½ Σ (z − y)² over training inputs and outputs.

    Source: PDLT §10.2, §∞.1–3 (training), §6.3 (Bayes); THEORY-TRAINED §3–5. Orders above `order` are dropped.

    Arguments
        net: the network; λ_b and λ_W are its learning-rate tensor.
        x_train: training inputs, shape (N_T, n_in). y_train: their targets, shape (N_T,) or (N_T, n_L).
        x_test: inputs to predict, shape (N_X, n_in); None for the training inputs.
        algorithm: what is done to the parameters, `fw.GradientFlow()` to the end of training unless told.
        order: 0 for infinite width, 1 for the first correction in 1/n.
        loss: "mse", ½ Σ (z − y)².
        regularisation: ρ ≥ 0, a pull back to the initial parameters, 𝓛 + ½ ρ Σ_μ (θ − θ(0))²_μ/λ_μ; None for none.

    Returns
        A `Prediction`: `mean`, `std`, `covariance`, `mean_infinite`, `covariance_infinite`, `terms`, `error`.

    Raises
        InputError: naming the argument, its value and the remedy.

    Warns
        TrustWarning: where V/(nK²) at the last layer says that first order is not enough at this width.

    >>> import finitewidth as fw
    >>> net = fw.MLP("tanh", depth=3, width=100, C_W=1.5)
    >>> p = fw.predict(net, [[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0], [[1.0, 0.0], [1.0, 1.0]], order=0)
    >>> p.mean.values.ravel().round(6).tolist()  # a training input ends at its label
    [1.0, -0.0]
    """
    _check_request(algorithm, order, loss, regularisation)
    problem = Problem.of(net, x_train, y_train, x_test)
    if order:
        raise InputError("`order` 1 is not there yet; give order=0")
    kernels = _kernels(net, problem)
    notes: tuple[str, ...]
    log_evidence = None
    if isinstance(algorithm, Bayes):
        found = posterior(kernels, problem.targets, algorithm.noise)
        g, infinite, log_evidence = found.gain, Covariance(found.covariance), found.log_evidence
    else:
        g = gain(algorithm, kernels, regularisation or 0.0)
        infinite = Covariance(trained_covariance(g.value, kernels))
    mean, notes = g.value @ problem.targets, g.notes
    relative = g.error + kernels.Theta_error / np.abs(kernels.Theta).max() * g.error / np.finfo(float).eps
    scale = np.abs(g.value) @ np.abs(problem.targets)
    error = xr.Dataset({"mean": _labelled(relative * scale)})
    error["variance"] = _labelled(np.full(mean.shape, relative * np.abs(kernels.K).max()))
    error["truncation"] = _labelled(np.zeros(mean.shape))
    n = net.widths[-1] if net.widths else 1
    return Prediction(
        _labelled(mean),
        _dataset({}),
        _dataset({}),
        error,
        order,
        n,
        net.depth_to_width,
        log_evidence,
        notes,
        _infinite=infinite,
    )


def _kernels(net: MLP, problem: Problem) -> Kernels:
    last = flow(net, problem.inputs, tensors="", layers="last").isel(layer=0)
    return Kernels(
        last.K.values,
        last.Theta.values,
        float(last.K_error),
        float(last.Theta_error),
        problem.train,
        problem.test,
    )


def _labelled(value: np.ndarray) -> xr.DataArray:
    dims = OUTPUTS if value.ndim == 2 else PAIRS
    return xr.DataArray(value, dims=dims, coords={d: np.arange(n) for d, n in zip(dims, value.shape, strict=True)})


def _dataset(terms: Mapping[str, np.ndarray]) -> xr.Dataset:
    return xr.Dataset({name: _labelled(value) for name, value in terms.items()})


def _check_request(algorithm: Any, order: Any, loss: Any, regularisation: Any) -> None:
    if not isinstance(algorithm, Algorithm):
        raise InputError(f"`algorithm` must be one such as fw.GradientFlow(time=5.0), but got {algorithm!r}")
    if isinstance(algorithm, Adam):
        raise InputError(
            "`algorithm` Adam normalises every parameter's gradient by itself: its steps are no function of the "
            "outputs and the tangent kernel, so nothing here predicts it; train real networks, or use fw.Momentum"
        )
    if order not in (0, 1):
        raise InputError(f"`order` must be 0 (infinite width) or 1 (first order in 1/n), but got {order!r}")
    if loss != "mse":
        raise InputError(f'`loss` must be "mse", but got {loss!r}')
    if regularisation is not None and not (isinstance(regularisation, (int, float)) and 0 <= regularisation < np.inf):
        raise InputError(f"`regularisation` must be a finite number ≥ 0, or None, but got {regularisation!r}")
    if regularisation and isinstance(algorithm, Bayes):
        raise InputError(f"`regularisation` is no part of Bayes; give fw.Bayes(noise={regularisation!r})")
    if isinstance(algorithm, Sgd):
        raise InputError("`algorithm` Sgd is not there yet")
