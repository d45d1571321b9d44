"""What an ensemble is made of: networks known by their number, and what each contributes.

Everything that runs ensembles (chunks, engines, the ledger, estimates) sees networks through this: it asks for what the
networks with some numbers contribute, adds it up in the order of the numbers, and turns averages into estimates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from finitewidth.experiments.statistics import Averages


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
        """How many networks are done at once: one program of one shape, as large as memory likes it."""

    @property
    def cost(self) -> float:
        """Floating-point operations of one network, roughly: chunks are made to take a second or so."""

    def describe(self) -> Mapping[str, Any]:
        """What was asked for, as JSON has it: experiments with equal descriptions contribute the same numbers.

        Every entry that two experiments differ in is named when a store of one is opened by the other.
        """

    def contributions(self, numbers: np.ndarray) -> Mapping[str, Any]:
        """What each of the networks with these numbers contributes, by name.

        Arguments
            numbers: exactly `together` of them; the last may come several times.

        Returns
            arrays (together, …), of JAX or of NumPy, whose shapes are always the same. Network k contributes the same
            bits whoever asks. One that diverged contributes something that is not finite: it is then left out, all of
            it, and counted.
        """

    def quantities(self) -> Mapping[str, Quantity]:
        """What is estimated, by name. Not called where contributions are made."""
