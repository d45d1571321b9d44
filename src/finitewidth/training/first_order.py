r"""Mean and covariance of trained outputs at order 1/n, by source (THEORY-TRAINED §4, §5; PDLT §10.2, §11.4, §∞.2).

The free evolution is Gaussian: e_b = z_b(0) − y_b has the mean −y_b and, with the output at x, the covariance KE_bx.
Averaging the response over it, with ⟨ΔH ΔH⟩, ⟨ΔH z z⟩, ⟨dH z⟩, ⟨ddH⟩ for what the network brings, gives every term:

    H1          shift of the mean NTK
    NTK         fluctuation of the NTK, A and B
    NTK_output  its correlation with the outputs, D and F (covariance only)
    dNTK        P and Q
    ddNTK_I     R
    ddNTK_II    S, T, U
    G1          shift of the mean kernel (covariance only)
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from finitewidth.algorithms import GradientDescent, GradientFlow
from finitewidth.errors import InputError
from finitewidth.training.connected import Connected
from finitewidth.training.free import FreeEvolution
from finitewidth.training.infinite_width import Kernels
from finitewidth.training.responses import Responses, Tensors, responses
from finitewidth.training.slots import IN_TRAINING_ORDER, in_training_order
from finitewidth.training.time_kernels import TimeKernels

Terms = dict[str, np.ndarray]
WITHOUT_NTK = (
    "`net`: σ jumps, or its slope grows so fast at a kink that its NTK fluctuates without bound; give order=0, or "
    "fw.Bayes()"
)
_REPLICAS = 4


@dataclass(frozen=True)
class Corrections:
    """Terms of first order by their source, coefficients of 1/n, and the numerical errors of their sums.

    mean: (X, n_L) each. covariance: (X, n_L, X, n_L) each. mean_error, variance_error: (X, n_L).
    connected: what three- and four-point functions follow from, where it is known.
    """

    mean: Terms
    covariance: Terms
    mean_error: np.ndarray | float = 0.0
    variance_error: np.ndarray | float = 0.0
    connected: Connected | None = None


def corrections(
    algorithm: GradientFlow | GradientDescent, kernels: Kernels, targets: np.ndarray, tensors: xr.Dataset
) -> Corrections:
    """The terms for gradient flow and gradient descent, at any time.

    Arguments
        targets: y, (N_T, n_L). tensors: of the last layer over all inputs, as `flow` gives them, with their errors.
    """
    if "A" not in tensors:
        raise InputError(WITHOUT_NTK)
    free = FreeEvolution.of(algorithm, kernels, targets)
    time = TimeKernels(algorithm, free.rates)
    value = {name: in_training_order(tensors, name) for name in IN_TRAINING_ORDER}
    value |= {name: tensors[name].values for name in ("G1", "H1")}
    response = responses(free, time, value)
    mean, covariance = mean_terms(free, response), covariance_terms(free, response, value)
    # everything is linear in the tensors: their errors, each entry with a sign of its own, go the same way
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(_REPLICAS):
        off = {name: error * rng.choice([-1.0, 1.0], error.shape) for name, error in _errors(tensors).items()}
        moved = responses(free, time, off)
        errors.append((total(mean_terms(free, moved)), _variance(total(covariance_terms(free, moved, off)))))
    mean_error, variance_error = (np.abs(np.stack(each)).max(0) for each in zip(*errors, strict=True))
    return Corrections(mean, covariance, mean_error, variance_error, Connected(free, time, response, tensors))


def _errors(tensors: xr.Dataset) -> Terms:
    found = {name: in_training_order(tensors, f"{name}_error") for name in IN_TRAINING_ORDER}
    return found | {name: tensors[f"{name}_error"].values for name in ("G1", "H1")}


def _variance(covariance: np.ndarray) -> np.ndarray:
    return np.einsum("xixi->xi", covariance)


def total(terms: Terms) -> np.ndarray:
    """Their sum."""
    return np.sum(list(terms.values()), axis=0)


def mean_terms(free: FreeEvolution, response: Responses) -> Terms:
    """Coefficients of 1/n of E z, (X, n_L) each."""
    y, n_L = free.y, free.outputs
    paired, with_e = (np.einsum("xbce,ed->xbcd", each, free.slot) for each in response.dNTK)
    left = np.einsum("xbcb->xc", paired + with_e) + np.einsum("xbcc->xb", n_L * paired + with_e)
    return {
        "H1": response.shift @ y,
        "NTK": -response.second @ y,
        "dNTK": -left @ y,
        "ddNTK_I": _cubic_mean(free, response.ddNTK_I),
        "ddNTK_II": _cubic_mean(free, response.ddNTK_II),
    }


def _cubic_mean(free: FreeEvolution, C: np.ndarray) -> np.ndarray:
    """−E of −C e_ib e_c·e_d."""
    y = free.y
    own = np.einsum("xbcd,cd->xb", C, free.yy + free.outputs * free.K)
    own = own + np.einsum("xcdb,cd->xb", C, free.K) + np.einsum("xcbd,cd->xb", C, free.K)
    return own @ y


def covariance_terms(free: FreeEvolution, response: Responses, tensors: Tensors) -> Terms:
    """Coefficients of 1/n of Cov[z, z], (X, n_L, X, n_L) each."""
    delta = np.eye(free.outputs)
    halves = {
        "H1": _over_outputs(-response.shift @ free.KE, delta),
        "NTK": _over_outputs(response.second @ free.KE, delta),
        "NTK_output": _over_outputs(-response.with_output @ free.P.T, delta),
        "dNTK": _quadratic_covariance(free, response.dNTK),
        "ddNTK_I": _cubic_covariance(free, response.ddNTK_I),
        "ddNTK_II": _cubic_covariance(free, response.ddNTK_II),
    }
    terms = {name: half + half.transpose(2, 3, 0, 1) for name, half in halves.items()}
    terms["NTK"] = terms["NTK"] + _pair_covariance(free, response.pair)
    return {"G1": _over_outputs(free.P @ tensors["G1"] @ free.P.T, delta), **terms}


def _over_outputs(shared: np.ndarray, delta: np.ndarray) -> np.ndarray:
    return np.einsum("xy,ij->xiyj", shared, delta)


def _pair_covariance(free: FreeEvolution, pair: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """The NTK fluctuates for both outputs: A pairs each with its own residual, B the outputs or crosses."""
    A, B, crossing = pair
    y, delta = free.y, np.eye(free.outputs)
    shared = np.einsum("xbyd,bd->xy", A + crossing, free.K)
    shared = shared + np.einsum("xybd,bd->xy", B, free.yy + free.outputs * free.K)
    apart = np.einsum("xbyd,bi,dj->xiyj", A, y, y, optimize=True)
    return _over_outputs(shared, delta) + apart + np.einsum("xbyd,bj,di->xiyj", crossing, y, y, optimize=True)


def _quadratic_covariance(free: FreeEvolution, dNTK: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Cov of dNTK e_B e_C with z_jy: the dNTK meets either residual, or the other output."""
    y, KE, delta, n_L = free.y, free.KE, np.eye(free.outputs), free.outputs
    paired, with_e = (np.einsum("xbce,ed->xbcd", each, free.slot) for each in dNTK)
    left = np.einsum("xbcb->xc", paired + with_e) + np.einsum("xbcc->xb", n_L * paired + with_e)
    paired, with_e = (np.einsum("xbce,ye->xbcy", each, free.P) for each in dNTK)
    shared = left @ KE + np.einsum("xbcy,bc->xy", paired, free.K)
    shared = shared + np.einsum("xbcy,bc->xy", with_e, free.yy + n_L * free.K)
    return _over_outputs(shared, delta) + np.einsum("xbcy,bi,cj->xiyj", paired, y, y, optimize=True)


def _cubic_covariance(free: FreeEvolution, C: np.ndarray) -> np.ndarray:
    """−C_{xbcd} Cov(e_ib e_c·e_d, z_jy)."""
    y, KE, delta = free.y, free.KE, np.eye(free.outputs)
    own = np.einsum("xbcd,cd->xb", C, free.yy + free.outputs * free.K)
    partner = C + C.transpose(0, 1, 3, 2)  # e_c with the output at y, e_d left, and the other way round
    own = own + np.einsum("xbcd,bd->xc", partner, free.K)
    crossed = np.einsum("xbcd,cy,bi,dj->xiyj", partner, KE, y, y, optimize=True)
    return -(_over_outputs(own @ KE, delta) + crossed)
