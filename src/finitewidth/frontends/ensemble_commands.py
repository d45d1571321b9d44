"""`finitewidth ensemble run | status | resume | compare`: ensembles of real networks from a file, kept in a ledger."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cyclopts import App, Parameter

from finitewidth.errors import InputError
from finitewidth.frontends.ensemble_spec import Spec
from finitewidth.frontends.options import AsJson, option, whole
from finitewidth.frontends.progress import ProgressLine

Engine = Annotated[
    str | None, option("threads, processes, or the address of a Dask scheduler. Default: threads.", metavar="ENGINE")
]
Workers = Annotated[str | None, option("Threads or processes. Default: as many as cores.", metavar="N")]
Networks = Annotated[str | None, option("Instead of the spec's n_networks; more extend a run.", metavar="N")]
Path = Annotated[str, Parameter(help="The ledger of a run.")]

ensemble = App(
    name="ensemble",
    help="Ensembles of real networks: run, resumed after whatever happened, compared with the theory.",
    help_format="plaintext",
)


@ensemble.command(
    help="Run what a TOML file describes; what its ledger already has is not done again.\n\n"
    "Sections: [network] as finitewidth.MLP has them; [inputs] data or x, rows; [ensemble] observables, n_networks, "
    "seed, draw (networks or layers), path, chunk, engine, workers. With [training] networks are trained first: data "
    "or x and y, rows, target; algorithm (flow, descent, momentum, sgd, adam) and its parameters; loss; times."
)
def run(
    spec: Annotated[str, Parameter(help="The file.")],
    /,
    *,
    path: Annotated[str | None, option("The ledger. Default: the spec's path, else SPEC.db.", metavar="FILE")] = None,
    networks: Networks = None,
    engine: Engine = None,
    workers: Workers = None,
    json: AsJson = False,
) -> None:
    """Run a spec."""
    read = Spec.read(spec)
    _run(read, path or read.path or f"{os.path.splitext(spec)[0]}.db", networks, engine, workers, json)


@ensemble.command(help="Go on with a run that `finitewidth ensemble run` began, to its end or to --networks.")
def resume(
    path: Path,
    /,
    *,
    networks: Networks = None,
    engine: Engine = None,
    workers: Workers = None,
    json: AsJson = False,
) -> None:
    """Go on with a run."""
    with ProgressLine():
        about, done = _opened(path)
    if not (spec := about["extra"].get("spec")):
        raise InputError(f"`path` {path!r} was begun from Python, not from a spec; call fw.ensemble again as it was")
    # what is there counts, though fewer may have been asked for last
    asked = str(max(about["n_networks"], done)) if networks is None and "n_networks" in about else networks
    _run(Spec.checked(path, spec), path, asked, engine, workers, json)


@ensemble.command(help="How far a run is, and what it is.")
def status(path: Path, /, *, json: AsJson = False) -> None:
    """How far a run is."""
    with ProgressLine():
        about, done = _opened(path)
    asked = about.get("n_networks", done)
    if json:
        from finitewidth.report.strict_json import to_json

        print(to_json({"path": path, "done": done, "asked": asked, "description": about["description"]}))
        return
    described = about["description"]
    if done > asked:
        print(f"{path}: {done:,} networks, of which {asked:,} were asked for last")
    else:
        print(f"{path}: {done:,} of {asked:,} networks ({100 * done / max(asked, 1):.1f} %)")
    for name in ("net", "draw", "algorithm", "loss", "times", "seed", "chunk", "finitewidth", "jax"):
        if name in described:
            print(f"  {name}: {_short(described[name])}")
    print(f"  observables: {', '.join(described.get('observables', []))}")


@ensemble.command(
    help="A run beside the theory of first order in 1/n; several runs at different widths, extrapolated in 1/n.\n\n"
    "Of one run, z counts statistical errors only, and `left out` is (experiment/theory − 1) n/L (for K and Θ with "
    "n²/L²): of order one where it is the next order that is missing. Of several, the exit code is 1 where they "
    "contradict the theory. Of a run of trained networks, its mean and covariance beside those that are predicted."
)
def compare(
    *path: Annotated[str, Parameter(help="Ledgers of runs.")],
    order: Annotated[
        str | None, option("Of the theory of trained networks: 0 or 1. Default: 1 where it is computed.", metavar="N")
    ] = None,
    json: AsJson = False,
) -> int:
    """Runs and theory."""
    if not path:
        raise InputError("`PATH` is missing; give the ledger of a run")
    if order not in (None, "0", "1"):
        raise InputError(f"`--order` must be 0 or 1, but got {order!r}")
    with ProgressLine() as progress:
        progress("reading")
        opened = [_opened(each)[0] for each in path]
        inputs = [about["extra"].get("x") for about in opened]
        if inputs[0] is None or any(x != inputs[0] for x in inputs):
            raise InputError("`PATH`: the runs must have the same inputs, and few enough that their ledgers keep them")
        if any("algorithm" in about["description"] for about in opened):
            table, made, passed = _compared_trained(path, opened, order, progress)
        elif order is not None:
            raise InputError(f"`--order` goes with runs of trained networks, but got {order!r}; leave it out")
        else:
            table, made, passed = _compared(path, opened, progress)
    if json:
        from finitewidth.report.strict_json import to_json

        print(to_json(made.to_dict()))
    else:
        from finitewidth.report.text import print_on

        print_on(table(made))
    return 0 if passed else 1


def _compared(
    path: Sequence[str], opened: Sequence[Mapping[str, Any]], progress: ProgressLine
) -> tuple[Any, Any, bool]:
    """Of networks at initialisation: how a comparison is printed, the comparison, whether it is no contradiction."""
    from finitewidth.compare import compare_run, compare_runs
    from finitewidth.experiments.descriptions import net_of
    from finitewidth.experiments.ensembles import observed
    from finitewidth.experiments.observables import quantities_of
    from finitewidth.experiments.tensors import TENSORS
    from finitewidth.frontends.tables import run_comparison_table, verification_table

    def read(one: str, about: Mapping[str, Any]) -> Any:
        names = [name for name in about["description"]["observables"] if name in TENSORS]
        if not names:
            raise InputError(f"`path` {one!r} has no observable that the theory knows: {', '.join(TENSORS)}")
        return _read(one, quantities_of(observed(names)))

    found = [(net_of(about["description"]["net"]), read(one, about)) for one, about in zip(path, opened, strict=True)]
    progress("theory")
    x = opened[0]["extra"]["x"]
    if len(path) == 1:
        return run_comparison_table, compare_run(found[0][0], x, found[0][1]), True
    runs = compare_runs(found[0][0], x, found)
    return verification_table, runs, runs.passed


def _compared_trained(
    path: Sequence[str], opened: Sequence[Mapping[str, Any]], order: str | None, progress: ProgressLine
) -> tuple[Any, Any, bool]:
    """The same of trained networks."""
    if len(path) > 1:
        raise InputError(
            f"`PATH` names {len(path)} runs, but those of trained networks are compared one at a time; at several "
            "widths, finitewidth.experiments.measure_trained_widths extrapolates"
        )
    import numpy as np

    from finitewidth.compare.trained_run import comparable, compare_trained_run
    from finitewidth.experiments.descriptions import net_of
    from finitewidth.experiments.trainings import Training
    from finitewidth.frontends.tables import trained_comparison_table

    (about,) = opened
    if not (kept := about["extra"].get("training")):
        raise InputError(f"`path` {path[0]!r} keeps no examples, of which there are too many; compare in Python")
    net, x, training = net_of(about["description"]["net"]), about["extra"]["x"], Training.from_json(kept)
    names = comparable(net, x, training, about["description"])
    seen = _read(path[0], training.experiment(net, np.asarray(x), names, 0).quantities())
    progress("theory")
    made = compare_trained_run(
        net, x, training, seen, order=None if order is None else int(order), progress=progress.counted("times")
    )
    return trained_comparison_table, made, True


def _run(spec: Spec, path: str, networks: str | None, engine: str | None, workers: str | None, json: bool) -> None:
    begun = time.perf_counter()
    with ProgressLine() as progress:
        found = spec.run(
            path=path,
            n_networks=None if networks is None else whole("networks", networks),
            engine=engine,
            workers=None if workers is None else whole("workers", workers),
            progress=progress.counted("networks"),
        )
    estimates = {
        name: {"dims": list(each.value.dims), "value": each.value.values, "standard_error": each.standard_error.values}
        for name, each in found.estimate.items()
    }
    if json:
        from finitewidth.report.strict_json import to_json

        counts = {"n_networks": found.n_networks, "n_excluded": found.n_excluded}
        print(to_json({"path": path, **counts, "estimates": estimates}))
        return
    from finitewidth.frontends.tables import estimates_table
    from finitewidth.report.text import print_on

    print_on(estimates_table(found))
    print(f"Run: {path}", f"({time.perf_counter() - begun:.0f} s)", file=sys.stdout)


def _opened(path: str) -> tuple[dict[str, Any], int]:
    """What a ledger says of its run, and how many networks it has."""
    import pathlib

    from finitewidth.experiments.ledger import Ledger
    from finitewidth.experiments.runs import held

    with Ledger(pathlib.Path(path), None) as ledger:
        return ledger.about, held(ledger)


def _read(path: str, quantities: Mapping[str, Any]) -> Any:
    """The estimates of these quantities from what a ledger has."""
    import pathlib

    from finitewidth.experiments.ledger import Ledger
    from finitewidth.experiments.runs import held, read

    with Ledger(pathlib.Path(path), None) as ledger:
        return read(ledger, quantities, held(ledger))


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(each)}" for name, each in value.items() if name != "activation_values")
    if isinstance(value, list) and len(value) > 1 and len({str(each) for each in value}) == 1:
        return f"{value[0]} × {len(value)}"
    return str(value)
