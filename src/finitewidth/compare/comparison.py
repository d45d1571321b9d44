"""One number of theory beside one of experiment, and many of them with a stated rate of false alarms."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from finitewidth.architecture import MLP
from finitewidth.experiments.initialisation import BATCHES

EXACT = 1e-9  # relative: numbers without spread that differ by more are not equal


@dataclass(frozen=True)
class Comparison:
    """One entry of one tensor: what theory says, and what real networks show.

    name, inputs: the tensor and the samples on its axes. z: (experiment − theory)/standard_error.
    """

    name: str
    inputs: tuple[int, ...]
    theory: float
    experiment: float
    standard_error: float

    @property
    def z(self) -> float:
        """±∞ where networks show no spread, and theory says something else."""
        if self.standard_error == 0:
            is_equal = np.isclose(self.experiment, self.theory, rtol=EXACT, atol=0)
            return 0.0 if is_equal else float(np.copysign(np.inf, self.experiment - self.theory))
        return (self.experiment - self.theory) / self.standard_error

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return {
            "name": self.name,
            "inputs": list(self.inputs),
            "theory": self.theory,
            "experiment": self.experiment,
            "standard_error": self.standard_error,
            "z": finite_or_none(self.z),
        }


def finite_or_none(number: float) -> float | None:
    """JSON has neither ∞ nor NaN."""
    return number if np.isfinite(number) else None


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """Theory and experiment, entry by entry.

    net: the architecture. rows: every distinct entry of every tensor. n_networks: of the experiment.
    false_alarm_rate: how often a right theory would fail: at most this often some |z| exceeds `limit`, the two-sided
    quantile of Student's t with 63 degrees of freedom, shared out over the rows (Bonferroni).
    """

    net: MLP
    rows: tuple[Comparison, ...]
    n_networks: int
    false_alarm_rate: float = 0.01

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        return self._about() | {"rows": [row.to_dict() for row in self.rows]}

    def _about(self) -> dict[str, Any]:
        """What is said of all rows together."""
        return {
            "network": repr(self.net),
            "n_networks": self.n_networks,
            "false_alarm_rate": self.false_alarm_rate,
            "limit": self.limit,
        }

    @property
    def limit(self) -> float:
        """Beyond which |z| is no chance."""
        return float(student.isf(0.5 * self.false_alarm_rate / max(1, len(self.rows)), BATCHES - 1))

    @property
    def beyond(self) -> tuple[Comparison, ...]:
        """The rows that differ by more than chance."""
        return tuple(row for row in self.rows if not abs(row.z) <= self.limit)

    @property
    def passed(self) -> bool:
        """Whether theory and experiment nowhere contradict each other."""
        return not self.beyond

    @property
    def verdict(self) -> str:
        """One line: whether they agree, within which limits."""
        found = "agree" if self.passed else f"DISAGREE in {', '.join(dict.fromkeys(row.name for row in self.beyond))}"
        return f"{found}: |z| ≤ {self.limit:.2f} in {len(self.rows)} entries"

    def worst(self) -> tuple[Comparison, ...]:
        """For every tensor, the row with the largest |z|."""
        names = dict.fromkeys(row.name for row in self.rows)
        return tuple(max((row for row in self.rows if row.name == name), key=lambda row: abs(row.z)) for name in names)
