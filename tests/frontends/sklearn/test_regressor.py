"""The regressor against `fw.predict`, against scikit-learn's Gaussian process, and inside scikit-learn's machinery."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import finitewidth as fw
from finitewidth.errors import InputError, TrustWarning
from finitewidth.sklearn import FiniteWidthRegressor

RNG = np.random.default_rng(3)
X, X_NEW = RNG.standard_normal((30, 3)), RNG.standard_normal((12, 3))
Y = np.sin(X[:, 0]) + 0.3 * X[:, 1] ** 2
PLAIN = {"intercept": False, "normalize_y": False, "order": 0}


class ReluKernel(Kernel):
    """The kernel of an infinitely wide ReLU network by its arc-cosine recursion, written down here once more."""

    def __init__(self, depth=3, C_b=0.1, C_W=1.7):
        self.depth, self.C_b, self.C_W = depth, C_b, C_W

    def __call__(self, X, Y=None, eval_gradient=False):
        Y = X if Y is None else Y
        K = self.C_b + self.C_W * X @ Y.T / X.shape[1]
        one, two = (self.C_b + self.C_W * (Z**2).mean(1) for Z in (X, Y))
        for _ in range(self.depth - 1):
            size = np.sqrt(one[:, None] * two)
            angle = np.arccos(np.clip(K / size, -1, 1))
            K = self.C_b + self.C_W * size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
            one, two = self.C_b + self.C_W * one / 2, self.C_b + self.C_W * two / 2
        return K

    def diag(self, X):
        return np.array([self(row[None])[0, 0] for row in X])

    def is_stationary(self):
        return False


def test_bayes_at_infinite_width_is_scikit_learns_gaussian_process():
    noise = 0.02
    ours = FiniteWidthRegressor("relu", C_b=0.1, C_W=1.7, algorithm=fw.Bayes(noise), **PLAIN).fit(X, Y)
    theirs = GaussianProcessRegressor(ReluKernel(), alpha=noise, optimizer=None).fit(X, Y)
    both = zip(ours.predict(X_NEW, return_std=True), theirs.predict(X_NEW, return_std=True), strict=True)
    for found, expected in both:
        np.testing.assert_allclose(found, expected, atol=1e-10, rtol=0)
    assert ours.log_evidence_ == pytest.approx(theirs.log_marginal_likelihood_value_, rel=1e-11)


@pytest.mark.parametrize("algorithm", [None, fw.GradientFlow(time=2.0), fw.GradientDescent(0.02, 40), fw.Bayes(0.1)])
def test_answers_are_those_of_predict(algorithm):
    parameters = {"depth": 4, "width": 32, "C_b": 0.1, "C_W": 1.2, "lambda_W": 0.5}
    model = FiniteWidthRegressor("erf", **parameters, algorithm=algorithm, **PLAIN).fit(X, Y)
    mean, std = model.predict(X_NEW, return_std=True)
    net = fw.MLP("erf", n_in=3, **parameters)
    expected = fw.predict(net, X, Y, X_NEW, algorithm=algorithm or fw.GradientFlow(), order=0)
    np.testing.assert_allclose(mean, expected.mean.values[:, 0], rtol=1e-12)
    np.testing.assert_allclose(std, expected.std.values[:, 0], rtol=1e-9)


def test_regularisation_and_noise_are_handed_on():
    net = fw.MLP("relu", depth=3, width=64, n_in=3, C_W=2.0)
    relu = {"C_b": 0.0, "C_W": 2.0, **PLAIN}
    pulled = FiniteWidthRegressor("relu", regularisation=0.3, **relu).fit(X, Y)
    expected = fw.predict(net, X, Y, X_NEW, order=0, regularisation=0.3)
    np.testing.assert_allclose(pulled.predict(X_NEW), expected.mean.values[:, 0], rtol=1e-12)
    noisy = FiniteWidthRegressor("relu", algorithm=fw.Bayes(), noise=0.3, **relu).fit(X, Y)
    expected = fw.predict(net, X, Y, X_NEW, order=0, algorithm=fw.Bayes(0.3))
    np.testing.assert_allclose(noisy.predict(X_NEW), expected.mean.values[:, 0], rtol=1e-12)


def test_intercept_is_a_constant_feature_and_critical_reaches_the_fixed_point():
    model = FiniteWidthRegressor("gelu").fit(X, Y)
    np.testing.assert_array_equal(model.network_inputs(X_NEW), np.column_stack([X_NEW, np.ones(12)]))
    assert model.net_.n_in == 4 and model.n_features_in_ == 3
    K = fw.flow(model.net_, model.network_inputs(X)).K.sel(layer=1)
    assert np.diag(K.values).mean() == pytest.approx(fw.critical("gelu").K_star, rel=1e-12)


def test_units_of_the_targets_do_not_matter():
    mean, std = FiniteWidthRegressor("relu").fit(X, Y).predict(X_NEW, return_std=True)
    shifted, wider = FiniteWidthRegressor("relu").fit(X, 1e3 * Y + 7e4).predict(X_NEW, return_std=True)
    np.testing.assert_allclose(shifted, 1e3 * mean + 7e4, rtol=1e-9)
    np.testing.assert_allclose(wider, 1e3 * std, rtol=1e-9)


def test_several_targets_are_several_outputs():
    both = np.column_stack([Y, -3 * Y + 1])
    mean, std = FiniteWidthRegressor("relu").fit(X, both).predict(X_NEW, return_std=True)
    alone, alone_std = FiniteWidthRegressor("relu").fit(X, Y).predict(X_NEW, return_std=True)
    assert mean.shape == std.shape == (12, 2)
    np.testing.assert_allclose(mean, np.column_stack([alone, -3 * alone + 1]), rtol=1e-9)
    np.testing.assert_allclose(std, np.column_stack([alone_std, 3 * alone_std]), rtol=1e-9)


def test_rows_of_zeros():
    rows, labels = np.vstack([np.zeros((1, 3)), X]), np.append(0.5, Y)
    model = FiniteWidthRegressor("relu").fit(rows, labels)
    assert model.predict(np.zeros((1, 3)))[0] == pytest.approx(0.5, abs=1e-6)
    with pytest.raises(InputError, match="all zero in row 0"):
        FiniteWidthRegressor("relu", intercept=False).fit(rows, labels)


def test_constant_features():
    extended, new = np.column_stack([X, np.full(30, 5.0)]), np.column_stack([X_NEW, np.full(12, 5.0)])
    model = FiniteWidthRegressor("relu").fit(extended, Y)
    assert np.all(np.isfinite(model.predict(new)))
    np.testing.assert_allclose(model.predict(extended), Y, atol=1e-8)


def test_a_single_row_and_a_constant_target():
    mean, std = FiniteWidthRegressor("relu").fit(X[:1], [2.5]).predict(X_NEW, return_std=True)
    np.testing.assert_allclose(mean, 2.5)
    assert np.all(std >= 0)
    assert np.all(FiniteWidthRegressor("relu").fit(X, np.full(30, 4.0)).predict(X_NEW) == 4.0)


def test_duplicates_with_other_labels_are_said():
    with pytest.warns(TrustWarning, match="duplicate"):
        model = FiniteWidthRegressor("relu").fit(np.vstack([X, X[:1]]), np.append(Y, Y[0] + 1))
    assert "duplicate" in model.notes_[0]
    assert model.predict(X[:1])[0] == pytest.approx(Y[0] + 0.5, abs=1e-6)


def test_labels_that_contradict_without_noise_are_refused_by_bayes():
    with pytest.raises(InputError, match="allow for noise"):
        FiniteWidthRegressor("relu", algorithm=fw.Bayes()).fit(np.vstack([X, X]), np.append(Y, Y + 1))


def test_pipeline_and_grid_search_and_clone():
    diabetes = load_diabetes()
    rows = np.random.default_rng(0).permutation(442)[:120]
    features, target = diabetes.data[rows], diabetes.target[rows]
    pipeline = make_pipeline(StandardScaler(), FiniteWidthRegressor("relu", algorithm=fw.Bayes(), noise=1.0, order=0))
    grid = {"finitewidthregressor__noise": [1e-3, 0.5], "finitewidthregressor__depth": [2, 3]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(features, target)
    assert search.best_params_["finitewidthregressor__noise"] == 0.5
    assert search.best_score_ > 0.3
    scores = cross_val_score(clone(search.best_estimator_), features, target, cv=3)
    assert scores.mean() == pytest.approx(search.best_score_)


def test_algorithms_are_a_hyperparameter():
    algorithms = [fw.GradientFlow(time=1e-6), fw.GradientFlow(time=1.0)]
    search = GridSearchCV(FiniteWidthRegressor("relu", order=0), {"algorithm": algorithms}, cv=3).fit(X, Y)
    assert search.best_params_["algorithm"] == algorithms[1]


def test_frames_keep_their_names():
    frame = load_diabetes(as_frame=True).data.iloc[:20]
    model = FiniteWidthRegressor("relu").fit(frame, np.arange(20.0))
    assert list(model.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[frame.columns[::-1]])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"C_b": "kritisch"}, '`C_b` must be "critical"'),
        ({"C_W": -1.0}, "`C_W` must be a finite number"),
        ({"activation": "gelo"}, "did you mean 'gelu'"),
        ({"depth": 0}, "`depth` must be an integer ≥ 1"),
        ({"order": 2}, "`order` must be 0 (infinite width) or 1"),
        ({"order": 1, "algorithm": fw.Momentum(1e-3, 3)}, "`order` 1 is computed for gradient flow"),
        ({"order": 1, "regularisation": 0.1}, "`regularisation` is known at infinite width only"),
        ({"noise": 0.1}, "`noise` is the variance of labels in Bayes' rule"),
        ({"tune": "evidence"}, "needs algorithm=fw.Bayes()"),
        ({"tune": "grid", "algorithm": fw.Bayes(0.1)}, "`tune` must be None"),
        ({"algorithm": "bayes"}, "`algorithm` must be one such as"),
        ({"algorithm": fw.GradientDescent(1e3, 10)}, "`step` must be below"),
        ({"regularisation": -1.0}, "`regularisation` must be"),
    ],
)
def test_bad_parameters_are_refused_by_fit(parameters, message):
    model = FiniteWidthRegressor(**{"order": 0, **parameters})
    with pytest.raises(InputError) as caught:
        model.fit(X, Y)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_before_fit():
    with pytest.raises(NotFittedError):
        FiniteWidthRegressor().predict(X)


def test_what_kinks_leave_out_is_said():
    X = np.array([[-0.5], [0.7]])
    model = FiniteWidthRegressor("relu", depth=2, order=1, algorithm=fw.GradientFlow(1.0)).fit(X, [0.4, -1.0])
    with pytest.warns(fw.TrustWarning, match="cross a kink of relu .* are left out at order 1"):
        model.predict([[0.2]])
