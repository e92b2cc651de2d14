"""The fit beside formulas written out, and without anything but NumPy and SciPy."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from gauss_flows.rbig import marginal_fit
from gaussianization.marginals import Histogram, em, fit_mixtures

ATOMS = np.array([-1.0, 0.0, 0.5, 3.0])


def columns(n=3000):
    rng = np.random.default_rng(0)
    first = rng.random(n) < 0.3
    return {
        "bimodal": np.where(first, rng.normal(-100, 1, n), rng.normal(100, 2, n)),
        "heavy-tailed": 1e3 * rng.standard_t(2, size=n),
        "far from zero": 1e6 + rng.laplace(size=n),
        "nearly constant": np.where(rng.random(n) < 0.01, rng.normal(size=n), 5.0),
        "constant": np.full(n, -2.0),
        "repeated": rng.choice(ATOMS, n),
    }


def log_density(fit, j, x):
    u = (x[:, None] - fit.means[j]) / np.exp(fit.log_scales[j])
    terms = fit.log_weights[j] - fit.log_scales[j] - 0.5 * u * u - 0.5 * np.log(2 * np.pi)
    return np.logaddexp.reduce(terms, axis=1)


def test_layers_get_the_fit_for_their_precision(precision):
    far = np.random.default_rng(0).normal(size=(3000, 1))
    far[:300] = 1e6 + 1e-3 * far[:300]
    x = np.column_stack([*columns().values(), far])
    fit, other = marginal_fit.fit_mixtures(x, 3), fit_mixtures(x, 3, dtype=precision)
    # There the precisions differ: single has no room for so narrow a component so far away.
    assert (np.exp(fit.log_scales[-1, -1]) < 0.01) == (precision == "float64")
    for ours, theirs in zip(fit, other, strict=True):
        assert np.array_equal(ours, theirs)


def test_a_step_is_what_the_formulas_say():
    rng = np.random.default_rng(2)
    w, c, v, _ = Histogram.from_data(rng.standard_t(3, size=(500, 3)), 64)
    w = w / w.sum(1, keepdims=True)
    start = em.Mixture(np.log([[0.1, 0.2, 0.3, 0.4]] * 3), *rng.normal(size=(2, 3, 4)))
    step, value = em.em_step(em.Columns(w, c, v, np.full(3, 1e-8)), start)
    for j in range(3):
        lw, mu, variance = (part[j][:, None] for part in (*start[:2], np.exp(start[2])))
        # The mean of log N over a bin, given its mean and variance.
        terms = lw - 0.5 * np.log(variance) - 0.5 * ((c[j] - mu) ** 2 + v[j]) / variance
        log_total = np.logaddexp.reduce(terms, axis=0)
        share = w[j] * np.exp(terms - log_total)
        mass = share.sum(1)
        mean = share @ c[j] / mass
        squares = (share * ((c[j] - mean[:, None]) ** 2 + v[j])).sum(1) / mass
        assert np.allclose(step.log_weights[j], np.log(mass), rtol=1e-12)
        assert np.allclose(step.means[j], mean, rtol=1e-10)
        assert np.allclose(np.exp(step.log_variances[j]), squares, rtol=1e-10)
        assert np.allclose(value[j], w[j] @ log_total, rtol=1e-12)


def test_a_column_is_fitted_as_if_it_were_alone():
    x = np.stack(list(columns().values()), axis=1)
    together = fit_mixtures(x, 4)
    for j in range(x.shape[1]):
        alone = fit_mixtures(x[:, [j]], 4)
        for part, whole in zip(alone[:4], together[:4], strict=True):
            assert np.allclose(part[0], whole[j], rtol=1e-12)


def test_no_component_is_narrower_than_the_rounding_of_its_mean_in_the_precision_asked_for():
    x = np.random.default_rng(3).normal(size=(5000, 1))
    x[17] = 1e8
    scales, widest = {}, {}
    for dtype in (np.float32, np.float64):
        fit = fit_mixtures(x, 4, dtype=dtype)
        scales[dtype] = np.exp(fit.log_scales[0, np.argmax(fit.means)])
        widest[dtype] = 8 * np.finfo(dtype).eps * fit.means.max()
        assert scales[dtype] >= 0.99 * widest[dtype]
    assert scales[np.float64] < 0.01 * widest[np.float32]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("far", [1e20, 1e100])
def test_far_values_raise_no_warnings(far):
    x = np.random.default_rng(4).normal(size=(300, 2))
    x[5, 0], x[6, 1] = far, -far
    assert all(np.isfinite(part).all() for part in fit_mixtures(x, 4)[:4])


@pytest.mark.parametrize("most", [0, 1, 3, 4])
def test_the_climb_ends_after_the_steps_allowed(most):
    x = np.random.default_rng(5).gamma(2.0, size=(300, 2))
    fit = fit_mixtures(x, 3, max_iterations=most)
    assert fit.n_iterations == 2 * 3 * -(-most // 3)
    assert fit.n_iterations == marginal_fit.fit_mixtures(x, 3, max_iterations=most).n_iterations
    assert np.isfinite(fit.log_likelihood).all()


def test_numpy_and_scipy_are_all_it_needs():
    script = """
        import sys
        for name in ("jax", "jaxlib", "flowjax", "equinox", "keras", "tensorflow", "torch"):
            sys.modules[name] = None  # what makes `import name` fail
        import numpy as np
        from gaussianization.marginals import base_mixture, fit_mixtures
        x = np.random.default_rng(0).normal(3.0, 2.0, size=(2000, 1))
        fit = fit_mixtures(x, 2)
        assert abs(np.exp(fit.log_weights[0]) @ fit.means[0] - x.mean()) < 1e-2
        assert base_mixture(3).shape == (3, 3)
        assert "gauss_flows" not in sys.modules
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
