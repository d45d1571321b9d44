"""`finitewidth predict`: a table to learn from, a table to predict; numbers with error bars, and a picture."""

import csv
import io
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from finitewidth.errors import InputError
from finitewidth.frontends.options import AsJson, flag, numbers, one_number, option, whole, wholes
from finitewidth.frontends.progress import ProgressLine

if TYPE_CHECKING:
    from finitewidth.algorithms import Algorithm
    from finitewidth.frontends.prediction import FilePrediction

HELP = (
    "What networks predict after training, from one CSV file to another: mean and error bar over their "
    "initialisations, and a picture that shows a few real networks too.\n\n"
    "Features and target are brought to mean 0 and variance 1 over the training rows; a constant feature 1 is added. "
    "The error bar is what differs from one initialisation to the next; noise of the labels is no part of it."
)
EPILOGUE = (
    "Examples:\n\n"
    "  finitewidth predict train.csv test.csv --target y\n"
    "  finitewidth predict train.csv test.csv --target y --activation tanh --width 32 --steps 200\n"
    "  finitewidth predict train.csv test.csv --target y --algorithm bayes --noise 0.1 --json\n"
)
ALGORITHMS = ("descent", "flow", "bayes")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PredictedNetwork:
    """The network, critical unless told."""

    activation: Annotated[str, option('Activation, such as "leaky_relu(0.1)". Default: gelu.', metavar="NAME")] = "gelu"
    depth: Annotated[str, option("Number L of weight layers, output included. Default: 3.", metavar="L")] = "3"
    width: Annotated[str, option("Width of the hidden layers: one, or L − 1. Default: 64.", metavar="N")] = "64"
    C_b: Annotated[str, option("Variance of biases. Default: critical.", name="--C-b", metavar="X")] = "critical"
    C_W: Annotated[str, option("Variance of weights × fan-in. Default: critical.", name="--C-W", metavar="X")] = (
        "critical"
    )
    lambda_b: Annotated[str, option("Learning rate of biases. Default: 1.", name="--lambda-b", metavar="X")] = "1"
    lambda_W: Annotated[
        str, option("Learning rate of weights × fan-in. Default: 1.", name="--lambda-W", metavar="X")
    ] = "1"

    def parameters(self) -> dict[str, Any]:
        """As `FiniteWidthRegressor` takes them."""
        return {
            "activation": self.activation,
            "depth": whole("depth", self.depth),
            "width": wholes("width", self.width),
            "C_b": "critical" if self.C_b == "critical" else numbers("C-b", self.C_b),
            "C_W": "critical" if self.C_W == "critical" else numbers("C-W", self.C_W),
            "lambda_b": numbers("lambda-b", self.lambda_b),
            "lambda_W": numbers("lambda-W", self.lambda_W),
        }


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Training:
    """How the network is trained."""

    algorithm: Annotated[str, option("descent, flow or bayes. Default: descent.", metavar="NAME")] = "descent"
    step: Annotated[str | None, option("Of descent. Default: 1/λ_max of Θ, half the stable one.", metavar="X")] = None
    steps: Annotated[str | None, option("Of descent. Default: 1000.", metavar="N")] = None
    time: Annotated[str | None, option("Of flow. Default: until the end.", metavar="X")] = None
    noise: Annotated[str | None, option("Of bayes: variance of labels, in units of theirs.", metavar="X")] = None

    def build(self, largest_rate: float) -> "Algorithm":
        """The algorithm, where Θ on the training inputs has this largest eigenvalue."""
        from finitewidth.algorithms import Bayes, GradientDescent, GradientFlow

        if self.algorithm not in ALGORITHMS:
            raise InputError(f"`--algorithm` must be one of {', '.join(ALGORITHMS)}, but got {self.algorithm!r}")
        for name, owner in (("step", "descent"), ("steps", "descent"), ("time", "flow"), ("noise", "bayes")):
            if getattr(self, name) is not None and self.algorithm != owner:
                raise InputError(f"`--{name}` goes with `--algorithm {owner}`, but the algorithm is {self.algorithm}")
        if self.algorithm == "flow":
            return GradientFlow() if self.time is None else GradientFlow(one_number("time", self.time))
        if self.algorithm == "bayes":
            return Bayes(0.0 if self.noise is None else one_number("noise", self.noise))
        # a number that can be typed again
        step = float(f"{1 / largest_rate:.3g}") if self.step is None else one_number("step", self.step)
        return GradientDescent(step, whole("steps", "1000" if self.steps is None else self.steps, least=0))


def predict(
    train: Annotated[str, Parameter(help="CSV file to learn from, one row an example.")],
    test: Annotated[str, Parameter(help="CSV file to predict; may hold the target, or blanks, to compare with.")],
    /,
    *,
    target: Annotated[str, option("Column to predict.", metavar="COLUMN")],
    network: PredictedNetwork = PredictedNetwork(),
    training: Training = Training(),
    order: Annotated[
        str | None,
        option(
            "Order in 1/n: 0 or 1. Default: 1 for up to 16 different inputs and σ without kinks; beyond 16, 1 takes "
            "minutes (Ctrl-C stops it).",
            metavar="N",
        ),
    ] = None,
    networks: Annotated[str, option("Real networks to train and show. Default: 6.", metavar="N")] = "6",
    seed: Annotated[str, option("Seed of the real networks. Default: 0.", metavar="N")] = "0",
    raw: Annotated[bool, flag("Features and target as they are, not brought to mean 0 and variance 1.")] = False,
    out: Annotated[
        str | None, option("Directory of predictions.csv and prediction.png. Default: prediction.", metavar="DIR")
    ] = None,
    json: AsJson = False,
) -> None:
    """From one CSV file to another: predictions with error bars, and a picture."""
    if order not in (None, "0", "1"):
        raise InputError(f"`--order` must be 0 or 1, but got {order!r}")
    parameters, shown, number = network.parameters(), whole("networks", networks, least=0), whole("seed", seed, least=0)
    training.build(1.0)  # what is wrong with it is said before anything is read
    with ProgressLine() as progress:
        from finitewidth.frontends.prediction import Request, predict_tables, read_tables

        names, learned, asked = read_tables(train, test, target)
        directory = None if json and out is None else writable_directory(out or "prediction")
        request = Request(parameters, training.build, None if order is None else int(order), shown, number, raw)
        found = predict_tables(names, target, learned, asked, request, progress)
        written = [] if directory is None else _written(found, directory, progress)
    if json:
        from json import dumps

        from finitewidth.report.strict_json import document

        print(dumps(document(to_dict(found)), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        from finitewidth.frontends.tables import prediction_table
        from finitewidth.report.text import print_on

        print_on(prediction_table(found))
        for path in written:
            print(path)


def writable_directory(out: str, option: str = "--out") -> Path:
    """Where to write, tried before anything is computed: a place that cannot be written is said at once."""
    made = Path(out)
    try:
        new = not made.exists()
        made.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=made).close()
        if new:  # nothing is left of a request that is refused
            made.rmdir()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"`{option}` {out!r} cannot be written ({reason}); give another directory") from error
    return made


def _written(found: "FilePrediction", directory: Path, progress: ProgressLine) -> list[Path]:
    from finitewidth.report.pictures import write_whole
    from finitewidth.report.prediction import picture

    progress("drawing")
    directory.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    rows = table_rows(found)
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return [
        write_whole(directory / "predictions.csv", text.getvalue().encode()),
        write_whole(directory / "prediction.png", picture(found)),
    ]


def table_rows(found: "FilePrediction") -> list[dict[str, Any]]:
    """One for each row of the test file: its number, what is predicted at finite and at infinite width, the target."""
    known = found.test.target
    return [
        {
            "row": i,
            "mean": float(found.finite.mean[i]),
            "std": float(found.finite.std[i]),
            "mean_infinite": float(found.infinite.mean[i]),
            "std_infinite": float(found.infinite.std[i]),
        }
        | ({} if known is None else {found.target: None if isnan(known[i]) else float(known[i])})
        for i in range(len(found.test.features))
    ]


def to_dict(found: "FilePrediction") -> dict[str, Any]:
    """Everything in plain values."""
    net = found.net
    return {
        "network": {
            "activation": net.activation.name,
            "depth": net.depth,
            "widths": list(net.widths),
            **{name: net.per_layer(name) for name in ("C_b", "C_W", "lambda_b", "lambda_W")},
        },
        "algorithm": repr(found.algorithm),
        "order": found.order,
        "target": found.target,
        "features": list(found.names),
        "predictions": table_rows(found),
        "real_networks": None if found.networks is None else found.networks,
        "rms_error": found.rms_error(found.finite),
        "rms_error_infinite": found.rms_error(found.infinite),
        "notes": list(found.notes),
    }
