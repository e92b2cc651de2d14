"""Every density of the room, with a rule that integrates over all of its mass."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from gauss_flows.datasets import (
    WU,
    Checkerboard,
    Density,
    EightGaussians,
    Pinwheel,
    Rings,
    Spiral,
    TwoGaussians,
    TwoMoons,
    UniformSquare,
    W,
)
from gauss_flows.datasets.base import PlanarDensity


def panels(low, high, n_panels, order=10):
    """A rule of its own: the tests trust none of the package's."""
    unit, weights = np.polynomial.legendre.leggauss(order)
    edges = np.linspace(low, high, n_panels + 1)
    half = np.diff(edges)[:, None] / 2
    nodes = edges[:-1, None] + half * (1 + unit)
    return nodes.ravel(), (half * weights).ravel()


def box(x_range, y_range, n_panels, order=10):
    x, x_weights = panels(*x_range, n_panels, order)
    y, y_weights = panels(*y_range, n_panels, order)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    return points, np.outer(x_weights, y_weights).ravel()


def square(half_width, n_panels, order=10):
    return box((-half_width, half_width), (-half_width, half_width), n_panels, order)


def polar(outer, n_panels, n_angles):
    r, weights = panels(0.0, outer, n_panels)
    angles = 2 * np.pi * np.arange(n_angles) / n_angles
    points = r[:, None, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    weights = np.broadcast_to((r * weights)[:, None] * 2 * np.pi / n_angles, points.shape[:2])
    return points.reshape(-1, 2), weights.ravel()


def w_strip(reach):
    """Columns at every p, as high as the conditional law reaches."""
    p, p_weights = panels(-2.0, 2.0, 24)
    u, u_weights = panels(-reach, reach, 12)
    scale = (3 - np.cos(8 * np.pi / 3 * p)) / 8
    a = 0.5 * np.cos(np.pi * p)[:, None] + scale[:, None] * u
    points = np.stack(np.broadcast_arrays(p[:, None], a), axis=-1).reshape(-1, 2)
    return points, ((p_weights * scale)[:, None] * u_weights).ravel()


# Default parameters; what others change is in VARIANTS.
SMOOTH = {
    "w": (W(), lambda: w_strip(9.0)),
    "two_gaussians": (TwoGaussians(), lambda: square(4.0, 24)),
    "moons": (TwoMoons(), lambda: box((-1.5, 2.5), (-1.0, 1.5), 40, 8)),
    "rings": (Rings(), lambda: polar(3.8, 48, 8)),
    "spiral": (Spiral(), lambda: square(4.25, 56, 8)),
    "eight_gaussians": (EightGaussians(), lambda: square(6.1, 30)),
    "pinwheel": (Pinwheel(), lambda: polar(3.8, 30, 400)),
}
BOUNDED = {
    "wu": (WU(), lambda: w_strip(np.sqrt(3) * (1 - 1e-12))),
    "square": (UniformSquare(), lambda: square(1.0, 2)),
    "checkerboard": (Checkerboard(), lambda: square(4.0, 4)),
}
VARIANTS = {
    "two_close_gaussians": (TwoGaussians(delta=0.4), lambda: square(9.5, 24)),
    "noisy_moons": (TwoMoons(noise=0.3), lambda: box((-3.7, 4.7), (-3.2, 3.7), 24)),
    "weighted_rings": (Rings((0.5, 2.0), 0.2, weights=(1, 3)), lambda: polar(3.8, 24, 8)),
    "ring": (Rings(radii=(1.0,), noise=0.05), lambda: polar(1.5, 30, 8)),
    "noisy_spiral": (Spiral(0.4, 2.0, -3.0, 0.2), lambda: square(3.8, 24)),
    "straight_pinwheel": (Pinwheel(3, 0.4, 0.3, rate=0.0), lambda: square(4.9, 30)),
    "small_board": (Checkerboard(1.7), lambda: square(1.7, 4)),
}
ALL = SMOOTH | BOUNDED
DENSITIES = {name: density for name, (density, _) in ALL.items()}


@dataclass(frozen=True)
class Altered(PlanarDensity):
    """A true density with one fault, which a check is to find."""

    true: Density
    fault: str

    def _sample(self, key, n):
        if self.fault == "one key for all":
            return self.true._sample(jax.random.key(0), n)
        if self.fault == "rows repeated":
            return self.true._sample(key, 1).repeat(n, axis=0)
        x = self.true._sample(key, n)
        if self.fault == "sample too wide":
            return 1.02 * x
        if self.fault == "rows in pairs":
            return x[: n // 2].repeat(2, axis=0)
        return x + 0.02 if self.fault == "sample shifted" else x

    def _log_prob(self, x):
        log_prob = self.true._log_prob(x)
        match self.fault:
            case "mass 1.01":
                return log_prob + 0.01
            case "underflow":
                return jnp.log(jnp.exp(log_prob))
            case "gradient":
                return log_prob + 0 * jnp.sqrt((x[..., 0] - x[..., 0]) ** 2)
            case "gradient stopped":
                return jax.lax.stop_gradient(log_prob)
            case "float32 always":
                return self.true._log_prob(x.astype(jnp.float32))
            case "support closed by a large number":
                return jnp.maximum(log_prob, -1e3)
            case _:
                return log_prob

    def _entropy(self):
        return self.true._entropy() + (0.02 if self.fault == "entropy" else 0.0)

    def _moments(self):
        mean, covariance = self.true._moments()
        if self.fault == "mean":
            mean = mean + 0.02
        return mean, covariance * (1.03 if self.fault == "covariance" else 1.0)
