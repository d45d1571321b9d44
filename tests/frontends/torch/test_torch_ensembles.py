"""Ensembles of PyTorch modules: exact moments of a linear module, the same bits again, and what is refused."""

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.errors import InputError

torch = pytest.importorskip("torch")

X = [[1.0, 2.0], [0.5, -1.0]]


def gaussian_layer():
    """z = W x with W ~ N(0, 1)."""
    layer = torch.nn.Linear(2, 3, bias=False, dtype=torch.float64)
    torch.nn.init.normal_(layer.weight)
    return layer


@fw.observable(dims=("a",))
def first_output(network):
    return network.module(network.x)[:, 0].detach().numpy() ** 2


OBSERVABLES = [fw.observables.moment("ii"), fw.observables.cumulant("iijj"), first_output]


def test_moments_of_a_linear_module_are_exact():
    run = fw.torch.ensemble(gaussian_layer, X, observables=OBSERVABLES, n_networks=1000, seed=1)
    K = np.asarray(X) @ np.asarray(X).T
    for name, expected in (("moment_ii", K), ("cumulant_iijj", 0), ("first_output", np.diag(K))):
        pull = (run.estimate[name].value - expected) / run.estimate[name].standard_error
        assert np.abs(pull).max() < 5.5, name


def test_resuming_changes_no_bit_and_the_users_random_numbers_stay(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    once = fw.torch.ensemble(gaussian_layer, X, observables=OBSERVABLES, n_networks=60)
    for n in (20, 60):
        again = fw.torch.ensemble(gaussian_layer, X, observables=OBSERVABLES, n_networks=n, path=tmp_path / "run.db")
    assert torch.rand(1) == expected
    for name in once.estimates:
        np.testing.assert_array_equal(once.estimates[name].value, again.estimates[name].value)


def test_images_are_inputs():
    images = np.random.default_rng(0).standard_normal((2, 1, 3, 3))

    def build():
        return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, bias=False), torch.nn.Flatten())

    run = fw.torch.ensemble(build, torch.as_tensor(images), observables=[fw.observables.moment("ii")], n_networks=100)
    estimate = run.estimate["moment_ii"]
    flat = images.reshape(2, 9)  # weights are uniform within ±1/3, of variance 1/27
    assert np.abs((estimate.value - flat @ flat.T / 27) / estimate.standard_error).max() < 4.5


class DrawnByNumpy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.as_tensor(np.random.standard_normal((2, 3))))  # noqa: NPY002


@pytest.mark.parametrize(
    ("build", "observable", "message"),
    [
        (DrawnByNumpy, OBSERVABLES[0], "`build_module` returns another weight for the same seed"),
        (lambda: torch.nn.LazyLinear(3), OBSERVABLES[0], "whose weight has no numbers yet"),
        (lambda: torch.nn.Linear(5, 2), OBSERVABLES[0], "'moment_ii' fails on a network .* cannot be multiplied"),
        (lambda: torch.nn.LSTM(2, 2), OBSERVABLES[0], "'moment_ii' fails on a network"),
        (gaussian_layer, fw.Observable("p", lambda network: network.z()), "'p' has 0 `dims`"),
        (gaussian_layer, "K", "`observables` has 'K', a name of what fw.MLP networks have"),
    ],
)
def test_modules_and_observables_that_do_not_go_together_are_refused(build, observable, message):
    with pytest.raises(InputError, match=message):
        fw.torch.ensemble(build, X, observables=[observable], n_networks=10)


def test_what_modules_do_not_have_is_refused():
    with pytest.raises(InputError, match="can only be its output"):
        fw.torch.ensemble(gaussian_layer, X, observables=[fw.observables.moment("ii", layer=1)], n_networks=10)
    with pytest.raises(InputError, match="`build_module` must return a"):
        fw.torch.ensemble(lambda: 3, X, observables=OBSERVABLES, n_networks=10)
    with pytest.raises(InputError, match="use engine='processes'"):
        fw.torch.ensemble(gaussian_layer, X, observables=OBSERVABLES, n_networks=10, workers=2)
