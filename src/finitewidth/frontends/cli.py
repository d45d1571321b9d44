"""The command line, `finitewidth COMMAND`: one function a command, tables or JSON on standard output.

JAX and all that computes is imported by a command when it runs, never by `--help`. Bad input ends in exit code 2 and
one line on standard error; Ctrl-C in 130.
"""

import os
import shlex
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from finitewidth._version import __version__
from finitewidth.errors import InputError
from finitewidth.frontends import verify_command
from finitewidth.frontends.ensemble_commands import ensemble
from finitewidth.frontends.options import AsJson, NetworkOptions, option, positive, whole
from finitewidth.frontends.predict_command import EPILOGUE, HELP, predict
from finitewidth.frontends.progress import ProgressLine
from finitewidth.frontends.verify_command import verify
from finitewidth.programs import keep_compiled_programs

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

_STARTED = time.perf_counter()


def _examples(*commands: str) -> str:
    return "Examples:\n\n" + "".join(f"  {command}\n" for command in commands)


app = App(
    name="finitewidth",
    version=__version__,
    help="What a neural network of finite depth and width will do, computed before it is trained.",
    help_epilogue=_examples("finitewidth report", "finitewidth critical gelu", "finitewidth COMMAND --help"),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
app.register_install_completion_command(add_to_startup=False)
app.command(ensemble)
app.command(predict, help=HELP, help_epilogue=EPILOGUE)
app.command(verify, help=verify_command.HELP, help_epilogue=verify_command.EPILOGUE)


@app.command(
    help="What a network will do with real data, beside the critical initialisation: signals, gradients, tangent "
    "kernel, finite width.\n\n"
    "Learning rates: without --lambda-b and --lambda-W all parameters share one, as in torch.optim.SGD (λ_b = 1, λ_W = "
    "fan-in of each layer), and the largest stable one is printed.",
    help_epilogue=_examples(
        "finitewidth report",
        "finitewidth report --activation tanh --depth 50 --width 256 --init xavier",
        "finitewidth report --data lab.csv --n-out 1 --C-b 0 --C-W 2 --html report.html",
    ),
)
def report(
    *,
    network: NetworkOptions = NetworkOptions(),  # noqa: B008  frozen
    data: Annotated[
        str,
        option("digits, or a file .csv, .npy, .npz, .parquet with one input a row. Default: digits.", metavar="DATA"),
    ] = "digits",
    inputs: Annotated[
        str, option("Use at most this many of the inputs, chosen at random. Default: 500.", metavar="N")
    ] = "500",
    out: Annotated[str | None, option("Write the pictures into this directory.", metavar="DIR")] = None,
    html: Annotated[str | None, option("Write a self-contained HTML page.", metavar="FILE")] = None,
    json: AsJson = False,
) -> None:
    """What a network will do with real data, beside the critical initialisation."""
    with ProgressLine() as progress:
        from finitewidth.data import load_data
        from finitewidth.report import report as make
        from finitewidth.report.contents import mean_square_of

        loading = time.perf_counter() - _STARTED
        whole_inputs = whole("inputs", inputs)
        _check_places(out, html)
        progress("reading the data")
        data_set = load_data(data)
        progress("critical point")
        net = network.build(data_set.inputs.shape[1], mean_square_of(data_set.inputs), plain_sgd=True)
        made = make(
            net,
            data_set,
            label=network.label,
            inputs=whole_inputs,
            command=shlex.join(["finitewidth", *_arguments()]),
            progress=progress,
        )
        made.timings["loading JAX and libraries"] = (loading, 0.0)
        written = _drawn(made, out, html, progress)
    if json:
        _print_json(made.to_dict())
    else:
        made.print()
    for line in written:
        print(line, file=sys.stderr if json else sys.stdout)


def _check_places(out: str | None, html: str | None) -> None:
    """Refuse what cannot be written before the minute that a report may take, not after."""
    from pathlib import Path

    from finitewidth.errors import InputError
    from finitewidth.frontends.predict_command import writable_directory

    if out is not None:
        writable_directory(out)
    if html is not None:
        if Path(html).is_dir():
            raise InputError(f"`--html` {html!r} is a directory; give the name of a file in it")
        writable_directory(str(Path(html).parent), "the directory of --html")


def _drawn(made: Any, out: str | None, html: str | None, progress: Callable[[str], None]) -> list[str]:
    """Pictures and page, as asked for; a line on each."""
    begun, lines = time.perf_counter(), []
    if out is not None:
        progress("drawing the pictures")
        paths = made.save_pictures(out)
        lines.append(f"Pictures: {paths[-1]} and {len(paths) - 1} more beside it")
    if html is not None:
        progress("drawing the page")
        lines.append(f"Page: {made.save_html(html)}")
    if lines:
        made.timings["drawing"] = (time.perf_counter() - begun, 0.0)
    return lines


@app.command(
    help="The critical initialisation of an activation: C_b, C_W, and why.",
    help_epilogue=_examples(
        "finitewidth critical gelu",
        'finitewidth critical "leaky_relu(0.1)" --json',
    ),
)
def critical(
    activation: Annotated[str, Parameter(help='Name, such as gelu or "leaky_relu(0.1)".')], /, *, json: AsJson = False
) -> None:
    """The critical initialisation of an activation: C_b, C_W, and why."""
    with ProgressLine() as progress:
        from finitewidth.criticality import critical as find

        progress("looking for critical points")
        found = find(activation)
    if json:
        from finitewidth.report.strict_json import document

        _print_json(document(found.to_dict()))
    else:
        from finitewidth.frontends.tables import critical_table

        _print(critical_table(found))


@app.command(
    help="K, Θ, V and the susceptibilities, layer by layer; with --order 1, all tensors of first order in 1/n."
    "\n\n"
    "V is the four-point vertex of single inputs, the coefficient of 1/n. With --order 1 the tensors have an entry "
    "for every four inputs (at most 16 of them); --json and --out give all, the table those of single inputs. "
    "With --x2, n_0 is the width of the first "
    "hidden layer (it matters to --init only). Learning rates λ_b and λ_W are 1 unless given.",
    help_epilogue=_examples(
        "finitewidth flow --activation tanh --depth 4 --width 64 --C-b 0.2 --C-W 1.3 --x2 1.1",
        "finitewidth flow --activation tanh --depth 4 --width 64 --C-b 0.2 --C-W 1.3 --order 1 --json",
        "finitewidth flow --data digits --init critical --out flow.nc",
    ),
)
def flow(
    *,
    network: NetworkOptions = NetworkOptions(),  # noqa: B008  frozen
    x2: Annotated[str | None, option("One input with |x|²/n_0 = X. Default, without --data: 1.", metavar="X")] = None,
    data: Annotated[str | None, option("Instead of --x2: digits or a file, one input a row.", metavar="DATA")] = None,
    order: Annotated[str, option("Order in 1/n: 0 or 1. Default: 0 (and V).", metavar="N")] = "0",
    tensors: Annotated[
        str | None, option("With --order 1, only these, such as ABDF or V,G1. Default: all.", metavar="NAMES")
    ] = None,
    out: Annotated[str | None, option("Write everything as netCDF.", metavar="FILE.nc")] = None,
    json: AsJson = False,
) -> None:
    """K, Θ, V and the susceptibilities, layer by layer."""
    with ProgressLine() as progress:
        order_asked = whole("order", order, least=0)
        import numpy as np

        from finitewidth.data import load_data
        from finitewidth.flow import flow as compute
        from finitewidth.report.contents import mean_square_of

        if tensors is not None and order_asked == 0:
            raise InputError(f"`--tensors` goes with `--order 1`, but got {tensors!r} at order 0")
        if x2 is not None and data is not None:
            raise InputError("`--x2` and `--data` both give the input; give one of them")
        if data is not None:
            inputs = load_data(data).inputs
            net = network.build(inputs.shape[1], mean_square_of(inputs), plain_sgd=False)
        else:
            mean_square = positive("x2", "1" if x2 is None else x2)
            net = network.build(None, mean_square, plain_sgd=False)
            assert net.n_in is not None
            inputs = np.full((1, net.n_in), np.sqrt(mean_square))
        progress("flowing through the layers")
        layers = compute(net, inputs, order=order_asked, tensors=tensors)
    if out is not None:
        _save_netcdf(layers, Path(out))
    if json:
        from finitewidth.report.strict_json import document

        _print_json(document({"layers": _layers(layers)}))
    else:
        from finitewidth.frontends.tables import flow_table

        _print(flow_table(net, layers))
        if out is not None:
            print(f"Flow: {out}")


@app.command(
    help="The phase diagram of an activation: where gradients vanish or explode in the plane of C_b and C_W, and the "
    "line in between.",
    help_epilogue=_examples(
        "finitewidth phase tanh",
        "finitewidth phase gelu --out gelu.png",
    ),
)
def phase(
    activation: Annotated[str, Parameter(help="Name of an activation. Default: gelu.", show_default=False)] = "gelu",
    /,
    *,
    out: Annotated[str | None, option("Draw it into this file, .png, .svg or .pdf.", metavar="FILE")] = None,
    json: AsJson = False,
) -> None:
    """The phase diagram: χ∥ and χ⊥ over the plane of C_b and C_W, and its critical line."""
    with ProgressLine() as progress:
        from finitewidth.criticality import phase_diagram

        progress("computing the phase diagram")
        diagram = phase_diagram(activation)
        if out is not None:
            from finitewidth.report.phase import save_phase

            progress("drawing")
            save_phase(diagram, Path(out))
    if json:
        from finitewidth.report.phase import phase_to_dict
        from finitewidth.report.strict_json import document

        _print_json(document(phase_to_dict(diagram)))
    else:
        from finitewidth.frontends.tables import phase_table

        _print(phase_table(diagram))
        if out is not None:
            print(f"Phase diagram: {out}")


@app.command(
    help="The activations by name, and what is known of each.",
    help_epilogue=_examples(
        "finitewidth activations",
        "finitewidth activations --json",
    ),
)
def activations(*, json: AsJson = False) -> None:
    """The activations by name, and what is known of each."""
    with ProgressLine():
        from finitewidth.activations import catalogue

        rows = catalogue()
    if json:
        from finitewidth.report.strict_json import document

        _print_json(document({"activations": rows}))
    else:
        from finitewidth.frontends.tables import activation_table

        _print(activation_table(rows))


app.command(
    "finitewidth.frontends.inspect_command:inspect",
    name="inspect",
    help="A PyTorch model of yours: its signals and gradients, layer by layer, measured over fresh initialisations.\n\n"
    "MODEL is a function without arguments that builds it, found as package.module:name from this directory; it is run "
    "once for every initialisation.",
    help_epilogue=_examples(
        "finitewidth inspect my_package.models:build --input-shape 3,32,32",
        "finitewidth inspect my_package.models:build --data digits --out picture.png",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for bad input, 130 for Ctrl-C."""
    global _given
    _given = list(sys.argv[1:] if arguments is None else arguments)
    if not {"--help", "-h", "--version"}.intersection(_given):
        keep_compiled_programs()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="replace")  # an old terminal shows ? for a Greek letter, and goes on
    try:
        with warnings.catch_warnings(), _interrupts() as interrupted:
            warnings.showwarning = _warn
            try:
                code = _run(_given)
                if interrupted:
                    raise KeyboardInterrupt
                return code
            except BaseException:
                # half-imported libraries turn Ctrl-C into errors of their own
                if interrupted:
                    raise KeyboardInterrupt from None
                raise
    except KeyboardInterrupt:
        print("finitewidth: stopped", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        return _refuse(_one_line(error))
    except InputError as error:
        return _refuse(str(error))
    except BrokenPipeError:  # the reader of a pipe has gone: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _refuse(f"{error.filename or 'a file'} cannot be written: {error.strerror or error}")
    return code if isinstance(code, int) else 0


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Within, Ctrl-C raises KeyboardInterrupt and is remembered in the list that is given.

    JAX, while it is being imported or called by the garbage collector, may swallow the exception; a second later the
    process ends anyway, and nobody is told of the swallowing.
    """
    seen: list[int] = []
    end = threading.Timer(1.0, _end_now)
    end.daemon = True

    def interrupt(number: int, frame: object) -> None:
        if not seen:
            end.start()
        seen.append(number)
        raise KeyboardInterrupt

    def swallowed(event: "sys.UnraisableHookArgs", tell: Callable[["sys.UnraisableHookArgs"], Any]) -> None:
        if not (seen and event.exc_type is KeyboardInterrupt):
            tell(event)

    if threading.current_thread() is not threading.main_thread():  # only the main thread hears of signals
        yield seen
        return
    before, tell = signal.signal(signal.SIGINT, interrupt), sys.unraisablehook
    sys.unraisablehook = partial(swallowed, tell=tell)
    try:
        yield seen
    finally:
        end.cancel()
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = tell


def _end_now() -> None:
    print("finitewidth: stopped", file=sys.stderr, flush=True)
    os._exit(130)


_given: list[str] = []


def _arguments() -> list[str]:
    return _given


def _refuse(message: str) -> int:
    print("finitewidth: " + " ".join(message.split()), file=sys.stderr)
    return 2


def _one_line(error: CycloptsError) -> str:
    text = " ".join(str(error).split())
    return f"{text} (finitewidth --help shows what there is)" if "Did you mean" not in text else text


def _warn(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    from finitewidth.errors import TrustWarning

    if issubclass(category, (TrustWarning, UserWarning)):
        print(f"finitewidth: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _layers(flow: "xr.Dataset") -> list[dict[str, Any]]:
    """One entry per layer: scalars for a single input, nested lists for several."""
    single = flow.sizes["a"] == 1
    values: dict[str, np.ndarray] = {str(name): flow[name].values for name in flow.data_vars}
    return [
        {"layer": int(layer)} | {name: (array[i].item() if single else array[i]) for name, array in values.items()}
        for i, layer in enumerate(flow["layer"].values)
    ]


def _save_netcdf(flow: "xr.Dataset", path: Path) -> None:
    """Whole or not at all: written beside and renamed."""
    if path.suffix != ".nc":
        raise InputError(f"`--out` must end in .nc, but got {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        flow.to_netcdf(temporary, engine="h5netcdf")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _print(renderable: Any) -> None:
    from finitewidth.report.text import print_on

    print_on(renderable)


def _print_json(contents: Any) -> None:
    from json import dumps

    print(dumps(contents, indent=2, allow_nan=False, ensure_ascii=False))
