"""`finitewidth ensemble run | status | resume | compare`: ensembles of real networks from a file, kept in a ledger."""

import os
import sys
import time
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
    "seed, draw (networks or layers), path, chunk, engine, workers."
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
        about = _opened(path)[0]
    if not (spec := about["extra"].get("spec")):
        raise InputError(f"`path` {path!r} was begun from Python, not from a spec; call fw.ensemble again as it was")
    asked = str(about["n_networks"]) if networks is None and "n_networks" in about else networks
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
    print(f"{path}: {done:,} of {asked:,} networks ({100 * done / max(asked, 1):.1f} %)")
    for name in ("net", "draw", "seed", "chunk", "finitewidth", "jax"):
        if name in described:
            print(f"  {name}: {_short(described[name])}")
    print(f"  observables: {', '.join(described.get('observables', []))}")


@ensemble.command(
    help="A run beside the theory of first order in 1/n; several runs at different widths, extrapolated in 1/n.\n\n"
    "Of one run, z counts statistical errors only, and `left out` is (experiment/theory − 1) n/L (for K and Θ with "
    "n²/L²): of order one where it is the next order that is missing. Of several, the exit code is 1 where they "
    "contradict the theory."
)
def compare(*path: Annotated[str, Parameter(help="Ledgers of runs.")], json: AsJson = False) -> int:
    """Runs and theory."""
    if not path:
        raise InputError("`PATH` is missing; give the ledger of a run")
    with ProgressLine() as progress:
        import numpy as np

        from finitewidth.compare import RunComparison, compare_run, compare_runs
        from finitewidth.experiments.descriptions import net_of

        progress("reading")
        found = [(net_of(_opened(each)[0]["description"]["net"]), _read(each)) for each in path]
        inputs = [_opened(each)[0]["extra"].get("x") for each in path]
        if inputs[0] is None or any(x != inputs[0] for x in inputs):
            raise InputError("`PATH`: the runs must have the same inputs, and few enough that their ledgers keep them")
        (net, first), x = found[0], np.asarray(inputs[0])
        progress("theory")
        made = compare_run(net, x, first) if len(path) == 1 else compare_runs(net, x, found)
    if json:
        from finitewidth.report.strict_json import to_json

        print(to_json(made.to_dict()))
    else:
        from finitewidth.frontends.tables import run_comparison_table, verification_table
        from finitewidth.report.text import print_on

        print_on(run_comparison_table(made) if isinstance(made, RunComparison) else verification_table(made))
    return 0 if isinstance(made, RunComparison) or made.passed else 1


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


def _read(path: str) -> Any:
    """The estimates of K, Theta and the tensors from what a ledger has."""
    import pathlib

    from finitewidth.experiments.ensembles import observed
    from finitewidth.experiments.ledger import Ledger
    from finitewidth.experiments.observables import quantities_of
    from finitewidth.experiments.runs import held, read
    from finitewidth.experiments.tensors import TENSORS

    with Ledger(pathlib.Path(path), None) as ledger:
        names = [name for name in ledger.about["description"]["observables"] if name in TENSORS]
        if not names:
            raise InputError(f"`path` {path!r} has no observable that the theory knows: {', '.join(TENSORS)}")
        return read(ledger, quantities_of(observed(names)), held(ledger))


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(each)}" for name, each in value.items() if name != "activation_values")
    if isinstance(value, list) and len(value) > 1 and len({str(each) for each in value}) == 1:
        return f"{value[0]} × {len(value)}"
    return str(value)
