"""Fit a diagonal or a coupling flow to data in closed form."""

from typing import Any, Literal, overload

import jax.random as jr
import numpy as np
from flowjax.distributions import Transformed
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from gauss_flows.bijections.coupling import Mask
from gauss_flows.bijections.mixture_coupling import MixtureGaussianCDFCoupling
from gauss_flows.flows.assemble import flow_from_blocks
from gauss_flows.rbig.checks import as_rows, check_finite_table, check_table, check_weights
from gauss_flows.rbig.constant import with_constant_parameters
from gauss_flows.rbig.layers import Layer, LayerOptions
from gauss_flows.rbig.loop import RBIGRecord, RunOptions, gaussianize_rows
from gauss_flows.rbig.options import check_count, check_seed
from gauss_flows.rbig.rotations import DataRotation, check_rotation


@overload
def fit_rbig(
    x: Float[ArrayLike, "n d"],
    *,
    n_layers: int | Literal["auto"] = ...,
    n_components: int = ...,
    random_state: int = ...,
    rotation: DataRotation = ...,
    sample_weight: Float[ArrayLike, " n"] | None = ...,
    validation: Float[ArrayLike, "m d"] | float | None = ...,
    return_record: Literal[False] = ...,
    max_layers: int = ...,
) -> Transformed: ...


@overload
def fit_rbig(
    x: Float[ArrayLike, "n d"],
    *,
    n_layers: int | Literal["auto"] = ...,
    n_components: int = ...,
    random_state: int = ...,
    rotation: DataRotation = ...,
    sample_weight: Float[ArrayLike, " n"] | None = ...,
    validation: Float[ArrayLike, "m d"] | float | None = ...,
    return_record: Literal[True],
    max_layers: int = ...,
) -> tuple[Transformed, RBIGRecord]: ...


def fit_rbig(
    x: Float[ArrayLike, "n d"],
    *,
    n_layers: int | Literal["auto"] = 10,
    n_components: int = 8,
    random_state: int = 0,
    rotation: DataRotation = "pca",
    sample_weight: Float[ArrayLike, " n"] | None = None,
    validation: Float[ArrayLike, "m d"] | float | None = None,
    return_record: bool = False,
    max_layers: int = 100,
) -> Transformed | tuple[Transformed, RBIGRecord]:
    r"""Fit a diagonal Gaussianization flow to data, layer by layer and without gradients.

    Each block rotates the rows it is given and then makes every coordinate normal,

    $$y = Q_\ell\, x_\ell, \qquad x_{\ell + 1, i} = \Phi^{-1}\bigl(\hat F_{\ell i}(y_i)\bigr),$$

    with a mixture of Gaussians fitted to each coordinate. With `n_layers="auto"` blocks are added
    until three in a row together removed no more total correlation than twice its sampling error.
    The first block then rotates only if that removes some, so that independent data get one block
    and keep their coordinates, and a block after one that removed nothing turns at random, whatever
    the rotation asked for. With `validation` the blocks end instead where the log-density of
    held-out rows was highest.

    Args:
        x: Data of shape (n, d); an array or a data frame.
        n_layers: Number of blocks (with `validation`, the most), or `"auto"`.
        n_components: Components of each coordinate's mixture.
        random_state: Seed of what is random: rotations, the validation split, the normal rows
            that the drop in total correlation is compared with.
        rotation: `"pca"`, `"ica"`, `"random"` or `"sliced"`, see `choose_rotation`.
        sample_weight: Weights of the rows, shape (n,), not negative.
        validation: Held-out rows of shape (m, d), or the share of `x` to hold out.
        return_record: Whether to return the record of what each block removed, too.
        max_layers: Most blocks of `n_layers="auto"`.

    Returns:
        The flow; with `return_record` the pair of flow and `RBIGRecord`.

    Raises:
        ValueError: If the data admit no density (see `check_table`) or are fewer rows than
            components, those held out or without weight not counted; or if an option is unknown.

    Warns:
        UserWarning: If columns hold whole numbers or are nearly dependent, or the blocks come to
            `max_layers` while they still gain.

    References:
        Laparra, Camps-Valls and Malo, *Iterative Gaussianization: from ICA to Random Rotations*
        (2011).

    Example:
        >>> import numpy as np
        >>> import gauss_flows as gf
        >>> rng = np.random.default_rng(0)
        >>> x = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], size=2000)
        >>> flow, record = gf.fit_rbig(x, n_layers="auto", return_record=True)
        >>> bool(abs(record.total_correlation.value + 0.5 * np.log(1 - 0.8**2)) < 0.1)
        True
    """
    layers, record = _fit_layers(
        x,
        LayerOptions(n_components, rotation, random_state),
        RunOptions(n_layers, max_layers, return_record),
        sample_weight,
        validation,
    )
    flow = flow_from_blocks(layers)
    return (flow, record) if return_record and record is not None else flow


@overload
def fit_rbig_coupling(
    x: Float[ArrayLike, "n d"],
    key: PRNGKeyArray,
    *,
    n_layers: int | Literal["auto"] = ...,
    n_components: int = ...,
    random_state: int = ...,
    rotation: DataRotation = ...,
    sample_weight: Float[ArrayLike, " n"] | None = ...,
    validation: Float[ArrayLike, "m d"] | float | None = ...,
    return_record: Literal[False] = ...,
    max_layers: int = ...,
    mask: Mask | None = ...,
    nn_width: int = ...,
    nn_depth: int = ...,
) -> Transformed: ...


@overload
def fit_rbig_coupling(
    x: Float[ArrayLike, "n d"],
    key: PRNGKeyArray,
    *,
    n_layers: int | Literal["auto"] = ...,
    n_components: int = ...,
    random_state: int = ...,
    rotation: DataRotation = ...,
    sample_weight: Float[ArrayLike, " n"] | None = ...,
    validation: Float[ArrayLike, "m d"] | float | None = ...,
    return_record: Literal[True],
    max_layers: int = ...,
    mask: Mask | None = ...,
    nn_width: int = ...,
    nn_depth: int = ...,
) -> tuple[Transformed, RBIGRecord]: ...


def fit_rbig_coupling(
    x: Float[ArrayLike, "n d"],
    key: PRNGKeyArray,
    *,
    n_layers: int | Literal["auto"] = 10,
    n_components: int = 8,
    random_state: int = 0,
    rotation: DataRotation = "pca",
    sample_weight: Float[ArrayLike, " n"] | None = None,
    validation: Float[ArrayLike, "m d"] | float | None = None,
    return_record: bool = False,
    max_layers: int = 100,
    mask: Mask | None = None,
    nn_width: int = 64,
    nn_depth: int = 2,
) -> Transformed | tuple[Transformed, RBIGRecord]:
    """Fit a coupling flow that starts as the diagonal flow of `fit_rbig`.

    Each block is a rotation and two couplings of opposite masks, whose conditioners have an exactly
    zero last kernel and the fitted mixtures as their bias: the same function as
    `fit_rbig(x, ...)`, to rounding, with networks that training can switch on.

    Args:
        x: Data of shape (n, d) with d >= 2; an array or a data frame.
        key: Random key of the conditioners' hidden layers.
        n_layers: Number of blocks, or `"auto"`; this and what follows as in `fit_rbig`.
        n_components: Components of each coordinate's mixture.
        random_state: Seed of what is random in the closed-form fit.
        rotation: Name of the rotation.
        sample_weight: Weights of the rows, shape (n,).
        validation: Held-out rows of shape (m, d), or the share of `x` to hold out.
        return_record: Whether to return the record, too.
        max_layers: Most blocks of `n_layers="auto"`.
        mask: d booleans: `True` conditions in the first coupling of a block and is transformed in
            the second. By default the first ⌊d/2⌋ coordinates.
        nn_width: Width of the conditioners' hidden layers.
        nn_depth: Number of their hidden layers.

    Returns:
        The flow; with `return_record` the pair of flow and `RBIGRecord`.

    Raises:
        ValueError: If the data admit no density or are fewer rows than components, there is one
            column, or an option is unknown.

    References:
        Laparra, Camps-Valls and Malo, *Iterative Gaussianization: from ICA to Random Rotations*
        (2011).

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> import numpy as np
        >>> import gauss_flows as gf
        >>> x = np.random.default_rng(0).gamma(2.0, size=(500, 2))
        >>> coupling = gf.fit_rbig_coupling(x, jr.key(0), n_layers=2)
        >>> diagonal = gf.fit_rbig(x, n_layers=2)
        >>> bool(jnp.allclose(coupling.log_prob(x), diagonal.log_prob(x), atol=1e-4))
        True
    """
    n_dims = check_finite_table(x).shape[1]
    if n_dims == 1:
        raise ValueError(
            "Expected at least two columns for a coupling flow; got one. Use fit_rbig."
        )
    passive = np.arange(n_dims) < n_dims // 2 if mask is None else np.asarray(mask)
    layers, record = _fit_layers(
        x,
        LayerOptions(n_components, rotation, random_state),
        RunOptions(n_layers, max_layers, return_record),
        sample_weight,
        validation,
    )

    def coupling(coupling_key, layer: Layer, coupling_mask):
        network = MixtureGaussianCDFCoupling(
            coupling_key,
            n_dims=n_dims,
            n_components=n_components,
            mask=coupling_mask,
            nn_width=nn_width,
            nn_depth=nn_depth,
        )
        return with_constant_parameters(network, layer.marginal.raw[~coupling_mask])

    blocks = []
    for block_key, layer in zip(jr.split(key, len(layers)), layers, strict=True):
        first, second = jr.split(block_key)
        couplings = coupling(first, layer, passive), coupling(second, layer, ~passive)
        blocks.append((layer.rotation, *couplings))
    flow = flow_from_blocks(blocks)
    return (flow, record) if return_record and record is not None else flow


def _fit_layers(
    x: Any, options: LayerOptions, run: RunOptions, sample_weight: Any, validation: Any
) -> tuple[list[Layer], RBIGRecord | None]:
    check_rotation(options.rotation)
    check_seed(options.random_state)
    if run.n_layers != "auto":
        check_count("n_layers", run.n_layers, ' or "auto"')
    check_count("n_components", options.n_components)
    check_count("max_layers", run.max_layers)
    table = check_finite_table(x)
    weight = check_weights(sample_weight, len(table))
    fitted = np.arange(len(table)) if weight is None else np.flatnonzero(weight)
    held_out = None
    if isinstance(validation, int | float):
        if not 0 < validation < 1:
            raise ValueError(
                f"Expected validation to be rows or a share between 0 and 1; got {validation}."
            )
        order = np.random.default_rng(options.random_state).permutation(len(fitted))
        held, fitted = np.split(fitted[order], [max(1, round(validation * len(fitted)))])
        held_out = as_rows(table[held], numbers=held)
    elif validation is not None:
        rows = check_finite_table(validation, n_dims=table.shape[1], name="validation")
        held_out = as_rows(rows, "validation")
    checked = check_table(x, n_components=options.n_components, rows=fitted)
    return gaussianize_rows(
        as_rows(checked, numbers=fitted),
        options,
        run,
        sample_weight=None if weight is None else weight[fitted],
        validation=held_out,
    )
