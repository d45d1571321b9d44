r"""Trained outputs from conjugate gradients, with the errors that their residuals leave.

Wanted are g = B A⁻¹ and a = A⁻¹ y, with B = Θ_XT, A = Θ_TT + ρ, or B = K_XT, A = K_TT + noise of the posterior. What is
found has residuals R = B − g A and r = y − A a, and

    B A⁻¹ y = g y + R a + R A⁻¹ r ,

so that the mean is known to the product of two residuals; R a, the correction that is made, is stated as its error.
The covariance is off by R D + (R D)ᵀ + …, D = A⁻¹ (K_TT gᵀ − K_TX), whose rows are measured with a few random signs ω:
E_ω (R D ω)_x² = Σ_x' (R D)²_xx' ≥ (R D)²_xx. That of the posterior is of second order, and needs no D.

Modes that rounding cannot tell from λ = 0 hardly occur in B, by Cauchy and Schwarz, but in labels that contradict each
other, where a grows as 1/λ: it would amplify every error of B. Where a random column shows such modes, ρ is added to
them, and the labels' part ρ (A + ρ)⁻¹ y, all of these modes and little of others, is taken off y.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from finitewidth.cores import Progress
from finitewidth.training.bayes import singular
from finitewidth.training.conjugate_gradients import Columns, Nystrom, Solution, conjugate_gradients
from finitewidth.training.distinct import Distinct
from finitewidth.training.infinite_width import Outputs
from finitewidth.training.modes import indefinite, least_regularisation
from finitewidth.training.solvers import Iterative

_SIGNS = 8
"""Columns of random signs."""

_MOST_PULLS = 5
"""How often labels are freed of modes without a rate."""

_TIMES = (4, 64, 1024)
"""N ε λ_max that are added to a singular Θ: more only where errors of the kernel have made rates negative."""

Solve = Callable[..., Solution]


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


class _Solved(NamedTuple):
    """A⁻¹ B in `inputs`, a = A⁻¹ y, labels y, what solves for more columns, and all that has been solved.

    Where A is singular to rounding: what was `added` to it, y without what modes below that held, and `pulled`, what
    other modes lack of y by that.
    """

    inputs: Solution
    a: np.ndarray
    y: np.ndarray
    solve: Solve
    solutions: tuple[Solution, ...]
    added: float
    pulled: np.ndarray
    notes: tuple[str, ...] = ()


def _together(B: np.ndarray, y: np.ndarray, solve: Solve, least: float) -> _Solved | None:
    """B and y at once: none of them is solved before all are. None where there are eigenvalues below `least`.

    A random column shows them, and labels that contradict each other do.
    """
    X = B.shape[1]
    if solve(_signs(len(B), 1), least=least).singular:
        return None
    found = solve(np.concatenate([B, y], axis=1), least=least)
    if found.singular:
        return None
    inputs = replace(found, value=found.value[:, :X], residual=found.residual[:, :X])
    return _Solved(inputs, found.value[:, X:], y, solve, (found,), 0.0, np.zeros_like(y))


def _solved(problem: Distinct, regularisation: float, solver: Iterative, progress: Progress | None) -> _Solved:
    """(Θ_TT + ρ)⁻¹ of Θ_TX and of labels.

    Raises
        InputError: for a Θ that is indefinite beyond rounding.
    """
    Theta, near, B = problem.Theta_TT, _nystrom(problem.Theta_TT, solver), problem.Theta_XT.T
    least, _ = least_regularisation(near.S[0], len(Theta))
    if near.S[-1] + regularisation >= least:
        found = _together(B, problem.targets, solving(Theta, near, regularisation, solver, progress), least)
        if found is not None:
            return found
    for times in _TIMES:
        least, notes = least_regularisation(near.S[0], len(Theta), times)
        added = max(least - regularisation, 0.0)
        solve = solving(Theta, near, regularisation + added, solver, progress)
        if (solved := _freed(problem.targets, solve, added, solver)) is None:
            continue
        y, solutions = solved
        inputs, pulled = solve(B), len(solutions) * added * solutions[0].value
        said = (*notes, "labels along modes of Θ with rates as small as that are not fitted")
        return _Solved(inputs, solutions[-1].value, y, solve, (*solutions, inputs), added, pulled, said)
    raise indefinite(regularisation, added)


def _freed(y: np.ndarray, solve: Solve, added: float, solver: Iterative) -> tuple[np.ndarray, list[Solution]] | None:
    """Labels without what modes of rates far below `added` hold of them, and (A + added)⁻¹ of them, at first and last.

    None where that does not get less: for rates that are negative, by errors of the kernel.
    """
    solutions = [solve(y)]
    lengths = [float(np.linalg.norm(y))]
    for _ in range(_MOST_PULLS):  # once finds it to 1/(4N) only
        left = added * solutions[-1].value
        lengths.append(float(np.linalg.norm(left)))
        if lengths[-1] <= solver.tolerance * lengths[0]:
            return y, solutions
        y = y - left
        solutions.append(solve(y))
    return (y, solutions) if lengths[-1] <= 0.5 * lengths[1] else None


def trained_outputs(
    problem: Distinct, regularisation: float, fraction: float, solver: Iterative, progress: Progress | None = None
) -> Outputs:
    """Mean and covariance with g = `fraction` Θ_XT (Θ_TT + ρ)⁻¹: 1 at the end of training.

    Raises
        InputError: for a Θ that is indefinite beyond rounding.
    """
    of = _solved(problem, regularisation, solver, progress)
    g, R, a = fraction * of.inputs.value.T, fraction * of.inputs.residual.T, of.a
    change = problem.K_TT @ g.T - problem.K_XT.T  # − Cov(z_T(0), z_X)
    half = g @ (0.5 * (change - problem.K_XT.T))
    later = of.solve(change @ _signs(len(g), _SIGNS))
    # what was added to ρ leaves a residual, too
    off = 2 * np.sqrt(np.mean(((R + of.added * g) @ later.value) ** 2, axis=1))[:, None]
    mean_error = _error(R @ a) + _error(g @ of.pulled)
    # errors E of Θ: (E_XT − g E_TT) D, D being what a random sum of its columns is to one of them
    per_column = np.abs(later.value).sum(0).mean() / np.sqrt(len(g))
    of_kernel = _kernel_error(problem.Theta_error, problem.Theta_size) * _reach(g, fraction)
    mean_error = mean_error + of_kernel * np.abs(a).sum(0)
    variance_error = off + 2 * of_kernel * per_column + problem.K_error * _reach(g) ** 2
    notes, doubt = _said(solver, *of.solutions, later)
    return Outputs(
        g @ of.y + R @ a,
        problem.K_XX + half + half.T,
        mean_error,
        np.broadcast_to(variance_error, mean_error.shape),
        (*of.notes, *notes),
        doubt=doubt,
    )


def posterior_outputs(problem: Distinct, noise: float, solver: Iterative, progress: Progress | None = None) -> Outputs:
    """The posterior, without its evidence: that needs a determinant.

    Raises
        InputError: where the prior is singular to rounding.
    """
    near, found = _nystrom(problem.K_TT, solver), None
    least = least_regularisation(near.S[0], len(problem.K_TT))[0]
    if near.S[-1] + noise >= least:
        solve = solving(problem.K_TT, near, noise, solver, progress)
        found = _together(problem.K_XT.T, problem.targets, solve, least)
    if found is None:
        raise singular(noise, float(np.trace(problem.K_TT)) / len(problem.K_TT))
    g, R, a = found.inputs.value.T, found.inputs.residual.T, found.a
    half = 0.5 * (g @ problem.K_XT.T + R @ g.T)  # K_XT gᵀ + R gᵀ, to second order in R
    reach, of_kernel = _reach(g), _kernel_error(problem.K_error, problem.K_size)
    mean_error = _error(R @ a) + of_kernel * reach * np.abs(a).sum(0)
    variance_error = _error(np.einsum("xt,xt->x", R, g)[:, None]) + of_kernel * reach**2
    notes, doubt = _said(solver, *found.solutions)
    return Outputs(
        g @ problem.targets + R @ a,
        problem.K_XX - half - half.T,
        mean_error,
        np.broadcast_to(variance_error, mean_error.shape),
        (*notes, "log_evidence needs a determinant, which conjugate gradients do not have: solver=fw.Direct() does"),
        doubt=doubt,
    )


def _signs(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).choice([-1.0, 1.0], size=(rows, columns))


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
