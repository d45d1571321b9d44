"""Built-in observables of trained networks, by name; z, H and loss are those after training, a … the inputs looked at.

mean               E[z_ia]
covariance         Cov[z_ia, z_jb]
loss               E[𝓛] of the training inputs
H                  E[H_(ia)(ib)], averaged over the outputs i
H_moved            √( E|H(t) − H(0)|² / E|H(0)|² ), norms over inputs and outputs
z_moved            √( E|z⁽ℓ⁾(t) − z⁽ℓ⁾(0)|² / E|z⁽ℓ⁾(0)|² ) of every layer
parameters_moved   √( E|θ⁽ℓ⁾(t) − θ⁽ℓ⁾(0)|² / E|θ⁽ℓ⁾(0)|² ) of every layer, biases and weights
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finitewidth.errors import InputError
from finitewidth.experiments.observables import Observable
from finitewidth.experiments.statistics import Averages
from finitewidth.experiments.tensors import TENSORS

Parts = dict[str, jax.Array]


def _mean(network: Any) -> jax.Array:
    return network.z()


def _products(network: Any) -> Parts:
    z = network.z()
    return {"first": z, "product": jnp.einsum("ia,jb->iajb", z, z)}


def _connected(averages: Averages) -> np.ndarray:
    first = averages["first"]
    return averages["product"] - np.einsum("ria,rjb->riajb", first, first)


def _loss(network: Any) -> jax.Array:
    return network.loss


def _kernel(network: Any) -> jax.Array:
    return jnp.einsum("iaib->ab", network.H) / network.net.n_out


def _kernel_moved(network: Any) -> Parts:
    H, before = _kernel(network), _kernel(network.before)
    return {"moved": jnp.sum((H - before) ** 2), "before": jnp.sum(before**2)}


def _z_moved(network: Any) -> Parts:
    pairs = [(network.z(l), network.before.z(l)) for l in range(1, network.net.depth + 1)]
    return {
        "moved": jnp.stack([jnp.sum((now - old) ** 2) for now, old in pairs]),
        "before": jnp.stack([jnp.sum(old**2) for _, old in pairs]),
    }


def _parameters_moved(network: Any) -> Parts:
    pairs = list(zip(network.parameters, network.before.parameters, strict=True))
    return {
        "moved": jnp.stack([jnp.sum((now.b - old.b) ** 2) + jnp.sum((now.W - old.W) ** 2) for now, old in pairs]),
        "before": jnp.stack([jnp.sum(old.b**2) + jnp.sum(old.W**2) for _, old in pairs]),
    }


def _relative(averages: Averages) -> np.ndarray:
    return np.sqrt(averages["moved"] / averages["before"])


TRAINED = {
    each.name: each
    for each in (
        Observable("mean", _mean, ("output", "a")),
        Observable("covariance", _products, ("output", "a", "output_b", "b"), _connected),
        Observable("loss", _loss, needs="weights"),
        Observable("H", _kernel, ("a", "b"), needs="H"),
        Observable("H_moved", _kernel_moved, (), _relative, needs="H"),
        Observable("z_moved", _z_moved, ("layer",), _relative),
        Observable("parameters_moved", _parameters_moved, ("layer",), _relative, needs="weights"),
    )
}


def of_trained(observables: Any) -> Any:
    """The observables with names replaced by what they mean for trained networks.

    Raises
        InputError: for a name that means nothing for them.
    """
    if isinstance(observables, str) or not isinstance(observables, Sequence):
        return observables  # refused by whoever reads them next
    return [_named(each) if isinstance(each, str) else each for each in observables]


def _named(name: str) -> Observable | str:
    if name in TRAINED:
        return TRAINED[name]
    if name == "gradient_norms":
        return name
    if name in TENSORS:
        raise InputError(
            f"`observables` has {name!r}, a tensor of networks at initialisation; of trained ones ask for "
            f"{', '.join(TRAINED)}, or for what fw.observables makes, such as moment('i')"
        )
    known = [*TRAINED, "gradient_norms"]
    near = get_close_matches(name, known, n=1)
    raise InputError(
        f"`observables` has {name!r}, but the names of trained networks' are {', '.join(known)}"
        + (f"; did you mean {near[0]!r}?" if near else "; make others with fw.observables")
    )
