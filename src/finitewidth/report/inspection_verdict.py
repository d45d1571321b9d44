"""The verdict on a measured network: what its layers do to signals, angles and gradients, and where it goes wrong."""

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import t as student

from finitewidth.report.signals import E_FOLDS
from finitewidth.report.verdict import ALIKE
from finitewidth.report.words import all_layers, number, power_of_ten

if TYPE_CHECKING:
    from finitewidth.report.inspection import Inspection

FALSE_ALARMS = 1e-3
"""Share of inspections in which a right theory is said to differ."""


def verdict(found: "Inspection") -> str:
    """One sentence: the first that holds of overflowing, exploding, dying, alike, gradients lost, sound."""
    K, names = found.columns["K"].value, found.layers
    bad = np.flatnonzero(~np.isfinite(K))
    if len(bad):
        return f"Signals overflow: at {_place(names, bad[0])} they are no longer finite numbers."
    dead = np.flatnonzero(K == 0)
    if len(dead):
        return f"Signals die: {_place(names, dead[0])} gives zero whatever comes in."
    with np.errstate(all="ignore"):
        size = np.log(K / K[0])
    # from a layer on to the end: in a residual network a branch may well be small, if what it adds to is not
    towards_the_end = np.minimum.accumulate(size[::-1])[::-1], np.maximum.accumulate(size[::-1])[::-1]
    gone = np.flatnonzero((towards_the_end[0] > E_FOLDS) | (towards_the_end[1] < -E_FOLDS))
    if len(gone):
        return _signals(names, int(gone[0]), size, found)
    if (alike := _alike(found)) is not None:
        return f"The network forgets its inputs: from {_place(names, alike)} on they look alike (angles below 1°)."
    if (gradients := _gradients(found)) is not None:
        return gradients
    if "jacobian" not in found.columns:
        return f"Signals survive {all_layers(len(names))}{_spread(found)}."
    return f"Signals and gradients survive {all_layers(len(names))}; {_ratio(found)}{_spread(found)}."


def agreement(found: "Inspection") -> str:
    """Where theory and measurement differ most, in units of their errors."""
    worst: tuple[float, str, str, int] | None = None
    count = 0
    for key, column in found.columns.items():
        if column.z is None:
            continue
        known = np.flatnonzero(np.isfinite(column.z)).tolist()
        count += len(known)
        for i in known:
            if worst is None or abs(column.z[i]) > abs(worst[0]):
                worst = float(column.z[i]), key, found.layers[i], i
    if worst is None:
        return ""
    z, key, name, i = worst
    # a standard error from few initialisations is itself uncertain: Student’s distribution, not the normal
    limit = float(student.isf(FALSE_ALARMS / 2 / count, max(found.initialisations - 1, 1)))
    where = f"{key} of {name}, {number(abs(z), 2)} standard errors"
    if abs(z) <= limit:
        return f"Theory agrees in all {count} numbers (furthest off: {where})."
    theory = found.columns[key].theory
    assert theory is not None
    off = f"{number(float(theory[i]))} in theory, {number(float(found.columns[key].value[i]))} measured"
    return f"Theory and measurement differ: {where} ({off})."


def _place(names: tuple[str, ...], i: int) -> str:
    return f"layer {i + 1} ({names[i]})"


def _signals(names: tuple[str, ...], at: int, size: np.ndarray, found: "Inspection") -> str:
    explodes = size[at] > 0
    steps = np.diff(size)  # the first layer’s own size is the measure of the others
    worst = int(np.argmax(steps if explodes else -steps)) + 1
    # one step, or the same at every layer?
    alone = abs(steps[worst - 1]) > E_FOLDS / 2 and abs(steps[worst - 1]) > 3 * np.median(np.abs(steps))
    each = float(np.exp(np.mean(steps[: at + 1])))
    how = (
        f"{_place(names, worst)} changes their variance by a factor {number(float(np.exp(steps[worst - 1])), 3)}"
        if alone
        else f"by a factor {number(each, 3)} in variance each layer, more than e⁴ at {_place(names, at)}"
    )
    tail = "" if (ratio := _ratio(found)) == "" else f"; {ratio}"
    return f"Signals {'explode' if explodes else 'die'}: {how}{tail}."


def _alike(found: "Inspection") -> int | None:
    if "angle" not in found.columns:
        return None
    angle = found.columns["angle"].value
    small = angle < ALIKE
    if not small[-1] or small[0]:
        return None
    return int(np.flatnonzero(~small)[-1]) + 1


def _gradients(found: "Inspection") -> str | None:
    if "jacobian" not in found.columns:
        return None
    names, jacobian = found.layers, found.columns["jacobian"].value
    known = np.flatnonzero(np.isfinite(jacobian))
    if len(known) < 2:
        return None
    if np.any(jacobian[known] == 0):
        dead = int(known[np.flatnonzero(jacobian[known] == 0)[-1]])
        return f"Gradients die: none reaches {_place(names, dead)} from the output."
    change = _change(jacobian[known], found.columns["gradient"].value[known])
    back = np.minimum.accumulate(change), np.maximum.accumulate(change)  # over all layers up to this one
    gone = np.flatnonzero((back[0] > E_FOLDS) | (back[1] < -E_FOLDS))
    if not len(gone):
        return None
    word = "explode" if change[0] > 0 else "die"
    where = f"from {_place(names, int(known[gone[-1]]))} back, by more than e⁴ in variance"
    return f"Gradients {word} on their way back, {where}; {_ratio(found)}."


def _change(jacobian: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """ln of what is left of gradients, relative to the last layer: of J, or of the weights’ if it changes less.

    Pooling divides the Jacobian by the number of pixels, but the weights before it add the pixels up again.
    """
    by_signal = np.log(jacobian / jacobian[-1])
    with np.errstate(all="ignore"):
        by_weights = 2 * np.log(gradient / gradient[-1])
    by_weights = np.where(np.isfinite(by_weights), by_weights, by_signal)
    same_way = np.sign(by_signal) == np.sign(by_weights)
    return np.where(same_way, np.sign(by_signal) * np.minimum(np.abs(by_signal), np.abs(by_weights)), 0.0)


def _ratio(found: "Inspection") -> str:
    """Root of the Jacobian: what the first layer's signal receives of the last one's gradient."""
    if "jacobian" not in found.columns:
        return ""
    jacobian = found.columns["jacobian"].value
    known = np.flatnonzero(np.isfinite(jacobian))
    if len(known) < 2:
        return "there is one layer only, so gradients have nowhere to go"
    ratio = float(np.sqrt(jacobian[known[0]] / jacobian[known[-1]]))
    size = power_of_ten(ratio) if not 1e-3 < ratio < 1e4 else number(ratio, 2)
    return f"the first layer receives {size} times the last layer’s gradient"


def _spread(found: "Inspection") -> str:
    if "correlation" not in found.columns:
        return ""
    correlation = found.columns["correlation"]
    strong = (correlation.value > 0.1) & (correlation.value > 3 * correlation.standard_error)
    if not strong.any():
        return ""
    first = found.layers[int(np.flatnonzero(strong)[0])]
    return f"; but one draw differs much from the next (neurons of {first} swell together)"
