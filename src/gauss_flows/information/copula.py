"""Total correlations of sets of columns, and what combinations of them are."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from gauss_flows.information.balls import log_ratio_curves
from gauss_flows.information.log_density import MeanLogDensity, mean_log_density
from gauss_flows.information.null import log_normal
from gauss_flows.numerics.estimate import Estimate

_N_REPEATS = 40
_MOST_SIMULATED = 500
_NEIGHBOURS = 6


def with_fresh_margins(x: Float[np.ndarray, "n d"], random_state: int) -> Float[np.ndarray, "n d"]:
    """Give every column standard normal values in the order of its own.

    The order of independent rows says nothing about their sorted values, nor these about the order.
    So fresh normal values in the same order are a sample, again of independent rows, of the same
    dependence with normal margins. (Quantiles of the ranks are none: their lattice keeps rows
    apart.)

    Args:
        x: Rows without ties in a column, shape (n, d).
        random_state: Seed.

    Returns:
        The rows, shape (n, d).
    """
    rng = np.random.default_rng([random_state, *x.shape])
    fresh = np.sort(rng.normal(size=x.shape), axis=0)
    ranks = np.argsort(np.argsort(x, axis=0), axis=0)
    return np.take_along_axis(fresh, ranks, axis=0)


class Columns:
    """The columns of a table, whose sets' log-densities are wanted.

    They are those of the rows as they are, or with fresh normal margins, which are known: as BIC
    says that the maps fit better. Only combinations in which every column's margin cancels, such as
    total correlations, are the same for both.

    Args:
        x: Checked rows, shape (n, d).
        random_state: Seed.
        joint: What is known of all columns together, which are then left as they are.

    Attributes:
        table: The rows.
    """

    def __init__(
        self,
        x: Float[np.ndarray, "n d"],
        random_state: int = 0,
        joint: MeanLogDensity | None = None,
    ):
        self.random_state = random_state
        self.n_rows, self.n_dims = x.shape
        self.table = x
        self._x, self._fresh = x, False
        self._known: dict[tuple[int, ...], MeanLogDensity] = {}
        every = tuple(range(self.n_dims))
        if joint is not None:
            self._known[every] = joint
        if self.n_dims == 1 or joint is not None:
            return
        own = self.mean_log_density(every)
        margins = [self.mean_log_density([i]) for i in every]
        self._margins = margins
        fresh_x = with_fresh_margins(x, random_state)
        fresh = mean_log_density(fresh_x, random_state=random_state)
        support = fresh.support - log_normal(fresh_x).mean()
        if support > own.support - sum(margin.support for margin in margins):
            self._x, self._fresh, self._known = fresh_x, True, {every: fresh}

    def mean_log_density(self, columns: Iterable[int]) -> MeanLogDensity:
        """E log p of some columns.

        Args:
            columns: Their numbers.

        Returns:
            The estimate.
        """
        key = tuple(sorted(int(column) for column in columns))
        if key not in self._known:
            rows = self._x[:, list(key)]
            if self._fresh and len(key) == 1:
                known = log_normal(rows)
                found = MeanLogDensity(float(known.mean()), 0.0, known, 0.0, float(known.mean()))
            else:
                found = mean_log_density(rows, random_state=self.random_state)
            self._known[key] = found
        return self._known[key]

    def with_normal_blocks(self, blocks: Sequence[NDArray[np.int_]]) -> "Columns":
        """Send every block to its map's latents, if BIC says that their joint density fits better.

        That changes nothing that blocks have in common, since each map sees its own block alone. A
        block whose shape takes many components needs no more of them beside another.

        Args:
            blocks: The numbers of each block's columns, which take in all of them.

        Returns:
            The columns of the latents, or these.
        """
        parts = [self.mean_log_density(block) for block in blocks]
        if all(part.density is None or part.density.n_components == 1 for part in parts):
            return self
        latents = self._x.copy()
        for block, part in zip(blocks, parts, strict=True):
            if part.density is not None:
                latents[:, block] = part.density.push(latents[:, block])[0]
        joint = mean_log_density(latents, random_state=self.random_state)
        support = joint.support - log_normal(latents).mean() + sum(part.support for part in parts)
        if support <= self.mean_log_density(range(self.n_dims)).support:
            return self
        return Columns(latents, self.random_state, joint)

    def whole(self) -> MeanLogDensity:
        """E log p of all columns as they are.

        Returns:
            The estimate; by the dependence beside the margins, where fresh ones were better.
        """
        joint = self.mean_log_density(range(self.n_dims))
        if not self._fresh:
            return joint
        normal = log_normal(self._x)
        return MeanLogDensity(
            joint.value - float(normal.mean()) + sum(margin.value for margin in self._margins),
            joint.noise + sum(margin.noise for margin in self._margins),
            joint.rows - normal + np.sum([margin.rows for margin in self._margins], axis=0),
            joint.row_noise + sum(margin.row_noise for margin in self._margins),
            joint.support,
        )

    def combination(self, terms: Iterable[tuple[float, Iterable[int]]]) -> Estimate:
        r"""A sum $\sum_S c_S \operatorname{E} \log p(x_S)$.

        Args:
            terms: Coefficients and the sets of columns they are for.

        Returns:
            The sum and its standard error, in nats.
        """
        return self.total(terms).as_estimate()

    def total(self, terms: Iterable[tuple[float, Iterable[int]]]) -> "Total":
        """The same with what its error is made of."""
        factors: defaultdict[tuple[int, ...], float] = defaultdict(float)
        for factor, columns in terms:
            key = tuple(sorted(int(column) for column in columns))
            if key:
                factors[key] += factor
        sets = tuple(key for key, factor in sorted(factors.items()) if factor != 0)
        if not sets:
            return Total(0.0, np.zeros(self.n_rows), 0.0, 0.0)
        parts = [self.mean_log_density(key) for key in sets]
        weights = np.array([factors[key] for key in sets], np.float64)
        noise = weights * np.sqrt([part.noise for part in parts])
        return Total(
            float(weights @ [part.value for part in parts]),
            weights @ np.stack([part.rows for part in parts]),
            float(weights**2 @ [part.row_noise for part in parts]),
            float(noise @ noise_correlation(sets, self.n_rows) @ noise),
        )


class Total(NamedTuple):
    """A sum of mean log-densities.

    Args:
        value: The sum, in nats.
        rows: Each row's part, shape (n,).
        row_noise: Variance of a row's part that is only its smoothing.
        noise: Variance that the neighbours' distances add.
    """

    value: float
    rows: NDArray[np.float64]
    row_noise: float
    noise: float

    def as_estimate(self) -> Estimate:
        """The sum and its standard error."""
        return Estimate(self.value, error_of(self.rows, self.row_noise, self.noise))


def mean_difference(pairs: Sequence[tuple[Total, Total]]) -> Estimate:
    """Mean of what the first is above the second, the noise of the two taken for independent."""
    first, second = zip(*pairs, strict=True)
    n = len(pairs)
    # Two accounts of one difference see the same neighbours: their mean has the noise of one.
    return Total(
        sum(one.value - other.value for one, other in pairs) / n,
        np.mean([one.rows - other.rows for one, other in pairs], axis=0),
        sum(one.row_noise for one in (*first, *second)) / n,
        sum(one.noise for one in (*first, *second)) / n,
    ).as_estimate()


def error_of(rows: NDArray[np.float64], row_noise: float, noise: float) -> float:
    """Standard error of a mean of logarithms.

    Args:
        rows: Each row's part, shape (n,).
        row_noise: Variance of a part that is only its smoothing.
        noise: Variance of what the neighbours' distances add to the mean.

    Returns:
        The error, from both.
    """
    of_mean = max(0.0, float(rows.var(ddof=1)) - row_noise) / len(rows)
    return float(np.sqrt(of_mean + noise))


@lru_cache(maxsize=64)
def noise_correlation(sets: tuple[tuple[int, ...], ...], n_rows: int) -> NDArray[np.float64]:
    """How the neighbours' noise of several sets of columns goes together, on independent rows.

    Args:
        sets: The sets.
        n_rows: Number of rows.

    Returns:
        The correlations.
    """
    if len(sets) == 1:
        return np.eye(1)
    n_dims = 1 + max(map(max, sets))
    n_rows = min(n_rows, _MOST_SIMULATED)
    most = max(1, min(_NEIGHBOURS, n_rows // 10))
    rng = np.random.default_rng([n_dims, n_rows])
    noise = np.empty((_N_REPEATS, len(sets)))
    for index in range(_N_REPEATS):
        z = rng.normal(size=(n_rows, n_dims))
        noise[index] = [log_ratio_curves(z[:, list(s)], most)[:, -1].mean() for s in sets]
    return np.asarray(np.corrcoef(noise.T))
