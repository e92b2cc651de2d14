"""The flow under Keras's own training: losses, weights, data sets, callbacks and devices."""

import importlib.util

import keras
import numpy as np
import pytest

from gauss_keras.autodiff import BACKEND, numbers
from gaussianization.gauss_keras import (
    ActNorm,
    AffineCoupling,
    GaussianizationFlow,
    base_nll_loss,
    make_coupling_flow,
)


def rows(n_rows=48, n_dims=2, seed=1):
    return np.random.default_rng(seed).normal(1.0, 2.0, size=(n_rows, n_dims)).astype("float32")


def small_flow(condition_dim=None):
    """A cheap flow, always with the same weights."""
    layers = [ActNorm(), AffineCoupling([True, False], hidden=(4,), condition_dim=condition_dim)]
    flow = GaussianizationFlow(layers, input_dim=2)
    rng = np.random.default_rng(0)
    for weight in flow.trainable_variables:
        weight.assign(0.3 * rng.normal(size=tuple(weight.shape)))
    return flow


def trained(x, *args, optimizer=None, loss=None, compile_options=None, **options):
    """A small flow and the losses of its training."""
    flow = small_flow(condition_dim=options.pop("condition_dim", None))
    flow.compile(optimizer or keras.optimizers.Adam(0.05), loss=loss, **(compile_options or {}))
    options = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0, **options}
    history = flow.fit(x, *args, **options)
    return flow, history.history


def mean_nll(flow, x, **options):
    return -float(np.mean(numbers(flow.log_prob(x, **options)).astype(float)))


def test_targets_make_no_difference():
    x = rows()
    flow, history = trained(x)
    other, with_targets = trained(x, x, loss=base_nll_loss)
    np.testing.assert_allclose(history["loss"], with_targets["loss"], rtol=1e-6)
    for weight, twin in zip(flow.weights, other.weights, strict=True):
        np.testing.assert_allclose(numbers(weight), numbers(twin), rtol=1e-5, atol=1e-6)


def test_the_loss_is_the_negative_log_likelihood():
    x = rows()
    start = mean_nll(small_flow(), x)
    flow, history = trained(x, batch_size=48)
    np.testing.assert_allclose(history["loss"][0], start, rtol=1e-5)
    assert history["loss"][-1] < start
    for args in ((x,), (x, x)):
        found = flow.evaluate(*args, batch_size=20, verbose=0)
        np.testing.assert_allclose(found, mean_nll(flow, x), rtol=1e-5)


def test_the_loss_of_a_mixture_flow_is_too():
    x = rows()
    flow = make_coupling_flow(2, num_blocks=1, num_components=2, hidden=(4,))
    flow.compile(optimizer=keras.optimizers.Adam(1e-2), loss=base_nll_loss)
    start = mean_nll(flow, x)
    history = flow.fit(x, x, batch_size=48, epochs=3, verbose=0).history["loss"]
    np.testing.assert_allclose(history[0], start, rtol=1e-5)
    assert history[-1] < start
    np.testing.assert_allclose(flow.evaluate(x, verbose=0), mean_nll(flow, x), rtol=1e-5)


def test_a_weight_weighs_the_whole_likelihood():
    x = rows()
    weights = np.random.default_rng(3).gamma(1.0, size=len(x)).astype("float32")
    flow = small_flow()
    flow.compile("adam")
    log_prob = numbers(flow.log_prob(x)).astype(float)
    for args in ((x,), (x, x)):
        found = flow.evaluate(*args, sample_weight=weights, batch_size=len(x), verbose=0)
        np.testing.assert_allclose(found, -np.mean(weights * log_prob), rtol=1e-5)
    # Rows of weight zero might as well not be there.
    kept = np.where(np.arange(len(x)) % 2 == 0, 2.0, 0.0).astype("float32")
    half, _ = trained(x[::2], batch_size=24, epochs=1)
    all_rows, _ = trained(x, sample_weight=kept, batch_size=48, epochs=1)
    for weight, twin in zip(half.weights, all_rows.weights, strict=True):
        np.testing.assert_allclose(numbers(weight), numbers(twin), rtol=1e-4, atol=1e-5)


def test_metrics_are_kept():
    _, history = trained(rows(), rows(), compile_options={"metrics": ["mse"]})
    assert set(history) == {"loss", "mse"}


def test_a_conditional_flow_is_fitted_to_pairs():
    x, condition = rows(), rows(n_dims=3, seed=2)
    start = mean_nll(small_flow(3), x, condition=condition)
    flow, history = trained((x, condition), condition_dim=3, batch_size=48)
    np.testing.assert_allclose(history["loss"][0], start, rtol=1e-5)
    assert history["loss"][-1] < start
    found = flow.evaluate((x, condition), verbose=0)
    np.testing.assert_allclose(found, mean_nll(flow, x, condition=condition), rtol=1e-5)
    z = flow.predict((x, condition), verbose=0)
    np.testing.assert_allclose(z, numbers(flow(x, condition=condition)), atol=1e-5)


def test_predict_gives_the_latents():
    flow = small_flow()
    x = rows()
    np.testing.assert_allclose(flow.predict(x, verbose=0), numbers(flow(x)), atol=1e-6)


@pytest.mark.parametrize("targets", [False, True])
def test_validation_split(targets):
    x = rows()
    args = (x, x) if targets else (x,)
    flow, history = trained(*args, validation_split=0.25)
    np.testing.assert_allclose(history["val_loss"][-1], mean_nll(flow, x[36:]), rtol=1e-5)


@pytest.mark.parametrize("data", ["array", "pair"])
def test_validation_data(data):
    x, held_out = rows(), rows(20, seed=5)
    given = held_out if data == "array" else (held_out, held_out)
    flow, history = trained(x, validation_data=given)
    np.testing.assert_allclose(history["val_loss"][-1], mean_nll(flow, held_out), rtol=1e-5)


def test_early_stopping():
    x = rows()
    flow, history = trained(
        x,
        optimizer=keras.optimizers.Adam(1.0),
        epochs=30,
        validation_split=0.25,
        callbacks=[keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)],
    )
    assert len(history["val_loss"]) < 30
    assert min(history["val_loss"]) < history["val_loss"][-1]
    np.testing.assert_allclose(mean_nll(flow, x[36:]), min(history["val_loss"]), rtol=1e-5)


def test_model_checkpoint(tmp_path):
    path = tmp_path / "best.keras"
    x = rows()
    flow, history = trained(
        x, callbacks=[keras.callbacks.ModelCheckpoint(path, monitor="loss", save_best_only=True)]
    )
    assert history["loss"][1] < history["loss"][0]
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(numbers(loaded.log_prob(x)), numbers(flow.log_prob(x)))


class Stop(keras.callbacks.Callback):
    """Fails after an epoch, as a machine does."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_backup_and_restore(tmp_path):
    """Cut off after two epochs of four, and called again, training ends where it would have."""
    x = rows()

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)

    whole, _ = trained(x, epochs=4)
    with pytest.raises(KeyboardInterrupt):
        trained(x, epochs=4, callbacks=[backup(), Stop()])
    resumed, history = trained(x, epochs=4, callbacks=[backup()])
    assert len(history["loss"]) < 4
    for weight, twin in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(numbers(weight), numbers(twin), rtol=1e-5, atol=1e-6)


def test_a_loaded_flow_trains_on(tmp_path):
    x = rows()
    flow, _ = trained(x, loss=base_nll_loss)
    flow.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    np.testing.assert_allclose(loaded.evaluate(x, verbose=0), mean_nll(flow, x), rtol=1e-5)
    options = {"batch_size": 16, "epochs": 1, "shuffle": False, "verbose": 0}
    losses = [model.fit(x, **options).history["loss"] for model in (flow, loaded)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for weight, twin in zip(flow.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(numbers(weight), numbers(twin), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(
    BACKEND == "torch",
    reason="off by default on PyTorch, where it takes a C++ compiler; not covered here",
)
def test_jit_compile():
    x = rows(32)
    flow = make_coupling_flow(2, num_blocks=1, num_components=2, hidden=(3,))
    start = mean_nll(flow, x)
    flow.compile(keras.optimizers.Adam(1e-2), jit_compile=True)
    losses = flow.fit(x, batch_size=32, epochs=3, verbose=0).history["loss"]
    np.testing.assert_allclose(losses[0], start, rtol=1e-5)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(flow.evaluate(x, verbose=0), mean_nll(flow, x), rtol=1e-5)


def test_run_eagerly():
    _, history = trained(rows(), epochs=1, compile_options={"run_eagerly": True})
    _, expected = trained(rows(), epochs=1)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)


needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)


@needs_tensorflow
@pytest.mark.parametrize("kind", ["x", "pair", "conditional"])
def test_tf_data(kind):
    import tensorflow as tf

    x, condition = rows(), rows(n_dims=3, seed=2)
    parts = {"x": x, "pair": (x, x), "conditional": ((x, condition),)}[kind]
    arrays = (x, condition) if kind == "conditional" else x
    width = 3 if kind == "conditional" else None
    data = tf.data.Dataset.from_tensor_slices(parts).batch(16)
    flow, history = trained(data, batch_size=None, condition_dim=width, validation_data=data)
    _, expected = trained(arrays, condition_dim=width)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    given = {"condition": condition} if kind == "conditional" else {}
    np.testing.assert_allclose(history["val_loss"][-1], mean_nll(flow, x, **given), rtol=1e-5)


@needs_torch
@pytest.mark.parametrize("targets", [False, True])
def test_torch_data_loader(targets):
    import torch

    x = torch.from_numpy(rows())
    data = torch.utils.data.TensorDataset(*([x, x] if targets else [x]))
    loader = torch.utils.data.DataLoader(data, batch_size=16)
    _, history = trained(loader, batch_size=None)
    _, expected = trained(rows())
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)


def test_a_generator_of_keras():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return (rows()[16 * index : 16 * (index + 1)],)

    _, history = trained(Batches(), batch_size=None)
    _, expected = trained(rows())
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)


@pytest.mark.skipif(BACKEND != "jax", reason="Keras distributes on the JAX backend")
def test_data_parallel_training_is_the_same_training():
    import jax

    devices = jax.devices()
    assert len(devices) >= 2, "conftest asks XLA for two"
    x = rows()
    alone, expected = trained(x)
    log_prob = numbers(alone.log_prob(x))
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices[:2]))
    try:
        flow, history = trained(x)
        assert len(flow.trainable_variables[0].value.sharding.device_set) == 2
        evaluated = flow.evaluate(x, batch_size=16, verbose=0)
        found = numbers(flow.log_prob(x))
        sampled = numbers(flow.sample(8, seed=1))
    finally:
        keras.distribution.set_distribution(None)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(evaluated, -np.mean(log_prob), rtol=1e-4)
    np.testing.assert_allclose(found, log_prob, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(sampled, numbers(alone.sample(8, seed=1)), rtol=1e-4, atol=1e-4)


def test_an_outlier_does_not_end_training():
    x = rows()
    x[5] = [1e6, -1e6]
    flow, history = trained(x, epochs=1)
    assert np.all(np.isfinite(history["loss"]))
    assert all(np.all(np.isfinite(numbers(weight))) for weight in flow.weights)
