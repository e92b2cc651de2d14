"""The learning rate of every step, as one array.

The epoch reads its rates from an array, so a new rate or schedule needs no compilation.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

_WARM_UP = 0.3
_START, _END = 1 / 25, 1e-4


def one_cycle(n_steps: int, peak: float) -> np.ndarray:
    r"""Rise along half a cosine to the peak, then fall along another to almost nothing.

    $$r(u) = a + (b - a) \tfrac{1}{2} (1 - \cos \pi u)$$

    from a = peak/25 to b = peak over the first 30 % of the steps, and on from there to 1e-4
    of the peak. Steps sit at the middle of their share of the time, so
    the schedule is sound from one step upwards.

    Args:
        n_steps: Number of steps.
        peak: The largest rate.

    Returns:
        Array of shape (n_steps,).

    References:
        Super-convergence: very fast training of neural networks using large learning
        rates, Smith and Topin, 2018.

    Example:
        >>> one_cycle(4, 1.0).round(3).tolist()
        [0.396, 0.972, 0.556, 0.077]
    """
    time = (np.arange(n_steps) + 0.5) / n_steps
    rising = time / _WARM_UP
    falling = (time - _WARM_UP) / (1 - _WARM_UP)
    rise = _START + (1 - _START) * (1 - np.cos(np.pi * rising)) / 2
    fall = 1 + (_END - 1) * (1 - np.cos(np.pi * falling)) / 2
    return peak * np.where(time < _WARM_UP, rise, fall)


def learning_rates(learning_rate: float | Callable, n_steps: int) -> np.ndarray:
    """Every step's rate, from a peak or from an optax schedule.

    Args:
        learning_rate: The peak of a one-cycle schedule, or a schedule: a function from
            the step's number to its rate.
        n_steps: Number of steps.

    Returns:
        Array of shape (n_steps,) in the default floating dtype.

    Raises:
        ValueError: If a rate is negative or not finite, or the peak not positive.
    """
    if callable(learning_rate):
        steps = jnp.arange(n_steps)
        rates = np.asarray(jax.vmap(lambda step: jnp.asarray(learning_rate(step)))(steps))
        if rates.shape != (n_steps,) or not (np.isfinite(rates) & (rates >= 0)).all():
            raise ValueError(
                "Expected a schedule whose rates are finite and not negative; "
                f"got {_first_fault(rates)}."
            )
    else:
        if not _is_number(learning_rate) or not 0 < learning_rate < math.inf:
            raise ValueError(
                "Expected learning_rate to be a positive number or an optax schedule; "
                f"got {learning_rate!r}."
            )
        rates = one_cycle(n_steps, float(learning_rate))
    return rates.astype(jnp.zeros(()).dtype)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _first_fault(rates: np.ndarray) -> str:
    if rates.ndim != 1:
        return f"rates of shape {rates.shape[1:]} for one step"
    step = int(np.argmin(np.isfinite(rates) & (rates >= 0)))
    return f"{rates[step]} at step {step}"
