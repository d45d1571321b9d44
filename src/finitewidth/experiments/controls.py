"""Control variates for trained networks: what is subtracted, and where its mean comes from.

Trained outputs differ between networks by order one, what finite width does to their mean and covariance is of order
1/n. Beside every trained network its linearisation is trained alike, which follows from its outputs and tangent kernel
at initialisation: z^H. From it z differs by order 1/n only. So of a cumulant θ of the trained outputs, θ_c the same of
z^H over the same networks, and E θ_c measured well,

    θ − β (θ_c − E θ_c)

has the same expectation and, with the right β, a smaller variance. E θ_c needs no training, and is itself measured in
two parts: any moment m of z^H is

    E m(z^H)  =  E[ m(z^H) − m(z^Θ) ]  +  E m(z^Θ)            z^Θ   with one kernel Θ for all networks,

exactly, whatever Θ is: each average is taken over networks of its own, and independent of Θ. The first is of a
difference of order 1/√n. All are taken over many more networks than are trained, and their errors enter.

- z^H: kernels by backward passes, outputs from them. Of each network also that whose last layer has the other sign,
  which is as likely and has the same kernel: terms odd in z(0) cancel exactly.
- z^Θ: for squared loss without batches an affine function of z(0), and z(0) given the hidden layers is Gaussian, of
  covariance Ĝ = C_b + (C_W/n) Σ_j σ_j σ_j. So the moments given the hidden layers are closed forms, the mean is known
  exactly (E z(0) = 0), and only Ĝ is sampled. For other losses, and with batches, z(0) is drawn, in both signs.

Θ may be the kernel of infinite width; if not given it is the mean tangent kernel of some networks more, which fits
better at finite width. (Multilevel Monte Carlo: Giles, Acta Numerica 24 (2015) 259.)
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.architecture import MLP
from finitewidth.experiments.courses import Course
from finitewidth.experiments.descriptions import describe_array
from finitewidth.experiments.experiment import Quantity
from finitewidth.experiments.linearised import is_affine, linearised, response
from finitewidth.experiments.moments import less, of_both_signs, of_gaussian
from finitewidth.experiments.networks import layers, preactivations
from finitewidth.experiments.tangent_kernel import tangent_kernel
from finitewidth.experiments.trained_networks import Arrays, Data, NetworksByNumber


class TangentKernels(NetworksByNumber):
    """The mean tangent kernel at initialisation, between all inputs and those of training: H_ab, (N, N_T)."""

    kind, stream = "tangent kernels", 1

    def one(self, key: jax.Array, order_key: jax.Array, arrays: Arrays) -> dict[str, jax.Array]:
        x, _ = arrays
        H = tangent_kernel(self.net, self.draw(key), x, onto=self.data.trained)
        return {"H": jnp.einsum("iaib->ab", H) / self.net.n_out}

    def quantities(self) -> Mapping[str, Quantity]:
        return {"H": Quantity(lambda m: m["H"], ("sample", "sample_b"))}


class _WithOneKernel(NetworksByNumber):
    """Θ for all networks; kernel: (N, N_T)."""

    def __init__(self, net: MLP, data: Data, course: Course, *, seed: int, kernel: np.ndarray) -> None:
        super().__init__(net, data, course, seed=seed)
        self.kernel = kernel

    def describe(self) -> Mapping[str, Any]:
        return {**super().describe(), "kernel": describe_array(self.kernel)}

    def quantities(self) -> Mapping[str, Quantity]:
        return {name: _average(name) for name in ("first", "second", "third", "fourth")}

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return *super().arrays, self.kernel

    def full(self, kernel: jax.Array) -> jax.Array:
        """Θ_ab δ_ij, (n_out, N, n_out, N_T)."""
        return jnp.einsum("ab,ij->iajb", kernel, jnp.eye(self.net.n_out))

    def _without_numbers(self) -> NetworksByNumber:
        alone = super()._without_numbers()
        del alone.__dict__["kernel"]
        return alone


class LinearisedNetworks(_WithOneKernel):
    """Moments of networks' own linearisations less those with one kernel for all."""

    kind, stream = "linearised networks", 2

    def one(self, key: jax.Array, order_key: jax.Array, arrays: Arrays) -> dict[str, jax.Array]:
        (x, y, one), parameters = arrays, self.draw(key)
        H, z = tangent_kernel(self.net, parameters, x, onto=self.data.trained), preactivations(self.net, parameters, x)

        def trained(kernel: jax.Array) -> Any:
            return of_both_signs(lambda z: linearised(kernel, z, y, course=self.course, key=order_key), z)

        return less(trained(H), trained(self.full(one)))


class LinearisedAlike(_WithOneKernel):
    """Moments with one kernel for all networks."""

    kind, stream = "linearised alike", 3

    def one(self, key: jax.Array, order_key: jax.Array, arrays: Arrays) -> dict[str, jax.Array]:
        x, y, one = arrays
        parameters, Theta = self.draw(key), self.full(one)
        if not is_affine(self.course):
            z = preactivations(self.net, parameters, x)
            return of_both_signs(lambda z: linearised(Theta, z, y, course=self.course, key=order_key), z)
        net, few, n_out = self.net, self.data.trained, self.net.n_out
        signal = x.T if net.depth == 1 else net.activation(layers(net, parameters[:-1], x)[-1])
        G = net.per_layer("C_b")[-1] + net.per_layer("C_W")[-1] / signal.shape[0] * signal.T @ signal
        learned = response(Theta[:1, :, :1], self.course)[:, 0, :, 0]  # outputs learn alike, each by itself
        mean = jnp.einsum("tab,ib->tia", learned, y)
        left = jnp.eye(x.shape[0]) - jnp.pad(learned, ((0, 0), (0, 0), (0, x.shape[0] - few)))
        covariance = jnp.einsum("tac,cd,tbd,ij->tiajb", left, G, left, jnp.eye(n_out))
        return of_gaussian(mean, covariance)


def _average(name: str) -> Quantity:
    return Quantity(lambda m: m[name])
