"""A kernel density as a mixture of few Gaussians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gauss_flows.rbig.joint_mixture import JointMixture

Array = NDArray[np.float64]


def smoothed(summary: JointMixture, bandwidth: float, pooled: Array) -> JointMixture:
    r"""Put a normal kernel on every row of a summary.

    $$\hat p(x) = \sum_k w_k\, N(x;\, \mu_k,\, S_k + h^2 \Sigma).$$

    A cluster of rows that is small beside the kernel looks, after it, like the Gaussian of its
    mean and covariance: some hundred clusters in two dimensions are as good as all the kernels.

    Args:
        summary: Of K clusters.
        bandwidth: h.
        pooled: The covariance Σ of all rows, shape (d, d).

    Returns:
        The mixture.

    References:
        Silverman, *Density Estimation for Statistics and Data Analysis* (1986), §4.2.1.
    """
    return summary._replace(covariances=summary.covariances + bandwidth**2 * pooled)
