"""A stack of bijectors over a standard normal, as a Keras model."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
from keras import ops

from gaussianization.gauss_keras.bijectors.base import (
    Bijector,
    as_state,
    check_built,
    check_count,
    check_finite,
    check_rows,
    check_seed,
    check_width,
)
from gaussianization.gauss_keras.bijectors.coupling import shared_conditioners
from gaussianization.gauss_keras.bijectors.inputs import as_pair
from gaussianization.gauss_keras.bijectors.likelihood_model import LikelihoodModel
from gaussianization.gauss_keras.bijectors.program import Programs
from gaussianization.gauss_keras.losses import base_nll_loss
from gaussianization.gauss_keras.registration import REGISTER


@REGISTER
class GaussianizationFlow(LikelihoodModel):
    r"""A density $p(x)$ and its sampler: bijectors from data to a standard normal.

    $$z = f_L \circ \cdots \circ f_1(x), \qquad
    \log p(x) = \log\varphi(z) + \sum_l \log|\det \partial f_l|.$$

    It is trained like any Keras model, without targets: ``flow.compile("adam")`` and
    ``flow.fit(x)``. The loss that is reported is the full negative log-likelihood in nats, the
    mean of ``-log_prob``. A conditional flow takes pairs: ``flow.fit((x, condition))``. A data
    set that yields pairs must yield them as ``((x, condition),)``, since Keras reads a bare pair
    as inputs and targets.

    Args:
        bijectors: Layers from data to latent.
        input_dim: Number of coordinates d; if given, the flow is built at once, and else when it
            first sees data.
        **kwargs: `name` and `dtype`, as of any Keras model.

    Raises:
        ValueError: If there are no bijectors, something else is among them, or their conditions
            differ in width.

    References:
        Meng, Song, Song & Ermon (2020), *Gaussianization Flows*.

    Example:
        >>> import numpy as np
        >>> from gaussianization.gauss_keras import make_gaussianization_flow
        >>> x = np.random.default_rng(0).gamma(2.0, size=(500, 2)).astype("float32")
        >>> flow = make_gaussianization_flow(input_dim=2, num_blocks=2)
        >>> flow.compile("adam")
        >>> history = flow.fit(x, epochs=2, verbose=0)
        >>> tuple(flow.log_prob(x).shape), tuple(flow.sample(3, seed=1).shape)
        ((500,), (3, 2))
    """

    def __init__(self, bijectors: Sequence[Bijector], input_dim: int | None = None, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        bijectors = list(bijectors) if isinstance(bijectors, Iterable) else [bijectors]
        strangers = [layer for layer in bijectors if not isinstance(layer, Bijector)]
        if not bijectors or strangers:
            raise ValueError(
                f"Expected one or more bijectors. Received: bijectors={strangers or bijectors}"
            )
        widths = {b.condition_dim for b in bijectors if b.condition_dim is not None}
        if len(widths) > 1:
            raise ValueError(
                "Expected bijectors that read conditions of one width. "
                f"Received: condition_dim={sorted(widths)}"
            )
        self.condition_dim = widths.pop() if widths else None
        self.bijector_layers = bijectors
        self._programs = Programs(self)
        if input_dim is not None:
            self.build((None, check_count(input_dim, "input_dim")))

    @property
    def state_dtype(self) -> str:
        """The dtype of data, latents and log-determinants: float32 or float64."""
        return self.bijector_layers[0].state_dtype

    def build(self, input_shape: Any) -> None:
        """Build all bijectors.

        Args:
            input_shape: (batch, d), or a pair of it and the condition's shape.
        """
        if isinstance(input_shape[0], (tuple, list)):
            input_shape = input_shape[0]
        for layer in self.bijector_layers:
            if not layer.built:
                layer.build(input_shape)
        self.input_dim = int(input_shape[1])
        self.built = True

    def call(self, inputs: Any, condition: Any = None, training: bool | None = None) -> Any:
        """Map data to latents.

        Args:
            inputs: Data x, shape (batch, d), or a pair of it and the condition.
            condition: The condition, shape (batch, condition_dim), of a conditional flow.
            training: As of any Keras model.

        Returns:
            z, shape (batch, d).
        """
        x, condition = as_pair(inputs, condition)
        x, condition = self._checked(x, condition, finite=not training)
        inputs = (x,) if condition is None else (x, condition)
        z, log_det = self._programs.in_call(self._forward, *inputs, training=training)
        self.record_log_det(log_det)
        return z

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """The shape of z, which is that of x."""
        return tuple(input_shape[0] if isinstance(input_shape[0], (tuple, list)) else input_shape)

    def compute_output_spec(
        self, inputs: Any, condition: Any = None, training: bool | None = None
    ) -> keras.KerasTensor:
        """Z of x's shape in the flow's state dtype."""
        x, _ = as_pair(inputs, condition)
        if self.built:
            check_width(x, self.input_dim, "inputs", self.name)
        return keras.KerasTensor(x.shape, dtype=self.state_dtype)

    def forward_and_log_det(self, x: Any, condition: Any = None) -> tuple[Any, Any]:
        """Map data to latents.

        Args:
            x: Data, shape (batch, d).
            condition: The condition, shape (batch, condition_dim), of a conditional flow.

        Returns:
            z, shape (batch, d), and log|det ∂z/∂x| in nats, shape (batch,).

        Raises:
            ValueError: If the flow is not built, a shape does not fit or a value is not finite.
        """
        return self._run(self._forward, x, condition)

    def inverse_and_log_det(self, z: Any, condition: Any = None) -> tuple[Any, Any]:
        """Map latents to data.

        Args:
            z: Latents, shape (batch, d).
            condition: The condition, shape (batch, condition_dim), of a conditional flow.

        Returns:
            x, shape (batch, d), and log|det ∂x/∂z| in nats, shape (batch,).

        Raises:
            ValueError: If the flow is not built, a shape does not fit or a value is not finite.
        """
        return self._run(self._inverse, z, condition, name="z")

    def invert(self, z: Any, condition: Any = None) -> Any:
        """The data x, shape (batch, d), whose latents are z; see `inverse_and_log_det`."""
        return self._run(self._invert, z, condition, name="z")

    def forward_with_intermediates(self, x: Any, condition: Any = None) -> list[Any]:
        """Every state on the way from x to z.

        Args:
            x: Data, shape (batch, d).
            condition: The condition, shape (batch, condition_dim), of a conditional flow.

        Returns:
            x itself and what each bijector made of it, one more than there are bijectors.
        """
        return self._run(self._states, x, condition)

    def log_prob(self, x: Any, condition: Any = None) -> Any:
        """Log-density of data.

        Args:
            x: Data, shape (batch, d).
            condition: The condition, shape (batch, condition_dim), of a conditional flow.

        Returns:
            log p(x) in nats, shape (batch,).

        Raises:
            ValueError: If the flow is not built, a shape does not fit or a value is not finite.
        """
        z, log_det = self.forward_and_log_det(x, condition)
        return log_det - base_nll_loss(None, z)

    def sample(self, num_samples: int, seed: Any = None, condition: Any = None) -> Any:
        """Draw from the density.

        Args:
            num_samples: Number of draws.
            seed: A whole number, a `keras.random.SeedGenerator`, or `None` for Keras's own.
            condition: The condition of a conditional flow: shape (num_samples, condition_dim), or
                (condition_dim,) for all draws.

        Returns:
            x, shape (num_samples, d).

        Raises:
            ValueError: If the flow is not built, num_samples is below 1, or the seed or the
                condition does not fit.
        """
        check_built(self)
        num_samples = check_count(num_samples, "num_samples")
        if condition is not None:
            condition = as_state(condition, self.state_dtype)
            if len(condition.shape) == 1:
                condition = ops.broadcast_to(condition, (num_samples, condition.shape[0]))
            if condition.shape[0] != num_samples:
                raise ValueError(
                    f"Expected a condition of {num_samples} rows, one a draw, or of shape "
                    f"({self.condition_dim},). Received: condition.shape={tuple(condition.shape)}"
                )
        seed = check_seed(seed)
        z = keras.random.normal((num_samples, self.input_dim), seed=seed, dtype=self.state_dtype)
        return self.invert(z, condition)

    def get_config(self) -> dict[str, Any]:
        """The flow's bijectors and its number of coordinates."""
        return {
            **super().get_config(),
            "bijectors": [keras.saving.serialize_keras_object(b) for b in self.bijector_layers],
            "shared_conditioners": shared_conditioners(self.bijector_layers),
            "input_dim": self.input_dim,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The flow of a configuration."""
        config = dict(config)
        earlier = dict(config.pop("shared_conditioners", []))
        bijectors: list[Any] = []
        for index, layer in enumerate(config.pop("bijectors")):
            if index in earlier:
                own = {**layer["config"], "conditioner": bijectors[earlier[index]].conditioner}
                layer = {**layer, "config": own}
            bijectors.append(
                keras.saving.deserialize_keras_object(layer, custom_objects=custom_objects)
            )
        return cls(bijectors, **config)

    def _run(self, method: Callable[..., Any], x: Any, condition: Any, name: str = "x") -> Any:
        x, condition = self._checked(*as_pair(x, condition), name=name)
        if x.shape[0] == 0:
            raise ValueError(
                f"Expected at least one row in {name}. Received: {name}.shape={tuple(x.shape)}"
            )
        inputs = (x,) if condition is None else (x, condition)
        return self._programs.run(method, *inputs)

    def _forward(self, x: Any, condition: Any = None) -> tuple[Any, Any]:
        total = None
        for layer in self.bijector_layers:
            x, log_det = layer.forward_unseen(x, condition)
            total = log_det if total is None else total + log_det
        return x, total

    def _inverse(self, x: Any, condition: Any = None) -> tuple[Any, Any]:
        total = None
        for layer in reversed(self.bijector_layers):
            x, log_det = layer.inverse_unseen(x, condition)
            total = log_det if total is None else total + log_det
        return x, total

    def _invert(self, x: Any, condition: Any = None) -> Any:
        for layer in reversed(self.bijector_layers):
            x = layer.invert_unseen(x, condition)
        return x

    def _states(self, x: Any, condition: Any = None) -> list[Any]:
        states = [x]
        for layer in self.bijector_layers:
            states.append(layer.forward_unseen(states[-1], condition)[0])
        return states

    def _checked(
        self, x: Any, condition: Any, *, name: str = "x", finite: bool = True
    ) -> tuple[Any, Any]:
        check_built(self)
        x = as_state(x, self.state_dtype)
        check_width(x, self.input_dim, name, self.name)
        if (condition is None) != (self.condition_dim is None):
            wanted = (
                "no condition"
                if self.condition_dim is None
                else f"a condition of shape (batch, {self.condition_dim})"
            )
            got = "None" if condition is None else f"one of shape {tuple(condition.shape)}"
            raise ValueError(f"Expected {wanted} in '{self.name}'. Received: condition={got}")
        if condition is not None:
            condition = as_state(condition, self.state_dtype)
            check_width(condition, self.condition_dim, "condition", self.name)
            check_rows(x, condition, name, self.name)
        if finite:
            check_finite(x, name)
            check_finite(condition, "condition")
        return x, condition
