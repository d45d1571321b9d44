r"""How much a finite network learns representations: the dNTK and the ddNTKs in units of the NTK (PDLT ch. 11).

At infinite width the NTK of a trained network is that of its initialisation: features stay. Train one output on one
input to the target y by gradient flow, dz/dt = −H (z − y). With s = ∫ (z − y) dt the NTK moves as

    dH/ds = −2 dH          d(dH)/ds = −(ddI + 2 ddII)                                   (FACTS 5.3)
    H(∞) − H = −2 dH s + (ddI + 2 ddII) s² + …          s = (z − y)/Θ + …

where z, H, dH, ddI, ddII on the right are those of the initialisation. Over initialisations E[dH z] = (P + 2Q)/n,
E[ddI] = 3R/n, E[ddII] = (S + T + U)/n and E[(z − y)²] = K + y², so

    E[H(∞) − H]/Θ = −2 (P + 2Q)/(nΘ²) + (3R + 2 (S + T + U)) (K + y²)/(nΘ³) + O(1/n²) .

The ratios in it have no scale. Let z have the unit ζ and H the unit η: then dH = z″z′z′λλ has η²/ζ, and ddI and ddII
have η³/ζ². So P, Q ~ η² are measured by Θ², and R, S, T, U ~ η³/ζ² by Θ³/K: neither all λ times a number nor all z
times a number change any of them. At criticality, with the learning rates of PDLT ch. 9, each grows as ℓ/n.
"""

from typing import Any

import numpy as np
import xarray as xr

from finitewidth.architecture import MLP
from finitewidth.data import check_inputs
from finitewidth.flow import flow

_MEANINGS = {
    "dNTK_P": "P/(nΘ²)",
    "dNTK_Q": "Q/(nΘ²)",
    "ddNTK_R": "R K/(nΘ³)",
    "ddNTK_S": "S K/(nΘ³)",
    "ddNTK_T": "T K/(nΘ³)",
    "ddNTK_U": "U K/(nΘ³)",
    "dNTK": "E[dH z]/Θ² = (P + 2Q)/(nΘ²), one output",
    "ddNTK_I": "E[ddI] K/Θ³ = 3R K/(nΘ³), one output",
    "ddNTK_II": "E[ddII] K/Θ³ = (S + T + U) K/(nΘ³), one output",
    "NTK_change": "E[H(∞) − H]/Θ on one input by gradient flow to y² = K: −2 dNTK + 2 ddNTK_I + 4 ddNTK_II",
}


def representation_learning(net: MLP, x: Any) -> xr.Dataset:
    """Relative sizes of the dNTK and the ddNTKs by layer, for each input by itself; numbers without a scale.

    Source: PDLT ch. 11, App. B; the ratios are derived in `finitewidth.information.representations`.
    Order 1/n; order 1/n² is dropped. n is the width of the layer before.

    Arguments
        net: the network.
        x: inputs, shape (N, n_in); as many as wanted, each is taken by itself.

    Returns
        An `xarray.Dataset` with dimensions layer (1 … L) and a (inputs). dNTK_P, dNTK_Q = P, Q/(nΘ²); ddNTK_R, ddNTK_S,
        ddNTK_T, ddNTK_U = R, S, T, U × K/(nΘ³); of one output dNTK = E[dH z]/Θ², ddNTK_I, ddNTK_II = E[ddI, ddII] K/Θ³.
        NTK_change: the mean relative change of the NTK H(x, x) of one output that is trained on x alone, by gradient
        flow, to a target y of the network's own size, y² = K. For other targets it is
        −2 dNTK + (ddNTK_I + 2 ddNTK_II)(1 + y²/K).

    Raises
        InputError: naming the argument, its value and the remedy; for activations that jump, which have no NTK.

    Warns
        TrustWarning: where V/(nK²) at the last layer says that first order is not enough at this width.

    >>> import finitewidth as fw
    >>> net = fw.MLP("relu", depth=3, width=100, C_W=2.0)
    >>> float(fw.representation_learning(net, [[1.0, 1.0]]).dNTK_P[-1, 0])  # no curvature: σ″ = 0 almost everywhere
    0.0
    """
    x = check_inputs(x)
    alone = [flow(net, x[a : a + 1], order=1, tensors="V,P,Q,R,S,T,U") for a in range(len(x))]
    K, Theta = (np.stack([each[name].values[:, 0, 0] for each in alone], 1) for name in ("K", "Theta"))
    n = np.array([x.shape[1], *net.widths])[:, None]
    P, Q, R, S, T, U = (np.stack([each[name].values.reshape(-1) for each in alone], 1) for name in "PQRSTU")
    values = {"dNTK_P": P / (n * Theta**2), "dNTK_Q": Q / (n * Theta**2)}
    values |= {f"ddNTK_{name}": X * K / (n * Theta**3) for name, X in zip("RSTU", (R, S, T, U), strict=True)}
    values["dNTK"] = values["dNTK_P"] + 2 * values["dNTK_Q"]
    values["ddNTK_I"] = 3 * values["ddNTK_R"]
    values["ddNTK_II"] = values["ddNTK_S"] + values["ddNTK_T"] + values["ddNTK_U"]
    values["NTK_change"] = -2 * values["dNTK"] + 2 * values["ddNTK_I"] + 4 * values["ddNTK_II"]
    variables = {
        name: (("layer", "a"), values[name], {"long_name": meaning, "order_in_1/n": 1})
        for name, meaning in _MEANINGS.items()
    }
    notes = "; ".join(filter(None, dict.fromkeys(each.attrs["notes"] for each in alone)))
    coordinates = {"layer": np.arange(1, net.depth + 1), "a": np.arange(len(x))}
    return xr.Dataset(variables, coordinates, {"network": repr(net), "notes": notes})
