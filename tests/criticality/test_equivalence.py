"""Learning rates by layer: equal contributions, and the book's scaling with depth."""

import dataclasses

import numpy as np
import pytest

import finitewidth as fw

GENERAL = fw.MLP("gelu", depth=5, width=10, C_b=0.2, C_W=[1.0, 1.5, 1.2, 1.7, 0.9])


def test_the_kernel_is_what_was_asked_and_every_layer_adds_alike():
    rates = fw.learning_rates(GENERAL, mean_square=1.3, Theta=0.7)
    x = np.sqrt(1.3) * np.ones((1, 4))
    assert fw.flow(rates.network, x, tensors="").Theta[-1].item() == pytest.approx(0.7, rel=1e-10)
    for name in ("lambda_b", "lambda_W"):  # only one layer's biases, or weights, trained
        for layer in range(5):
            only = [getattr(rates, name)[l] if l == layer else 0.0 for l in range(5)]
            silent = dict.fromkeys(("lambda_b", "lambda_W"), 0.0) | {name: only}
            net = dataclasses.replace(GENERAL, **silent)
            assert fw.flow(net, x, tensors="").Theta[-1].item() == pytest.approx(0.07, rel=1e-10)


def test_tanh_at_criticality_scales_as_its_class():
    rates = fw.learning_rates(fw.MLP("tanh", depth=3000, width=10, C_b=0.0, C_W=1.0))
    layers = np.array([300, 2400])  # p⊥ = 1: λ_b ∝ 1/ℓ, λ_W constant
    slope = {
        n: np.diff(np.log(np.array(getattr(rates, n))[layers - 1])) / np.diff(np.log(layers))
        for n in ("lambda_b", "lambda_W")
    }
    assert slope["lambda_b"].item() == pytest.approx(-1.0, abs=0.02)
    assert slope["lambda_W"].item() == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"mean_square": 0.0}, "`mean_square` must be a positive number"), ({"Theta": float("nan")}, "`Theta` must be")],
)
def test_bad_numbers_are_refused(arguments, words):
    with pytest.raises(fw.InputError, match=words):
        fw.learning_rates(GENERAL, **arguments)
