"""Rotations: products of Householder reflections, to be trained, and matrices that stay."""

import random
from typing import Any

import numpy as np
from keras import ops

from gaussianization.gauss_keras.bijectors.actnorm import as_table
from gaussianization.gauss_keras.bijectors.base import Bijector, check_built, check_count
from gaussianization.gauss_keras.numerics.orthogonal import (
    checked_orthogonal,
    principal_axes,
    random_reflectors,
    random_rotation,
)
from gaussianization.gauss_keras.registration import REGISTER
from gaussianization.reflectors import padded_reflectors, reflectors_of


class Rotation(Bijector):
    r"""A layer $z = Q x$ with an orthogonal Q, so that log_det = 0 and $x = Q^\top z$.

    A subclass says what Q is, as `matrix`, and how a given Q becomes it, as `_set_checked`.

    On an accelerator JAX and TensorFlow multiply float32 in fewer digits unless they are told not
    to (``jax_default_matmul_precision``, ``enable_tensor_float_32_execution``): x then comes back
    from z to three digits.
    """

    @property
    def matrix(self) -> Any:
        """The orthogonal matrix Q, a tensor of shape (d, d)."""
        raise NotImplementedError

    def set_matrix(self, matrix: Any) -> None:
        """Make Q a given matrix; a layer that is not built yet takes its width.

        Args:
            matrix: Orthogonal matrix of shape (d, d), of determinant 1 or −1.

        Raises:
            ValueError: If it is not square or not orthogonal, of another width than the layer,
                or more than the layer can represent.
        """
        values = checked_orthogonal(_as_array(matrix), self.state_dtype)
        if not self.built:
            self.build((None, len(values)))
        if len(values) != self.input_dim:
            raise ValueError(
                f"Expected a matrix of shape ({self.input_dim}, {self.input_dim}) in layer "
                f"'{self.name}'. Received: matrix.shape={values.shape}"
            )
        self._set_checked(values)

    def _set_checked(self, matrix: np.ndarray) -> None:
        raise NotImplementedError

    # The operator and not `ops.matmul`, which rounds float64 to float32 on PyTorch.
    def _forward(self, x: Any, condition: Any) -> tuple[Any, Any]:
        return x @ ops.transpose(self.matrix), self._zero_log_det(x)

    def _inverse(self, z: Any, condition: Any) -> tuple[Any, Any]:
        return z @ self.matrix, self._zero_log_det(z)


@REGISTER
class Householder(Rotation):
    r"""Trainable rotation, the product of r reflections.

    $$Q = H_1 H_2 \cdots H_r, \qquad H_i = I - 2\,\frac{v_i v_i^\top}{\lVert v_i \rVert^2},
    \qquad z = Q x.$$

    Q is orthogonal for any vectors, and only their directions matter. It is built as a matrix,
    from the vectors alone: $Q = I - 2 W^\top V$ with the vectors as rows of V and W the solution
    of a triangular system (the compact WY form).

    det Q = (−1)^r. A vector of zeros stands for the identity in place of a reflection and gets no
    gradient, which is how the other determinant is reached: training stays on one of the two
    components of O(d), and d − 1 reflections reach all of it.

    Args:
        num_reflectors: Number of reflections r; `None` for the number of coordinates d.
        seed: Seed of the start, at which the first min(r, d − 1) columns of Q are uniformly
            distributed orthonormal vectors. `None` follows `keras.utils.set_random_seed` and
            gives each layer a start of its own. The start is the same on every backend.
        **kwargs: `name`, `dtype` and `trainable`, as of any Keras layer.

    Raises:
        ValueError: If ``num_reflectors`` is below 1 or ``seed`` no whole number.

    References:
        Schreiber & Van Loan (1989), *A Storage-Efficient WY Representation for Products of
        Householder Transformations*; Stewart (1980), *The Efficient Generation of Random
        Orthogonal Matrices with an Application to Condition Estimators*; Tomczak & Welling
        (2016), *Improving Variational Auto-Encoders using Householder Flow*.

    Example:
        >>> from gaussianization.gauss_keras import Householder
        >>> layer = Householder(seed=0)
        >>> layer.set_matrix([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
        >>> z, log_det = layer.forward_and_log_det([[3.0, 1.0, 4.0]])
        >>> [round(float(value), 4) for value in z[0]]
        [1.0, 4.0, 3.0]
    """

    def __init__(self, num_reflectors: int | None = None, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if num_reflectors is not None:
            num_reflectors = check_count(num_reflectors, "num_reflectors")
        self.num_reflectors = num_reflectors
        self.seed = None if seed is None else check_count(seed, "seed", least=0)

    def build(self, input_shape: Any) -> None:
        """Create the vectors, (r, d)."""
        super().build(input_shape)
        self.vectors = self.add_weight(
            name="vectors",
            shape=(self.num_reflectors or self.input_dim, self.input_dim),
            initializer=self._random_start,
        )

    def _random_start(self, shape: Any, dtype: Any = None) -> Any:
        n, d = shape
        vectors = random_reflectors(n, d, np.random.default_rng(_chosen_seed(self.seed)))
        return ops.convert_to_tensor(vectors, dtype=dtype)

    @property
    def matrix(self) -> Any:
        """The orthogonal matrix Q, a tensor of shape (d, d)."""
        check_built(self)
        vectors = self._tensor(self.vectors)
        n, d = vectors.shape
        # Q does not depend on the lengths, so the scale may be held fixed: no square overflows.
        largest = ops.max(ops.abs(ops.stop_gradient(vectors)), axis=1, keepdims=True)
        is_zero = ops.cast(largest == 0, self.state_dtype)
        vectors = vectors / (largest + is_zero)
        identity = ops.eye(n, dtype=self.state_dtype)
        products = vectors @ ops.transpose(vectors)
        triangle = ops.tril(products) + ops.tril(products, -1) + is_zero * identity
        # Row i of W is H_1 ⋯ H_i-1 v_i / |v_i|², of length 1 / |v_i| however the vectors lie: the
        # solve loses no digits to vectors that nearly coincide. Run eagerly it is also fewer
        # operations than reflecting one by one, even for two reflections.
        w = ops.solve_triangular(triangle, vectors, lower=True)
        identity = identity if n == d else ops.eye(d, dtype=self.state_dtype)
        return identity - 2.0 * (ops.transpose(w) @ vectors)

    def _set_checked(self, matrix: np.ndarray) -> None:
        vectors = reflectors_of(checked_orthogonal(matrix))
        n, d = self.vectors.shape
        if len(vectors) > n:
            raise ValueError(
                f"Expected at least {len(vectors)} reflectors in layer '{self.name}', the rank of "
                f"Q − I, to represent this matrix. Received: num_reflectors={n}"
            )
        self.vectors.assign(padded_reflectors(vectors, n) * d**0.5)

    def get_config(self) -> dict[str, Any]:
        """The layer's arguments."""
        return {
            **super().get_config(),
            "num_reflectors": self.num_reflectors,
            "seed": self.seed,
        }


@REGISTER
class FixedOrtho(Rotation):
    r"""Rotation $z = Q x$ by a matrix that is not trained.

    The matrix is a weight, saved and loaded with the others, and part of the configuration.

    Args:
        matrix: Orthogonal matrix Q of shape (d, d), of determinant 1 or −1; `None` for the
            identity. What rounding has taken from its orthogonality is restored.
        **kwargs: `name`, `dtype` and `trainable`, as of any Keras layer.

    Raises:
        ValueError: If the matrix is not square or not orthogonal; when the layer is built, if it
            does not fit the data.

    References:
        Laparra, Camps-Valls & Malo (2011), *Iterative Gaussianization: from ICA to Random
        Rotations*.

    Example:
        >>> from gaussianization.gauss_keras import FixedOrtho
        >>> layer = FixedOrtho.from_pca([[1.0, 1.0], [-1.0, -1.0], [0.5, -0.5], [-0.5, 0.5]])
        >>> z, log_det = layer.forward_and_log_det([[1.0, 1.0]])
        >>> [abs(round(float(value), 4)) for value in z[0]]
        [1.4142, 0.0]
    """

    def __init__(self, matrix: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        self._given = (
            None if matrix is None else checked_orthogonal(_as_array(matrix), self.state_dtype)
        )

    @classmethod
    def from_pca(cls, x: Any, **kwargs: Any) -> "FixedOrtho":
        """Rotation to the principal axes of the data, the largest variance first.

        The sign of every axis is such that its largest entry is positive.

        Args:
            x: Data, shape (n, d); they need not be centred.
            **kwargs: `name`, `dtype` and `trainable`, as of any Keras layer.

        Returns:
            The layer, built, whose z has no correlation between coordinates on these data.

        Raises:
            ValueError: If ``x`` is no table of finite numbers with at least 2 rows.

        References:
            Pearson (1901), *On Lines and Planes of Closest Fit to Systems of Points in Space*.
        """
        table = as_table(x)
        if len(table) < 2:
            raise ValueError(
                "Expected at least 2 rows of x, to have directions to find. "
                f"Received: x.shape={table.shape}"
            )
        return cls._built(principal_axes(table), kwargs)

    @classmethod
    def random_haar(cls, d: int, seed: int | None = None, **kwargs: Any) -> "FixedOrtho":
        """Rotation drawn uniformly from all orthogonal matrices, of either determinant.

        Args:
            d: Number of coordinates.
            seed: Seed; `None` follows `keras.utils.set_random_seed`.
            **kwargs: `name`, `dtype` and `trainable`, as of any Keras layer.

        Returns:
            The layer, built.

        Raises:
            ValueError: If ``d`` is below 1 or ``seed`` no whole number.

        References:
            Mezzadri (2007), *How to Generate Random Matrices from the Classical Compact Groups*.
        """
        rng = np.random.default_rng(_chosen_seed(seed))
        return cls._built(random_rotation(check_count(d, "d"), rng), kwargs)

    @classmethod
    def _built(cls, matrix: np.ndarray, kwargs: dict[str, Any]) -> "FixedOrtho":
        layer = cls(matrix, **kwargs)
        layer.build((None, len(matrix)))
        return layer

    def build(self, input_shape: Any) -> None:
        """Create the matrix, (d, d), a weight that is not trained."""
        if self._given is not None and tuple(input_shape)[1:] != self._given.shape[1:]:
            raise ValueError(
                f"Expected data of shape (batch, {len(self._given)}) in layer '{self.name}', as "
                f"wide as its matrix. Received: input_shape={tuple(input_shape)}"
            )
        super().build(input_shape)
        self._matrix = self.add_weight(
            name="matrix",
            shape=(self.input_dim, self.input_dim),
            initializer=self._start,
            # Rounded to half precision it would not be orthogonal.
            dtype=self.state_dtype,
            trainable=False,
        )

    def _start(self, shape: Any, dtype: Any = None) -> Any:
        values = np.eye(shape[0]) if self._given is None else self._given
        return ops.convert_to_tensor(values, dtype=dtype)

    @property
    def matrix(self) -> Any:
        """The orthogonal matrix Q, a tensor of shape (d, d)."""
        check_built(self)
        return self._tensor(self._matrix)

    def _set_checked(self, matrix: np.ndarray) -> None:
        self._matrix.assign(matrix)

    def get_config(self) -> dict[str, Any]:
        """The layer's arguments; the matrix as it is now, as lists, unless it is the identity."""
        matrix = np.array(ops.convert_to_numpy(self._matrix)) if self.built else self._given
        if matrix is not None and np.array_equal(matrix, np.eye(len(matrix))):
            matrix = None
        return {**super().get_config(), "matrix": None if matrix is None else matrix.tolist()}


def _chosen_seed(seed: int | None) -> int:
    """The seed, or one from Python's own generator, which Keras seeds with the others."""
    return random.randrange(2**31) if seed is None else check_count(seed, "seed", least=0)


def _as_array(matrix: Any) -> Any:
    return ops.convert_to_numpy(matrix) if ops.is_tensor(matrix) else matrix
