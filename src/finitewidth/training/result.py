"""What `fw.predict` returns."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import xarray as xr

from finitewidth.architecture import real_array, whole_number
from finitewidth.errors import InputError, TrustWarning
from finitewidth.training.connected import Connected
from finitewidth.training.crossings import Crossings
from finitewidth.training.left_out import left_out

OUTPUTS = ("sample", "output")
SAMPLES = ("sample", "sample_b", "sample_c", "sample_d")
PAIRS = ("sample", "output", "sample_b", "output_b")


class OverInitialisations(Protocol):
    """What knows the covariance of trained outputs at infinite width."""

    def dense(self, outputs: int) -> np.ndarray:
        """Shape (N_X, n_L, N_X, n_L)."""

    def variance(self, outputs: int) -> np.ndarray:
        """Its diagonal, shape (N_X, n_L), without the rest."""


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
        order: 0 or 1. n: the width of the layer before the output. r: Σ 1/n_ℓ over hidden layers.
        error: numerical errors of `mean` and `variance` (sample, output), and `truncation`, the size that the terms of
            order 1/n² dropped from `mean` may have: r T + T²/y, with T the sizes of the terms of first order added
            up, and y that of the targets (rms). A rule of thumb, not a bound.
        notes: what a reader must know: modes that are not trained, terms that are left out.
        left_out: where σ has kinks, what order 1 leaves out, and how large that may be.
        probabilities: of cross-entropy, the mean of softmax(z), or of the logistic function of a single output, over
            initialisations, (sample, output); else None. Its standard error is `error["probabilities"]`.
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
    probabilities: xr.DataArray | None = None
    _infinite: OverInitialisations = field(repr=False, kw_only=True)
    _connected: Connected | None = field(repr=False, kw_only=True, default=None)
    _crossings: Crossings | None = field(repr=False, kw_only=True, default=None)

    def __repr__(self) -> str:
        samples, outputs = self.mean_infinite.shape
        std = np.sqrt(np.maximum(self.variance.values, 0.0))
        shown = (("mean", self.mean.values), ("std", std))
        ranges = (f"{name} {each.min():.3g} … {each.max():.3g}" for name, each in shown)
        where = f"order 1 at n = {self.n}, r = {self.r:.3g}" if self.order else "infinite width"
        return f"Prediction({samples} samples × {outputs} outputs, {where}: {', '.join(ranges)})"

    @cached_property
    def mean(self) -> xr.DataArray:
        """E z, order 1/n included, (sample, output)."""
        return self.mean_infinite + sum(
            (each / self.n for each in self.terms.values()), xr.zeros_like(self.mean_infinite)
        )

    @cached_property
    def covariance_infinite(self) -> xr.DataArray:
        """Cov[z, z] at infinite width, (sample, output, sample_b, output_b)."""
        return labelled(self._infinite.dense(self.mean_infinite.sizes["output"]))

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
        return labelled(value)

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
        return labelled(np.sqrt(np.maximum(variance.values, 0.0)))

    @cached_property
    def left_out(self) -> xr.Dataset | None:
        """What `mean` and `variance` lack where σ has kinks and networks are trained, at this width; else None.

        Neurons that cross a kink during training contribute an order 1/√n, which comes before 1/n; how, is told in
        `finitewidth.training.crossings`.

        Returns
            `mean`, `variance`: that contribution, with `mean_error` and `variance_error`, standard errors, next order
            1/n. `mean_size`, `variance_size`: how large all that is left out may be, `finitewidth.training.left_out`
            says by which rule: a rule of thumb, not a bound. All (sample, output).
        """
        if self._crossings is None:
            return None
        values = {str(name): np.einsum("aiai->ai", each.values) for name, each in self.covariance_terms.items()}
        terms = {"mean": {str(name): each.values for name, each in self.terms.items()}, "variance": values}
        return dataset(left_out(vars(self._crossings), terms, self.n))

    def test_error(self, y: Any) -> xr.Dataset:
        """E (z − y)² over initialisations on the inputs asked about, split into bias² and variance; (sample, output).

        bias² = (m − y)² + (2/n) (m − y) Σ terms, m at infinite width; variance as `variance`. Orders 1 and 1/n.
        Source: PDLT §10.3; `finitewidth.training.bias_variance` has the equations.

        Arguments
            y: (N_X,) or (N_X, n_L), what the outputs should be.

        Returns
            `bias_squared`, `variance` and their sum `error`, at this width; the same with `_infinite`, at infinite
            width, and with `_first_order`, coefficients of 1/n; `numerical_error` of `error`; `truncation`, the size
            that order 1/n² may have in it: a rule of thumb, not a bound.

        Raises
            InputError: for targets that cannot be used.
        """
        off = self.mean_infinite - labelled(checked_targets(y, self.mean_infinite.shape, "y"))
        shift = sum(self.terms.values(), xr.zeros_like(off))
        fluctuations = [np.einsum("aiai->ai", each.values) for each in self.covariance_terms.values()]
        nothing = np.zeros(off.shape)
        found = {
            "bias_squared_infinite": off**2,
            "variance_infinite": labelled(self._infinite.variance(off.sizes["output"])),
            "bias_squared_first_order": 2 * off * shift,
            "variance_first_order": labelled(sum(fluctuations, nothing)),
        }
        for when in ("infinite", "first_order"):
            found[f"error_{when}"] = found[f"bias_squared_{when}"] + found[f"variance_{when}"]
        for name in ("bias_squared", "variance", "error"):
            found[name] = found[f"{name}_infinite"] + found[f"{name}_first_order"] / self.n
        found["numerical_error"] = 2 * abs(off) * self.error["mean"] + self.error["variance"]
        # of bias²: what order 1/n² does to the mean, and the square of the first order; of the variance: r times it
        of_mean = 2 * abs(off) * self.error["truncation"] + (shift / self.n) ** 2
        found["truncation"] = of_mean + self.r / self.n * labelled(sum(map(abs, fluctuations), nothing))
        return xr.Dataset(found)

    def at_width(self, n: int) -> "Prediction":
        """The same with all hidden layers n/`self.n` times as wide: coefficients of 1/n know no width.

        Arguments
            n: the width of the layer before the output. `log_evidence` is not carried over.
        """
        whole_number("n", n)
        ratio = self.n / n
        error = self.error.assign(
            mean=self.error["mean"] * max(1.0, ratio),
            variance=self.error["variance"] * max(1.0, ratio),
            truncation=self.error["truncation"] * ratio**2,
        )
        return replace(self, n=n, r=self.r * ratio, error=error, log_evidence=None)

    def three_point(self, i: int = 0, j: int = 0, k: int = 0) -> xr.DataArray:
        """Connected three-point function of outputs i, j, k, (sample, sample_b, sample_c).

        E[z_ia z_jb z_kc]_c = (1/n) (δ_ij T_{abc,k} + δ_ik T_{acb,j} + δ_jk T_{bca,i}) ,

        T linear in the labels. Order 1/n; zero at initialisation, and wherever a label has been reached. Source:
        THEORY-TRAINED §6, `finitewidth.training.connected`.

        Raises
            InputError: for outputs that do not exist; where only mean and covariance are known.
        """
        self._check_outputs(i, j, k)
        T = np.sum(list(self._known_connected.three.values()), axis=0) / self.n
        zero = np.zeros(T.shape[:3])
        found = T[..., k] if i == j else zero
        found = found + (T[..., j].transpose(0, 2, 1) if i == k else zero)
        found = found + (T[..., i].transpose(2, 0, 1) if j == k else zero)
        return xr.DataArray(found, dims=SAMPLES[:3])

    def four_point(self, i: int = 0, j: int = 0, k: int = 0, m: int = 0) -> xr.DataArray:
        """Connected four-point function of outputs i, j, k, m, (sample, sample_b, sample_c, sample_d).

        E[z_ia z_jb z_kc z_md]_c = (1/n) (δ_ij δ_km V_abcd + δ_ik δ_jm V_acbd + δ_im δ_jk V_adbc) ,

        V independent of the labels; at initialisation the four-point vertex. Order 1/n. Source: THEORY-TRAINED §6.

        Raises
            InputError: for outputs that do not exist; where only mean and covariance are known.
        """
        self._check_outputs(i, j, k, m)
        V = np.sum(list(self._known_connected.four.values()), axis=0) / self.n
        found = np.zeros(V.shape)
        for paired, other, axes in (
            ((i, j), (k, m), (0, 1, 2, 3)),
            ((i, k), (j, m), (0, 2, 1, 3)),
            ((i, m), (j, k), (0, 2, 3, 1)),
        ):
            if paired[0] == paired[1] and other[0] == other[1]:
                found = found + V.transpose(axes)
        return xr.DataArray(found, dims=SAMPLES)

    @cached_property
    def third_cumulant(self) -> xr.DataArray:
        """E[z³]_c of every output on every input, (sample, output). Order 1/n; see `three_point`."""
        T = np.sum(list(self._known_connected.three.values()), axis=0) / self.n
        return labelled(3 * np.einsum("aaai->ai", T))

    @cached_property
    def fourth_cumulant(self) -> xr.DataArray:
        """E[z⁴]_c of every output on every input, (sample, output). Order 1/n; see `four_point`."""
        V = np.sum(list(self._known_connected.four.values()), axis=0) / self.n
        return labelled(np.repeat(3 * np.einsum("aaaa->a", V)[:, None], self.mean_infinite.sizes["output"], axis=1))

    @property
    def _known_connected(self) -> Connected:
        if self._connected is None:
            why = (
                "order=1 brings them"
                if self.order == 0
                else "they are known for gradient flow and descent with few inputs"
            )
            raise InputError(f"three- and four-point functions are not in this prediction: {why}")
        return self._connected

    def _check_outputs(self, *outputs: int) -> None:
        n_L = self.mean_infinite.sizes["output"]
        for each in outputs:
            if isinstance(each, bool) or not isinstance(each, (int, np.integer)) or not 0 <= each < n_L:
                raise InputError(f"outputs must be integers from 0 to {n_L - 1}, but got {each!r}")

    @property
    def evidence(self) -> float | None:
        """exp of `log_evidence`; None where the algorithm has none."""
        return None if self.log_evidence is None else float(np.exp(self.log_evidence))


def checked_targets(y: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """`y` as finite numbers of this shape, (N, n_L); (N,) for one output."""
    targets = real_array(name, y, "one row for each input")
    if targets.shape not in (shape, shape[: 2 - (shape[1] == 1)]):
        raise InputError(
            f"`{name}` must have shape {shape}, one row for each input asked about, but has {targets.shape}"
        )
    if not np.all(np.isfinite(targets)):
        raise InputError(f"`{name}` must be finite, but {name}[{int(np.argwhere(~np.isfinite(targets))[0][0])}] is not")
    return targets.reshape(shape)


def labelled(value: np.ndarray) -> xr.DataArray:
    """A mean (X, n_L) or a covariance (X, n_L, X, n_L) with its labels."""
    dims = OUTPUTS if value.ndim == 2 else PAIRS
    return xr.DataArray(value, dims=dims, coords={d: np.arange(n) for d, n in zip(dims, value.shape, strict=True)})


def dataset(terms: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Several of them by name."""
    return xr.Dataset({name: labelled(value) for name, value in terms.items()})
