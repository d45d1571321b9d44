"""What a neural network of finite depth and width will do, computed before it is trained.

An architecture goes in, a flow through its layers comes out, and everything else reads that flow.

    >>> import finitewidth as fw
    >>> net = fw.MLP("relu", depth=3, width=64, C_b=0.0, C_W=2.0)
    >>> flow = fw.flow(net, [[3.0, 4.0]])
    >>> [round(float(K), 6) for K in flow.K[:, 0, 0]]  # critical: the size of the signal stays
    [25.0, 25.0, 25.0]

Every public name is listed here, once, and loaded when it is first used: `import finitewidth` waits for nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from finitewidth._version import __version__

if TYPE_CHECKING:
    from finitewidth import activations as activations
    from finitewidth import initializers as initializers
    from finitewidth import sklearn as sklearn
    from finitewidth import torch as torch
    from finitewidth.activations import Activation as Activation
    from finitewidth.algorithms import Adam as Adam
    from finitewidth.algorithms import Bayes as Bayes
    from finitewidth.algorithms import GradientDescent as GradientDescent
    from finitewidth.algorithms import GradientFlow as GradientFlow
    from finitewidth.algorithms import Momentum as Momentum
    from finitewidth.algorithms import Newton as Newton
    from finitewidth.algorithms import Sgd as Sgd
    from finitewidth.architecture import MLP as MLP
    from finitewidth.architecture import ResidualMLP as ResidualMLP
    from finitewidth.compare import verify as verify
    from finitewidth.compare import verify_trained as verify_trained
    from finitewidth.criticality import critical as critical
    from finitewidth.criticality import learning_rates as learning_rates
    from finitewidth.criticality import phase_diagram as phase_diagram
    from finitewidth.data import load_data as load_data
    from finitewidth.errors import InputError as InputError
    from finitewidth.errors import TrustWarning as TrustWarning
    from finitewidth.experiments import observables as observables
    from finitewidth.experiments.ensembles import ensemble as ensemble
    from finitewidth.experiments.observables import Observable as Observable
    from finitewidth.experiments.observables import observable as observable
    from finitewidth.experiments.trainings import Training as Training
    from finitewidth.flow import flow as flow
    from finitewidth.flow.operators import vertex as vertex
    from finitewidth.flow.symmetric import independent_components as independent_components
    from finitewidth.frontends.jax.inspection import inspect as inspect
    from finitewidth.gaussian import expectation as expectation
    from finitewidth.information import nearly_gaussian as nearly_gaussian
    from finitewidth.information import representation_learning as representation_learning
    from finitewidth.information import tangent_kernel as tangent_kernel
    from finitewidth.report import report as report
    from finitewidth.training import QuadraticModel as QuadraticModel
    from finitewidth.training import generalisation as generalisation
    from finitewidth.training import predict as predict
    from finitewidth.training import trained_kernel as trained_kernel
    from finitewidth.training.solvers import Direct as Direct
    from finitewidth.training.solvers import Iterative as Iterative

# Public name -> the module that defines it.
_HOME = {
    "MLP": "finitewidth.architecture",
    "ResidualMLP": "finitewidth.architecture",
    "Activation": "finitewidth.activations",
    "GradientFlow": "finitewidth.algorithms",
    "GradientDescent": "finitewidth.algorithms",
    "Momentum": "finitewidth.algorithms",
    "Sgd": "finitewidth.algorithms",
    "Adam": "finitewidth.algorithms",
    "Newton": "finitewidth.algorithms",
    "Bayes": "finitewidth.algorithms",
    "expectation": "finitewidth.gaussian",
    "flow": "finitewidth.flow",
    "vertex": "finitewidth.flow.operators",
    "independent_components": "finitewidth.flow.symmetric",
    "nearly_gaussian": "finitewidth.information",
    "tangent_kernel": "finitewidth.information",
    "representation_learning": "finitewidth.information",
    "critical": "finitewidth.criticality",
    "phase_diagram": "finitewidth.criticality",
    "predict": "finitewidth.training",
    "generalisation": "finitewidth.training",
    "trained_kernel": "finitewidth.training",
    "QuadraticModel": "finitewidth.training",
    "Direct": "finitewidth.training.solvers",
    "Iterative": "finitewidth.training.solvers",
    "learning_rates": "finitewidth.criticality",
    "verify": "finitewidth.compare",
    "verify_trained": "finitewidth.compare",
    "ensemble": "finitewidth.experiments.ensembles",
    "Observable": "finitewidth.experiments.observables",
    "observable": "finitewidth.experiments.observables",
    "Training": "finitewidth.experiments.trainings",
    "load_data": "finitewidth.data",
    "report": "finitewidth.report",
    "inspect": "finitewidth.frontends.jax.inspection",
    "InputError": "finitewidth.errors",
    "TrustWarning": "finitewidth.errors",
}
_PUBLIC_MODULES = ("activations", "initializers", "observables", "sklearn")
# Front ends, reached as `fw.torch`; not in `__all__`, so that `import *` does not ask for PyTorch.
_FRONT_ENDS = ("torch",)

__all__ = ["__version__", *_PUBLIC_MODULES, *_HOME]


class _Package(ModuleType):
    """This package, on which `fw.flow` is the function even after the module `finitewidth.flow` has been imported.

    Importing a submodule sets it as an attribute of its package, which would hide the public function of the same name.
    The module stays reachable as every module is: `from finitewidth.flow import …`.
    """

    def __setattr__(self, name: str, value: object) -> None:
        is_submodule = isinstance(value, ModuleType) and value.__name__ == f"{__name__}.{name}"
        if not (is_submodule and name in _HOME):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name in (*_PUBLIC_MODULES, *_FRONT_ENDS):
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_FRONT_ENDS])


sys.modules[__name__].__class__ = _Package
