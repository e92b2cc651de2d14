"""Tables with hardly more rows than columns, or fewer."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import OAS

from gauss_flows.estimators import FlowDensity, FlowOutlierDetector, Gaussianizer

N_DIMS = 20
LOADINGS = np.random.default_rng(1).normal(size=(N_DIMS, 3))
COVARIANCE = LOADINGS @ LOADINGS.T + 0.25 * np.eye(N_DIMS)


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)) @ LOADINGS.T + 0.5 * rng.normal(size=(n, N_DIMS))


def gaussian_of(covariance, x):
    return multivariate_normal(x.mean(0), covariance)


@pytest.mark.parametrize("n_rows", [12, 22, 26])
@pytest.mark.parametrize("family", ["gaussian", "auto", "mixture"])
def test_a_regularised_gaussian_has_to_do(n_rows, family):
    x, fresh = rows(n_rows), rows(500, 1)
    found = FlowDensity(family).fit(x).score_samples(fresh)
    scale = x.std(0)
    shrunk = OAS().fit(x / scale).covariance_ * np.outer(scale, scale)
    independent = gaussian_of(np.diag(x.var(0)), x).logpdf(fresh)
    truth = multivariate_normal(np.zeros(N_DIMS), COVARIANCE).logpdf(fresh)
    assert found.mean() > gaussian_of(shrunk, x).logpdf(fresh).mean() - 1.0
    assert independent.mean() + 3.0 < found.mean() < truth.mean()


def test_rows_in_many_columns_go_to_a_normal_and_come_back():
    x = rows(12)
    fitted = Gaussianizer("gaussian").fit(x)
    np.testing.assert_allclose(fitted.inverse_transform(fitted.transform(x)), x, atol=1e-2)
    low, high = np.quantile(fitted.sample(4000), [0.25, 0.75], axis=0)
    np.testing.assert_allclose((high - low) / 1.349, x.std(0), rtol=0.3)


def test_outliers_of_few_rows_are_found():
    x = rows(15)
    x[3] += 20.0
    detector = FlowOutlierDetector("gaussian", contamination=1 / 15).fit(x)
    assert list(np.flatnonzero(detector.predict(x) == -1)) == [3]


def test_a_condition_may_have_more_columns_than_rows():
    x, fresh = rows(18), rows(300, 1)
    density = FlowDensity("gaussian").fit(x[:, :1], x[:, 1:])
    given = density.score_samples(fresh[:, :1], fresh[:, 1:])
    alone = FlowDensity("gaussian").fit(x[:, :1]).score_samples(fresh[:, :1])
    assert given.mean() > alone.mean() + 0.5


@pytest.mark.parametrize("n_dims", [2, 4])
@pytest.mark.parametrize("family", ["gaussian", "mixture"])
def test_a_direction_that_one_row_alone_spans(n_dims, family):
    x = np.random.default_rng(0).normal(size=(60, n_dims))
    x[:, -1] = x[:, 0]
    x[7, -1] += 0.3
    found = FlowDensity(family).fit(x).score_samples(x)
    assert np.isfinite(found).all()


def test_too_few_rows_say_how_many_and_which_family_needs_fewer():
    with pytest.raises(ValueError, match=r"at least 5 rows to fit 20 columns; got n_samples = 4"):
        FlowDensity().fit(rows(4))
    with pytest.raises(ValueError, match=r"at least 22 rows.*family='auto', 'gaussian' or"):
        FlowDensity("rbig").fit(rows(21))
    with pytest.raises(ValueError, match=r"at least 22 rows.*and no n_layers"):
        FlowDensity(n_layers=2).fit(rows(21))
