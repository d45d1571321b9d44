"""A run of an ensemble written down: a TOML file with the network, the inputs, and what is measured.

[network]
activation = "tanh"
depth = 6
width = 256
C_W = 1.3

[inputs]
data = "digits"         # or a file; or x = [[1.0, 0.5], …]
rows = [0, 1, 2, 3]     # which of them; all, where nothing is said

[ensemble]
observables = ["K", "V", { kind = "moment", pattern = "iijj", layer = 2 }]
n_networks = 1_000_000
draw = "layers"
path = "run.db"
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finitewidth.errors import InputError

if TYPE_CHECKING:
    from finitewidth.experiments.runs import Progress, Run

_KEYS = {
    "network": ("activation", "depth", "width", "n_out", "C_b", "C_W", "lambda_b", "lambda_W"),
    "inputs": ("data", "x", "rows"),
    "ensemble": ("observables", "n_networks", "seed", "draw", "path", "engine", "workers", "chunk"),
}
_KINDS = {
    "moment": ("pattern", "layer", "name"),
    "cumulant": ("pattern", "layer", "name"),
    "kernel": ("layer", "name"),
    "kernel_covariance": ("layer", "name"),
    "histogram": ("edges", "layer", "name"),
    "gradient_norms": ("name",),
}


@dataclass(frozen=True)
class Spec:
    """A spec that was read, its keys checked; values are checked by what they are given to.

    source: of the file, for messages. contents: section by section.
    """

    source: str
    contents: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: str) -> "Spec":
        """The spec in a file.

        Raises
            InputError: when it cannot be read, is not TOML, or has a key that nobody knows.
        """
        try:
            contents = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"`SPEC` {path!r} cannot be read: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"`SPEC` {path!r} is not TOML: {error}") from error
        return cls.checked(path, contents)

    @classmethod
    def checked(cls, source: str, contents: Mapping[str, Any]) -> "Spec":
        """A spec with these contents, all of whose keys are known."""
        _known(source, "section", contents, _KEYS)
        for section, keys in _KEYS.items():
            if not isinstance(contents.get(section), Mapping):
                raise InputError(f"`SPEC` {source!r} has no section [{section}]; its keys are {', '.join(keys)}")
            _known(source, f"key in [{section}]", contents[section], keys)
        for section, key in (("network", "activation"), ("network", "depth"), ("ensemble", "n_networks")):
            if key not in contents[section]:
                raise InputError(f"`SPEC` {source!r} has no {key} in [{section}]; add it")
        return cls(source, contents)

    @property
    def path(self) -> str | None:
        """Of the ledger."""
        return self.contents["ensemble"].get("path")

    def to_json(self) -> Any:
        """As a ledger keeps it: with the inputs themselves, for files change."""
        inputs = {"x": self._inputs().tolist()}
        return json.loads(json.dumps({**self.contents, "inputs": inputs}))

    def run(
        self,
        *,
        path: str,
        n_networks: int | None,
        engine: str | None,
        workers: int | None,
        progress: "Progress | None",
    ) -> "Run":
        """Run it; what is given here replaces what the file says."""
        from finitewidth.architecture import MLP
        from finitewidth.experiments.ensembles import ensemble

        x, asked = self._inputs(), dict(self.contents["ensemble"])
        net = MLP(**self.contents["network"])
        observables = [self._observable(each) for each in asked.get("observables", ["K", "V"])]
        return ensemble(
            net,
            x,
            observables=observables,
            n_networks=asked["n_networks"] if n_networks is None else n_networks,
            seed=asked.get("seed", 0),
            draw=asked.get("draw", "networks"),
            path=path,
            engine=asked.get("engine") if engine is None else engine,
            workers=asked.get("workers") if workers is None else workers,
            chunk=asked.get("chunk"),
            progress=progress,
            extra={"spec": self.to_json()},
        )

    def _inputs(self) -> Any:
        import numpy as np

        from finitewidth.data import load_data

        given = self.contents["inputs"]
        if ("data" in given) == ("x" in given):
            raise InputError(f"`SPEC` {self.source!r} needs one of data and x in [inputs]")
        if "x" in given and "rows" in given:
            raise InputError(f"`SPEC` {self.source!r} has rows in [inputs], which choose from data, beside x")
        if "x" in given:
            return np.asarray(given["x"], dtype=np.float64)
        inputs, rows = load_data(given["data"]).inputs, given.get("rows")
        if rows is None:
            return inputs
        if not isinstance(rows, list) or not all(isinstance(r, int) and 0 <= r < len(inputs) for r in rows) or not rows:
            raise InputError(
                f"`SPEC` {self.source!r}: rows must be a list of numbers from 0 to {len(inputs) - 1}, but got {rows!r}"
            )
        return inputs[rows]

    def _observable(self, given: Any) -> Any:
        from finitewidth.experiments import observables

        if isinstance(given, str):
            return given
        if not isinstance(given, Mapping) or "kind" not in given:
            raise InputError(f"`SPEC` {self.source!r}: an observable is a name or {{ kind = … }}, but got {given!r}")
        options = {key: value for key, value in given.items() if key != "kind"}
        _known(self.source, "kind of observable", [given["kind"]], _KINDS)
        _known(self.source, f"key of the observable {given['kind']}", options, _KINDS[given["kind"]])
        try:
            return getattr(observables, given["kind"])(**options)
        except TypeError as error:
            raise InputError(f"`SPEC` {self.source!r}: the observable {given!r} is not complete: {error}") from error


def _known(source: str, what: str, given: Iterable[Any], known: Iterable[str]) -> None:
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), list(known), n=1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            raise InputError(f"`SPEC` {source!r} has an unknown {what}: {key!r}{meant}")
