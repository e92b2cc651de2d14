"""Householder, Cayley/exponential and fixed rotations against what makes a rotation one."""

import equinox as eqx
import jax
import jax.extend
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
import scipy.linalg
from jax.flatten_util import ravel_pytree
from paramax import unwrap
from scipy.stats import ortho_group

from gauss_flows.bijections.fixed_rotation import FixedRotation
from gauss_flows.bijections.householder import HouseholderRotation
from gauss_flows.bijections.orthogonal import OrthogonalRotation

RANDOM = {
    "householder": lambda d, key: HouseholderRotation(d, key=key),
    "householder-1": lambda d, key: HouseholderRotation(d, 1, key=key),
    "householder-2d": lambda d, key: HouseholderRotation(d, 2 * d, key=key),
    "cayley": lambda d, key: OrthogonalRotation(d, key=key),
    "cayley-reflected": lambda d, key: OrthogonalRotation(d, key=key, reflect=True),
    "exponential": lambda d, key: OrthogonalRotation(d, key=key, method="exponential"),
    "fixed": lambda d, key: FixedRotation.random(key, d),
}
FROM_MATRIX = {
    "householder": HouseholderRotation.from_matrix,
    "cayley": OrthogonalRotation.from_matrix,
    "exponential": lambda q: OrthogonalRotation.from_matrix(q, method="exponential"),
    "fixed": FixedRotation.from_matrix,
}
TRAINABLE = ["householder", "cayley", "exponential"]


# Jitted, as its many small steps would each be compiled for every shape otherwise.
@eqx.filter_jit
def jitted_matrix(layer):
    return unwrap(layer.matrix)


def matrix_of(layer):
    return np.asarray(jitted_matrix(layer))


def deviation(matrix):
    return np.max(np.abs(matrix.T @ matrix - np.eye(len(matrix))))


def random_orthogonal(d, determinant, seed=0):
    q = ortho_group.rvs(d, random_state=seed) if d > 1 else np.eye(1)
    if np.linalg.det(q) * determinant < 0:
        q[:, 0] *= -1
    return q


def orthogonal_matrices(d):
    """Every kind that is known to trip a parametrisation."""
    rng = np.random.default_rng(d)
    direction = rng.standard_normal(d)
    direction /= np.linalg.norm(direction)
    half_turns = random_orthogonal(d, 1, seed=1)
    return {
        "det 1": random_orthogonal(d, 1),
        "det -1": random_orthogonal(d, -1),
        "identity": np.eye(d),
        "minus identity": -np.eye(d),
        "order reversed": np.eye(d)[::-1].copy(),
        "permutation": np.eye(d)[rng.permutation(d)],
        "one reflection": np.eye(d) - 2 * np.outer(direction, direction),
        "half turns": half_turns @ np.diag((-1.0) ** (np.arange(d) < d // 2)) @ half_turns.T,
        "nearly identity": np.linalg.qr(np.eye(d) + 1e-9 * rng.standard_normal((d, d)))[0],
    }


@eqx.filter_jit
def all_of(layer, x):
    """Forward, back, and the log-determinants of both Jacobians."""
    forward = layer.transform_and_log_det(x)
    backward = layer.inverse_and_log_det(forward[0])
    jacobians = [jax.jacfwd(function)(x) for function in (layer.transform, layer.inverse)]
    return *forward, *backward, *(jnp.linalg.slogdet(jacobian)[1] for jacobian in jacobians)


@pytest.mark.parametrize("d", [1, 9])
@pytest.mark.parametrize("name", RANDOM)
def test_is_orthogonal_with_zero_log_det(name, d, precision):
    layer = RANDOM[name](d, jr.key(d))
    eps = jnp.finfo(precision).eps
    x = jr.normal(jr.key(1), (d,))
    z, log_det, back, inverse_log_det, *log_jacobians = all_of(layer, x)
    matrix = matrix_of(layer)
    assert matrix.dtype == z.dtype == log_det.dtype == precision
    assert deviation(matrix) < 16 * eps
    assert log_det == inverse_log_det == 0
    np.testing.assert_allclose(z, matrix @ x, atol=8 * eps * np.sqrt(d))
    np.testing.assert_allclose(back, x, atol=32 * eps * np.sqrt(d))
    assert np.max(np.abs(log_jacobians)) < 16 * eps * d


@pytest.mark.parametrize("name", FROM_MATRIX)
def test_from_matrix_is_exact(name, precision):
    eps = jnp.finfo(precision).eps
    for d in (1, 2, 5):
        for kind, target in orthogonal_matrices(d).items():
            matrix = matrix_of(FROM_MATRIX[name](target))
            np.testing.assert_allclose(matrix, target, atol=32 * eps, err_msg=f"{kind}, d = {d}")
            assert deviation(matrix) < 16 * eps, (kind, d)


def test_from_matrix_takes_the_matrix_of_another_rotation():
    start = FixedRotation.random(jr.key(0), 4)
    for name in TRAINABLE:
        np.testing.assert_allclose(
            matrix_of(FROM_MATRIX[name](start.matrix)), matrix_of(start), atol=1e-6
        )


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize("name", TRAINABLE)
def test_every_direction_of_the_manifold_is_open_to_training(name, determinant, x64):
    d = 4
    layer = FROM_MATRIX[name](random_orthogonal(d, determinant))
    params, static = eqx.partition(layer, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(params)
    jacobian = jax.jit(jax.jacfwd(lambda flat: eqx.combine(unravel(flat), static).matrix))(flat)
    sizes = np.linalg.svd(np.asarray(jacobian).reshape(d * d, -1), compute_uv=False)
    assert np.sum(sizes > 1e-3) == d * (d - 1) // 2, sizes


@pytest.mark.parametrize("name", TRAINABLE)
def test_gradient_from_a_special_matrix(name, precision):
    d = 5
    weights = jr.normal(jr.key(2), (d, d))
    gradient_of = eqx.filter_jit(eqx.filter_grad(lambda layer: jnp.sum(layer.matrix * weights)))
    for kind, target in orthogonal_matrices(d).items():
        gradient = np.concatenate(
            [leaf.ravel() for leaf in jax.tree.leaves(gradient_of(FROM_MATRIX[name](target)))]
        )
        assert np.all(np.isfinite(gradient)), kind
        assert np.any(gradient != 0), kind


def test_zero_vector_is_no_reflection_and_stays_zero():
    layer = HouseholderRotation.from_matrix(np.eye(3))
    np.testing.assert_array_equal(layer.vectors[2], 0)
    weights = jnp.arange(9.0).reshape(3, 3)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda p: jnp.sum(p.matrix * weights)))(layer)
    np.testing.assert_array_equal(gradient.vectors[2], 0)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_only_the_directions_of_the_vectors_matter(scale):
    layer = HouseholderRotation(4, key=jr.key(0))
    scaled = eqx.tree_at(lambda p: p.vectors, layer, layer.vectors * scale)
    np.testing.assert_allclose(matrix_of(scaled), matrix_of(layer), atol=1e-6)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda p: p.matrix[0, 1]))(scaled)
    assert np.all(np.isfinite(gradient.vectors))


def test_coinciding_vectors_lose_no_digits():
    vectors = jr.normal(jr.key(0), (1, 6)) + 1e-4 * jr.normal(jr.key(1), (6, 6))
    layer = eqx.tree_at(lambda p: p.vectors, HouseholderRotation(6, key=jr.key(0)), vectors)
    expected = np.eye(6)
    for v in np.asarray(vectors, np.float64):
        expected = expected @ (np.eye(6) - 2 * np.outer(v, v) / (v @ v))
    np.testing.assert_allclose(matrix_of(layer), expected, atol=2e-6)


@pytest.mark.parametrize("method", ["cayley", "exponential"])
@pytest.mark.parametrize("scale", [10.0, 1e3])
def test_stays_orthogonal_at_large_parameters(method, scale):
    layer = OrthogonalRotation(12, key=jr.key(0), method=method)
    layer = eqx.tree_at(lambda p: p.skew, layer, scale * layer.skew)
    assert deviation(matrix_of(layer)) < 1e-6


def test_cayley_and_exponential_match_their_formulas(x64):
    for method in ("cayley", "exponential"):
        layer = OrthogonalRotation(5, key=jr.key(3), method=method)
        skew = np.zeros((5, 5))
        skew[np.tril_indices(5, -1)] = layer.skew
        skew -= skew.T
        if method == "cayley":
            proper = (np.eye(5) - skew) @ np.linalg.inv(np.eye(5) + skew)
        else:
            proper = scipy.linalg.expm(skew)
        np.testing.assert_allclose(matrix_of(layer), proper * layer.signs, atol=1e-13)


def test_signs_keep_cayley_well_conditioned():
    for d in (1, 2, 20):
        for kind, target in orthogonal_matrices(d).items():
            layer = OrthogonalRotation.from_matrix(target)
            assert np.all(np.abs(layer.skew) <= 1.1), (kind, d)
            assert np.prod(layer.signs) == np.sign(np.linalg.det(target))


@pytest.mark.parametrize("method", ["cayley", "exponential"])
@pytest.mark.parametrize("d", [1, 4])
def test_reflect_chooses_the_component(method, d):
    for key in (None, jr.key(0), jr.key(1)):
        for reflect, determinant in ((False, 1), (True, -1)):
            layer = OrthogonalRotation(d, key=key, method=method, reflect=reflect)
            assert np.linalg.det(matrix_of(layer)) == pytest.approx(determinant, abs=1e-5)
    np.testing.assert_array_equal(matrix_of(OrthogonalRotation(d, method=method)), np.eye(d))


def test_one_dimension_is_a_sign():
    assert HouseholderRotation(1, key=jr.key(0)).matrix == -1
    for sign in (1.0, -1.0):
        for name in FROM_MATRIX:
            assert matrix_of(FROM_MATRIX[name]([[sign]])) == sign


@pytest.mark.parametrize(
    ("name", "d", "n_uniform"),
    [("householder", 2, 2), ("householder", 5, 5), ("householder-1", 5, 1), ("fixed", 3, 3)],
)
def test_random_start_is_uniform(name, d, n_uniform):
    if name == "fixed":
        draw = lambda key: jnp.asarray(unwrap(FixedRotation.random(key, d).matrix))  # noqa: E731
    else:
        draw = lambda key: RANDOM[name](d, key).matrix  # noqa: E731
    n = 20_000
    columns = np.asarray(jax.jit(jax.vmap(draw))(jr.split(jr.key(0), n)))[:, :, :n_uniform]
    # A coordinate of a uniform unit vector has mean 0, second moment 1/d, fourth 3/(d(d + 2)).
    for power, moment, next_moment in ((1, 0, 1 / d), (2, 1 / d, 3 / (d * (d + 2)))):
        standard_error = np.sqrt((next_moment - moment**2) / n)
        means = (columns.astype(np.float64) ** power).mean(axis=0)
        # The last column is the others' up to a sign, and its mean need not vanish.
        means = means[:, : d - 1] if power == 1 else means
        assert np.max(np.abs(means - moment)) < 4.5 * standard_error


def step_towards(layer, target, n_steps, learning_rate=0.05):
    """Layer after gradient steps on the squared distance to `target`, and the last distance."""
    params, static = eqx.partition(layer, eqx.is_inexact_array)
    optimiser = optax.adam(learning_rate)

    def distance(params):
        return jnp.sum((unwrap(eqx.combine(params, static).matrix) - target) ** 2)

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(distance)(params)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state = optimiser.init(params)
    for _ in range(n_steps):
        params, state, value = step(params, state)
    return eqx.combine(params, static), float(value)


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize("name", TRAINABLE)
def test_training_reaches_another_rotation(name, determinant):
    start = FROM_MATRIX[name](random_orthogonal(4, determinant, seed=1))
    trained, distance = step_towards(start, random_orthogonal(4, determinant, seed=2), 400)
    assert distance < 1e-3
    assert deviation(matrix_of(trained)) < 2e-6
    assert np.linalg.det(matrix_of(trained)) == pytest.approx(determinant, abs=1e-5)


@pytest.mark.parametrize("name", RANDOM)
def test_layers_stack_and_scan(name):
    layers = [RANDOM[name](3, jr.key(i)) for i in range(4)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    x = jnp.array([1.0, -2.0, 0.5])
    z, _ = jax.lax.scan(lambda state, layer: (layer.transform(state), None), x, stacked)
    expected = x
    for layer in layers:
        expected = matrix_of(layer) @ expected
    np.testing.assert_allclose(z, expected, atol=1e-6)


@pytest.mark.parametrize("name", RANDOM)
def test_batch_builds_the_matrix_once(name):
    layer = RANDOM[name](3, jr.key(0))
    x = jnp.ones((77, 3))
    jaxpr = jax.make_jaxpr(jax.vmap(layer.inverse))(x)

    def shapes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (variable.aval.shape for variable in equation.outvars)
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                yield from shapes(inner)

    assert all(len(shape) < 3 for shape in shapes(jaxpr.jaxpr) if 77 in shape)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(layer.inverse))(x)[5], layer.inverse(x[5]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedRotation(1.1 * np.eye(2)), r"QᵀQ − I above 1e-05.*; got 0\.21"),
        (lambda: HouseholderRotation.from_matrix(np.ones((2, 2))), "orthogonal matrix; got 2"),
        (lambda: OrthogonalRotation.from_matrix(np.full((2, 2), np.nan)), "orthogonal matrix"),
        (lambda: FixedRotation(np.ones((2, 3))), r"square matrix; got shape \(2, 3\)"),
        (lambda: FixedRotation(np.ones((0, 0))), "square matrix"),
        (lambda: HouseholderRotation(0, key=jr.key(0)), "n_dims >= 1; got 0"),
        (lambda: HouseholderRotation(2, 0, key=jr.key(0)), "n_reflections >= 1; got 0"),
        (lambda: OrthogonalRotation(-1), "n_dims >= 1; got -1"),
        (lambda: FixedRotation.random(jr.key(0), 0), "n_dims >= 1; got 0"),
        (lambda: OrthogonalRotation(2, method="qr"), "'qr'"),
        (lambda: OrthogonalRotation.from_matrix(np.eye(2), method="qr"), "'qr'"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
