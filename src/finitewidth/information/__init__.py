"""Nearly-Gaussian distributions: what the tensors of order 1/n say of a network's outputs and its tangent kernel."""

from finitewidth.information.gradients import TangentKernel, tangent_kernel
from finitewidth.information.outputs import NearlyGaussian, nearly_gaussian
from finitewidth.information.representations import representation_learning

__all__ = ["NearlyGaussian", "nearly_gaussian", "TangentKernel", "tangent_kernel", "representation_learning"]
