"""The NumPy fit beside the compiled one, and without anything but NumPy and SciPy."""

import subprocess
import sys
import textwrap

import jax.numpy as jnp
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


def check_agreement(fit, other, x, mean_square):
    assert np.allclose(fit.log_likelihood, other.log_likelihood, atol=1e-5)
    for j, column in enumerate(x.T):
        # Near a maximum the likelihood is flat: it differs by the square of what the density does.
        difference = log_density(fit, j, column) - log_density(other, j, column)
        assert np.mean(difference**2) < mean_square


@pytest.mark.parametrize("weighted", [False, True], ids=["rows", "weighted rows"])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_it_is_the_compiled_fit(precision, n_components, weighted):
    x = np.stack(list(columns().values()), axis=1)
    weight = np.random.default_rng(1).integers(0, 4, len(x)) if weighted else None
    fit = fit_mixtures(x, n_components, sample_weight=weight, dtype=precision)
    other = marginal_fit.fit_mixtures(x, n_components, sample_weight=weight)
    check_agreement(fit, other, x, 1e-6 if precision == "float64" else 1e-3)


def test_a_step_is_the_compiled_step(x64):
    rng = np.random.default_rng(2)
    w, c, v, _ = Histogram.from_data(rng.standard_t(3, size=(500, 3)), 64)
    parts = w / w.sum(1, keepdims=True), c, v, np.full(3, 1e-8)
    start = np.full((3, 4), np.log(0.25)), rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    ours = em.em_step(em.Columns(*parts), em.Mixture(*start), em.NUMPY)
    theirs = em.em_step(
        em.Columns(*map(jnp.asarray, parts)),
        em.Mixture(*map(jnp.asarray, start)),
        marginal_fit.JAX,
    )
    for here, there in zip([*ours[0], ours[1]], [*theirs[0], theirs[1]], strict=True):
        assert np.allclose(here, there, rtol=1e-12, atol=1e-12)


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
