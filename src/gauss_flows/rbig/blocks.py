"""Blocks of rotation and marginals fitted in closed form.

This is RBIG with two freedoms that small tables need: the marginals may come before the first
rotation (which makes the first two blocks a Gaussian copula), and each column has as many
components as its BIC supports.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from gauss_flows.bijections.fixed_rotation import FixedRotation
from gauss_flows.numerics import gaussian_mixture
from gauss_flows.numerics.in_parts import in_parts
from gauss_flows.numerics.quick_jit import quick_jit
from gauss_flows.rbig.marginal_fit import fit_mixtures

Array = NDArray[np.float64]

BIC_COMPONENTS = (1, 2, 3, 5, 8)
# The scale of values not seen yet, in units of the farthest seen.
_REACH = 1.0
# A component that is split keeps its variance, and the halves differ so that training can part
# them: they move by this share of the scale to either side.
_SPLIT = 0.1
# The components of small tasks come in multiples of so many: all that BIC may choose, and one for
# values far away.
_WIDTH, _FEW_VALUES = BIC_COMPONENTS[-1] + 1, 300_000


class Marginals(NamedTuple):
    """One mixture for each column: log-weights, means and log-scales, each of shape (d, K)."""

    log_weights: Array
    means: Array
    log_scales: Array


class Block(NamedTuple):
    """A rotation, z = matrix @ x, and the marginals after it."""

    matrix: Array
    marginals: Marginals


class Recipe(NamedTuple):
    """How blocks are fitted.

    Attributes:
        marginals_first: Whether the first block does not rotate.
        n_components: Components of each mixture; chosen column by column by BIC when None.
    """

    marginals_first: bool
    n_components: int | None

    def __str__(self) -> str:
        """Return for example `marginals first, components by BIC`."""
        first = "marginals first" if self.marginals_first else "rotation first"
        if self.n_components is None:
            return f"{first}, components by BIC"
        plural = "" if self.n_components == 1 else "s"
        return f"{first}, {self.n_components} component{plural}"


def grow(x: Array, recipe: Recipe, n_blocks: int) -> list[Block]:
    """Fit blocks to all the rows.

    Args:
        x: Rows of shape (n, d).
        recipe: How.
        n_blocks: How many.

    Returns:
        The blocks in data order.
    """
    blocks = []
    for index in range(n_blocks):
        blocks.append(next_block(x, index, recipe))
        x, _ = push(blocks[-1], x)
    return blocks


def log_normal(z: Array) -> Array:
    """Return log φ summed over the columns, shape (n,)."""
    return -0.5 * np.sum(z**2, axis=1) - 0.5 * z.shape[1] * np.log(2 * np.pi)


def push(block: Block, x: Array) -> tuple[Array, Array]:
    """Send rows through a block.

    Args:
        block: The block.
        x: Rows of shape (n, d). Where the block does not rotate, NaN stands for missing values:
            they stay missing, and the log-determinants are those of the others.

    Returns:
        The rows after it, shape (n, d), and the log-determinants, shape (n,).
    """
    # A product would spread a missing value over its row.
    rotated = x if _is_identity(block.matrix) else x @ block.matrix.T
    with jax.enable_x64(True):
        marginals = [jnp.asarray(part) for part in _of_few_widths(block.marginals, x.size)]
        return in_parts(lambda rows: _gaussianize(rows, *marginals), rotated)


def pull(block: Block, z: Array) -> Array:
    """Bring rows of shape (n, d) back through a block."""
    with jax.enable_x64(True):
        marginals = [jnp.asarray(part) for part in block.marginals]
        return in_parts(lambda rows: _quantile(rows, *marginals), z) @ block.matrix


@quick_jit
def _quantile(z, log_weights, means, log_scales):
    return gaussian_mixture.quantile(z, log_weights, means, log_scales)


@quick_jit
def _gaussianize(x, log_weights, means, log_scales):
    z, log_det = gaussian_mixture.gaussianize(x, log_weights, means, log_scales)
    return z, jnp.where(jnp.isnan(x), 0.0, log_det).sum(-1)


def _of_few_widths(marginals: Marginals, n_values: int) -> list[Array]:
    """Add components without weight for few values, which else compile longer than they run."""
    n_components = marginals.means.shape[1]
    added = -n_components % _WIDTH if n_values <= _FEW_VALUES else 0
    last = [(0, 0), (0, added)]
    return [
        np.pad(marginals.log_weights, last, constant_values=-np.inf),
        np.pad(marginals.means, last, mode="edge"),
        np.pad(marginals.log_scales, last, mode="edge"),
    ]


def _is_identity(matrix: Array) -> bool:
    return np.array_equal(matrix, np.eye(len(matrix)))


def next_block(x: Array, index: int, recipe: Recipe) -> Block:
    """Fit one block.

    Args:
        x: Rows after the blocks before it, shape (n, d); NaN for missing values where the recipe
            has the marginals first and this is the first block.
        index: How many those are.
        recipe: How.

    Returns:
        The block.
    """
    n_dims = x.shape[1]
    if n_dims == 1 or (index == 0 and recipe.marginals_first):
        matrix = np.eye(n_dims)
    else:
        with jax.enable_x64(True):
            matrix = np.asarray(FixedRotation.from_data(x).matrix.tree)
    rotated = x if _is_identity(matrix) else x @ matrix.T
    return Block(matrix, _fit_marginals(rotated, recipe.n_components))


def _fit_marginals(x: Array, n_components: int | None) -> Marginals:
    missing = np.isnan(x)
    if missing.any():
        columns = zip(x.T, missing.T, strict=True)
        fits = [_fit_marginals(values[~gone][:, None], n_components) for values, gone in columns]
        widest = max(fit.means.shape[1] for fit in fits)
        parts = zip(*(pad(fit, widest) for fit in fits), strict=True)
        return Marginals(*(np.concatenate(part) for part in parts))
    if n_components is not None:
        return Marginals(*fit_mixtures(x, n_components)[:3])
    sizes = [size for size in BIC_COMPONENTS if size == 1 or 4 * size <= len(x)]
    fits = [fit_mixtures(x, size) for size in sizes]
    cost = np.array([1.5 * size - 0.5 for size in sizes]) * np.log(len(x)) / len(x)
    choice = np.argmax([fit.log_likelihood for fit in fits] - cost[:, None], axis=0)
    widest = sizes[choice.max()]
    padded = [pad(Marginals(*fit[:3]), widest) for fit in fits[: choice.max() + 1]]
    columns = np.arange(x.shape[1])
    chosen = (np.stack(parts)[choice, columns] for parts in zip(*padded, strict=True))
    return _with_far_values(Marginals(*chosen), x)


def _with_far_values(marginals: Marginals, x: Array) -> Marginals:
    """Give one value in n + 1 to a component that reaches beyond all that were seen.

    With about that probability one more value lies beyond them, where the narrow tails of fitted
    components would call it impossible.
    """
    share = 1.0 / (len(x) + 1.0)
    centre = x.mean(0)
    reach = _REACH * np.abs(x - centre).max(0)
    added = np.full(len(centre), np.log(share)), centre, np.log(reach)
    kept = marginals._replace(log_weights=marginals.log_weights + np.log1p(-share))
    return Marginals(*(np.column_stack([old, new]) for old, new in zip(kept, added, strict=True)))


def pad(marginals: Marginals, n_components: int) -> Marginals:
    """Split the heaviest components until there are so many, the mixture all but unchanged.

    Args:
        marginals: Mixtures of no more components.
        n_components: How many to have.

    Returns:
        Mixtures with the same means and variances.
    """
    log_weights, means, log_scales = marginals
    rows = np.arange(len(means))
    while log_weights.shape[1] < n_components:
        heaviest = np.argmax(log_weights, axis=1)
        weight = log_weights[rows, heaviest] - np.log(2)
        step = _SPLIT * np.exp(log_scales[rows, heaviest])
        scale = log_scales[rows, heaviest] + 0.5 * np.log1p(-(_SPLIT**2))
        mean = means[rows, heaviest]
        log_weights, means, log_scales = log_weights.copy(), means.copy(), log_scales.copy()
        log_weights[rows, heaviest] = weight
        means[rows, heaviest] = mean - step
        log_scales[rows, heaviest] = scale
        log_weights = np.column_stack([log_weights, weight])
        means = np.column_stack([means, mean + step])
        log_scales = np.column_stack([log_scales, scale])
    return Marginals(log_weights, means, log_scales)
