"""What trained networks predict: infinite width, first order in 1/n, algorithms, Bayes, nearly-kernel methods."""

from finitewidth.training.bias_variance import generalisation
from finitewidth.training.prediction import predict
from finitewidth.training.quadratic import QuadraticModel
from finitewidth.training.trained_kernel import trained_kernel

__all__ = ["QuadraticModel", "generalisation", "predict", "trained_kernel"]
