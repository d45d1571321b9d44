"""What an ensemble is made of: networks known by their number, and what each contributes.

Everything that runs ensembles (chunks, engines, the ledger, estimates) sees networks through this: it asks for the sums
over the networks with some numbers, adds them in the order of the numbers, and turns averages into estimates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from finitewidth.experiments.statistics import Averages, Batch


@dataclass(frozen=True)
class Quantity:
    """How averages over networks become one estimate.

    statistic: a function of averages by name, each (resamples, …): the first axis is to be kept. It is jackknifed.
    dims: names of the axes of the result. coords: labels along some of them.
    """

    statistic: Callable[[Averages], np.ndarray]
    dims: tuple[str, ...] = ()
    coords: Mapping[str, Any] = field(default_factory=dict)


class Experiment(Protocol):
    """Networks by their number, and what each contributes. An experiment can be pickled: it is sent to workers."""

    @property
    def together(self) -> int:
        """How many networks one program does at once: chunks are multiples of it where they can be."""

    @property
    def cost(self) -> float:
        """Floating-point operations of one network, roughly: chunks are made to take a second or so."""

    def describe(self) -> Mapping[str, Any]:
        """What was asked for, as JSON has it: experiments with equal descriptions contribute the same numbers.

        Every entry that two experiments differ in is named when a store of one is opened by the other.
        """

    def contributions(self, numbers: np.ndarray) -> Batch:
        """The sums over the networks with these numbers.

        The same numbers give the same bits, whoever asks. A network that contributes a number that is not finite is
        left out of the sums and of `Batch.count`, and counted in `Batch.excluded`.
        """

    def quantities(self) -> Mapping[str, Quantity]:
        """What is estimated, by name. Not called where contributions are made."""
