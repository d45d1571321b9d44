"""What trained networks predict: infinite width, first order in 1/n, learning algorithms, Bayes, generalisation."""

from finitewidth.training.bias_variance import generalisation
from finitewidth.training.prediction import predict

__all__ = ["predict", "generalisation"]
