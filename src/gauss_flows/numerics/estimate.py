"""A figure with its standard error."""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float


class Estimate(NamedTuple):
    """A figure and how far sampling alone is likely to have moved it.

    Args:
        value: The figure, a number or an array.
        standard_error: Its standard error, of the same shape.
    """

    value: Float[np.ndarray, "..."] | float
    standard_error: Float[np.ndarray, "..."] | float

    @classmethod
    def of_mean(
        cls,
        values: Float[ArrayLike, "n ..."],
        sample_weight: Float[ArrayLike, " n"] | None = None,
    ) -> "Estimate":
        r"""The mean of independent values over the first axis.

        $$\bar v = \sum_r w_r v_r, \qquad
        s^2 = \frac{m}{m - 1} \sum_r w_r^2 (v_r - \bar v)^2, \qquad \sum_r w_r = 1,$$

        with $m = 1 / \sum_r w_r^2$, the number of rows where the weights are equal.

        Args:
            values: Independent values, shape (n, ...).
            sample_weight: Weights that are not negative, shape (n,); equal by default.

        Returns:
            Mean and standard error, of the remaining shape; the error of one row alone is NaN.

        Example:
            >>> value, standard_error = Estimate.of_mean(np.array([1.0, 2.0, 3.0]))
            >>> print(f"{value:.3f} {standard_error:.3f}")
            2.000 0.577
        """
        values = np.asarray(values, np.float64)
        weights = np.ones(len(values)) if sample_weight is None else np.asarray(sample_weight)
        weights = weights / weights.sum()
        one_row = (weights**2).sum()
        # Log densities are infinite or huge where a row is far away.
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            mean = np.tensordot(weights, values, axes=1)
            spread = np.tensordot(weights**2, (values - mean) ** 2, axes=1)
            error = np.sqrt(spread / (1 - one_row))
        return cls(mean[()], error[()])
