"""The shape of a loss around a point: its Hessian's products and largest eigenvalues, and gradient
noise along its directions.

Everything takes functions of one flat vector of weights, so that it knows no network.
"""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.curvature.hessian import difference_product, hessian_product
    from replicate.curvature.lanczos import Spectrum, lanczos
    from replicate.curvature.noise import GradientNoise, measure_noise
    from replicate.curvature.projection import Projection
    from replicate.curvature.single_step import SingleStep, scale_of_drops

lazy.attach(__name__)
