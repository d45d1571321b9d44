"""The section [training] of a spec: what the networks learn, and how.

[training]
x = [[1.0, 0.2], [-0.5, 0.9]]       # or data = "digits" or a file, rows = […]
y = [0.5, -0.3]                     # or target = "column" of a file; the labels of digits come with them
algorithm = "descent"               # flow, descent, momentum, sgd or adam
step = 0.1                          # the algorithm's parameters, by the names that they have in Python
steps = 20
loss = "mse"
times = [0, 20]                     # inf is the end of training
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from finitewidth.errors import InputError
from finitewidth.frontends.spec_values import examples, known

if TYPE_CHECKING:
    from finitewidth.experiments.courses import Trainable
    from finitewidth.experiments.trainings import Training

ALGORITHMS = {
    "flow": ("time",),
    "descent": ("step", "steps"),
    "momentum": ("step", "steps", "momentum"),
    "sgd": ("step", "steps", "batch_size"),
    "adam": ("step", "steps", "beta1", "beta2", "epsilon"),
}
PARAMETERS = tuple(dict.fromkeys(name for names in ALGORITHMS.values() for name in names))
KEYS = ("data", "x", "y", "rows", "target", "algorithm", *PARAMETERS, "loss", "times")


def training(source: str, given: Mapping[str, Any]) -> "Training":
    """The training that the section asks for; its keys are known.

    Raises
        InputError: when keys contradict each other or are missing. Values are checked by what they are given to.
    """
    from finitewidth.experiments.trainings import Training

    x, y = examples(source, "training", given)
    if y is None:
        raise InputError(f"`SPEC` {source!r} has no targets in [training]; add y, or target, the column of a file")
    options = {name: given[name] for name in ("loss", "times") if name in given}
    made = Training(x, y, algorithm=algorithm(source, given), **options)
    _ = made.plan  # loss and times are checked before anything is made of them
    return made


def algorithm(source: str, given: Mapping[str, Any]) -> "Trainable":
    """The algorithm that the section asks for, gradient flow where it names none."""
    from finitewidth.experiments.courses import ALGORITHMS as KINDS

    name = given.get("algorithm", "flow")
    known(source, "algorithm in [training]", [name], ALGORITHMS)
    parameters = {key: given[key] for key in PARAMETERS if key in given}
    if foreign := [key for key in parameters if key not in ALGORITHMS[name]]:
        owners = " or ".join(repr(each) for each, names in ALGORITHMS.items() if foreign[0] in names)
        raise InputError(
            f"`SPEC` {source!r} has {foreign[0]} in [training], which goes with the algorithm {owners}, but the "
            f"algorithm is {name!r}; the parameters of {name!r} are {', '.join(ALGORITHMS[name])}"
        )
    needed = [field.name for field in fields(KINDS[name]) if field.default is MISSING]
    if missing := [key for key in needed if key not in parameters]:
        raise InputError(f"`SPEC` {source!r} has no {missing[0]} in [training], which {name!r} needs; add it")
    return KINDS[name](**parameters)
