"""`finitewidth verify`: theory against real networks, as they are drawn or, with `--trained`, after training."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from finitewidth.errors import InputError
from finitewidth.frontends.options import AsJson, VerifiedNetwork, flag, one_number, option, positive, whole, wholes
from finitewidth.frontends.progress import ProgressLine

if TYPE_CHECKING:
    import numpy as np

    from finitewidth.algorithms import GradientDescent, GradientFlow
    from finitewidth.architecture import MLP
    from finitewidth.compare import TrainedVerification, Verification

HELP = (
    "Theory against real networks: K, Θ and every tensor of order 1/n, at the last layer; with --trained, mean and "
    "covariance of trained outputs.\n\n"
    "Draws networks of several widths, takes exact derivatives of their outputs, or trains them; extrapolates in 1/n "
    "and compares in standard errors. Ends in exit code 1 where the two contradict each other. A few minutes.\n\n"
    "--trained learns from two inputs and asks about two more, unless files are given; features are taken as they are."
)
EPILOGUE = (
    "Examples:\n\n"
    "  finitewidth verify\n"
    "  finitewidth verify --activation gelu --depth 3 --C-b 0.17 --C-W 1.98 --tensors V,A,B\n"
    "  finitewidth verify --trained\n"
    "  finitewidth verify --trained --time inf --networks 1000\n"
)
X_TRAIN, Y_TRAIN, X_TEST = ((-0.8, -1.3), (0.4, 0.5)), (1.0, -1.2), ((0.9, -0.7), (-0.6, 0.2))
STEPS = 10


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AsDrawn:
    """What is looked at of networks as they are drawn."""

    x2: Annotated[str | None, option("One input with |x|²/n_0 = X. Default: 1.1.", metavar="X")] = None
    data: Annotated[str | None, option("Instead of --x2: a file, one input a row, at most 16.", metavar="DATA")] = None
    tensors: Annotated[
        str | None, option("Only these, with commas, such as V,A,G1. Default: all.", metavar="NAMES")
    ] = None

    def inputs(self) -> "np.ndarray":
        """(N, n_in)."""
        import numpy as np

        from finitewidth.data import load_data

        if self.x2 is not None and self.data is not None:
            raise InputError("`--x2` and `--data` both give the input; give one of them")
        if self.data is not None:
            return load_data(self.data).inputs
        return np.full((1, 1), np.sqrt(positive("x2", "1.1" if self.x2 is None else self.x2)))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AfterTraining:
    """What networks are trained on with `--trained`, and how."""

    train: Annotated[str | None, option("With --trained: CSV file to learn from.", metavar="FILE")] = None
    test: Annotated[str | None, option("With --trained: CSV file of inputs to ask about.", metavar="FILE")] = None
    target: Annotated[str | None, option("With --trained: column of the labels.", metavar="COLUMN")] = None
    step: Annotated[
        str | None, option("With --trained: step of gradient descent. Default: 1/λ_max of Θ.", metavar="X")
    ] = None
    steps: Annotated[str | None, option(f"With --trained: how many. Default: {STEPS}.", metavar="N")] = None
    time: Annotated[
        str | None, option("With --trained: gradient flow to this time, or inf, instead of steps.", metavar="X")
    ] = None

    def problem(self) -> tuple[Any, Any, Any]:
        """Training inputs, their labels, and the other inputs."""
        files = {"train": self.train, "test": self.test, "target": self.target}
        if not any(files.values()):
            return X_TRAIN, Y_TRAIN, X_TEST
        if missing := [name for name, value in files.items() if value is None]:
            raise InputError(f"`--{missing[0]}` is missing; --train, --test and --target go together")
        from finitewidth.frontends.prediction import read_tables

        assert self.train is not None and self.test is not None and self.target is not None
        _, learned, asked = read_tables(self.train, self.test, self.target)
        return learned.features, learned.target, asked.features

    def algorithm(self, net: "MLP", x_train: Any) -> "GradientFlow | GradientDescent":
        """Gradient flow where a time is given, else descent."""
        from finitewidth.algorithms import GradientDescent, GradientFlow

        if self.time is not None:
            if self.step is not None or self.steps is not None:
                raise InputError(
                    "`--time` goes with gradient flow, `--step` and `--steps` with descent; give one of both"
                )
            return GradientFlow(one_number("time", self.time))
        steps = STEPS if self.steps is None else math.inf if self.steps == "inf" else whole("steps", self.steps)
        if self.step is not None:
            return GradientDescent(positive("step", self.step), steps)
        from finitewidth.flow import flow
        from finitewidth.training.modes import largest_rate

        largest = largest_rate(flow(net, x_train, tensors="", layers="last").Theta.values[0])
        return GradientDescent(float(f"{1 / largest:.2g}"), steps)  # a number that can be typed again


def verify(
    *,
    network: VerifiedNetwork = VerifiedNetwork(),  # noqa: B008  frozen
    trained: Annotated[bool, flag("Networks that have been trained: mean and covariance of their outputs.")] = False,
    drawn: AsDrawn = AsDrawn(),
    training: AfterTraining = AfterTraining(),
    networks: Annotated[
        str,
        option(
            "Networks of each width: with all derivatives, more with fewer; trained. Default: 6000, or 2000 trained.",
            metavar="N",
        ),
    ] = "",
    widths: Annotated[
        str, option("Widths to extrapolate from. Default: 12,20,48, or 24,48,96 trained.", metavar="N,N,N")
    ] = "",
    degree: Annotated[str, option("Degree of the fit in 1/n. Default: 2.", metavar="N")] = "2",
    seed: Annotated[str, option("Seed of the networks. Default: 0.", metavar="N")] = "0",
    json: AsJson = False,
) -> int:
    """Theory against real networks. Returns the exit code: 1 where they contradict each other."""
    _check_mode(trained, drawn, training)
    with ProgressLine() as progress:
        count = whole("networks", networks or ("2000" if trained else "6000"))
        several = wholes("widths", widths or ("24,48,96" if trained else "12,20,48"))
        options = {
            "n_networks": count,
            "widths": (several,) if isinstance(several, int) else several,
            "degree": whole("degree", degree, least=0),
            "seed": whole("seed", seed, least=0),
            "progress": progress.counted("networks"),
        }
        from finitewidth.compare import TrainedVerification

        net = network.build(depth="3" if trained else "4")
        found = _trained(net, training, options) if trained else _drawn(net, drawn, options)
    if json:
        from json import dumps

        from finitewidth.report.strict_json import document

        print(dumps(document(found.to_dict()), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        from finitewidth.frontends.tables import trained_table, verification_table
        from finitewidth.report.text import print_on

        print_on(trained_table(found) if isinstance(found, TrainedVerification) else verification_table(found))
    return 0 if found.passed else 1


def _check_mode(trained: bool, drawn: AsDrawn, training: AfterTraining) -> None:
    """Refuse options that would not be looked at."""
    idle, when = (drawn, "without") if trained else (training, "with")
    for name, value in vars(idle).items():
        if value is not None:
            raise InputError(f"`--{name}` goes {when} --trained, but got {value!r}")


def _drawn(net: "MLP", drawn: AsDrawn, options: dict[str, Any]) -> "Verification":
    from finitewidth.compare import verify as compare

    names = None if drawn.tensors is None else [name.strip() for name in drawn.tensors.split(",")]
    return compare(net, drawn.inputs(), tensors=names, **options)


def _trained(net: "MLP", training: AfterTraining, options: dict[str, Any]) -> "TrainedVerification":
    from finitewidth.compare import verify_trained

    x_train, y_train, x_test = training.problem()
    algorithm = training.algorithm(net, x_train)
    return verify_trained(net, x_train, y_train, x_test, algorithm=algorithm, **options)
