"""What all couplings share: which coordinates condition, which are transformed, and by what."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from gauss_flows.bijections.conditioners import MLP

Mask: TypeAlias = Sequence[bool] | Bool[np.ndarray, " n_dims"]


class Coupling(eqx.Module):
    r"""The frame of a coupling layer: a mask and the conditioner that reads its passive side.

    $$x = (x_{\text{passive}}, x_{\text{active}}), \qquad
    \theta = \text{conditioner}(x_{\text{passive}}, \text{condition}), \qquad
    z_j = g(x_j; \theta_j) \text{ for } j \text{ active}.$$

    A layer holds one of these, asks it for the parameters, and adds the elementwise map g.

    Args:
        key: Random key of the conditioner (unused if one is given).
        n_dims: Number of coordinates d.
        n_params: Parameters of one transformed coordinate.
        mask: d booleans: `True` passes through and conditions, `False` is transformed. By default
            the first ⌊d/2⌋ coordinates condition.
        cond_dim: Width of an external condition, which joins the conditioner's input after the
            passive coordinates; `None` for no condition.
        nn_width: Width of the hidden layers.
        nn_depth: Number of hidden layers.
        conditioner: Any callable from an array of shape (in_size,) to one of shape
            (d_active · n_params,), with in_size = d_passive + cond_dim; `None` for an
            [`MLP`][gauss_flows.bijections.conditioners.MLP].
        marginal_layer: Name of the layer that does the same without conditioning, for the error
            message.

    Raises:
        ValueError: if the mask has another length or is not boolean, transforms nothing, or
            leaves the conditioner without an input; or if the conditioner does not fit.

    References:
        Dinh, Sohl-Dickstein & Bengio, "Density estimation using Real NVP" (2017).

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> coupling = Coupling(jr.key(0), n_dims=3, n_params=2, mask=[True, False, True])
        >>> passive, active = coupling.split(jnp.array([1.0, 2.0, 3.0]))
        >>> passive, active
        (Array([1., 3.], dtype=float32), Array([2.], dtype=float32))
        >>> coupling.parameters(passive).shape
        (1, 2)
        >>> coupling.merge(passive, 10 * active)
        Array([ 1., 20.,  3.], dtype=float32)
    """

    conditioner: Callable[[Array], Array]
    mask: tuple[bool, ...] = eqx.field(static=True)
    n_params: int = eqx.field(static=True)
    cond_dim: int | None = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        n_dims: int,
        n_params: int,
        mask: Mask | None = None,
        cond_dim: int | None = None,
        nn_width: int = 64,
        nn_depth: int = 2,
        conditioner: Callable[[Array], Array] | None = None,
        marginal_layer: str = "MixtureGaussianCDF",
    ):
        if n_dims < 1:
            raise ValueError(f"Expected n_dims >= 1; got {n_dims}.")
        if n_params < 1:
            raise ValueError(f"Expected n_params >= 1; got {n_params}.")
        if cond_dim is not None and cond_dim < 1:
            raise ValueError(f"Expected cond_dim >= 1, or None for no condition; got {cond_dim}.")
        self.mask = _checked_mask(mask, n_dims, cond_dim, marginal_layer)
        self.n_params = n_params
        self.cond_dim = cond_dim
        if conditioner is None:
            conditioner = MLP(
                key,
                in_size=self.in_size,
                out_size=self.out_size,
                nn_width=nn_width,
                nn_depth=nn_depth,
            )
        else:
            _check_conditioner(conditioner, self)
        self.conditioner = conditioner

    @property
    def n_dims(self) -> int:
        """Number of coordinates d."""
        return len(self.mask)

    @property
    def n_active(self) -> int:
        """Number of transformed coordinates."""
        return len(self.mask) - sum(self.mask)

    @property
    def in_size(self) -> int:
        """Width of the conditioner's input: the passive coordinates, then the condition."""
        return sum(self.mask) + (self.cond_dim or 0)

    @property
    def out_size(self) -> int:
        """Width of the conditioner's output: `n_active` · `n_params`."""
        return self.n_active * self.n_params

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of x, for flowjax."""
        return (len(self.mask),)

    @property
    def cond_shape(self) -> tuple[int, ...] | None:
        """Shape of the condition, for flowjax."""
        return None if self.cond_dim is None else (self.cond_dim,)

    def split(
        self, x: Float[ArrayLike, " n_dims"]
    ) -> tuple[Float[Array, " d_passive"], Float[Array, " d_active"]]:
        """The passive and the active coordinates of x, each in their order."""
        x, mask = jnp.asarray(x), np.array(self.mask)
        return _take(x, np.flatnonzero(mask)), _take(x, np.flatnonzero(~mask))

    def parameters(
        self,
        passive: Float[Array, " d_passive"],
        condition: Float[ArrayLike, " cond_dim"] | None = None,
    ) -> Float[Array, "d_active n_params"]:
        """The conditioner's output for one point, one row a transformed coordinate."""
        inputs = passive
        if self.cond_dim is not None:
            inputs = jnp.concatenate([passive, jnp.asarray(condition).astype(passive.dtype)])
        return self.conditioner(inputs).reshape(self.n_active, self.n_params)

    def merge(
        self, passive: Float[Array, " d_passive"], active: Float[Array, " d_active"]
    ) -> Float[Array, " n_dims"]:
        """Put the two parts back in place: the inverse of `split`."""
        mask = np.array(self.mask)
        order = np.concatenate([np.flatnonzero(mask), np.flatnonzero(~mask)])
        if self.mask[0] or not any(self.mask):
            parts = jnp.concatenate([passive, active])
        else:
            # Starting with the part that comes first makes a half-and-half mask a plain join.
            parts = jnp.concatenate([active, passive])
            order = np.roll(order, self.n_active)
        return _take(parts, np.argsort(order))


def _take(x: Array, indices: np.ndarray) -> Array:
    """Static gather; neighbours are sliced, since a slice has the cheaper gradient."""
    if indices.size == 0:
        return x[:0]
    start, stop = int(indices[0]), int(indices[-1]) + 1
    if np.array_equal(indices, np.arange(start, stop)):
        return x[start:stop]
    return x.at[indices].get(mode="promise_in_bounds", unique_indices=True)


def _checked_mask(
    mask: Mask | None, n_dims: int, cond_dim: int | None, marginal_layer: str
) -> tuple[bool, ...]:
    if mask is None:
        values = np.arange(n_dims) < n_dims // 2
    else:
        values = np.asarray(mask)
        if values.dtype != np.bool_:
            raise ValueError(
                "Expected a mask of booleans (True passes through and conditions, False is "
                f"transformed); got {values.dtype}."
            )
        if values.shape != (n_dims,):
            raise ValueError(f"Expected a mask of shape ({n_dims},); got {values.shape}.")
    if values.all():
        raise ValueError(
            "Expected a mask with at least one False, a coordinate to transform; got all True."
        )
    if not values.any() and cond_dim is None:
        got = "n_dims = 1" if n_dims == 1 else "a mask that is all False"
        raise ValueError(
            "Expected a passive coordinate or a cond_dim for the conditioner to read; got "
            f"{got} without a condition. A coupling has nothing to couple there: use "
            f"{marginal_layer}, which transforms every coordinate by itself."
        )
    return tuple(bool(value) for value in values)


def _check_conditioner(conditioner: Any, coupling: Coupling) -> None:
    """See that the network maps (in_size,) to (out_size,), without running it."""
    inputs = jax.ShapeDtypeStruct((coupling.in_size,), jnp.zeros(()).dtype)
    wanted = (
        f"Expected a conditioner from shape ({coupling.in_size},) to shape "
        f"({coupling.out_size},), that is {coupling.n_active} transformed coordinates of "
        f"{coupling.n_params} parameters"
    )
    try:
        output = eqx.filter_eval_shape(conditioner, inputs)
    except Exception as error:
        raise ValueError(f"{wanted}; got a failure at that input: {error}") from error
    shape = getattr(output, "shape", None)
    if shape != (coupling.out_size,) or not jnp.issubdtype(output.dtype, jnp.floating):
        got = f"shape {shape} of {output.dtype}" if shape is not None else f"{type(output)}"
        raise ValueError(f"{wanted}; got {got}.")
