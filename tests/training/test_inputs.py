"""Every fault of the trainer's inputs has a message that says what was expected and found."""

import re

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flowjax.bijections import AdditiveCondition
from flowjax.distributions import Normal, Transformed

from gauss_flows.training import fit_gaussianization_flow
from training.affine_flow import affine_flow, rows, standard_normal


class _Shift:
    def __call__(self, condition):
        return condition[:2]


CONDITIONAL = Transformed(standard_normal(2), AdditiveCondition(_Shift(), (2,), (3,)))
X = rows(10)


def with_value(value, row, column):
    x = X.copy()
    x[row, column] = value
    return x


FAULTS = {
    "one-dimensional": ({"x": X[:, 0]}, "Expected x of shape (n_rows, 2); got shape (10,)"),
    "three-dimensional": ({"x": X[None]}, "got shape (1, 10, 2)"),
    "no rows": ({"x": X[:0]}, "Expected x to have rows; got none"),
    "too wide": ({"x": rows(10, 3)}, "Expected x to have 2 columns, as the flow has; got 3"),
    "strings": ({"x": X.astype(str)}, "Expected x to hold real numbers; got dtype <U"),
    "objects": ({"x": np.array([[None, 1]])}, "real numbers; got dtype object"),
    "complex": ({"x": X + 1j}, "real numbers; got dtype complex128"),
    "nan": ({"x": with_value(np.nan, 3, 1)}, "got nan in row 3, column 1."),
    "infinite": ({"x": with_value(-np.inf, 9, 0)}, "got -inf in row 9, column 0."),
    "two faults": (
        {"x": np.where(np.eye(10, 2), np.nan, X)},
        "got nan in row 0, column 0, and 1 more such value.",
    ),
    "more faults": (
        {"x": np.full((2, 2), np.nan)},
        "Expected finite values in x; got nan in row 0, column 0, and 3 more such values.",
    ),
    "overflow": (
        {"x": with_value(-1e300, 2, 0)},
        "Expected values of x within the range of float32; got -1e+300 in row 2, column 0. "
        "Standardise x first.",
    ),
    "condition overflow": (
        {"flow": CONDITIONAL, "condition": np.full((10, 3), 1e39)},
        "Expected values of condition within the range of float32; got 1e+39 in row 0, column 0, "
        "and 29 more such values. Standardise condition first.",
    ),
    "nan and overflow": (
        {"x": np.where(np.arange(20).reshape(10, 2) == 19, np.nan, 1e300)},
        "Expected finite values in x; got nan in row 9, column 1.",
    ),
    "no condition": ({"flow": CONDITIONAL}, "Expected a condition of shape (3,)"),
    "a condition": ({"condition": X}, "Expected no condition, as the flow has it; got one"),
    "condition rows": (
        {"flow": CONDITIONAL, "condition": np.zeros((9, 3))},
        "one row of condition for each of the 10 rows of x; got 9",
    ),
    "condition width": (
        {"flow": CONDITIONAL, "condition": np.zeros((10, 2))},
        "Expected condition to have 3 columns, as the flow has; got 2",
    ),
    "condition nan": (
        {"flow": CONDITIONAL, "condition": np.full((10, 3), np.nan)},
        "finite values in condition; got nan in row 0",
    ),
    "weight shape": ({"sample_weight": np.ones(9)}, "sample_weight of shape (10,); got (9,)"),
    "weight sign": ({"sample_weight": [1] * 9 + [-2]}, "got -2.0 in row 9"),
    "weight nan": ({"sample_weight": [np.nan] * 10}, "got nan in row 0"),
    "weight sum": ({"sample_weight": np.zeros(10)}, "Expected a positive weight; got none"),
    "batch_size 0": ({"batch_size": 0}, "batch_size to be an integer of at least 1; got 0"),
    "batch_size 1.5": ({"batch_size": 1.5}, "batch_size to be an integer"),
    "max_epochs": ({"max_epochs": 0}, "max_epochs to be an integer of at least 1; got 0"),
    "max_steps": ({"max_steps": -1}, "max_steps to be an integer of at least 1; got -1"),
    "patience": ({"patience": 0}, "Expected patience to be at least 1 or None; got 0"),
    "patience nan": ({"patience": float("nan")}, "Expected patience"),
    "val_prop 1": ({"val_prop": 1.0}, "Expected val_prop in [0, 1); got 1.0"),
    "val_prop -": ({"val_prop": -0.1}, "Expected val_prop in [0, 1); got -0.1"),
    "clip_norm": ({"clip_norm": 0}, "Expected clip_norm to be positive or None; got 0"),
    "rate 0": ({"learning_rate": 0.0}, "a positive number or an optax schedule; got 0.0"),
    "rate word": ({"learning_rate": "fast"}, "or an optax schedule; got 'fast'"),
    "schedule": ({"learning_rate": lambda step: -step}, "got -1"),
    "schedule shape": ({"learning_rate": lambda step: jnp.ones(2)}, "rates of shape (2,)"),
    "optimizer": ({"optimizer": "adam"}, "Expected an optax optimizer or None; got 'adam'"),
    "optimizer and rate": (
        {"optimizer": optax.adam(1e-3), "learning_rate": 1e-3},
        "Expected optimizer or learning_rate, not both",
    ),
    "checkpoint_every": ({"checkpoint_every": 0}, "checkpoint_every to be an integer"),
    "key": ({"key": 0}, "Expected a jax random key; got 0"),
    "keys": ({"key": jr.split(jr.key(0))}, "Expected one jax random key"),
    "no flow": ({"flow": "flow"}, "Expected a flow over vectors"),
    "scalar flow": ({"flow": Normal()}, "got Normal of shape ()"),
    "nothing to train": ({"flow": standard_normal(2)}, "Expected a flow with arrays to train"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_message(name):
    changed, message = FAULTS[name]
    options = {"key": jr.key(0), "flow": affine_flow(), "x": X, "show_progress": False} | changed
    arguments = [options.pop(part) for part in ("key", "flow", "x")]
    with pytest.raises(ValueError, match=re.escape(message)):
        fit_gaussianization_flow(*arguments, **options)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_, np.float16, np.float64])
def test_real_dtypes_are_taken(dtype):
    x = (rows(20) > 3).astype(dtype)
    flow, losses = fit_gaussianization_flow(
        jr.key(0), affine_flow(), x, max_epochs=1, show_progress=False
    )
    assert flow.bijection.loc.dtype == jnp.float32
    assert len(losses["train"]) == 1


def test_values_beyond_float32_are_taken_in_float64(x64):
    x = with_value(1e39, 2, 0)
    _, losses = fit_gaussianization_flow(
        jr.key(0), affine_flow(), x, max_epochs=1, show_progress=False
    )
    assert np.isfinite(losses["train"]).all()


def test_an_old_style_key_is_taken():
    import jax

    for key in (jax.random.PRNGKey(0), jr.key(0)):
        _, losses = fit_gaussianization_flow(
            key, affine_flow(), X, max_epochs=1, show_progress=False
        )
        assert len(losses["train"]) == 1
