"""One contender in a process of its own: reads a request a line from stdin, answers each with a line of JSON.

    worker.py finitewidth | neural-tangents

Requests: {"do": "load", "x": FILE.npy, "activation", "depth", "C_b", "C_W"} · {"do": "time"} · {"do": "memory"} ·
{"do": "save", "to": FILE.npz}. The clock runs from inputs as a NumPy array to the last layer's K and Θ as NumPy arrays.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

Kernels = Callable[[], tuple[np.ndarray, np.ndarray]]

DEGREE = 25  # nodes a dimension of neural-tangents' quadrature: the value its documentation starts from


def finitewidth() -> tuple[dict[str, str], Callable[..., Kernels]]:
    """Our kernels: `layers="last"` keeps the output layer only, `tensors=""` K and Θ without single-input extras."""
    import jax

    import finitewidth as fw
    from finitewidth.flow import flow

    jax.devices()

    def load(x: np.ndarray, activation: str, depth: int, C_b: float, C_W: float) -> Kernels:
        # neural-tangents' parameterization="ntk" trains standard-normal weights at unit rate: λ_b = C_b, λ_W = C_W
        net = fw.MLP(activation, depth=depth, width=512, C_b=C_b, C_W=C_W, lambda_b=C_b, lambda_W=C_W)

        def kernels() -> tuple[np.ndarray, np.ndarray]:
            result = flow(net, x, tensors="", layers="last")
            last = result.isel(layer=-1) if "layer" in result.dims else result
            return np.asarray(last["K"]), np.asarray(last["Theta"])

        return kernels

    return {"finitewidth": fw.__version__, "jax": jax.__version__, "numpy": np.__version__}, load


def neural_tangents() -> tuple[dict[str, str], Callable[..., Kernels]]:
    """neural-tangents as its documentation uses it: `jit(kernel_fn)`, its closed forms, else its quadrature."""
    sys.modules["neural_tangents.experimental"] = ModuleType("neural_tangents.experimental")  # wants TensorFlow
    import jax

    jax.config.update("jax_enable_x64", True)
    import neural_tangents as nt
    from neural_tangents import stax

    jax.devices()

    def nonlinearity(activation: str) -> Any:
        closed_forms = {"relu": stax.Relu, "erf": stax.Erf, "gelu": stax.Gelu}
        if activation in closed_forms:
            return closed_forms[activation]()
        function = {"tanh": jax.numpy.tanh, "silu": jax.nn.silu, "mish": jax.nn.mish}[activation]
        return stax.ElementwiseNumerical(function, deg=DEGREE)

    def load(x: np.ndarray, activation: str, depth: int, C_b: float, C_W: float) -> Kernels:
        dense = stax.Dense(512, W_std=C_W**0.5, b_std=C_b**0.5, parameterization="ntk")
        layers = [dense] + [layer for _ in range(depth - 1) for layer in (nonlinearity(activation), dense)]
        kernel_fn = jax.jit(stax.serial(*layers)[2], static_argnums=(2,))

        def kernels() -> tuple[np.ndarray, np.ndarray]:
            result = kernel_fn(x, None, ("nngp", "ntk"))
            return np.asarray(result.nngp), np.asarray(result.ntk)

        return kernels

    return {"neural-tangents": nt.__version__, "jax": jax.__version__, "numpy": np.__version__}, load


def memory(field: str) -> float:
    """A field of this process' memory in MiB: VmRSS now, VmHWM at its peak.

    Not `resource.ru_maxrss`: Linux hands a child the peak of the process that started it.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not be read as an answer
    versions, load = {"finitewidth": finitewidth, "neural-tangents": neural_tangents}[sys.argv[1]]()
    print(json.dumps({"versions": versions}), file=answers, flush=True)
    imported, kernels, result = memory("VmRSS"), None, None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            match request.pop("do"):
                case "load":
                    x = np.load(request.pop("x"))
                    kernels = load(x, **request)
                case "time":
                    result = None  # the result of the call before must not count as memory of this one
                    start = time.perf_counter()
                    result = kernels()
                    answer["seconds"] = time.perf_counter() - start
                case "memory":
                    answer["MiB"] = memory("VmHWM") - imported
                case "save":
                    np.savez(request["to"], K=result[0], Theta=result[1])
        except Exception as error:
            answer["error"] = f"{type(error).__name__}: {error}"[:500]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
