"""What every coupling must do, as checks that a deliberately broken layer fails."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

ROUND_TRIP = {"float32": 5e-6, "float64": 1e-13}
LOG_DET = {"float32": 2e-4, "float64": 1e-9}


def randomise(layer, key, scale=0.15):
    """The layer with noise on every parameter: never the identity, never symmetric."""
    leaves, structure = jax.tree.flatten(layer)
    keys = jr.split(key, len(leaves))
    return jax.tree.unflatten(
        structure,
        [
            leaf + scale * jr.normal(k, leaf.shape) if eqx.is_inexact_array(leaf) else leaf
            for leaf, k in zip(leaves, keys, strict=True)
        ],
    )


def check_layer(layer, x, condition=None):
    """Round trips both ways, and log_det against autodiff both ways, on rows of x (n, d)."""
    precision = x.dtype.name
    eps = np.finfo(precision).eps

    def forward(point):
        z, log_det = layer.transform_and_log_det(point, condition)
        return z, (z, log_det)

    def inverse(point):
        x, log_det = layer.inverse_and_log_det(point, condition)
        return x, (x, log_det)

    @jax.jit
    @jax.vmap
    def everything(point):
        jacobian, (z, log_det) = jax.jacfwd(forward, has_aux=True)(point)
        jacobian_back, (x, log_det_back) = jax.jacfwd(inverse, has_aux=True)(z)
        return (z, log_det, jacobian), (x, log_det_back, jacobian_back), forward(x)[0]

    (z, log_det, jacobian), (x_back, log_det_back, jacobian_back), z_again = everything(x)
    for values in (z, log_det, x_back, log_det_back, z_again):
        assert np.all(np.isfinite(values))
        assert values.dtype == x.dtype

    tolerance = ROUND_TRIP[precision]
    # A rounding of x moves z by the slope times one unit in its last place: no inverse does better.
    last_place = np.einsum("nij,nj->ni", np.abs(jacobian), 8 * eps * np.abs(x_back))
    bound = np.maximum(tolerance * np.maximum(1, np.abs(z)), last_place)
    assert np.all(np.abs(z_again - z) <= bound)
    # What z may be off by, the inverse's slope turns into x.
    carried = np.einsum("nij,nj->ni", np.abs(jacobian_back), tolerance * np.maximum(1, np.abs(z)))
    bound = np.maximum(tolerance * np.maximum(1, np.abs(x)), carried)
    assert np.all(np.abs(x_back - x) <= bound)

    for value, matrix in ((log_det, jacobian), (log_det_back, jacobian_back)):
        _, expected = np.linalg.slogdet(np.asarray(matrix, np.float64))
        error = np.abs(np.asarray(value, np.float64) - expected)
        assert np.all(error <= LOG_DET[precision] * np.maximum(1, np.abs(expected)))


def loss(layer, x, condition=None):
    """Negative log-likelihood under a standard normal, up to its constant."""
    z, log_det = layer.transform_and_log_det(x, condition)
    return 0.5 * jnp.sum(z**2) - log_det


def check_gradients(layer, x, condition=None):
    """Both directions have gradients, finite and not zero, for every parameter array."""

    def forward_loss(layer):
        return jnp.mean(jax.vmap(lambda row: loss(layer, row, condition))(x))

    def inverse_loss(layer):
        points, log_det = jax.vmap(lambda row: layer.inverse_and_log_det(row, condition))(x)
        return jnp.mean(jnp.sum(jnp.sin(points), axis=-1) + log_det)

    for function in (forward_loss, inverse_loss):
        gradient = eqx.filter_jit(eqx.filter_grad(function))(layer)
        for leaf in jax.tree.leaves(gradient):
            assert np.all(np.isfinite(leaf))
            assert np.any(leaf != 0)


def check_outliers(layer, far=1e6):
    """A point far out, in any coordinates, has finite values and gradients, and comes back."""
    (n_dims,) = layer.shape
    condition = None if layer.cond_shape is None else jnp.full(layer.cond_shape, far)
    corners = np.array(np.meshgrid(*[[-far, 0.3, far]] * n_dims)).reshape(n_dims, -1).T
    x = jnp.asarray(corners, jnp.zeros(()).dtype)

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(None, 0))
    def everything(layer, x):
        z, log_det = layer.transform_and_log_det(x, condition)
        back, log_det_back = layer.inverse_and_log_det(z, condition)
        of_layer = eqx.filter_grad(loss)(layer, x, condition)
        of_x = jax.grad(lambda point: loss(layer, point, condition))(x)
        return back, (z, log_det, log_det_back, of_layer, of_x)

    back, others = everything(layer, x)
    for leaf in jax.tree.leaves(others):
        assert np.all(np.isfinite(leaf))
    tolerance = 1e-3 if x.dtype == jnp.float32 else 1e-9
    np.testing.assert_allclose(back, x, rtol=tolerance, atol=tolerance)
