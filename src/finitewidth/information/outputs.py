r"""The outputs at initialisation: Gaussian at infinite width, nearly Gaussian at order 1/n (PDLT ch. 1, 4).

Given the layer before, the neurons of a layer are independent N(0, Ĝ) with one common Ĝ. To order 1/n all that is known
of Ĝ, and needed, is its mean K + G1/n and its covariance V/n; everything here follows from them.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.architecture import MLP, must_be_plain, whole_number
from finitewidth.data import check_inputs
from finitewidth.errors import InputError, TrustWarning
from finitewidth.flow import flow
from finitewidth.information.action import QuarticAction
from finitewidth.information.correlators import Array, over_pairings
from finitewidth.information.mixture import mixture_sample

TRUSTED = 0.5
"""Of √⟨c²⟩, by how much first order changes the density: beyond it `log_density` and `density` warn."""


@dataclass(frozen=True)
class NearlyGaussian:
    """The joint distribution of some neurons of one layer on N inputs, over initialisations, to order 1/n.

    Source: PDLT ch. 4 (V, G1, couplings), ch. 1 (nearly-Gaussian distributions). Dropped everywhere: order 1/n².

    K, G1, V: (N, N), (N, N), (N, N, N, N), the kernel and the coefficients of 1/n, as `flow` gives them.
    G1_error, V_error: estimates of their absolute numerical errors.
    n: width of the layer before. neurons: m, how many neurons of the layer are looked at together.
    """

    K: Array
    G1: Array
    V: Array
    G1_error: Array
    V_error: Array
    n: int
    neurons: int

    @property
    def shift(self) -> Array:
        """G1/n, (N, N)."""
        return self.G1 / self.n

    @property
    def fluctuation(self) -> Array:
        """V/n = Cov[Ĝ_ab, Ĝ_cd], (N, N, N, N)."""
        return self.V / self.n

    @property
    def covariance(self) -> Array:
        """E[z_ia z_ib] = K_ab + G1_ab/n, (N, N); 0 between different neurons."""
        return self.K + self.shift

    def four_point(self, i: int, j: int, k: int, m: int) -> Array:
        """Connected four-point correlator of neurons i, j, k, m, (N, N, N, N) with axes a, b, c, d.

        E[z_ia z_jb z_kc z_md]_c = (1/n) (δ_ij δ_km V_abcd + δ_ik δ_jm V_acbd + δ_im δ_jk V_adbc) .

        Source: PDLT ch. 4. Order 1/n. `four_point(i, i, j, j)` with i ≠ j is what neurons of one layer share, and do
        not share at infinite width: E[z_ia z_ib z_jc z_jd]_c = V_abcd/n.
        """
        return over_pairings((i, j, k, m), self.fluctuation, self.fluctuation)

    @cached_property
    def kurtosis(self) -> Array:
        """Excess kurtosis of one neuron on each input, (N,): E[z⁴]/E[z²]² − 3 = 3 V_aaaa/(n K_aa²). Order 1/n.

        Source: PDLT ch. 4.
        """
        return 3 * np.einsum("aaaa->a", self.fluctuation) / np.diagonal(self.K) ** 2

    @cached_property
    def square_correlation(self) -> Array:
        """Correlation of z_ia² with z_jb², i ≠ j, (N, N): V_aabb/(2 n K_aa K_bb).

        Zero at infinite width. It wires the outputs together: what one output is trained on moves the Bayesian
        posterior of another (PDLT ch. 6). Order 1/n.
        """
        K = np.diagonal(self.K)
        return np.einsum("aabb->ab", self.fluctuation) / (2 * np.outer(K, K))

    @cached_property
    def norm_mean(self) -> Array:
        """E[Q_a] of the mean square Q_a = Σ_i z_ia²/m over the m neurons, (N,): K_aa + G1_aa/n."""
        return np.diagonal(self.covariance).copy()

    @cached_property
    def norm_covariance(self) -> Array:
        """Cov[Q_a, Q_b] of Q_a = Σ_i z_ia²/m over initialisations, (N, N).

        By the law of total covariance, Cov[Ĝ_aa, Ĝ_bb] + (2/m) E[Ĝ_ab²]:

            Cov[Q_a, Q_b] = V_aabb/n + (2/m) (K_ab² + 2 K_ab G1_ab/n + V_abab/n) .

        Source: PDLT ch. 4. Orders 1 and 1/n. Many outputs average the second term away, never the first.
        """
        own = np.einsum("abab->ab", self.fluctuation) + self.K**2 + 2 * self.K * self.shift
        return np.einsum("aabb->ab", self.fluctuation) + 2 / self.neurons * own

    @cached_property
    def action(self) -> QuarticAction:
        """The quartic action, a function of z with `quadratic_coupling`, `quartic_coupling` and `log_normaliser`.

        Its couplings run with the layer (`nearly_gaussian(…, layer=l)`) and with m. PDLT ch. 1, 4. Orders 1 and 1/n.
        """
        return QuarticAction(self.K, self.shift, self.fluctuation, self.neurons)

    def log_density(self, z: Any) -> Array:
        """log p(z) = log N(z; 0, K) + c(z) = −action(z) − log Z, the exponentiated form; (…, m, N) to (…).

        Source: PDLT ch. 1, 4; c is written in `finitewidth.information.action`. Orders 1 and 1/n. Positive, and
        normalised to order 1/n where c is small: at large z the action falls without bound, and e^{log p} has no
        integral.

        Raises
            InputError: for shapes that do not match, and where K is not positive definite.

        Warns
            TrustWarning: where √⟨c²⟩ = `action.size` is beyond 0.5, and the action describes no typical z.
        """
        z = self._checked(z)
        return self.action.gaussian(z) + self.action.correction(z)

    def density(self, z: Any) -> Array:
        """p(z) = N(z; 0, K) (1 + c(z)), the expanded form; (…, m, N) to (…).

        Source: PDLT ch. 1, 4. Orders 1 and 1/n. Its integral is 1 and its moments are those of order 1/n exactly, at
        every n; where c < −1 it is negative. Raises and warns as `log_density`.
        """
        z = self._checked(z)
        return np.exp(self.action.gaussian(z)) * (1 + self.action.correction(z))

    def sample(self, size: int, *, key: jax.Array | int = 0) -> Array:
        """`size` draws of the m neurons on the N inputs, (size, m, N): z ~ N(0, Ĝ), one positive Ĝ a draw.

        Ĝ has the mean K + G1/n and the covariance V/n, so that all moments are right to order 1/n (see
        `finitewidth.information.mixture`).

        Arguments
            key: a JAX random key, or a whole number from 0 to 2³² − 1 from which one is made. The same key gives the
                same numbers.

        Raises
            InputError: for sizes and keys that are none.
        """
        tensors = {"K": self.K, "shift": self.shift, "fluctuation": self.fluctuation}
        error = float(self.V_error.max()) / self.n
        return mixture_sample(_key(key), whole_number("size", size), self.neurons, error=error, **tensors)

    def _checked(self, z: Any) -> Array:
        z = np.asarray(z, dtype=np.float64)
        shape = (self.neurons, len(self.K))
        if z.shape[-2:] != shape:
            raise InputError(
                f"`z` must have the shape (…, neurons, inputs) = (…, {shape[0]}, {shape[1]}), but has {z.shape}"
            )
        if self.action.size > TRUSTED:
            warnings.warn(
                f"first order in 1/n cannot be trusted for the density of {shape[0]} neurons on {shape[1]} inputs: it "
                f"changes it by {self.action.size:.3g} of itself (root mean square), and the quartic action, which has "
                "no lower bound at large z, is then no guide to typical z either. Use fewer neurons or inputs, or a "
                "larger width; `sample` draws from a density that is positive",
                TrustWarning,
                stacklevel=3,
            )
        return z


def _key(value: Any) -> jax.Array:
    if isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) < 1 << 32:
        return jax.random.key(int(value))
    if isinstance(value, jax.Array) and (jnp.issubdtype(value.dtype, jax.dtypes.prng_key) or value.shape == (2,)):
        return value
    raise InputError(f"`key` must be a whole number from 0 to 2**32 - 1 or a key of jax.random.key, but got {value!r}")


def nearly_gaussian(net: MLP, x: Any, *, layer: int | None = None, neurons: int | None = None) -> NearlyGaussian:
    """The distribution of a network's outputs over initialisations, to order 1/n.

    Source: PDLT ch. 1, 4. Orders 1 and 1/n; order 1/n² is dropped.

    Arguments
        net: the network.
        x: inputs, shape (N, n_in); N up to 16.
        layer: which layer's preactivations, 1 … L; None for the last, the network's outputs.
        neurons: m, how many neurons of that layer to look at together; None for all of them.

    Returns
        A `NearlyGaussian`: correlators, kurtosis, variances of norms, the density with its action, samples.

    Raises
        InputError: naming the argument, its value and the remedy.

    Warns
        TrustWarning: where V/(nK²) at the last layer says that first order is not enough at this width.

    >>> import finitewidth as fw
    >>> net = fw.MLP("relu", depth=5, width=100, C_W=2.0)  # critical: V/K² = 5 (L − 1)
    >>> fw.nearly_gaussian(net, [[3.0, 4.0]]).kurtosis.round(12)  # 3 × 20/100
    array([0.6])
    """
    x = check_inputs(x)
    net = must_be_plain(net, "the nearly-Gaussian distribution")
    layer = net.depth if layer is None else whole_number("layer", layer)
    if layer > net.depth:
        raise InputError(f"`layer` must be between 1 and the depth {net.depth}, but got {layer}")
    size = (*net.widths, net.n_out)[layer - 1]
    neurons = size if neurons is None else whole_number("neurons", neurons)
    if neurons > size:
        raise InputError(f"`neurons` is {neurons}, but layer {layer} has {size}; give at most {size}, or None for all")
    tensors = flow(net, x, order=1, tensors="V,G1", layers=[layer]).isel(layer=0)
    K, G1, V, G1_error, V_error = (tensors[name].values for name in ("K", "G1", "V", "G1_error", "V_error"))
    return NearlyGaussian(K, G1, V, G1_error, V_error, n=(x.shape[1], *net.widths)[layer - 1], neurons=neurons)
