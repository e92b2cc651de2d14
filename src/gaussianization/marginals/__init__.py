"""One-dimensional Gaussian mixtures, fitted with NumPy and SciPy alone, and the one to start at."""

from gaussianization.marginals.base_mixture import GAIN, base_mixture
from gaussianization.marginals.histograms import Histogram, bin_edges
from gaussianization.marginals.marginal_fit import MixtureFit, fit_mixtures

__all__ = ["GAIN", "Histogram", "MixtureFit", "base_mixture", "bin_edges", "fit_mixtures"]
