"""The options that commands share, and how their text becomes numbers. Imports nothing heavy: `--help` waits for it."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from finitewidth.errors import InputError

if TYPE_CHECKING:
    from finitewidth.architecture import MLP

SCHEMES = ("torch", "kaiming", "xavier", "lecun", "critical")


def option(help: str, *, name: str | None = None, metavar: str = "TEXT") -> Parameter:
    """An option with a value, which may begin with a hyphen: `--C-b -1` is then refused for what it is."""
    return Parameter(name=name, help=help, metavar=metavar, allow_leading_hyphen=True, negative="", show_default=False)


def flag(help: str, *, name: str | None = None) -> Parameter:
    """An option without a value."""
    return Parameter(name=name, help=help, negative="", show_default=False)


AsJson = Annotated[bool, flag("Print one JSON object, numbers at full double precision.", name="--json")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The network: what it is made of and how it is initialised."""

    activation: Annotated[
        str,
        option('Activation: a name, or one with parameters such as "leaky_relu(0.1)". Default: gelu.', metavar="NAME"),
    ] = "gelu"
    depth: Annotated[str, option("Number L of weight layers, output included. Default: 24.", metavar="L")] = "24"
    width: Annotated[
        str, option("Width of the hidden layers: one number, or L − 1 with commas. Default: 512.", metavar="N")
    ] = "512"
    n_out: Annotated[str, option("Number of outputs. Default: 10.", name="--n-out", metavar="N")] = "10"
    init: Annotated[str | None, option(f"Initialisation: {', '.join(SCHEMES)}. Default: torch.", metavar="SCHEME")] = (
        None
    )
    C_b: Annotated[
        str | None,
        option("Variance of biases, instead of --init: one number, or L with commas.", name="--C-b", metavar="X"),
    ] = None
    C_W: Annotated[
        str | None,
        option("Variance of weights × fan-in, instead of --init: one number, or L.", name="--C-W", metavar="X"),
    ] = None
    lambda_b: Annotated[
        str | None, option("Learning rate of biases: one number, or L. See above.", name="--lambda-b", metavar="X")
    ] = None
    lambda_W: Annotated[
        str | None,
        option("Learning rate of weights × fan-in: one number, or L. See above.", name="--lambda-W", metavar="X"),
    ] = None

    @property
    def label(self) -> str:
        """The name of the initialisation asked for."""
        return "yours" if self.C_b is not None else (self.init or "torch")

    def build(self, n_in: int | None, mean_square: float, *, plain_sgd: bool) -> "MLP":
        """The network for inputs of n_in components (None: as many as the first hidden layer has neurons) and
        |x|²/n_0 = mean_square.

        plain_sgd: without --lambda-b and --lambda-W, whether one learning rate is meant for all parameters (λ_b = 1,
            λ_W = n_{ℓ−1});
        else λ_b = λ_W = 1.
        """
        from finitewidth.architecture import MLP
        from finitewidth.report.initialisations import initialised, with_plain_sgd

        if (self.C_b is None) != (self.C_W is None):
            given, missing = ("--C-b", "--C-W") if self.C_W is None else ("--C-W", "--C-b")
            raise InputError(f"`{given}` is given without `{missing}`; give both, or --init")
        if self.C_b is not None and self.init is not None:
            raise InputError("`--init` and `--C-b`, `--C-W` both say how to initialise; give one of them")
        if self.init is not None and self.init not in SCHEMES:
            raise InputError(
                f"`--init` must be one of {', '.join(SCHEMES)}, but got {self.init!r}{_meant(self.init, SCHEMES)}"
            )
        net = MLP(
            self.activation,
            depth=whole("depth", self.depth),
            width=wholes("width", self.width),
            n_in=n_in,
            n_out=whole("n-out", self.n_out),
            C_b=0.0 if self.C_b is None else numbers("C-b", self.C_b),
            C_W=1.0 if self.C_W is None else numbers("C-W", self.C_W),
            lambda_b=1.0 if self.lambda_b is None else numbers("lambda-b", self.lambda_b),
            lambda_W=1.0 if self.lambda_W is None else numbers("lambda-W", self.lambda_W),
        )
        if n_in is None:
            net = _replaced(net, n_in=net.widths[0] if net.widths else 1)
        if plain_sgd and self.lambda_b is None and self.lambda_W is None:
            net = with_plain_sgd(net)
        return net if self.C_b is not None else initialised(net, self.init or "torch", mean_square)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class VerifiedNetwork:
    """The network of `verify`: the example of the theory's own table unless said otherwise."""

    activation: Annotated[str, option('Activation, such as "leaky_relu(0.1)". Default: tanh.', metavar="NAME")] = "tanh"
    depth: Annotated[
        str | None, option("Number L of weight layers, output included. Default: 4, or 3 trained.", metavar="L")
    ] = None
    C_b: Annotated[str, option("Variance of biases. Default: 0.2.", name="--C-b", metavar="X")] = "0.2"
    C_W: Annotated[str, option("Variance of weights × fan-in. Default: 1.3.", name="--C-W", metavar="X")] = "1.3"
    lambda_b: Annotated[str, option("Learning rate of biases. Default: 0.5.", name="--lambda-b", metavar="X")] = "0.5"
    lambda_W: Annotated[
        str, option("Learning rate of weights × fan-in. Default: 0.7.", name="--lambda-W", metavar="X")
    ] = "0.7"

    def build(self, *, depth: str) -> "MLP":
        """The network, of this depth unless told; its width is not read."""
        from finitewidth.architecture import MLP

        return MLP(
            self.activation,
            depth=whole("depth", depth if self.depth is None else self.depth),
            width=1,
            C_b=numbers("C-b", self.C_b),
            C_W=numbers("C-W", self.C_W),
            lambda_b=numbers("lambda-b", self.lambda_b),
            lambda_W=numbers("lambda-W", self.lambda_W),
        )


def _replaced(net: "MLP", *, n_in: int) -> "MLP":
    from dataclasses import replace

    return replace(net, n_in=n_in)


def whole(name: str, text: str, *, least: int = 1) -> int:
    """`text` as an integer ≥ `least`."""
    if not re.fullmatch(r"[+-]?\d+", text.strip()) or int(text) < least:
        raise InputError(f"`--{name}` must be an integer ≥ {least}, but got {text!r}")
    return int(text)


def wholes(name: str, text: str) -> int | tuple[int, ...]:
    """`text` as an integer ≥ 1, or as several with commas between."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[+-]?\d+", part) and int(part) >= 1 for part in parts):
        raise InputError(f"`--{name}` must be an integer ≥ 1, or several with commas, but got {text!r}")
    return int(parts[0]) if len(parts) == 1 else tuple(map(int, parts))


def numbers(name: str, text: str) -> float | tuple[float, ...]:
    """`text` as a number, or as several with commas between."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"`--{name}` must be a number ≥ 0, or one per layer with commas, but got {text!r}") from None
    return values[0] if len(values) == 1 else values


def one_number(name: str, text: str) -> float:
    """`text` as one number."""
    value = numbers(name, text)
    if not isinstance(value, float):
        raise InputError(f"`--{name}` must be one number, but got {text!r}")
    return value


def positive(name: str, text: str) -> float:
    """`text` as a finite number > 0."""
    value = numbers(name, text)
    if not isinstance(value, float) or not 0 < value < float("inf"):
        raise InputError(f"`--{name}` must be a finite number > 0, but got {text!r}")
    return value


def _meant(text: str, names: tuple[str, ...]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(text, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
