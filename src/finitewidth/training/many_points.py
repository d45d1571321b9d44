"""Infinite width with thousands of training inputs: what is computed is that of `infinite_width`, in N² numbers.

K and Θ are held once each. At the end of training a Cholesky factor takes Θ's place (K's, of the posterior); before
the end, polynomials of Θ replace its modes wherever they take fewer operations. Or the systems are solved by iteration,
where that is asked for: conjugate gradients take the operations of Cholesky at some N/(6 N_X) iterations.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from finitewidth.algorithms import Algorithm, Bayes, Momentum
from finitewidth.cores import Progress
from finitewidth.errors import InputError
from finitewidth.training.bayes import singular
from finitewidth.training.chebyshev import Chebyshev
from finitewidth.training.cholesky import compacted, factored_in_place
from finitewidth.training.distinct import Distinct
from finitewidth.training.infinite_width import Gain, Kernels, Outputs, gain_by_modes, outputs_of, trained_covariance
from finitewidth.training.iterated import posterior_outputs, trained_outputs
from finitewidth.training.modes import (
    check_step,
    ended_fraction,
    gained,
    has_bound,
    indefinite,
    largest_rate,
    least_regularisation,
)
from finitewidth.training.solvers import Direct, Iterative, Solver

MANY = 2000
"""Training inputs up to which N³ operations are a matter of seconds, and copies of matrices do not matter."""

MOST_MODES = 6000
"""Training inputs up to which modes are looked for where Θ turns out to be singular: some minutes."""

_OF_MODES = 15.0
"""Operations that all modes take, in units of N³: as long as so many of matrix products."""

_TAIL = 1e-10
"""What polynomials may be off by, relative to the gain of a mode that is learned."""


def outputs_of_many(
    algorithm: Algorithm,
    kernels: Kernels,
    targets: np.ndarray,
    regularisation: float,
    solver: Solver | None,
    progress: Progress | None = None,
) -> Outputs:
    """Mean and covariance of trained outputs, or of the posterior, at infinite width. Overwrites the kernels.

    Raises
        InputError: for a step beyond the bound of stability; where the posterior's prior is singular to rounding, or Θ
            beyond it; where polynomials would be of too high a degree.
    """
    problem = Distinct.of(kernels, targets)
    if isinstance(algorithm, Bayes):
        found = _posterior(problem, algorithm.noise, solver, progress)
    elif (fraction := ended_fraction(algorithm)) is not None:
        if has_bound(algorithm):
            check_step(algorithm, largest_rate(problem.Theta_TT) + regularisation)
        if isinstance(solver, Iterative):
            found = trained_outputs(problem, regularisation, fraction, solver, progress)
        else:
            found = _trained(problem, _ended(algorithm, problem, regularisation, fraction))
    else:
        found = _trained(problem, _before_the_end(algorithm, problem, regularisation, solver, progress))
    return replace(found, notes=(*problem.notes, *found.notes))


def _trained(problem: Distinct, g: Gain) -> Outputs:
    """With what is left out of g: δg moves means by |δg| |y| at most, and variances by 2 |δg| √(Σ_t K_tt Var z_x).

    The latter is Cauchy and Schwarz's bound of 2 δg · Cov(z_T(0), z_x).
    """
    found = outputs_of(g, trained_covariance(g.value, problem), problem, problem.targets)
    if g.left_out is None:
        return found
    variance = np.maximum(found.covariance.diagonal(), 0.0)
    of_mean = g.left_out[:, None] * np.linalg.norm(problem.targets, axis=0)
    of_variance = 2 * g.left_out * np.sqrt(np.trace(problem.K_TT) * variance)
    return replace(
        found,
        mean_error=found.mean_error + of_mean,
        variance_error=found.variance_error + of_variance[:, None],
    )


def _posterior(problem: Distinct, noise: float, solver: Solver | None, progress: Progress | None) -> Outputs:
    variance = float(np.trace(problem.K_TT)) / len(problem.K_TT)
    if problem.repeated and noise == 0:
        raise singular(noise, variance)
    if isinstance(solver, Iterative):
        return posterior_outputs(problem, noise, solver, progress)
    prior = compacted(problem.K_TT)
    prior.flat[:: len(prior) + 1] += noise
    if (factor := factored_in_place(prior)) is None:
        raise singular(noise, variance)
    g = Gain(factor.solve(problem.K_XT.T).T, np.finfo(float).eps / factor.condition)
    covariance = problem.K_XX - g.value @ problem.K_XT.T
    N, outputs = problem.targets.shape
    log_evidence = -0.5 * float(np.sum(problem.targets * factor.solve(problem.targets)))
    log_evidence -= 0.5 * outputs * (N * np.log(2 * np.pi) + factor.log_determinant)
    if problem.repeated:  # labels of one input differ by noise alone
        log_evidence -= 0.5 * problem.contradiction / noise
        log_evidence -= 0.5 * outputs * problem.repeated * np.log(2 * np.pi * noise)
    return outputs_of(g, 0.5 * (covariance + covariance.T), problem, problem.targets, log_evidence)


def _ended(algorithm: Algorithm, problem: Distinct, regularisation: float, fraction: float) -> Gain:
    """`fraction` Θ_XT (Θ_TT + ρ)⁻¹ by a Cholesky factor; where there is none, by modes, or with more of ρ."""
    Theta = compacted(problem.Theta_TT)
    notes: tuple[str, ...] = ()
    Theta.flat[:: len(Theta) + 1] += regularisation
    factor = factored_in_place(Theta)
    if factor is None and len(Theta) <= MOST_MODES:
        return gain_by_modes(algorithm, Theta, problem.Theta_XT)
    if factor is None:
        least, notes = least_regularisation(largest_rate(Theta), len(Theta))
        Theta.flat[:: len(Theta) + 1] += least
        factor = factored_in_place(Theta, worst=0.0)
    if factor is None:
        raise indefinite(regularisation, least)
    value = fraction * factor.solve(problem.Theta_XT.T).T
    return Gain(value, np.finfo(float).eps / factor.condition, notes)


def _before_the_end(
    algorithm: Algorithm, problem: Distinct, regularisation: float, solver: Solver | None, progress: Progress | None
) -> Gain:
    """Θ_XT φ(Θ_TT + ρ) by Chebyshev polynomials or by modes."""
    Theta, columns = problem.Theta_TT, np.ascontiguousarray(problem.Theta_XT.T)
    top = largest_rate(Theta)
    check_step(algorithm, top + regularisation)
    phi, roundings = partial(gained, algorithm), algorithm.steps if isinstance(algorithm, Momentum) else 0.0
    if not isinstance(solver, Direct):
        # a little more than λ_max, which polynomials grow fast beyond
        series = Chebyshev.of(lambda rates: phi(rates + regularisation), top * (1 + 1e-9), _TAIL, roundings)
        if series is None and solver is not None:
            raise InputError(
                f"`solver` {solver}: {algorithm} takes polynomials of too high a degree; train for a shorter time, or "
                "to the end, or use fw.Direct()"
            )
        if series is not None and (solver or 2 * series.products * columns.shape[1] < _OF_MODES * len(Theta)):
            value = series.applied(lambda v: Theta @ v, columns, progress).T
            amplified = max(1.0, (top + regularisation) * series.largest) + roundings
            note = f"Chebyshev polynomials of degree {series.products} in Θ"
            return Gain(value, np.finfo(float).eps * amplified, (note,), series.tail * np.linalg.norm(columns, axis=0))
    added = Theta + regularisation * np.eye(len(Theta)) if regularisation else Theta
    return gain_by_modes(algorithm, added, problem.Theta_XT)
