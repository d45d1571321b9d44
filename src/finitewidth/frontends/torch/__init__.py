"""For people's own networks in PyTorch, in the conventions of `torch.nn.init`: public as `finitewidth.torch`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("finitewidth.torch needs PyTorch: pip install finitewidth[torch]") from error

if TYPE_CHECKING:
    from finitewidth.frontends.torch.callbacks import SignalMonitor as SignalMonitor
    from finitewidth.frontends.torch.callbacks import lightning_callback as lightning_callback
    from finitewidth.frontends.torch.callbacks import trainer_callback as trainer_callback
    from finitewidth.frontends.torch.critical_init import critical_init_ as critical_init_
    from finitewidth.frontends.torch.ensembles import ensemble as ensemble
    from finitewidth.frontends.torch.gain import calculate_gain as calculate_gain
    from finitewidth.frontends.torch.inspection import inspect as inspect
    from finitewidth.frontends.torch.learning_rates import param_groups as param_groups
    from finitewidth.frontends.torch.model import read_model as read_model
    from finitewidth.frontends.torch.plan import critical_plan as critical_plan
    from finitewidth.frontends.torch.spec import from_spec as from_spec
    from finitewidth.frontends.torch.spec import measured_variances as measured_variances
    from finitewidth.frontends.torch.spec import to_spec as to_spec
    from finitewidth.frontends.torch.tune import tune_ as tune_
    from finitewidth.frontends.torch.tune import tuning as tuning

# Public name -> the module that defines it.
_HOME = {
    "SignalMonitor": "callbacks",
    "calculate_gain": "gain",
    "critical_init_": "critical_init",
    "critical_plan": "plan",
    "from_spec": "spec",
    "lightning_callback": "callbacks",
    "measured_variances": "spec",
    "param_groups": "learning_rates",
    "read_model": "model",
    "to_spec": "spec",
    "trainer_callback": "callbacks",
    "ensemble": "ensembles",
    "inspect": "inspection",
    "tune_": "tune",
    "tuning": "tune",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'finitewidth.torch' has no attribute {name!r}; it has {', '.join(_HOME)}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
