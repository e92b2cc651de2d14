"""The same flow in both libraries: parameters from Keras to `gauss_flows` and back.

Both build a layer from the same raw parameters, so that a converted flow is the same function:
`log_prob` and both directions agree to 1e-5 in float32 and to 1e-10 in float64, whichever backend
Keras runs on. This is the one part of `gauss_keras` that needs JAX.
"""

# Looked for by name, so that the message can say what to install.
try:
    import gauss_flows  # noqa: F401
except ImportError as error:
    raise ImportError(
        "gaussianization.gauss_keras.conversion needs gauss_flows and so JAX, whichever backend "
        "Keras runs on: pip install 'gauss-flows[jax]'"
    ) from error

from gaussianization.gauss_keras.conversion.to_jax import to_gauss_flows
from gaussianization.gauss_keras.conversion.to_keras import from_gauss_flows

__all__ = ["from_gauss_flows", "to_gauss_flows"]
