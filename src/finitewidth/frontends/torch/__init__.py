"""For people's own networks in PyTorch, in the conventions of `torch.nn.init`: public as `finitewidth.torch`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("finitewidth.torch needs PyTorch: pip install finitewidth[torch]") from error

if TYPE_CHECKING:
    from finitewidth.frontends.torch.model import read_model as read_model

# Public name -> the module that defines it.
_HOME = {
    "read_model": "model",
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
