"""Moments of trained outputs, as networks contribute them, and the cumulants that averages of them give.

    first   z_A ,     second   z_A z_B ,     third   z_A³ ,     fourth   z_A⁴            A = (output i, input a)

of one time each. Mean and covariance are of all pairs; the third and fourth cumulants of each output by itself.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.experiments.experiment import Quantity

Moments = dict[str, jax.Array]


def moments(z: jax.Array) -> Moments:
    """What one network contributes; z: (times, n_out, N)."""
    return {"first": z, "second": jnp.einsum("tia,tjb->tiajb", z, z), "third": z**3, "fourth": z**4}


def of_gaussian(mean: jax.Array, covariance: jax.Array) -> Moments:
    """Moments of Gaussian outputs: mean (times, n_out, N), covariance (times, n_out, N, n_out, N)."""
    variance = jnp.einsum("tiaia->tia", covariance)
    return {
        "first": mean,
        "second": covariance + jnp.einsum("tia,tjb->tiajb", mean, mean),
        "third": mean**3 + 3 * mean * variance,
        "fourth": mean**4 + 6 * mean**2 * variance + 3 * variance**2,
    }


def of_both_signs(outputs: Callable[[jax.Array], jax.Array], z: jax.Array) -> Moments:
    """The mean of the moments of outputs(z) and outputs(−z).

    A network whose last layer has changed its sign is as likely as the network, and has the same tangent kernel.
    """
    plus, minus = moments(outputs(z)), moments(outputs(-z))
    return {name: (plus[name] + minus[name]) / 2 for name in plus}


def less(one: Moments, other: Moments) -> Moments:
    """The difference of two sets of moments."""
    return {name: one[name] - other[name] for name in one}


def cumulants(times: tuple[float, ...], prefix: str = "") -> dict[str, Quantity]:
    """Mean, covariance, third and fourth cumulant, from averages of moments named prefix + first, …"""

    def quantity(statistic: Callable[[Mapping[str, np.ndarray]], np.ndarray], *dims: str) -> Quantity:
        def of_mine(averages: Mapping[str, np.ndarray]) -> np.ndarray:
            return statistic({name: averages[prefix + name] for name in ("first", "second", "third", "fourth")})

        return Quantity(of_mine, ("time", "output", "sample", *dims), {"time": np.array(times)})

    return {
        "mean": quantity(lambda m: m["first"]),
        "covariance": quantity(
            lambda m: m["second"] - np.einsum("rtia,rtjb->rtiajb", m["first"], m["first"]), "output_b", "sample_b"
        ),
        "third_cumulant": quantity(_third),
        "fourth_cumulant": quantity(_fourth),
    }


def _third(m: Mapping[str, np.ndarray]) -> np.ndarray:
    mean, square = m["first"], _squares(m)
    return m["third"] - 3 * mean * square + 2 * mean**3


def _fourth(m: Mapping[str, np.ndarray]) -> np.ndarray:
    mean, square = m["first"], _squares(m)
    return m["fourth"] - 4 * mean * m["third"] - 3 * square**2 + 12 * mean**2 * square - 6 * mean**4


def _squares(m: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.einsum("rtiaia->rtia", m["second"])
