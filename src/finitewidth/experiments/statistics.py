"""Averages over networks with their standard errors: sums by batch, and the jackknife over batches.

Networks are numbered, and fall into batches by their number. A batch's sums do not depend on when or where it was done,
so merging is exact: the same numbers give the same bits in whatever order batches arrive. Everything that is then
computed from averages, a covariance such as E[xy] − E[x] E[y] included, gets its error, and loses its bias of order one
over the number of networks, by leaving out one batch at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import f as f_distribution

Averages = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Batch:
    """The sums over some networks of what each contributes.

    count: the number of networks in the sums. sums: by name, Σ of the contributions.
    excluded: how many networks more were done, but contribute a number that is not finite and are not in the sums.
    """

    count: int
    sums: Averages
    excluded: int = 0

    @classmethod
    def empty(cls) -> "Batch":
        """No networks yet."""
        return cls(0, {})

    def __add__(self, other: "Batch") -> "Batch":
        names = self.sums.keys() | other.sums.keys()
        sums = {name: self.sums.get(name, 0.0) + np.asarray(other.sums.get(name, 0.0)) for name in names}
        return Batch(self.count + other.count, sums, self.excluded + other.excluded)


Batches = Mapping[int, Batch]


def merge(*parts: Batches) -> dict[int, Batch]:
    """The batches of all parts, in the order of their numbers.

    Raises
        ValueError: when two parts hold the same batch: its networks would count twice.
    """
    merged: dict[int, Batch] = {}
    for part in parts:
        if twice := merged.keys() & part.keys():
            raise ValueError(f"batches {sorted(twice)} come twice")
        merged.update(part)
    return dict(sorted(merged.items()))


@dataclass(frozen=True)
class Estimate:
    """A number, or an array of them, estimated from batches.

    With θ̂ the estimate from all networks and θ̂_j that without batch j, of which h_j = networks / networks in batch j,
    the pseudo-values θ_j = h_j θ̂ − (h_j − 1) θ̂_j are as good as independent, and their weighted mean has no bias of
    order 1/networks; for products of averages it has none at all. Source: Quenouille 1956, Tukey 1958; batches of
    different sizes: Busing, Meijer, van der Leeden, Statistics and Computing 9 (1999) 3.

    Arguments
        pseudo_values: (batches, …) θ_j. Those of two estimates from the same networks go together: the errors of any
            smooth function of both follow from them.
        weights: (batches,) 1/h_j; they sum to 1.
    """

    pseudo_values: np.ndarray
    weights: np.ndarray

    @cached_property
    def value(self) -> np.ndarray:
        """Σ_j θ_j / h_j."""
        return np.tensordot(self.weights, self.pseudo_values, 1)

    @cached_property
    def standard_error(self) -> np.ndarray:
        """√( Σ_j (θ_j − θ)² / (h_j − 1) / batches ), the standard error of `value`."""
        return np.sqrt(np.tensordot(self._scale, (self.pseudo_values - self.value) ** 2, 1))

    def covariance(self, other: "Estimate") -> np.ndarray:
        """Covariance of every entry of `value` with every entry of the other's: (*shape, *other shape)."""
        mine, others = self.pseudo_values - self.value, other.pseudo_values - other.value
        return np.tensordot(np.moveaxis(mine, 0, -1) * self._scale, others, 1)

    @property
    def _scale(self) -> np.ndarray:
        return self.weights / (1 - self.weights) / self.weights.size


def jackknife(batches: Batches, statistic: Callable[[Averages], np.ndarray]) -> Estimate:
    """`statistic` of averages over networks, by leaving out one batch at a time.

    Arguments
        batches: two or more.
        statistic: a function of averages by name, each (resamples, …): the first axis is to be kept.
    """
    parts = list(merge(batches).values())
    counts = np.array([part.count for part in parts], dtype=np.float64)
    sums = {name: np.stack([part.sums[name] for part in parts]) for name in parts[0].sums}
    total = {name: each.sum(0, keepdims=True) for name, each in sums.items()}
    networks = counts.sum()
    everything = statistic({name: total[name] / networks for name in sums})
    without_one = statistic(
        {name: (total[name] - sums[name]) / _column(networks - counts, sums[name]) for name in sums}
    )
    h = _column(networks / counts, without_one)
    return Estimate(h * everything - (h - 1) * without_one, counts / networks)


def joint_p_value(estimates: Sequence[Estimate], expected: Sequence[np.ndarray]) -> float:
    """How often all of several estimates from the same networks would together be further from what is expected.

    Hotelling's T² of the pseudo-values: with p independent entries and b batches, T² (b − p)/(p (b − 1)) has the
    F distribution with p and b − p degrees of freedom. Directions in which nothing varies are left out.

    Raises
        ValueError: when there are more than b/2 entries, for which b batches are too few.
    """
    pseudo = np.concatenate([each.pseudo_values.reshape(each.weights.size, -1) for each in estimates], axis=1)
    off = np.concatenate([np.ravel(each.value - value) for each, value in zip(estimates, expected, strict=True)])
    batches = pseudo.shape[0]
    first = estimates[0]
    mine = pseudo - np.tensordot(first.weights, pseudo, 1)
    covariance = (mine.T * first._scale) @ mine
    size = np.sqrt(np.diagonal(covariance))
    scale = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    kept = values > 1e-10 * values.max(initial=0.0)
    p = int(kept.sum())
    if p > batches // 2:
        raise ValueError(f"{p} entries are too many for {batches} batches")
    if p == 0:
        return float(not off.any())
    T2 = float(np.sum((vectors[:, kept].T @ (off / scale)) ** 2 / values[kept]))
    return float(f_distribution.sf(T2 * (batches - p) / (p * (batches - 1)), p, batches - p))


def _column(numbers: np.ndarray, like: np.ndarray) -> np.ndarray:
    return numbers.reshape(-1, *(1,) * (like.ndim - 1))
