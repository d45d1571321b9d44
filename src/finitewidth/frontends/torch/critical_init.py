"""Critical initialisation of a model, in place."""

from typing import Any, TypeVar

import torch

from finitewidth.frontends.torch.drawing import Distribution
from finitewidth.frontends.torch.model import Given
from finitewidth.frontends.torch.plan import critical_plan

Model = TypeVar("Model", bound=torch.nn.Module)


def critical_init_(
    model: Model,
    example_input: Any = None,
    *,
    activation: Given = None,
    distribution: Distribution = "normal",
    output_std: float | None = None,
    generator: torch.Generator | None = None,
    verbose: bool = True,
) -> Model:
    """Initialise weights and biases of `model` at criticality, in place, and say what was done to every parameter.

    Equation: biases of variance C_b, weights of variance C_W/fan_in, Gaussian; C_W = 1/⟨σ'²⟩_{K*} and
    C_b = K* − C_W⟨σ²⟩_{K*} of the activation σ in front of the layer. The first layer's C_W brings the data's mean
    square |x|²/n_0 to K*, or to 1 where any K will do. Residual additions: `finitewidth.frontends.torch.residual`.
    Source: PDLT ch. 5.

    Arguments
        model: a `torch.nn.Module` of `Linear` and `Conv1d/2d/3d` layers, activations however written, `Flatten`,
            dropout, normalisations, residual additions. Frozen parameters stay as they are.
        example_input: typical inputs, one batch: a tensor, a tuple of arguments or a dictionary of named ones. None:
            ones, which have mean square 1.
        activation: for activations that cannot be read: an `Activation` or the name of one by module path, or one for
            all of them.
        distribution: of weights, "normal" or "orthogonal" (`torch.nn.init.orthogonal_`), in either case of variance
            C_W/fan_in. Orthogonal ones fluctuate less at finite width; PDLT's tensors of order 1/n are for normal ones.
            To train a deep chain: "orthogonal", with output_std=1 (`benchmarks/README.md`); to compare with what the
            library predicts at finite width: "normal", the default.
        output_std: the root mean square that the model's outputs shall have; the last layer's C_b and C_W are then
            multiplied by what that takes. None: what criticality gives, √K.
        generator: for reproducible draws; None: PyTorch's global one.
        verbose: print the report. `critical_plan` returns it without changing anything.

    Returns
        `model`.

    Raises
        InputError: in one line what is wrong with the model or its input, and the remedy; the model is then untouched.

    >>> import finitewidth as fw, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Tanh(), torch.nn.Linear(128, 10))
    >>> x = torch.full((5, 64), 0.5)
    >>> model = fw.torch.critical_init_(model, x)
    parameter  std      C_b / C_W  K       why
    0.weight   0.25     4                  brings data of mean square 0.25 to K = 1
    0.bias     0        0          1
    2.weight   0.08839  1                  after tanh: critical, K*=0
    2.bias     0        0          0.3943
    """
    options: Any = {"activation": activation, "distribution": distribution, "output_std": output_std}
    plan = critical_plan(model, example_input, **options)
    plan.draw_(generator)
    if verbose:
        print(plan)
    return model
