"""Mean squares of signals at infinite width.

Preactivations are Gaussian, sums of them too, and ⟨σ²⟩_K is an integral. Where an addition takes what has been through
an activation, as x ← σ(x + f(x)) does, it is not Gaussian and has a mean. But f comes from fresh weights: Gaussian and
independent of the x of the same neuron. So the distribution of one neuron is all there is to know, and a population of
sample neurons, the same for every use of a signal, carries it.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import ndtri

from finitewidth.activations import Activation
from finitewidth.criticality import susceptibility
from finitewidth.frontends.torch.signals import (
    Affine,
    Data,
    Dropped,
    Elementwise,
    Normalised,
    Preactivation,
    Rearranged,
    Resampled,
    Signal,
    Sum,
    stripped,
)

POPULATION = 2**14
"""Sample neurons: mean squares to about 1 %."""


def mean_square_after(activation: Activation, K: float) -> float:
    """⟨σ²⟩_K."""
    return float(susceptibility(activation, max(K, 1e-200)).mean_square.value)


def is_gaussian(signal: Signal) -> bool:
    """Whether one neuron's number is a Gaussian of mean zero over initialisations (data are taken to be, too)."""
    signal = stripped(signal)
    if isinstance(signal, Sum):
        return all(is_gaussian(term) for _, term in signal.terms)
    if isinstance(signal, Affine):
        return is_gaussian(signal.of)
    if isinstance(signal, Elementwise):
        return signal.linear is not None and is_gaussian(signal.base)
    return True


class Sizes:
    """Mean squares of the signals of one model; None where it is not known.

    K: of preactivations, by number of the call; may grow meanwhile. activation: what an elementwise signal computes.
    """

    def __init__(self, K: Mapping[int, float | None], activation: Callable[[Elementwise], Activation]) -> None:
        self._K, self._activation = K, activation
        self._found: dict[int, float | None] = {}
        self._populations: dict[int, np.ndarray | None] = {}
        self._random = np.random.default_rng(0)

    def of(self, signal: Signal) -> float | None:
        if id(signal) not in self._found:
            self._found[id(signal)] = self._size(signal)
        return self._found[id(signal)]

    def _size(self, signal: Signal) -> float | None:
        match signal:
            case Data(mean_square=square) | Normalised(mean_square=square):
                return square
            case Preactivation(call=call):
                return self._K[call.number]
            case Elementwise(base=base, linear=float(slope)):
                return _times(slope**2, self.of(base))
            case Elementwise(base=base) if is_gaussian(base):
                K = self.of(base)
                return None if K is None else mean_square_after(self._activation(signal), K)
            case Affine(of=of, scale=scale, shift=shift):
                K = self.of(of)
                return None if K is None else scale * K + shift
            case Sum(terms=terms) if is_gaussian(signal):
                return _sum([_times(c**2, self.of(s)) for c, s in terms])
            case Elementwise() | Sum():
                neurons = self._population(signal)
                return None if neurons is None else float(np.mean(neurons**2))
            case Dropped(of=of, p=p):
                return None if p >= 1 else _times(1 / (1 - p), self.of(of))
            case Rearranged(of=of) | Resampled(of=of):
                return self.of(of)
        return None

    def _population(self, signal: Signal) -> np.ndarray | None:
        """A sample of what one neuron may have."""
        if id(signal) not in self._populations:
            self._populations[id(signal)] = self._drawn(signal)
        return self._populations[id(signal)]

    def _drawn(self, signal: Signal) -> np.ndarray | None:
        if isinstance(signal, Sum):
            terms = [(c, self._population(s)) for c, s in signal.terms]
            known = [c * neurons for c, neurons in terms if neurons is not None]
            return np.sum(known, axis=0) if len(known) == len(terms) else None
        if isinstance(signal, Elementwise):
            neurons = self._population(signal.base)
            return None if neurons is None else self._activation(signal).evaluate(neurons)[0]
        if isinstance(signal, (Rearranged, Resampled, Dropped)):
            return self._population(signal.of)
        K = self.of(signal)
        if K is None:
            return None
        strata = (self._random.permutation(POPULATION) + 0.5) / POPULATION
        return np.sqrt(K) * ndtri(strata)


def _times(factor: float, K: float | None) -> float | None:
    return None if K is None else factor * K


def _sum(parts: list[float | None]) -> float | None:
    known = [K for K in parts if K is not None]
    return sum(known) if len(known) == len(parts) else None
