r"""The tangent kernel after training, to order 1/n: what features have been learned (PDLT §11.1, §11.4, §∞.2.1).

    dH_AB/dt = − (dH_ABC + dH_BAC) ε_C ,     d(dH_ABC)/dt = − (ddI_ABCD + ddII_{AB;CD} + ddII_{AC;BD}) ε_D

(a step of descent adds its own second order), A = (i, a). Integrated along the free evolution of the residuals, mode by
mode ε_c(t) = q_c(t) e_c, and averaged over initialisations with n⟨dH_ABC z_E⟩ from P and Q, n⟨ddH⟩ from R, S, T, U,

    E H_AB(t) = Θ_AB + (1/n) [ H1_AB − Σ_c τ_c n⟨(dH_ABC + dH_BAC) e_C⟩ + Σ_cd X_cd n⟨W_ABCD⟩ ⟨e_C e_D⟩ + … ] ,

where τ and X are simplex integrals (`TimeKernels`, a = 0: nothing decays after the kernel has moved), and the dots the
second order of a finite step. Cumulants in which three of H, dH and z meet are of order 1/n² and left out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from finitewidth.algorithms import Algorithm, GradientDescent, GradientFlow
from finitewidth.architecture import MLP
from finitewidth.errors import InputError
from finitewidth.flow import flow
from finitewidth.flow.first_order import MOST_INPUTS
from finitewidth.precision import in_float64
from finitewidth.training.crossings import kernel_crossings
from finitewidth.training.first_order import Terms, total
from finitewidth.training.free import FreeEvolution
from finitewidth.training.infinite_width import Kernels
from finitewidth.training.left_out import left_out, left_out_notes
from finitewidth.training.modes import check_step, largest_rate
from finitewidth.training.problem import Problem
from finitewidth.training.result import dataset, labelled
from finitewidth.training.slots import in_training_order
from finitewidth.training.time_kernels import TimeKernels

_MOVED = ("dNTK", "ddNTK_I", "ddNTK_II")
_NEEDED = ("H1", "P", "Q", "R", "S", "T", "U")
_REPLICAS = 4


@dataclass(frozen=True)
class TrainedKernel:
    """E H over initialisations, on the inputs asked about. Made by `fw.trained_kernel`.

    Everything is labelled (sample, output, sample_b, output_b), as covariances of `fw.predict` are.

    Attributes
        infinite: Θ δ_ij, which training does not change.
        terms: coefficients of 1/n by their source: `H1`, the mean at initialisation; `dNTK` (P, Q), `ddNTK_I` (R) and
            `ddNTK_II` (S, T, U), what training adds.
        error: numerical errors of `mean` from those of the tensors.
        n: the width of the layer before the output.
        notes: what a reader must know, such as terms that kinks leave out.
        left_out: where σ has kinks, what `mean` lacks: `mean` of order 1/√n, estimated, its standard error
            `mean_error`, and `mean_size`, how large all that is left out may be (`finitewidth.training.left_out`);
            else None.
    """

    infinite: xr.DataArray
    terms: xr.Dataset
    error: xr.DataArray
    n: int
    notes: tuple[str, ...] = ()
    left_out: xr.Dataset | None = None

    @property
    def initial(self) -> xr.DataArray:
        """E H before training, order 1/n included."""
        return self.infinite + self.terms["H1"] / self.n

    @property
    def change(self) -> xr.DataArray:
        """E[H(t) − H(0)], of order 1/n."""
        return sum((self.terms[name] for name in _MOVED), xr.zeros_like(self.infinite)) / self.n

    @property
    def mean(self) -> xr.DataArray:
        """E H(t), order 1/n included."""
        return self.initial + self.change


@in_float64
def trained_kernel(
    net: MLP,
    x_train: Any,
    y_train: Any,
    x_test: Any = None,
    *,
    algorithm: Algorithm = GradientFlow(),  # noqa: B008  (frozen)
) -> TrainedKernel:
    """The mean tangent kernel of trained networks, H_(ia)(jb) after training, to order 1/n.

    At infinite width it stays Θ. At order 1/n features are learned: the kernel grows along the labels, within and
    between outputs. Loss ½ Σ (z − y)².

    Source: PDLT §11.1 (dNTK), §11.4 (effective kernel), §∞.2 (ddNTKs); THEORY-TRAINED §2, §3. Order 1/n² is dropped.

    Arguments
        net: the network; λ_b and λ_W are its learning-rate tensor.
        x_train: training inputs, shape (N_T, n_in). y_train: their targets, shape (N_T,) or (N_T, n_L).
        x_test: inputs between which the kernel is wanted, shape (N_X, n_in); None for the training inputs. Up to 16
            different ones with those of training.
        algorithm: `fw.GradientFlow` or `fw.GradientDescent`, at any time; the flow to its end unless told.

    Returns
        A `TrainedKernel`: `mean`, `initial`, `change`, `infinite`, `terms`, `error`.

    Raises
        InputError: naming the argument, its value and the remedy.

    >>> import finitewidth as fw
    >>> net = fw.MLP("tanh", depth=3, width=100, C_b=0.1, C_W=1.5)
    >>> kernel = fw.trained_kernel(net, [[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])
    >>> sorted(kernel.terms), kernel.change.shape
    (['H1', 'dNTK', 'ddNTK_I', 'ddNTK_II'], (2, 1, 2, 1))
    """
    if not isinstance(algorithm, GradientFlow | GradientDescent):
        raise InputError(f"`algorithm` must be fw.GradientFlow or fw.GradientDescent here, but got {algorithm!r}")
    problem = Problem.of(net, x_train, y_train, x_test)
    if len(problem.inputs) > MOST_INPUTS:
        raise InputError(
            f"`x_train` and `x_test` hold {len(problem.inputs)} different inputs, and order 1 is computed for up to "
            f"{MOST_INPUTS} here; give fewer"
        )
    tensors = flow(net, problem.inputs, order=1, tensors=_NEEDED, layers="last").isel(layer=0)
    K, Theta, errors = tensors.K.values, tensors.Theta.values, (float(tensors.K_error), float(tensors.Theta_error))
    kernels = Kernels(K, Theta, *errors, problem.train, problem.test)
    check_step(algorithm, largest_rate(kernels.Theta_TT))
    free = FreeEvolution.of(algorithm, kernels, problem.targets)
    time = TimeKernels(algorithm, free.rates)
    terms = kernel_terms(free, time, _values(tensors, ""))
    of_tensors, rng = _values(tensors, "_error"), np.random.default_rng(0)
    moved = []  # linear in the tensors: their errors, each entry with a sign of its own, go the same way
    for _ in range(_REPLICAS):
        off = {name: error * rng.choice([-1.0, 1.0], error.shape) for name, error in of_tensors.items()}
        moved.append(np.abs(total(kernel_terms(free, time, off))))
    n, at = net.widths[-1] if net.widths else 1, problem.test
    one = np.eye(free.outputs)

    def asked(value: np.ndarray) -> np.ndarray:
        return value[at][:, :, at]

    of_Theta = np.full(terms["H1"].shape, kernels.Theta_error)
    by_source = {name: asked(each) for name, each in terms.items()}
    lacking = _left_out(net, algorithm, kernels, problem, by_source)
    return TrainedKernel(
        labelled(asked(np.einsum("ab,ij->aibj", kernels.Theta, one))),
        dataset(by_source),
        labelled(asked(of_Theta + np.max(moved, axis=0) / n)),
        n,
        (*filter(None, [tensors.attrs["notes"]]), *left_out_notes(lacking, n)),
        lacking,
    )


def _left_out(
    net: MLP, algorithm: GradientFlow | GradientDescent, kernels: Kernels, problem: Problem, terms: Terms
) -> xr.Dataset | None:
    if not net.activation.kinks:
        return None
    every = flow(net, problem.inputs, tensors="")
    crossed = kernel_crossings(net, algorithm, kernels, every.K.values, every.Theta.values, problem.targets)
    return None if crossed is None else dataset(left_out({"mean": crossed}, {"mean": terms}, net.widths[-1]))


def _values(tensors: xr.Dataset, suffix: str) -> Terms:
    found = {name: in_training_order(tensors, name + suffix) for name in "PQRSTU"}
    return found | {"H1": tensors["H1" + suffix].values}


def kernel_terms(free: FreeEvolution, time: TimeKernels, tensors: Terms) -> Terms:
    """Coefficients of 1/n of E H_(ia)(jb)(t) between all inputs, axes (a, i, b, j) each."""
    one, (X, Y) = np.eye(free.outputs), (each[0] for each in time.dNTK)
    P, Q, R, S, T, U = (tensors[name] for name in "PQRSTU")
    terms = {
        # n⟨dH_ABC e_C⟩: (AB)(CC) Q_abcc, (AC)(BC) Q_acbc, and (AC)(BC) P_acbc
        "dNTK": -_alike(_both_ways(_of_dNTK(free, time.T1[0], P, Q)), one),
        "ddNTK_I": _of_two_residuals(free, X + Y, (R, "abcd"), (R, "acbd"), (R, "adbc"))
        + _of_two_residuals(free, X + Y, (R, "bacd"), (R, "bdac"), (R, "bcad")),
        "ddNTK_II": _of_two_residuals(free, X + 2 * Y, (S, "abcd"), (T, "acbd"), (U, "adbc"))
        + _of_two_residuals(free, X, (S, "bacd"), (U, "bdac"), (T, "bcad"))
        + _of_two_residuals(free, X, (T, "abcd"), (S, "acbd"), (U, "adcb"))
        + _of_two_residuals(free, X, (T, "bacd"), (U, "bdca"), (S, "bcad")),
    }
    return {"H1": _alike(tensors["H1"], one), **terms}


def _alike(shared: np.ndarray, one: np.ndarray) -> np.ndarray:
    return np.einsum("ab,ij->aibj", shared, one)


def _both_ways(found: np.ndarray) -> np.ndarray:
    return found + found.T


def _of_dNTK(free: FreeEvolution, tau: np.ndarray, P: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Σ_c τ_c n⟨dH_ABC e_C⟩, its factor of δ_ij, (a, b): the mean of e leaves nothing, ⟨dH⟩ = 0."""
    summed = np.einsum("uc,c,vc->uv", free.slot, tau, free.slot)
    found = free.outputs * np.einsum("abuv,uv->ab", Q, summed)
    return found + np.einsum("aubv,uv->ab", Q + P, summed)


def _of_two_residuals(free: FreeEvolution, weight: np.ndarray, *pairings: tuple[np.ndarray, str]) -> np.ndarray:
    """Σ_cd weight_cd X_ABCD ⟨e_C e_D⟩ with ⟨e_kc e_md⟩ = y_kc y_md + δ_km K_cd, axes (a, i, b, j).

    `pairings`: of neurons (AB)(CD), (AC)(BD), (AD)(BC), for each a tensor and the places of its slots.
    """
    one, slot, y = np.eye(free.outputs), free.slot, free.y
    (first, places), *crossed = pairings
    alike = slot @ (weight * (free.yy + free.outputs * free.K)) @ slot.T
    found = _alike(np.einsum(f"{places},cd->ab", first, alike), one)
    alike = slot @ (weight * free.K) @ slot.T
    apart = np.einsum("cm,mi,mn,nj,dn->cidj", slot, y, weight, y, slot, optimize=True)
    for (tensor, places), outputs in zip(crossed, ("cidj", "cjdi"), strict=True):
        found = found + _alike(np.einsum(f"{places},cd->ab", tensor, alike), one)
        found = found + np.einsum(f"{places},{outputs}->aibj", tensor, apart, optimize=True)
    return found
