"""What training must not lose: its weights to a NaN, its mode on the way to a conditioner."""

import importlib.util

import keras
import numpy as np
import pytest

from gauss_keras.autodiff import BACKEND, numbers
from gaussianization.gauss_keras import (
    ActNorm,
    FixedOrtho,
    GaussianizationFlow,
    Householder,
    MixtureCDFCoupling,
    MixtureCDFGaussianization,
    initialize_flow_from_ig,
    make_coupling_flow,
    make_gaussianization_flow,
)


def rows(n_rows=64, n_dims=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n_rows, n_dims)).astype("float32")


def with_nan(x):
    bad = x.copy()
    bad[3, 1] = np.nan
    return bad


def compiled(flow, **options):
    flow.compile("adam", **options)
    return flow


def trained_flow():
    flow = compiled(make_gaussianization_flow(2, 1, 3))
    flow.fit(rows(), verbose=0)
    return flow


@pytest.fixture(scope="module")
def seasoned():
    """A trained flow that bad input must leave as it is, and its log-densities."""
    flow = trained_flow()
    return flow, numbers(flow.log_prob(rows()))


class Batches(keras.utils.PyDataset):
    """Batches of 16 rows, of which nothing but their values can be looked at."""

    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return len(self.x) // 16

    def __getitem__(self, index):
        return (self.x[16 * index : 16 * index + 16],)


def data_sets():
    yield "PyDataset", Batches
    if BACKEND == "torch":
        from torch.utils.data import DataLoader

        yield "DataLoader", lambda x: DataLoader([(row,) for row in x], batch_size=16)
    if importlib.util.find_spec("tensorflow") and BACKEND == "tensorflow":
        import tensorflow as tf

        yield "tf.data", lambda x: tf.data.Dataset.from_tensor_slices((x,)).batch(16)


@pytest.mark.parametrize("made", [pytest.param(make, id=name) for name, make in data_sets()])
def test_nan_in_a_data_set_costs_no_weights(made):
    flow = trained_flow()
    before = [*flow.get_weights(), *(numbers(v) for v in flow.optimizer.variables)]
    with pytest.raises(ValueError, match="finite loss in epoch 1"):
        flow.fit(made(with_nan(rows())), verbose=0)
    after = [*flow.get_weights(), *(numbers(v) for v in flow.optimizer.variables)]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    history = flow.fit(made(rows()), verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_nan_in_the_first_training_costs_no_weights():
    flow = compiled(make_gaussianization_flow(2, 1, 3))
    before = flow.get_weights()
    with pytest.raises(ValueError, match="as it was before that epoch"):
        flow.fit(Batches(with_nan(rows())), verbose=0)
    for old, new in zip(before, flow.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.isfinite(flow.fit(rows(), verbose=0).history["loss"]).all()


def test_a_flow_without_weights_is_not_said_to_have_kept_them():
    flow = compiled(GaussianizationFlow([Householder(), MixtureCDFGaussianization(2)]))
    with pytest.raises(ValueError, match="finite loss in epoch 1") as error:
        flow.fit(Batches(with_nan(rows())), verbose=0)
    kept = all(np.isfinite(weight).all() for weight in flow.get_weights())
    assert kept == ("as it was before that epoch" in str(error.value))
    assert kept != ("make it anew" in str(error.value))


def test_a_diverged_training_goes_back_to_its_backup(tmp_path):
    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    class Break(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate.assign(1e30)

    first, second = (compiled(make_gaussianization_flow(2, 1, 3)) for _ in range(2))
    with pytest.raises(KeyboardInterrupt):
        first.fit(rows(), epochs=4, verbose=0, callbacks=[backup(), Stop()])
    with pytest.raises(ValueError, match="as it was before that epoch"):
        second.fit(rows(), epochs=4, verbose=0, callbacks=[backup(), Break()])
    for old, new in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(old, new, rtol=1e-6)


def test_a_flow_takes_its_own_tensors():
    flow = trained_flow()
    samples = flow.sample(16, seed=0)
    np.testing.assert_allclose(flow.predict(samples, verbose=0), numbers(flow(samples)), rtol=1e-5)


def test_layers_frozen_in_turn_keep_their_own_weights():
    flow = make_coupling_flow(2, 1, 3, hidden=(4,))
    _, first, second = flow.bijector_layers
    for on, off in ((first, second), (second, first)):
        on.trainable, off.trainable = True, False
        flow.compile(keras.optimizers.Adam(0.02))
        flow.fit(3 * rows(), epochs=3, verbose=0)
        expected = flow.evaluate(3 * rows(), verbose=0)
        np.testing.assert_allclose(-numbers(flow.log_prob(3 * rows())).mean(), expected, rtol=1e-4)


def test_a_diverged_training_keeps_the_epochs_before():
    flow = trained_flow()

    class Break(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.optimizer.learning_rate.assign(1e30)

    with pytest.raises(ValueError, match="smaller learning rate"):
        flow.fit(rows(), epochs=4, verbose=0, callbacks=[Break()])
    assert np.isfinite(numbers(flow.log_prob(rows()))).all()


@pytest.mark.parametrize(
    "method",
    ["fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch"],
)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (with_nan(rows()), r"x\[3, 1\]=nan"),
        (rows(n_dims=3), r"x.shape=\(64, 3\)"),
        (rows()[:, 0], r"x.shape=\(64,\)"),
        (rows()[:0], r"x.shape=\(0, 2\)"),
    ],
    ids=["NaN", "width", "rank", "empty"],
)
def test_bad_arrays_are_refused_and_the_flow_goes_on(method, bad, message, seasoned):
    flow, expected = seasoned
    with pytest.raises(ValueError, match=message):
        getattr(flow, method)(bad)
    np.testing.assert_allclose(numbers(flow.log_prob(rows())), expected, rtol=1e-6)
    assert numbers(flow.sample(3)).shape == (3, 2)


def test_bad_validation_data_are_refused(seasoned):
    with pytest.raises(ValueError, match=r"x\[3, 1\]=nan"):
        seasoned[0].fit(rows(), validation_data=(with_nan(rows()), None), verbose=0)


@pytest.mark.parametrize("layer", [ActNorm(), FixedOrtho(), MixtureCDFGaussianization(2)])
def test_a_layer_looks_at_its_values(layer):
    layer.build((None, 2))
    for value in (np.nan, np.inf):
        bad = rows()
        bad[2, 0] = value
        for method in (layer, layer.forward_and_log_det, layer.inverse_and_log_det, layer.inverse):
            with pytest.raises(ValueError, match=r"\[2, 0\]=(nan|inf)"):
                method(keras.ops.convert_to_tensor(bad))


@keras.saving.register_keras_serializable("test_training_faults")
class Witness(keras.layers.Layer):
    """Notes what it is told about training."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.told = set()

    def call(self, inputs, training=None):
        self.told.add(training)
        return inputs


def test_conditioners_know_when_they_are_trained():
    dense = keras.layers.Dense
    witness, norm = Witness(), keras.layers.BatchNormalization()
    network = keras.Sequential([dense(8, "relu"), witness, norm, dense(6)])
    layers = [MixtureCDFCoupling([True, False], network, 2)]
    flow = compiled(GaussianizationFlow(layers, input_dim=2), run_eagerly=False)
    witness.told.clear()
    flow.fit(rows(), epochs=2, verbose=0)
    assert True in witness.told
    assert np.abs(numbers(norm.moving_mean)).max() > 0
    witness.told.clear()
    held = numbers(norm.moving_mean)
    flow.predict(rows(), verbose=0)
    flow.log_prob(rows())
    assert True not in witness.told
    np.testing.assert_array_equal(numbers(norm.moving_mean), held)


def shared_flow():
    head = keras.layers.Dense(6, bias_initializer="random_normal")
    layers = [MixtureCDFCoupling(mask, head, 2) for mask in ([True, False], [False, True])]
    return GaussianizationFlow(layers, input_dim=2)


def test_a_shared_conditioner_stays_shared_in_files_and_configurations(tmp_path):
    flow = shared_flow()
    compiled(flow).fit(rows(), verbose=0)
    flow.save(tmp_path / "flow.keras")
    for twin in (
        keras.models.load_model(tmp_path / "flow.keras"),
        GaussianizationFlow.from_config(flow.get_config()),
    ):
        assert twin.count_params() == flow.count_params()
        assert twin.bijector_layers[0].conditioner is twin.bijector_layers[1].conditioner
        twin.set_weights(flow.get_weights())
        np.testing.assert_array_equal(
            numbers(twin.log_prob(rows())), numbers(flow.log_prob(rows()))
        )
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    np.testing.assert_array_equal(numbers(loaded.log_prob(rows())), numbers(flow.log_prob(rows())))


def test_a_warm_start_refuses_shared_weights():
    marginal = MixtureCDFGaussianization(3)
    repeated = GaussianizationFlow([marginal, Householder(), marginal], input_dim=2)
    for flow, places in ((repeated, "0 and 2"), (shared_flow(), "0 and 1")):
        before = flow.get_weights()
        with pytest.raises(ValueError, match=f"layers {places} share weights"):
            initialize_flow_from_ig(flow, rows())
        for old, new in zip(before, flow.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    rotation = FixedOrtho.random_haar(2, seed=1)
    kept = GaussianizationFlow(
        [rotation, MixtureCDFGaussianization(3), rotation, MixtureCDFGaussianization(3)], 2
    )
    z = initialize_flow_from_ig(kept, rows())
    np.testing.assert_allclose(numbers(kept.forward_and_log_det(rows())[0]), z, atol=1e-4)


def test_a_warm_start_refuses_what_its_precision_cannot_hold(x64):
    flow = make_gaussianization_flow(2, 1, 3)
    with pytest.raises(ValueError, match="Standardise"):
        initialize_flow_from_ig(flow, 1e-8 * rows())
    wide = make_gaussianization_flow(2, 1, 3, dtype="float64")
    z = initialize_flow_from_ig(wide, 1e-8 * rows(400).astype("float64"))
    assert np.abs(z.std(0) - 1.0).max() < 0.05


def test_what_compares_with_targets_needs_them():
    flow = trained_flow()
    for options in ({"metrics": ["mae"]}, {"weighted_metrics": ["mse"]}, {"loss": "mse"}):
        compiled(flow, **options)
        for method in (flow.fit, flow.evaluate):
            with pytest.raises(ValueError, match="Expected targets"):
                method(rows(), verbose=0)
        with pytest.raises(ValueError, match="Expected targets"):
            flow.fit(Batches(rows()), verbose=0)


def test_conditional_validation_data_look_like_the_data():
    flow = compiled(make_coupling_flow(2, 1, 2, hidden=(4,), condition_dim=1))
    x, condition = rows(), rows()[:, :1]
    options = {"verbose": 0, "batch_size": 64}
    history = flow.fit((x, condition), validation_data=(x, condition), **options).history
    loss = -float(np.mean(numbers(flow.log_prob(x, condition))))
    np.testing.assert_allclose(history["val_loss"][-1], loss, rtol=1e-5)
    again = initialize_flow_from_ig(flow, (x, condition))
    np.testing.assert_array_equal(again, initialize_flow_from_ig(flow, x, condition=condition))


@pytest.mark.parametrize("seed", [-1, 2**40, True, 0.5])
def test_bad_seeds_are_refused(seed, seasoned):
    with pytest.raises(ValueError, match="Received: seed="):
        seasoned[0].sample(3, seed=seed)


def test_whole_numbers_of_any_kind_are_seeds(seasoned):
    flow, _ = seasoned
    np.testing.assert_array_equal(
        numbers(flow.sample(3, seed=np.int64(3))), numbers(flow.sample(3, seed=3))
    )
