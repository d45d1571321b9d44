"""The neural tangent kernel of one network by backward passes alone (FACTS 1.2).

    H_(ia)(jb) = Σ_ℓ [ λ_b + (λ_W/n_{ℓ-1}) Σ_k s_ka s_kb ] Σ_m δ_(ia)m δ_(jb)m ,    δ_(ia)m = ∂z_ia / ∂z⁽ℓ⁾_ma ,

s the signals that enter layer ℓ (x, then σ). Inputs do not see each other, so that one backward pass for every output
gives the δ of all inputs at once: the kernel costs n_out passes and products of matrices, not a gradient in all
parameters for each of N inputs as `Derivatives.H`, which it is tested against.
"""

import jax
import jax.numpy as jnp

from finitewidth.architecture import MLP
from finitewidth.experiments.networks import Parameters, Signals, layers


def tangent_kernel(net: MLP, parameters: Parameters, x: jax.Array, *, onto: int | None = None) -> jax.Array:
    """H_(ia)(jb) of one network: axes (i, a, j, b).

    Arguments
        net, parameters: the network.
        x: (N, n_in) inputs.
        onto: b runs over the first so many of the inputs only, such as those of training; over all when None.
    """
    few = x.shape[0] if onto is None else onto
    n_out = parameters[-1].b.shape[0]
    still = tuple(jnp.zeros((layer.b.shape[0], x.shape[0])) for layer in parameters)

    def outputs(moved: Signals) -> tuple[jax.Array, Signals]:
        seen = layers(net, parameters, x, moved=moved)
        return seen[-1], seen

    _, pull, seen = jax.vjp(outputs, still, has_aux=True)
    units = jnp.broadcast_to(jnp.eye(n_out)[:, :, None], (n_out, n_out, x.shape[0]))
    deltas = jax.vmap(lambda unit: pull(unit)[0])(units)  # for every layer (i, n_ℓ, a)
    signals = (x.T, *(net.activation(z) for z in seen[:-1]))
    lambda_b, lambda_W = net.per_layer("lambda_b"), net.per_layer("lambda_W")
    H = jnp.zeros((n_out, x.shape[0], n_out, few))
    for l, (signal, delta) in enumerate(zip(signals, deltas, strict=True)):
        before = lambda_b[l] + (lambda_W[l] / signal.shape[0]) * signal.T @ signal[:, :few]
        H += before[:, None, :] * jnp.einsum("ima,jmb->iajb", delta, delta[:, :, :few])
    return H
