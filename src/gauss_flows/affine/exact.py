"""What one affine coupling layer can do to a density of the plane, by quadrature."""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from numpy.polynomial.legendre import leggauss
from scipy.special import betainc, betaln, xlog1py, xlogy

from gauss_flows.affine.arguments import finite_number
from gauss_flows.numerics.normal import LOG_SQRT_2PI

_NODES = 400
# The density of nodes vanishes to this order at every break, which tames what is not smooth there.
_ORDER = 5
# Panels of the standardised active coordinate, and how far it is followed.
_PANELS, _PANEL_NODES, _REACH = 96, 16, 12.0
_POINTS_AT_ONCE = 1_000_000


@runtime_checkable
class SplitDensity(Protocol):
    """A density that knows what its passive coordinate says of the active one.

    The form of `gauss_flows.datasets`: [p, a] = Q(θ) x, angles in radians.
    """

    def kl_to_normal(self) -> float:
        """KL(density ‖ N(0, I)) in nats."""
        ...

    def log_prob(self, x: np.ndarray) -> Array:
        """Log-density of points of shape (..., 2)."""
        ...

    def entropy(self) -> float:
        """Entropy in nats."""
        ...

    def passive_log_prob(self, p: np.ndarray, angle: float) -> np.ndarray:
        """Log-density of the passive coordinate."""
        ...

    def conditional_moments(self, p: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the active coordinate given p."""
        ...

    def conditional_negentropy(self, p: np.ndarray, angle: float) -> np.ndarray:
        """Negentropy of the active coordinate given p."""
        ...

    def passive_breaks(self, angle: float) -> np.ndarray:
        """Range of p and the points between where something is not smooth, in order."""
        ...


class AffineBound(NamedTuple):
    """What the best affine coupling layer makes of a density at one rotation, in nats.

    Args:
        kl_before: KL(μ ‖ N(0, I)).
        gain: Theorem 1's Δ, by which the layer lowers it.
        kl_after: What is left, ``kl_before - gain`` and ``passive + conditional``.
        passive: KL of the passive coordinate, which no layer at this rotation touches.
        conditional: Mean negentropy of the active coordinate given the passive one.
        nll: Mean negative log-likelihood of the density under the flow of that one layer.
    """

    kl_before: float
    gain: float
    kl_after: float
    passive: float
    conditional: float
    nll: float


def exact_affine_bound(density: SplitDensity, angle: Float[ArrayLike, ""] = 0.0) -> AffineBound:
    r"""Theorem 1 for a density whose conditional moments are known.

    $$\Delta = \tfrac12 \operatorname{E}_p\bigl[m(p)^2 + \sigma^2(p) - 1 - \log\sigma^2(p)\bigr],$$

    by Gauss–Legendre quadrature between the breaks, with nodes that crowd at them.

    Args:
        density: A density of `gauss_flows.datasets` with exact conditionals (W, WU, the mixture,
            the square), standardised or not, or one like it.
        angle: Angle θ of the rotation [p, a] = Q(θ) x, in radians.

    Returns:
        The bound and its parts.

    Raises:
        ValueError: If the density does not know its conditionals, or not at this angle.

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020), Theorem 1.

    Example:
        >>> from gauss_flows.affine import exact_affine_bound
        >>> from gauss_flows.datasets import W
        >>> bound = exact_affine_bound(W())
        >>> print(f"{bound.kl_before:.6f} - {bound.gain:.6f} = {bound.kl_after:.6f}")
        0.831414 - 0.632104 = 0.199311
    """
    angle = _checked_angle(density, angle)
    p, mass = passive_rule(density, angle)
    mean, variance = density.conditional_moments(p, angle)
    gain = 0.5 * float(mass @ (mean**2 + variance - 1.0 - np.log(variance)))
    log_p = density.passive_log_prob(p, angle)
    passive = float(mass @ (log_p + 0.5 * p**2 + LOG_SQRT_2PI))
    conditional = float(mass @ density.conditional_negentropy(p, angle))
    before = density.kl_to_normal()
    after = before - gain
    return AffineBound(before, gain, after, passive, conditional, density.entropy() + after)


def passive_rule(
    density: SplitDensity, angle: Float[ArrayLike, ""] = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of the passive coordinate and the probability that each stands for.

    Args:
        density: A density with exact conditionals.
        angle: Angle of the rotation in radians.

    Returns:
        Nodes and weights, both of shape (m,): a mean over p is the weights' product with values.
    """
    angle = _checked_angle(density, angle)
    nodes, weights = leggauss(_NODES)
    t = 0.5 * (nodes + 1.0)
    # The substitution u = I(t; k, k): its derivative is a beta density, flat at both ends.
    u = betainc(_ORDER, _ORDER, t)
    log_slope = xlogy(_ORDER - 1, t) + xlog1py(_ORDER - 1, -t) - betaln(_ORDER, _ORDER)
    slope = 0.5 * weights * np.exp(log_slope)
    breaks = density.passive_breaks(angle)
    widths = np.diff(breaks)[:, None]
    p = (breaks[:-1, None] + widths * u).ravel()
    mass = (widths * slope).ravel()
    with np.errstate(divide="ignore", invalid="ignore"):
        mass = mass * np.exp(density.passive_log_prob(p, angle))
        _, variance = density.conditional_moments(p, angle)
    # Nodes that round onto an end, where the law of a given p has shrunk to a point.
    kept = (mass > 0) & (variance > 0)
    return p[kept], mass[kept]


def exact_dependence(density: SplitDensity, angle: Float[ArrayLike, ""] = 0.0) -> float:
    r"""Mutual information of passive and active coordinate after the best affine layer.

    $$I(a'; p) = h(a') - h(a' \mid p), \qquad a' = \frac{a - m(p)}{\sigma(p)}.$$

    It vanishes where $a = f(p) + g(p)\, n$ with noise n independent of p and $g > 0$ (or noise
    that is symmetric): Lemma 2, whose text leaves out the condition on g. If g changes its sign,
    a' is n or −n, and which of them depends on p.

    Args:
        density: A density of `gauss_flows.datasets` with exact conditionals: W, WU, the mixture or
            the square. Of another one whose conditionals jump the last digits are not right.
        angle: Angle of the rotation in radians.

    Returns:
        The mutual information in nats.

    Raises:
        ValueError: If the density does not know its conditionals at this angle.

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020), Lemma 2.

    Example:
        >>> import numpy as np
        >>> from gauss_flows.affine import exact_dependence
        >>> from gauss_flows.datasets import TwoGaussians
        >>> print(f"{exact_dependence(TwoGaussians(), np.deg2rad(46.409679)):.4f}")
        0.0214
    """
    angle = _checked_angle(density, angle)
    p, mass = passive_rule(density, angle)
    mean, variance = density.conditional_moments(p, angle)
    deviation = np.sqrt(variance)
    nodes, weights = leggauss(_PANEL_NODES)
    # The standardised uniform law, which the squares and WU have given p, ends at ±√3.
    jumps = np.array([-np.sqrt(3.0), np.sqrt(3.0)])
    edges = np.sort(np.concatenate([np.linspace(-_REACH, _REACH, _PANELS + 1), jumps]))
    half = 0.5 * np.diff(edges)[:, None]
    a = (0.5 * (edges[1:] + edges[:-1])[:, None] + half * nodes).ravel()
    weight = (half * weights).ravel()
    cos, sin = np.cos(angle), np.sin(angle)
    log_p = density.passive_log_prob(p, angle)
    marginal = np.zeros_like(a)
    with jax.enable_x64(True):
        for rows in np.array_split(np.arange(len(p)), max(1, len(p) * len(a) // _POINTS_AT_ONCE)):
            active = mean[rows, None] + deviation[rows, None] * a
            passive = np.broadcast_to(p[rows, None], active.shape)
            x = np.stack([cos * passive + sin * active, cos * active - sin * passive], axis=-1)
            joint = np.asarray(density.log_prob(x))
            given_p = np.exp(joint - log_p[rows, None]) * deviation[rows, None]
            marginal += mass[rows] @ given_p
    entropy = -float(weight @ xlogy(marginal, marginal))
    conditional = LOG_SQRT_2PI + 0.5 - float(mass @ density.conditional_negentropy(p, angle))
    return entropy - conditional


def _checked_angle(density: SplitDensity, angle: Float[ArrayLike, ""]) -> float:
    """The angle, once the density is seen to be one that knows its conditionals."""
    if not isinstance(density, SplitDensity) or isinstance(density, type):
        raise ValueError(
            "Expected a density with exact conditionals, such as W(), WU(), TwoGaussians(), "
            f"UniformSquare(); got {density!r}."
        )
    return finite_number("angle", angle)
