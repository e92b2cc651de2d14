"""Mixtures of Gaussians over tensors: the primitive of the marginal layer and the coupling."""

from typing import Any

import keras
import numpy as np
from keras import ops

from gaussianization.gauss_keras.numerics import gaussianize as numerics
from gaussianization.gauss_keras.numerics.normal import (
    LOG_SQRT_2PI,
    SQRT_HALF,
    scaled_tail,
    standard_normal_log_density,
)
from gaussianization.gauss_keras.registration import REGISTER
from gaussianization.marginals import GAIN, base_mixture


@REGISTER
class MixtureOfGaussians:
    r"""One-dimensional mixtures $f(x) = \sum_k w_k\, N(x; \mu_k, \sigma_k^2)$, many at once.

    Args:
        logits: Log-weights up to a constant, shape (..., K).
        means: Means, shape (..., K).
        log_scales: Logarithms of the standard deviations, shape (..., K).

    Raises:
        ValueError: If K is zero, or not the same for all three.

    Example:
        >>> from gaussianization.gauss_keras import MixtureOfGaussians
        >>> mixture = MixtureOfGaussians([[0.0, 0.0]], [[-1.0, 1.0]], [[0.0, 0.0]])
        >>> z, log_det = mixture.gaussianize([[0.0], [50.0]])
        >>> [round(float(value), 3) for value in mixture.quantile(z)[:, 0]]
        [0.0, 50.0]
    """

    def __init__(self, logits: Any, means: Any, log_scales: Any):
        given = [_floating(part) for part in (logits, means, log_scales)]
        shapes = [tuple(part.shape) for part in given]
        sizes = {shape[-1:] for shape in shapes}
        if len(sizes) != 1 or sizes <= {(), (0,)}:
            raise ValueError(
                "Expected logits, means and log_scales of shape (..., K) with one K >= 1. "
                f"Received: shapes {', '.join(map(str, shapes))}"
            )
        self._set(*[ops.moveaxis(part, -1, 0) for part in given])

    def get_config(self) -> dict[str, Any]:
        """The parameters, as lists."""
        parts = (self.log_weights, self.means, self.log_scales)
        names = ("logits", "means", "log_scales")
        lists = [ops.convert_to_numpy(part).tolist() for part in parts]
        dtype = keras.backend.standardize_dtype(self.means.dtype)
        return {**dict(zip(names, lists, strict=True)), "dtype": dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MixtureOfGaussians":
        """The mixture of a configuration."""
        config = dict(config)
        dtype = config.pop("dtype")
        return cls(**{name: np.asarray(part, dtype) for name, part in config.items()})

    @classmethod
    def from_raw(cls, raw: Any, log_scale_clamp: Any = None) -> "MixtureOfGaussians":
        """The mixture that a layer's raw parameters stand for.

        They are deviations from a base mixture close to N(0, 1) whose components all differ: at
        zero the layer is near the identity, and no two components receive the same gradient.

        Args:
            raw: Logits, means and log-scales, shape (3, K, ...).
            log_scale_clamp: Map applied to the deviation of the log-scales; `None` for none.

        Returns:
            The mixture, of batch shape (...).
        """
        shape = (3, int(raw.shape[1]), *[1] * (len(raw.shape) - 2))
        base = ops.convert_to_tensor(base_mixture(shape[1]).reshape(shape), dtype=raw.dtype)
        if log_scale_clamp is None:
            moved = base + GAIN * raw
            logits, means, log_scales = moved[0], moved[1], moved[2]
        else:
            logits, means = base[0] + GAIN * raw[0], base[1] + GAIN * raw[1]
            log_scales = base[2] + log_scale_clamp(GAIN * raw[2])
        mixture = cls.__new__(cls)
        mixture._set(logits, means, log_scales)
        return mixture

    def _set(self, logits: Any, means: Any, log_scales: Any) -> None:
        # Components first, where sums over them are cheap.
        self._parameters = (ops.log_softmax(logits, axis=0), means, log_scales)

    @property
    def log_weights(self) -> Any:
        """Normalised log-weights, shape (..., K)."""
        return ops.moveaxis(self._parameters[0], 0, -1)

    @property
    def means(self) -> Any:
        """Means, shape (..., K)."""
        return ops.moveaxis(self._parameters[1], 0, -1)

    @property
    def log_scales(self) -> Any:
        """Logarithms of the standard deviations, shape (..., K)."""
        return ops.moveaxis(self._parameters[2], 0, -1)

    def gaussianize(self, x: Any) -> tuple[Any, Any]:
        """The normal scores $z = Φ^{-1}(F(x))$ and log|dz/dx| in nats, of x's shape (...)."""
        return numerics.gaussianize(*self._ready(x))

    def quantile(self, z: Any) -> Any:
        """The points whose normal scores are z, of z's shape; NaN where the search failed."""
        return numerics.quantile(*self._ready(z))

    def log_pdf(self, x: Any) -> Any:
        """Log-density in nats, of x's shape."""
        x, log_weights, means, log_scales = self._ready(x)
        u = (x - means) * ops.exp(-log_scales)
        terms = log_weights - log_scales - 0.5 * u * u
        return ops.logsumexp(terms, axis=0) - LOG_SQRT_2PI

    def pdf(self, x: Any) -> Any:
        """Density, of x's shape."""
        return ops.exp(self.log_pdf(x))

    def cdf(self, x: Any) -> Any:
        """Probability of a value up to x, of x's shape."""
        return 0.5 * ops.erfc(-SQRT_HALF * self.gaussianize(x)[0])

    def log_cdf(self, x: Any) -> Any:
        """Logarithm of the probability of a value up to x, finite in both tails."""
        return _log_normal_cdf(self.gaussianize(x)[0])

    def log_survival(self, x: Any) -> Any:
        """Logarithm of the probability of a value beyond x, finite in both tails."""
        return _log_normal_cdf(-self.gaussianize(x)[0])

    def _ready(self, x: Any) -> tuple[Any, ...]:
        x = ops.cast(ops.convert_to_tensor(x), self._parameters[1].dtype)
        rank = max(len(x.shape), len(self._parameters[1].shape) - 1)
        x = ops.reshape(x, (*[1] * (rank - len(x.shape)), *x.shape)) if rank > len(x.shape) else x
        return x, *(_of_rank(part, rank + 1) for part in self._parameters)


def _floating(values: Any) -> Any:
    tensor = ops.convert_to_tensor(values)
    return tensor if "float" in str(tensor.dtype) else ops.cast(tensor, "float32")


def _of_rank(parameters: Any, rank: int) -> Any:
    """Put axes of length one between the components and the batch axes."""
    missing = rank - len(parameters.shape)
    for _ in range(missing):
        parameters = ops.expand_dims(parameters, 1)
    return parameters


def _log_normal_cdf(z: Any) -> Any:
    below = ops.log(scaled_tail(ops.abs(z))) + standard_normal_log_density(z) + LOG_SQRT_2PI
    # Of two tails the smaller is exact, and the larger is one less it.
    return ops.where(z < 0, below, ops.log1p(-ops.exp(below)))
