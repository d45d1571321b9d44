r"""Trained outputs from conjugate gradients, with the errors that their residuals leave.

Wanted are g = B A⁻¹ and a = A⁻¹ y, with B = Θ_XT, A = Θ_TT + ρ, or B = K_XT, A = K_TT + noise of the posterior. What is
found has residuals R = B − g A and r = y − A a, and

    B A⁻¹ y = g y + R a + R A⁻¹ r ,

so that the mean is known to the product of two residuals; R a, the correction that is made, is stated as its error.
The covariance is off by R D + (R D)ᵀ + …, D = A⁻¹ (K_TT gᵀ − K_TX), whose rows are measured with a few random signs ω:
E_ω (R D ω)_x² = Σ_x' (R D)²_xx' ≥ (R D)²_xx. That of the posterior is of second order, and needs no D.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from finitewidth.training.bayes import singular
from finitewidth.training.conjugate_gradients import Columns, Nystrom, Solution, conjugate_gradients
from finitewidth.training.distinct import Distinct
from finitewidth.training.infinite_width import Outputs
from finitewidth.training.modes import least_regularisation
from finitewidth.training.solvers import Iterative

_SIGNS = 8
"""Columns of random signs."""

Solve = Callable[[np.ndarray], Solution]
Progress = Callable[[int, int], None]


def solving(A: np.ndarray, near: Nystrom, shift: float, solver: Iterative, progress: Progress | None) -> Solve:
    """(A + shift)⁻¹ of columns."""

    def product(columns: np.ndarray) -> np.ndarray:
        found: np.ndarray = A @ columns
        found += shift * columns
        return found

    of: Columns = product
    return partial(
        conjugate_gradients,
        of,
        preconditioner=near.preconditioner(shift),
        tolerance=solver.tolerance,
        iterations=solver.iterations,
        progress=progress,
    )


def trained_outputs(
    problem: Distinct, regularisation: float, fraction: float, solver: Iterative, progress: Progress | None = None
) -> Outputs:
    """Mean and covariance with g = `fraction` Θ_XT (Θ_TT + ρ)⁻¹: 1 at the end of training."""
    near, X = _nystrom(problem.Theta_TT, solver), len(problem.Theta_XT)
    regularised: tuple[str, ...] = ()
    least, said = least_regularisation(near.S[0], len(problem.Theta_TT))
    if near.S[-1] + regularisation < least:
        regularisation, regularised = least, said
    solve = solving(problem.Theta_TT, near, regularisation, solver, progress)
    found = solve(np.concatenate([problem.Theta_XT.T, problem.targets], axis=1))
    g, R, a = fraction * found.value[:, :X].T, fraction * found.residual[:, :X].T, found.value[:, X:]
    change = problem.K_TT @ g.T - problem.K_XT.T  # − Cov(z_T(0), z_X)
    half = g @ (0.5 * (change - problem.K_XT.T))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(X, _SIGNS))
    later = solve(change @ signs)
    off = 2 * np.sqrt(np.mean((R @ later.value) ** 2, axis=1))[:, None]
    # errors E of Θ: (E_XT − g E_TT) D, D being what a random sum of its columns is to one of them
    per_column = np.abs(later.value).sum(0).mean() / np.sqrt(X)
    of_kernel = _kernel_error(problem.Theta_error, problem.Theta_size) * _reach(g, fraction)
    variance_error = off + 2 * of_kernel * per_column + problem.K_error * _reach(g) ** 2
    mean_error = _error(R @ a) + of_kernel * np.abs(a).sum(0)
    notes, doubt = _said(solver, found, later)
    return Outputs(
        g @ problem.targets + R @ a,
        problem.K_XX + half + half.T,
        mean_error,
        np.broadcast_to(variance_error, mean_error.shape),
        (*regularised, *notes),
        doubt=doubt,
    )


def posterior_outputs(problem: Distinct, noise: float, solver: Iterative, progress: Progress | None = None) -> Outputs:
    """The posterior, without its evidence: that needs a determinant."""
    X = len(problem.K_XT)
    near = _nystrom(problem.K_TT, solver)
    if near.S[-1] + noise < least_regularisation(near.S[0], len(problem.K_TT))[0]:
        raise singular(noise, float(np.trace(problem.K_TT)) / len(problem.K_TT))
    solve = solving(problem.K_TT, near, noise, solver, progress)
    found = solve(np.concatenate([problem.K_XT.T, problem.targets], axis=1))
    g, R, a = found.value[:, :X].T, found.residual[:, :X].T, found.value[:, X:]
    half = 0.5 * (g @ problem.K_XT.T + R @ g.T)  # K_XT gᵀ + R gᵀ, to second order in R
    reach, of_kernel = _reach(g), _kernel_error(problem.K_error, problem.K_size)
    mean_error = _error(R @ a) + of_kernel * reach * np.abs(a).sum(0)
    variance_error = _error(np.einsum("xt,xt->x", R, g)[:, None]) + of_kernel * reach**2
    notes, doubt = _said(solver, found)
    return Outputs(
        g @ problem.targets + R @ a,
        problem.K_XX - half - half.T,
        mean_error,
        np.broadcast_to(variance_error, mean_error.shape),
        (*notes, "log_evidence needs a determinant, which conjugate gradients do not have: solver=fw.Direct() does"),
        doubt=doubt,
    )


def _nystrom(A: np.ndarray, solver: Iterative) -> Nystrom:
    return Nystrom.of(A, min(solver.rank, max(1, len(A) // 4)))


def _error(correction: np.ndarray) -> np.ndarray:
    """Its size at every input, and what is typical of it: at some it is small by chance."""
    return np.abs(correction) + np.sqrt(np.mean(correction**2))


def _reach(g: np.ndarray, fraction: float = 1.0) -> np.ndarray:
    """What errors E of one in every entry can add up to in a row of `fraction` E_XT − g E_TT, (X, 1)."""
    found: np.ndarray = fraction + np.abs(g).sum(1)[:, None]
    return found


def _kernel_error(error: float, size: float) -> float:
    return error + np.finfo(float).eps * size


def _said(solver: Iterative, *found: Solution) -> tuple[tuple[str, ...], str]:
    """Notes, and a doubt where iterations did not suffice."""
    most = max(each.iterations for each in found)
    note = f"conjugate gradients: {most} iterations to a residual of {solver.tolerance:.2g}"
    if all(each.converged for each in found):
        return (note,), ""
    doubt = (
        f"conjugate gradients did not reach `tolerance` {solver.tolerance:.2g} in {most} iterations: the kernel of "
        "the training inputs is ill-conditioned; give `regularisation` (to Bayes noise), or solver=fw.Iterative(…) "
        "with more `iterations` or a higher `rank`, or fw.Direct()"
    )
    return (doubt,), doubt
