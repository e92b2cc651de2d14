"""Densities whose truth is known: samples, log-density, entropy and moments, exact.

Shared by tests, benchmarks and documentation; imports nothing from the rest of the package.
"""

from gauss_flows.datasets.base import Density, PlanarDensity
from gauss_flows.datasets.checkerboard import Checkerboard
from gauss_flows.datasets.eight_gaussians import EightGaussians
from gauss_flows.datasets.pinwheel import Pinwheel
from gauss_flows.datasets.rings import Rings
from gauss_flows.datasets.spiral import Spiral
from gauss_flows.datasets.split import SplitDensity
from gauss_flows.datasets.standardized import Standardized
from gauss_flows.datasets.two_gaussians import TwoGaussians
from gauss_flows.datasets.two_moons import TwoMoons
from gauss_flows.datasets.uniform_square import UniformSquare
from gauss_flows.datasets.w import WU, W

__all__ = [
    "WU",
    "Checkerboard",
    "Density",
    "EightGaussians",
    "Pinwheel",
    "PlanarDensity",
    "Rings",
    "Spiral",
    "SplitDensity",
    "Standardized",
    "TwoGaussians",
    "TwoMoons",
    "UniformSquare",
    "W",
]
