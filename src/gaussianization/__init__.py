"""Gaussianization: marginal fits that need only NumPy and SciPy, and flows in Keras 3."""
