"""Ensembles of trained networks: control variates change errors and nothing else; what diverges is counted."""

import warnings

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.errors import TrustWarning
from finitewidth.experiments import Outputs, measure_trained, measure_trained_widths
from finitewidth.experiments.courses import course
from finitewidth.experiments.trained_networks import Data, TrainedNetworks
from finitewidth.precision import float64

NET = fw.MLP("tanh", depth=3, width=24, C_b=0.2, C_W=1.5, lambda_b=0.5, lambda_W=0.7)
RNG = np.random.default_rng(0)
X, Y, TEST = RNG.standard_normal((2, 3)), [0.6, -0.4], RNG.standard_normal((1, 3))
DESCENT = fw.GradientDescent(0.1, 15)


def pulls(one, other, name):
    """Differences of independent estimates in standard errors; of a symmetric covariance each entry once."""
    difference = one.value[name] - other.value[name]
    z = difference / np.hypot(one.standard_error[name], other.standard_error[name])
    return z if z.ndim < 4 else z[:, 0][:, :, 0][:, *np.triu_indices(z.shape[2])]


@pytest.fixture(scope="module")
def controlled():
    return measure_trained(NET, X, Y, TEST, algorithm=DESCENT, times=[3, 15], n_networks=256, seed=1)


def test_control_variates_change_the_errors_only(controlled):
    """Against other networks without control; 4.4 standard errors for 50 numbers: once in 2000."""
    plain = measure_trained(NET, X, Y, TEST, algorithm=DESCENT, times=[3, 15], n_networks=8192, seed=2, control=False)
    for name in ("mean", "covariance", "third_cumulant", "fourth_cumulant"):
        assert np.abs(pulls(controlled, plain, name)).max() < 4.4, name
    assert controlled.variance_reduction("mean").min() > 10
    assert np.einsum("tiaia->tia", controlled.variance_reduction("covariance")).min() > 3


@pytest.mark.slow
def test_any_kernel_will_do(controlled):
    wrong = np.array([[1.0, 0.3], [0.3, 0.7], [0.1, 0.2]])
    seen = measure_trained(NET, X, Y, TEST, algorithm=DESCENT, times=[3, 15], n_networks=128, seed=3, kernel=wrong)
    for name in ("mean", "covariance"):
        assert np.abs(pulls(seen, controlled, name)).max() < 4.4, name


@pytest.mark.slow
def test_before_training_the_mean_is_exactly_zero_and_nothing_has_moved():
    told: list[tuple[int, int]] = []
    seen = measure_trained(
        NET, X, Y, algorithm=DESCENT, times=[0], n_networks=64, progress=lambda *each: told.append(each)
    )
    # 32 times as many networks are linearised, twice: training 64 is not half of the work, nor its end
    assert told == sorted(told) and told[0] == (0, 64) and told[-1] == (64, 64)
    assert any(0 < done < 32 for done, _ in told)
    np.testing.assert_allclose(seen.value["mean"], 0, atol=1e-12)
    for name in ("H_moved", "z_moved", "parameters_moved"):
        np.testing.assert_array_equal(seen.value[name], 0)


def test_a_network_contributes_the_same_beside_any_others():
    data = Data(np.concatenate([X, TEST]), np.array([Y]))
    plan = course(fw.Sgd(0.1, 6, batch_size=1), inputs=2)
    experiment = TrainedNetworks(NET, data, plan, seed=5)
    with float64():
        some = experiment.contributions(np.arange(experiment.together))
        other = experiment.contributions(np.arange(experiment.together)[::-1] + 3)
    np.testing.assert_array_equal(np.asarray(some["first"])[4], np.asarray(other["first"])[-2])  # network 4
    assert not np.array_equal(np.asarray(some["first"])[4], np.asarray(some["first"])[5])


def test_what_diverges_is_counted_left_out_and_said():
    """Seen beforehand, by plain steps: at this rate some two in five diverge."""
    linear = fw.MLP("linear", depth=2, width=8)
    with pytest.warns(TrustWarning, match="are left out"):
        seen = measure_trained(linear, X, Y, algorithm=fw.GradientDescent(0.7, 60), n_networks=128, control=False)
    assert 20 < seen.n_excluded < 90 and seen.n_networks + seen.n_excluded == 128
    assert all(np.isfinite(value).all() for value in seen.value.values())


@pytest.mark.parametrize(
    ("observable", "words"),
    [
        (fw.Observable("q", lambda network: 1 / "0"), "'q' fails on a network .* of one trained network"),
        (fw.Observable("q", lambda network: network.z()), r"'q' has 0 `dims`.*shape \(1, 1\)"),
        (fw.Observable("q", lambda network: network.H), "needs='H'"),
        (fw.Observable("q", lambda network: network.z(4)[0, 0]), "`layer` must be 1 to 3"),
    ],
)
def test_observables_of_trained_networks_are_looked_at_first(observable, words):
    training = fw.Training(X, Y, algorithm=DESCENT)
    with pytest.raises(fw.InputError, match=words):
        fw.ensemble(NET, TEST, observables=[observable], training=training, n_networks=4)


@pytest.mark.parametrize("kind", [fw.GradientDescent, fw.Sgd])
def test_what_has_diverged_though_it_is_finite_yet_is_left_out_of_ensembles(kind):
    """Twelve steps far too large: outputs of 10²³, seen on an input that is orthogonal to those of training, too."""
    options = {"batch_size": 1} if kind is fw.Sgd else {}
    training = fw.Training([[1.0, 0.0]], [0.5], algorithm=kind(50.0, 12, **options), times=[0, 12])
    net = fw.MLP("linear", depth=1, lambda_b=0.0)
    with pytest.raises(fw.InputError, match="of 8 networks 8 contribute a number that is not finite"):
        fw.ensemble(net, [[0.0, 1.0]], observables=["mean", "loss"], training=training, n_networks=8)


def test_when_all_diverge_there_is_no_estimate():
    linear = fw.MLP("linear", depth=2, width=8)
    with pytest.raises(fw.InputError, match="diverge"):
        measure_trained(linear, X, Y, algorithm=fw.GradientDescent(50.0, 60), n_networks=64, control=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_networks": 1}, "`n_networks` must be at least 2"),
        ({"y_train": [1.0]}, "`y_train` must have one row for each of the 2 inputs"),
        ({"y_train": [1.0, np.nan]}, r"`y_train` must be finite, but y_train\[1\] is nan"),
        ({"y_train": [[1.0, 2.0]] * 2}, "`y_train` has 2 columns, but the network n_out = 1"),
        ({"loss": "cross-entropy", "y_train": [0.0, 2.0]}, "`y_train` must be labels 0 and 1, .* from 0 to 2"),
        ({"x_test": [[1.0]]}, "`x_test` has 1 columns, but the network has n_in = 3"),
        ({"x_train": [[np.inf] * 3] * 2}, r"`x_train` must be finite, but x_train\[0, 0\] is inf"),
        ({"algorithm": fw.Adam(0.1, 3), "control": True}, "Adam.* has no linearisation"),
        ({"n_networks": 10, "control": True}, "`n_networks` is 10 < 64"),
        ({"kernel": np.eye(2)}, r"`kernel` must be finite numbers \(3, 2\)"),
        ({"linearised": 0}, "`linearised` must be an integer ≥ 1"),
    ],
)
def test_bad_input_is_refused_by_name(arguments, words):
    given = {"x_train": X, "y_train": Y, "x_test": TEST, "algorithm": DESCENT, "n_networks": 64, **arguments}
    x_train, y_train, x_test = (given.pop(name) for name in ("x_train", "y_train", "x_test"))
    with pytest.raises(fw.InputError, match=words):
        measure_trained(NET, x_train, y_train, x_test, **given)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [fw.GradientDescent(0.2, 25), fw.GradientFlow()])
def test_infinite_width_is_that_of_theory(algorithm):
    """E z = ỹ − P ỹ, Cov = P K Pᵀ (THEORY-TRAINED §3), from widths 24 to 96 by a fit quadratic in 1/n.

    Twelve numbers at most that are not exactly known; 4.5 standard errors fail once in 10⁴.
    """
    scan = measure_trained_widths(
        NET, X, Y, TEST, algorithm=algorithm, widths=[24, 48, 96], n_networks=[2048, 1024, 512], seed=4
    )
    flow = fw.flow(NET, np.concatenate([X, TEST]), layers="last", tensors="")
    K, Theta = flow.K.values[-1], flow.Theta.values[-1]
    inverse = np.linalg.inv(Theta[:2, :2])
    if isinstance(algorithm, fw.GradientDescent):
        inverse = inverse @ (np.eye(2) - np.linalg.matrix_power(np.eye(2) - 0.2 * Theta[:2, :2], 25))
    learned = Theta[:, :2] @ inverse
    P = np.eye(3) - np.pad(learned, ((0, 0), (0, 1)))
    for name, expected in (("mean", learned @ Y), ("covariance", P @ K @ P.T)):
        fit = scan.extrapolate(name, order=2)
        value, error = np.squeeze(fit.value), np.squeeze(fit.standard_error)
        assert (np.abs(value - expected) <= 4.5 * error + 2e-6).all(), (name, value - expected, error)


def test_training_is_a_part_of_ensembles(tmp_path):
    @fw.observable(dims=("layer",), needs="weights")
    def distance(network):
        import jax.numpy as jnp

        pairs = zip(network.parameters, network.before.parameters, strict=True)
        return jnp.stack([((now.W - old.W) ** 2).sum() for now, old in pairs])

    training = fw.Training(X, Y, algorithm=DESCENT, times=[0, 15])
    mean = fw.observables.moment("i")
    options = {"observables": [mean, distance], "training": training, "n_networks": 64, "seed": 1}
    path = tmp_path / "run.db"
    run = fw.ensemble(NET, TEST, **options, path=path)
    alone = measure_trained(NET, X, Y, TEST, algorithm=DESCENT, times=[0, 15], n_networks=64, seed=1, control=False)
    np.testing.assert_allclose(run.estimate[mean.name].value[:, 0], alone.value["mean"][:, 0, 2], rtol=1e-9)
    assert (run.estimate["distance"].value[0] == 0).all() and (run.estimate["distance"].value[1] > 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = fw.ensemble(NET, TEST, **options, path=path, progress=lambda done, total: None)
    np.testing.assert_array_equal(again.estimate["distance"].value, run.estimate["distance"].value)
    with pytest.raises(fw.InputError, match="a tensor of networks at initialisation"):
        fw.ensemble(NET, TEST, **{**options, "observables": ["V"]})


@pytest.mark.slow
def test_named_observables_are_what_measure_trained_measures():
    net = fw.MLP("tanh", depth=2, width=8, n_out=2, C_b=0.2, C_W=1.5, lambda_b=0.5, lambda_W=0.7)
    y = [[0.6, 0.1], [-0.4, 0.3]]
    names = ["mean", "covariance", "loss", "H", "H_moved", "z_moved", "parameters_moved"]
    training = fw.Training(X, y, algorithm=DESCENT, times=[3, 15])
    options = {"n_networks": 200, "seed": 1, "workers": 1}
    run = fw.ensemble(net, X, observables=names, training=training, **options)
    seen = measure_trained(net, X, y, algorithm=DESCENT, times=[3, 15], control=False, **options)
    for name in names:
        np.testing.assert_allclose(run.estimate[name].value, seen.value[name], rtol=1e-8, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(run.estimate[name].standard_error, seen.standard_error[name], rtol=1e-6, atol=1e-9)
    by_default = fw.ensemble(net, X, training=training, **options)
    assert list(by_default.estimates) == ["mean", "covariance"]


@pytest.mark.parametrize("options", [{"draw": "layers"}, {"draw": "netwroks"}, {"outputs": Outputs(z=4)}])
def test_training_takes_no_options_of_drawing(options):
    with pytest.raises(fw.InputError, match="leave out `draw` and `outputs`"):
        fw.ensemble(NET, X, training=fw.Training(X, Y, algorithm=DESCENT), n_networks=4, **options)


@pytest.mark.slow
def test_a_second_experiment_alike_does_not_compile_again(monkeypatch):
    net = fw.MLP("tanh", depth=2, width=7)
    made = []
    monkeypatch.setattr(TrainedNetworks, "_train", counted(TrainedNetworks._train, made))
    plan = course(fw.GradientDescent(0.1, 3), inputs=2)
    numbers = np.arange(TrainedNetworks(net, Data(X, np.array([Y])), plan, seed=0).together)

    def loss(y, seed, plan=plan):
        with float64():
            seen = TrainedNetworks(net, Data(X, np.array([y])), plan, seed=seed).contributions(numbers)
            return float(np.mean(np.asarray(seen["loss"])))

    first, other, again = loss(Y, 0), loss([9.0, 9.0], 5), loss(Y, 0)
    assert len(made) == 1 and first == again and other > 2 * first  # its own targets, not those of the first
    loss(Y, 0, course(fw.GradientDescent(0.2, 3), inputs=2))
    assert len(made) == 2


def counted(function, calls):
    def wrapped(*args, **kwargs):
        calls.append(1)
        return function(*args, **kwargs)

    return wrapped


@pytest.mark.slow
def test_kept_programs_look_at_their_own_inputs_and_users_functions_are_read_anew():
    size, net = [1.0], fw.MLP("tanh", depth=2, width=5)

    @fw.observable(dims=("a",))
    def scaled(network):
        return size[0] * network.z()[0]

    training = fw.Training(X, Y, algorithm=fw.GradientDescent(0.1, 3))
    options = {"training": training, "n_networks": 8, "workers": 1}
    one, two = (fw.ensemble(net, x, observables=["mean"], **options).estimate["mean"].value for x in (X, TEST))
    both = fw.ensemble(net, np.concatenate([X, TEST]), observables=["mean"], **options).estimate["mean"].value
    np.testing.assert_allclose(np.concatenate([one, two], axis=2), both, rtol=1e-9)
    before = fw.ensemble(net, X, observables=[scaled], **options).estimate["scaled"].value
    size[0] = 2.0
    after = fw.ensemble(net, X, observables=[scaled], **options).estimate["scaled"].value
    np.testing.assert_allclose(after, 2 * before, rtol=1e-12)
