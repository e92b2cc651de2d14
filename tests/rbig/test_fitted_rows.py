"""Which rows a closed-form fit looks at, what it calls them, and one that lies far away."""

import warnings

import jax
import numpy as np
import pytest
from sklearn.datasets import make_moons

from gauss_flows.rbig import fit_rbig

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))


def same_arrays(first, second):
    return all(map(np.array_equal, jax.tree.leaves(first), jax.tree.leaves(second)))


class TestNumberOfRows:
    @pytest.mark.parametrize("n", [3, 7])
    def test_rows_without_weight_do_not_count(self, n):
        weight = np.zeros(60)
        weight[10 : 10 + n] = 2.0
        message = f"at least as many rows in x as components, 8; got {n} to fit among its 60"
        with pytest.raises(ValueError, match=message):
            fit_rbig(X, n_components=8, sample_weight=weight)

    def test_held_out_rows_do_not_count(self):
        with pytest.raises(ValueError, match="as components, 8; got 6 to fit among its 12"):
            fit_rbig(X[:12], n_components=8, validation=0.5)

    def test_nor_against_the_number_of_columns(self):
        weight = np.repeat([1.0, 0.0], [3, 57])
        message = "Expected more rows in x than its 3 columns; got 3 to fit among its 60"
        with pytest.raises(ValueError, match=message):
            fit_rbig(X, n_components=2, sample_weight=weight)

    def test_as_many_rows_as_components_are_enough(self):
        weight = np.repeat([0.0, 1.0], [52, 8])
        flow = fit_rbig(X, n_layers=1, n_components=8, sample_weight=weight)
        assert np.isfinite(flow.log_prob(X[52:])).all()


class Frame:
    """As much of a data frame as messages need."""

    columns = ("a", "b", "c")

    def __array__(self, dtype=None, copy=None):
        x = X.copy()
        x[10:30, 1] = 7.0
        return x


def test_a_column_that_is_constant_where_there_is_weight_is_named():
    weight = np.repeat([0.0, 1.0, 0.5, 0.0], [10, 10, 10, 30])
    with pytest.raises(ValueError, match="got the same value in every row of column 'b'"):
        fit_rbig(Frame(), sample_weight=weight)
    weight[0] = 1e-3
    fit_rbig(Frame(), n_layers=1, n_components=1, sample_weight=weight)


class TestRowNumbers:
    """A row is called by its number in the table that was given."""

    @pytest.mark.parametrize("row", [12, 30, 59])
    def test_with_weights(self, row):
        x = X.copy()
        x[row, 1] = 1e39
        weight = np.repeat([0.0, 1.0], [10, 50])
        with pytest.raises(ValueError, match=rf"got 1e\+39 in row {row}, column 1"):
            fit_rbig(x, n_layers=1, sample_weight=weight)

    @pytest.mark.parametrize("row", range(0, 60, 7))
    def test_with_held_out_rows(self, row):
        x = X.copy()
        x[row, 1] = 1e39
        with pytest.raises(ValueError, match=rf"values of x .* got 1e\+39 in row {row}, column 1"):
            fit_rbig(x, n_layers=1, validation=0.3)

    def test_a_row_without_weight_may_hold_what_others_may_not(self):
        x = X.copy()
        x[5, 1] = 1e39
        weight = np.where(np.arange(60) == 5, 0.0, 1.0)
        weighted = fit_rbig(x, n_layers=1, sample_weight=weight)
        assert same_arrays(weighted, fit_rbig(np.delete(x, 5, axis=0), n_layers=1))


def test_the_held_out_share_is_not_fitted():
    seed, n_held = 4, 15
    held = np.random.default_rng(seed).permutation(60)[:n_held]
    options = {"n_layers": 1, "validation": 0.25, "random_state": seed, "n_components": 4}
    flow = fit_rbig(X, **options)
    others = X.copy()
    others[held] = 3.0 + 2.0 * X[held][::-1]
    assert same_arrays(flow, fit_rbig(others, **options))
    # The fit is that of the others, and their values do move it.
    without = fit_rbig(np.delete(X, held, axis=0), n_layers=1, n_components=4)
    assert np.allclose(flow.log_prob(X), without.log_prob(X), atol=1e-4)
    for row in np.setdiff1d(np.arange(60), held)[::10]:
        changed = X.copy()
        changed[row] += 1.0
        assert not same_arrays(flow, fit_rbig(changed, **options))


def moons(n):
    x, _ = make_moons(n_samples=n, noise=0.1, random_state=0)
    return (x - x.mean(0)) / x.std(0)


class TestFarRow:
    @pytest.mark.parametrize("bulk", ["normal", "moons"])
    def test_it_leaves_the_density_of_the_others_alone(self, precision, bulk):
        x = np.random.default_rng(1).normal(size=(3000, 2)) if bulk == "normal" else moons(3000)
        without, gains = fit_rbig(x, n_layers=6).log_prob(x).mean(), []
        for far in (1e6, 1e9, 1e25):
            table = np.concatenate([x, [[far, far]]])
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                flow = fit_rbig(table, n_layers=6)
            log_p = np.asarray(flow.log_prob(table), np.float64)
            assert np.isfinite(log_p).all()
            gains.append(log_p[:-1].mean() - without)
        # Whatever row is added moves six layers by some hundredths: rounding decides which way.
        assert np.mean(gains) > -0.05
        assert min(gains) > -0.1

    @pytest.mark.parametrize("far", [1e6, 1e9, 1e15])
    def test_its_own_density_is_as_wide_as_its_rounding(self, precision, far):
        x = np.append(np.random.default_rng(1).normal(size=3000), far)[:, None]
        flow = fit_rbig(x, n_layers=1)
        assert -60.0 < flow.log_prob(x)[-1] < 5.0

    @pytest.mark.parametrize("rotation", ["ica", "random", "sliced"])
    def test_whatever_the_rotation(self, rotation):
        x = moons(3000)
        flow = fit_rbig(np.concatenate([x, [[1e9, -1e9]]]), n_layers=6, rotation=rotation)
        without = fit_rbig(x, n_layers=6, rotation=rotation).log_prob(x).mean()
        assert abs(flow.log_prob(x).mean() - without) < 0.1
