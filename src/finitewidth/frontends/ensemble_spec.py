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

With a section [training] (`training_spec`) networks are trained first, and [inputs] may be left out: then they are
looked at on the inputs of training.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finitewidth.errors import InputError
from finitewidth.frontends import training_spec
from finitewidth.frontends.spec_values import examples, known

if TYPE_CHECKING:
    from finitewidth.experiments.runs import Progress, Run
    from finitewidth.experiments.trainings import Training

_KEYS = {
    "network": ("activation", "depth", "width", "n_out", "C_b", "C_W", "lambda_b", "lambda_W"),
    "inputs": ("data", "x", "rows", "target"),
    "training": training_spec.KEYS,
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
        known(source, "section", contents, _KEYS)
        for section, keys in _KEYS.items():
            if section not in contents and (section == "training" or (section == "inputs" and "training" in contents)):
                continue
            if not isinstance(contents.get(section), Mapping):
                raise InputError(f"`SPEC` {source!r} has no section [{section}]; its keys are {', '.join(keys)}")
            known(source, f"key in [{section}]", contents[section], keys)
        for section, key in (("network", "activation"), ("network", "depth"), ("ensemble", "n_networks")):
            if key not in contents[section]:
                raise InputError(f"`SPEC` {source!r} has no {key} in [{section}]; add it")
        return cls(source, contents)

    @property
    def path(self) -> str | None:
        """Of the ledger."""
        return self.contents["ensemble"].get("path")

    def to_json(self) -> Any:
        """As a ledger keeps it: with the examples themselves, for files change."""
        kept = {**self.contents, "inputs": {"x": self._inputs.tolist()}}
        if (training := self._training) is not None:
            mine = self.contents["training"]
            asked = {key: each for key, each in mine.items() if key not in ("data", "rows", "target")}
            examples = training.to_json()
            kept["training"] = {**asked, "x": examples["x_train"], "y": examples["y_train"]}
        return json.loads(json.dumps(kept))

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

        x, asked = self._inputs, dict(self.contents["ensemble"])
        net = MLP(**self.contents["network"])
        observables = asked.get("observables")
        if observables is not None and not isinstance(observables, list):
            raise InputError(f"`SPEC` {self.source!r}: observables must be a list, but got {observables!r}")
        return ensemble(
            net,
            x,
            observables=None if observables is None else [self._observable(each) for each in observables],
            n_networks=asked["n_networks"] if n_networks is None else n_networks,
            seed=asked.get("seed", 0),
            draw=asked.get("draw", "networks"),
            training=self._training,
            path=path,
            engine=asked.get("engine") if engine is None else engine,
            workers=asked.get("workers") if workers is None else workers,
            chunk=asked.get("chunk"),
            progress=progress,
            extra={"spec": self.to_json()},
        )

    @cached_property
    def _inputs(self) -> Any:
        if "inputs" in self.contents:
            return examples(self.source, "inputs", self.contents["inputs"])[0]
        assert self._training is not None
        return self._training.x_train

    @cached_property
    def _training(self) -> "Training | None":
        given = self.contents.get("training")
        return None if given is None else training_spec.training(self.source, given)

    def _observable(self, given: Any) -> Any:
        from finitewidth.experiments import observables

        if isinstance(given, str):
            return given
        if not isinstance(given, Mapping) or "kind" not in given:
            raise InputError(f"`SPEC` {self.source!r}: an observable is a name or {{ kind = … }}, but got {given!r}")
        options = {key: value for key, value in given.items() if key != "kind"}
        known(self.source, "kind of observable", [given["kind"]], _KINDS)
        known(self.source, f"key of the observable {given['kind']}", options, _KINDS[given["kind"]])
        try:
            return getattr(observables, given["kind"])(**options)
        except TypeError as error:
            raise InputError(f"`SPEC` {self.source!r}: the observable {given!r} is not complete: {error}") from error
