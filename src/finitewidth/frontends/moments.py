"""Moments of the signals of real networks, layer by layer, whatever framework computed them.

Each initialisation contributes sums; what is made of their averages gets its standard error from the spread between
initialisations (`finitewidth.experiments.statistics`, the jackknife). Of a single set of weights, the spread between
inputs is all there is.

    K           = E z²                                     mean over neurons (and positions)
    angle       = arccos K_ab/√(K_aa K_bb)                 over pairs of inputs
    kurtosis    = E z⁴/(E z²)² − 3                         of one neuron; 3 V/(nK²) to first order in 1/n
    correlation = Cov[z_i², z_j²]/Var[z_i²],  i ≠ j        between neurons; V/(2nK²) to first order in 1/n
"""

from collections.abc import Mapping, Sequence

import numpy as np

from finitewidth.experiments.statistics import Averages, Batch, jackknife

POSITIONS = 64
"""Pixels or tokens, evenly spaced, at which fourth moments are taken; all of them enter K and the angle."""
MOST_PAIRS = 256

Value = tuple[float, float | None]
"""An estimate and its standard error, None where it has none."""


def pairs(inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of pairs of inputs, each input in equally many: all with their neighbours at distance 1, 2, …"""
    if inputs < 2:
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    every = np.arange(inputs)
    steps = range(1, max(1, min(inputs // 2, MOST_PAIRS // inputs)) + 1)
    first = np.concatenate([every for _ in steps])
    return first, np.concatenate([(every + step) % inputs for step in steps])


def contributions(z: np.ndarray) -> dict[str, np.ndarray]:
    """What one network contributes at one layer, of z (inputs, neurons, positions)."""
    first, second = pairs(len(z))
    chosen = z[:, :, np.unique(np.linspace(0, z.shape[2] - 1, min(z.shape[2], POSITIONS)).astype(int))]
    squares = chosen**2
    mean_square = squares.mean(1)
    with np.errstate(all="ignore"):  # of signals that overflow
        # of the difference, since 1 − cos cancels for small angles
        distance = np.array([((z[a] - z[b]) ** 2).mean() for a, b in zip(first, second, strict=True)])
    return {
        "K": (z**2).mean((1, 2)),
        "distance": distance,
        "m2": mean_square,
        "m2_squared": mean_square**2,
        "m4": (squares**2).mean(1),
    }


def angles(K: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Angles in degrees of pairs, (…, pairs), from mean squares (…, inputs) and mean squared differences (…, pairs).

    1 − cos = (D − (√K_a − √K_b)²)/(2√K_a √K_b) loses no digits at small angles, as arccos would.
    """
    first, second = pairs(K.shape[-1])
    a, b = np.sqrt(K[..., first]), np.sqrt(K[..., second])
    versed = (distance - (a - b) ** 2) / (2 * a * b)
    angle: np.ndarray = np.degrees(2 * np.arcsin(np.sqrt(np.clip(versed / 2, 0.0, 1.0))))
    return np.where(np.isfinite(versed), angle, np.nan)


def over_initialisations(found: Sequence[Mapping[str, np.ndarray]], neurons: int) -> dict[str, Value]:
    """The statistics of one layer from two or more initialisations, errors by the jackknife.

    found: what each of them contributed. neurons: how many neurons there are at a position.
    """
    batches = {i: Batch(1, each) for i, each in enumerate(found)}

    def value(statistic: str) -> Value:
        with np.errstate(all="ignore"):
            estimate = jackknife(batches, lambda averages: _STATISTICS[statistic](averages, neurons))
            return float(estimate.value[0]), float(estimate.standard_error[0])

    names = [name for name in _STATISTICS if not (name == "angle" and found[0]["distance"].size == 0)]
    return {name: value(name) for name in names if neurons > 1 or name != "correlation"}


def mean_over_initialisations(values: Sequence[np.ndarray | float]) -> Value:
    """Mean and standard error of one number an initialisation (arrays are averaged first)."""
    each = np.array([np.mean(value) for value in values], dtype=np.float64)
    with np.errstate(all="ignore"):
        return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else None


def root_mean_square(squares: Sequence[float]) -> Value:
    """√ of the mean over initialisations, its error by the delta method."""
    mean, error = mean_over_initialisations(squares)
    if not mean > 0:
        return mean, error
    return float(np.sqrt(mean)), None if error is None else error / (2 * float(np.sqrt(mean)))


def over_inputs(found: Mapping[str, np.ndarray]) -> dict[str, Value]:
    """The statistics of one layer of a single network, errors from the spread between inputs.

    What varies between initialisations only, the correlation of neurons, does not exist here; the kurtosis is that
    of the neurons among each other.
    """
    with np.errstate(all="ignore"):
        result = {
            "K": mean_over_initialisations(list(found["K"])),
            "kurtosis": mean_over_initialisations(list((found["m4"] / found["m2"] ** 2 - 3).mean(-1))),
        }
        if found["distance"].size:
            inputs = len(found["K"])
            pair = angles(found["K"], found["distance"])
            first, second = pairs(inputs)
            of_input = (np.bincount(first, pair, inputs) + np.bincount(second, pair, inputs)) / (
                np.bincount(first, minlength=inputs) + np.bincount(second, minlength=inputs)
            )
            # a mean over pairs is a U-statistic: each input is in it twice (Hoeffding 1948)
            result["angle"] = float(pair.mean()), float(2 * of_input.std(ddof=1) / np.sqrt(inputs))
        return result


def _K(averages: Averages, neurons: int) -> np.ndarray:
    return averages["K"].mean(-1, keepdims=True)


def _angle(averages: Averages, neurons: int) -> np.ndarray:
    return angles(averages["K"], averages["distance"]).mean(-1, keepdims=True)


def _kurtosis(averages: Averages, neurons: int) -> np.ndarray:
    return (averages["m4"] / averages["m2"] ** 2 - 3).mean((-1, -2))[:, None]


def _correlation(averages: Averages, neurons: int) -> np.ndarray:
    square = averages["m2"] ** 2
    between = (neurons * averages["m2_squared"] - averages["m4"]) / (neurons - 1) / square - 1
    own = averages["m4"] / square - 1
    return (between.mean((-1, -2)) / own.mean((-1, -2)))[:, None]


_STATISTICS = {"K": _K, "angle": _angle, "kurtosis": _kurtosis, "correlation": _correlation}
