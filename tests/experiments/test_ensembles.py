"""Ensembles as a user calls them: observables against exact results, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

import finitewidth as fw
from finitewidth.errors import InputError
from finitewidth.experiments import measure
from finitewidth.experiments.patterns import cumulant_terms, distinct_mean, renamed
from finitewidth.precision import float64

X = np.array([[1.2, -0.3], [0.4, 0.8]])
BOUND = 5.5
LINEAR = fw.MLP("linear", depth=2, width=5, n_out=3, C_b=0.3, C_W=[1.0, 1.4])


def assert_within(estimate, expected):
    error = np.maximum(estimate.standard_error.values, 1e-12)
    assert np.abs((estimate.value.values - expected) / error).max() < BOUND


@pytest.mark.slow
def test_tensors_are_those_of_measure():
    run = fw.ensemble(LINEAR, X, observables=["V", "K"], n_networks=2000, workers=1)
    seen = measure(LINEAR, X, n_networks=2000, tensors=["K", "V"])
    for name in ("K", "V"):  # the same networks; other batches
        np.testing.assert_allclose(run.estimate[name].value, seen.mean[name], rtol=1e-9, atol=1e-3)
        np.testing.assert_allclose(run.estimate[name].standard_error, seen.standard_error[name], rtol=0.6)


@pytest.mark.parametrize("draw", ["networks", "layers"])
def test_moments_of_a_linear_layer_are_exact(draw):
    # first layer: exactly Gaussian with covariance C_b + x x'/n_0; second: G is an average over 5 neurons
    observables = [
        fw.observables.moment("ii", layer=1),
        fw.observables.moment("iiii", layer=1),
        fw.observables.moment("iijjkk", layer=1),
        fw.observables.cumulant("iijj", layer=2),
        fw.observables.cumulant("iiii", layer=1),
        fw.observables.kernel(2),
        fw.observables.kernel_covariance(2),
        fw.observables.histogram([0.0], layer=1),
    ]
    found = fw.ensemble(LINEAR, X, observables=observables, n_networks=6000, draw=draw, seed=4).estimate
    K = 0.3 + X @ X.T / 2
    assert_within(found["moment_ii_layer1"], K)
    pairs = [np.einsum(f"{p},{q}->abcd", K, K) for p, q in (("ab", "cd"), ("ac", "bd"), ("ad", "bc"))]
    assert_within(found["moment_iiii_layer1"], sum(pairs))
    assert_within(found["moment_iijjkk_layer1"], np.einsum("ab,cd,ef->abcdef", K, K, K))
    assert_within(found["cumulant_iiii_layer1"], 0)
    V = 1.4**2 * (pairs[1] + pairs[2])
    assert_within(found["cumulant_iijj_layer2"], V / 5)
    assert_within(found["kernel_layer2"], 0.3 + 1.4 * K)
    assert_within(found["kernel_covariance_layer2"], V)
    assert_within(found["histogram_layer1"], 0.5)


def test_gradient_norms_of_a_linear_network():
    # |∂z/∂b|² = 1 and |∂z/∂W|² = |s|² at the output; below, Σ_j W_j² times the same of the first layer
    run = fw.ensemble(LINEAR, X, observables=["gradient_norms"], n_networks=4000, seed=5, workers=1)
    found = run.estimate
    assert repr(run) == "Run(n_networks=4000, n_excluded=0, estimate=['gradient_norms'])"
    assert found["gradient_norms"].layer.values.tolist() == [1, 2]
    K, x2 = 0.3 + (X**2).sum(1) / 2, (X**2).sum(1)
    assert_within(found["gradient_norms"], np.stack([1.4 * (1 + x2), 1 + 5 * K]))


def test_tangent_kernel_of_user_observables():
    @fw.observable(dims=("a", "b"), needs="H")
    def trace(network):
        return jnp.einsum("iaib->ab", network.H) / 3

    found = fw.ensemble(LINEAR, X, observables=[trace, "Theta"], n_networks=2000, workers=1).estimate
    np.testing.assert_allclose(found["trace"].value, found["Theta"].value, rtol=0.1)


def test_averages_over_different_neurons_against_loops():
    z = np.random.default_rng(0).standard_normal((5, 2))
    for pattern, count in (("iijk", 3), ("ijij", 2), ("ii", 1), ("iijjkk", 3)):
        expected = np.zeros((2,) * len(pattern))
        letters, several = sorted(set(pattern)), 0
        for chosen in np.ndindex((5,) * count):
            if len(set(chosen)) == count:
                several += 1
                term = np.ones(())
                for letter in pattern:
                    term = np.multiply.outer(term, z[chosen[letters.index(letter)]])
                expected += term
        with float64():
            np.testing.assert_allclose(distinct_mean(pattern, jnp.asarray(z)), expected / several, atol=1e-12)


def test_cumulants_have_the_weights_of_partitions():
    assert renamed("jji") == "iij"
    assert (
        sum(weight for weight, _ in cumulant_terms("iijj")) == 0
    )  # of a constant 1, no cumulant but the first is left
    assert len(cumulant_terms("iiiiii")) == 203  # Bell number


def ragged(network):
    return {"x": network.z()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"observables": []}, "`observables` must be a list"),
        ({"observables": "K"}, "`observables` must be a list"),
        ({"observables": ["Thta"]}, "did you mean 'Theta'"),
        ({"observables": ["K", "K"]}, "'K' twice"),
        ({"observables": [ragged]}, "the function 'ragged'; decorate it"),
        ({"observables": [fw.Observable("z", lambda network: network.z())]}, r"'z' has 0 `dims`.*shape \(3, 2\)"),
        (
            {"observables": [fw.Observable("z", lambda network: network.z(), ("i", "a"), coords={"i": [1, 2]})]},
            "`coords` of observable 'z' do not go with its estimate of shape \\(3, 2\\)",
        ),
        (
            {"observables": [fw.Observable("z", lambda network: network.z()[0, 0], statistic=lambda m: m[""].mean())]},
            "statistic of 'z' must keep the first axis",
        ),
        ({"training": fw.GradientDescent(0.1, 5)}, "`training` must be a Training, as fw.Training"),
        ({"progress": True}, "`progress` must be a function"),
        ({"observables": [fw.Observable("z", lambda network: 1 / "0")]}, "'z' fails on a network"),
        ({"observables": [fw.Observable("z", lambda network: 1j * network.z()[0, 0])]}, "'z' fails .* it is complex"),
        ({"observables": ["v"]}, "did you mean 'V'"),
        ({"observables": [fw.observables.moment("ii", layer=3)]}, "`layer` must be 1 to 2"),
        (
            {"observables": [fw.observables.moment("iijjkk", layer=2)], "net": fw.MLP("tanh", depth=2)},
            "different neurons",
        ),
        ({"observables": [fw.Observable("H", lambda network: network.H)]}, "needs='H'"),
        ({"x": [[np.nan, 0.0]]}, "must be finite"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        fw.ensemble(**{"net": LINEAR, "x": X, "n_networks": 10, **arguments})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fw.observables.moment("ii2"), "`pattern` must be 1 to 6 letters"),
        (lambda: fw.observables.moment("iijjkkl"), "`pattern` must be"),
        (lambda: fw.observables.histogram([1.0, 0.0]), "`edges` must be increasing"),
        (lambda: fw.observables.histogram("ten"), "`edges` must be increasing"),
        (lambda: fw.Observable("a/b", abs), "`name` of an observable"),
        (lambda: fw.Observable("a", 3), "`function` of observable 'a'"),
        (lambda: fw.Observable("a", abs, needs="W"), "`needs` of observable 'a'"),
        (lambda: fw.Observable("a", abs, dims=("a", "a")), "`dims` of observable 'a' must be different names"),
        (lambda: fw.Observable("a", abs, dims=(1,)), "`dims` of observable 'a' must be different names"),
        (lambda: fw.observable(abs), "write @fw.observable\\(\\) with its brackets"),
    ],
)
def test_observables_that_cannot_be_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_another_network_data_or_observable_is_another_run(tmp_path):
    path = tmp_path / "run.db"
    fw.ensemble(LINEAR, X, observables=["K"], n_networks=4, path=path, workers=1)
    for other, message in (
        ({"net": fw.MLP("linear", depth=2, width=6, n_out=3, C_b=0.3, C_W=[1.0, 1.4])}, r"its net is width \[5\]"),
        ({"x": X + 1}, "its x is sha256"),
        ({"observables": ["V"]}, "its observables is"),
        ({"draw": "layers"}, 'its draw is "networks"'),
    ):
        with pytest.raises(InputError, match=message):
            fw.ensemble(**{"net": LINEAR, "x": X, "observables": ["K"], "n_networks": 4, "path": path, **other})
