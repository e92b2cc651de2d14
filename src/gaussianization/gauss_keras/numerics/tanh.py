"""The hyperbolic tangent in the precision of its argument."""

from typing import Any

from keras import backend, ops


def tanh(x: Any) -> Any:
    """The hyperbolic tangent; `ops.tanh` rounds float64 to float32 on JAX.

    Args:
        x: A tensor of floating-point numbers.

    Returns:
        A tensor of the same shape and dtype, right to a unit of rounding at 1.

    Example:
        >>> from keras import ops
        >>> from gaussianization.gauss_keras.numerics.tanh import tanh
        >>> print(f"{float(tanh(ops.convert_to_tensor(0.5))):.6f}")
        0.462117
    """
    if backend.standardize_dtype(x.dtype) != "float64":
        return ops.tanh(x)
    return 2.0 * ops.sigmoid(2.0 * x) - 1.0
