"""Nearly-Gaussian distributions: what the tensors of order 1/n say of a network's outputs and its tangent kernel."""

from finitewidth.information.nearly_gaussian import NearlyGaussian, nearly_gaussian
from finitewidth.information.tangent_kernel import TangentKernel, tangent_kernel

__all__ = ["NearlyGaussian", "nearly_gaussian", "TangentKernel", "tangent_kernel"]
