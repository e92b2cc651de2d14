"""Densities that know what one coordinate of a rotation says of the other."""

from abc import abstractmethod

import numpy as np
from jaxtyping import ArrayLike, Float

from gauss_flows.datasets._checks import real
from gauss_flows.datasets.base import PlanarDensity

# Negentropy of any uniform law: log of the normal's entropy over the uniform's at equal variance.
UNIFORM_NEGENTROPY = 0.5 * float(np.log(np.pi * np.e / 6))

_ROUNDING = 1e-13


class SplitDensity(PlanarDensity):
    r"""A density of the plane with exact conditionals along a rotation.

    A rotation by the angle θ splits x into a passive and an active coordinate,

    $$\begin{pmatrix} p \\ a \end{pmatrix} =
    \begin{pmatrix} \cos\theta & -\sin\theta \\ \sin\theta & \cos\theta \end{pmatrix} x.$$

    An affine coupling layer that reads p can standardize the law of a given p and do no more,
    which lowers the divergence to the normal by
    $\tfrac12 \mathrm{E}_p [m^2 + v - 1 - \log v]$ with the mean m and variance v of a given p.

    All four methods are NumPy in float64; angles are in radians.

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020).
    """

    @abstractmethod
    def _passive_log_prob(self, p: np.ndarray, angle: float) -> np.ndarray:
        """Log-density of the passive coordinate."""

    @abstractmethod
    def _conditional_moments(self, p: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the active coordinate."""

    @abstractmethod
    def _conditional_negentropy(self, p: np.ndarray, angle: float) -> np.ndarray:
        """Negentropy of the active coordinate."""

    @abstractmethod
    def _passive_breaks(self, angle: float) -> np.ndarray:
        """Range of the passive coordinate and its kinks, in order."""

    def passive_log_prob(
        self, p: Float[ArrayLike, "*n"], angle: float = 0.0
    ) -> Float[np.ndarray, "*n"]:
        """Log-density of the passive coordinate.

        Args:
            p: Its values, of shape (...).
            angle: Angle of the rotation in radians.

        Returns:
            The log-densities in nats, of shape (...).

        Raises:
            ValueError: If the angle is no finite number, or one at which the law is not known.
        """
        return np.asarray(self._passive_log_prob(_floats(p), real("angle", angle)))

    def conditional_moments(
        self, p: Float[ArrayLike, "*n"], angle: float = 0.0
    ) -> tuple[Float[np.ndarray, "*n"], Float[np.ndarray, "*n"]]:
        """Mean and variance of the active coordinate, given the passive one.

        Args:
            p: Values of the passive coordinate, of shape (...).
            angle: Angle of the rotation in radians.

        Returns:
            The means and the variances, both of shape (...); NaN where p has no density.

        Raises:
            ValueError: If the angle is no finite number, or one at which the law is not known.
        """
        mean, variance = self._conditional_moments(_floats(p), real("angle", angle))
        return np.asarray(mean), np.asarray(variance)

    def conditional_negentropy(
        self, p: Float[ArrayLike, "*n"], angle: float = 0.0
    ) -> Float[np.ndarray, "*n"]:
        """Divergence of the active coordinate's law from the normal of its mean and variance.

        Args:
            p: Values of the passive coordinate, of shape (...).
            angle: Angle of the rotation in radians.

        Returns:
            The negentropies in nats, of shape (...); NaN where p has no density.

        Raises:
            ValueError: If the angle is no finite number, or one at which the law is not known.
        """
        return np.asarray(self._conditional_negentropy(_floats(p), real("angle", angle)))

    def passive_breaks(self, angle: float = 0.0) -> Float[np.ndarray, " breaks"]:
        """Where to cut an integral over the passive coordinate.

        Args:
            angle: Angle of the rotation in radians.

        Returns:
            In order: the ends of a range that holds all but 1e-16 of the mass, and between them
            every point at which the density or the moments are not smooth or change fast.

        Raises:
            ValueError: If the angle is no finite number, or one at which the law is not known.
        """
        breaks = self._passive_breaks(real("angle", angle))
        # Points that only rounding tells apart are one.
        apart = np.diff(breaks) > _ROUNDING * (breaks[-1] - breaks[0])
        return breaks[np.concatenate([[True], apart])]


def _floats(p):
    return np.asarray(p, np.float64)
