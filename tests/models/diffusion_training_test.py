import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd

PROFILES = [0.99, ksd.optimizers.PowerProfile(0.1)]


def make_model(policy=None, stratified=False, **kwargs):
    backbone = ksd.models.UViTBackbone(
        (4, 4, 1),
        channels=(16,),
        blocks=(1,),
        num_heads=2,
        embedding_dim=16,
        dropout=0.1,
        rematerialize=("transformer",) if policy else (),
        dtype=policy,
    )
    model = ksd.models.DiffusionModel(backbone, stratified=stratified)
    model.compile(ksd.optimizers.make_optimizer("adam", 2e-3), **kwargs)
    return model


def make_images(count=32):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 4, 4, 1), "uint8")


def watched(model):
    kind = ksd.optimizers.WatchedOptimizer
    return ksd.optimizers.find_optimizer(model.optimizer, kind)


def test_losses_by_noise_level():
    model = make_model(noise_level_bins=8)
    images = make_images(64)
    history = model.fit(images, batch_size=16, epochs=2, verbose=0).history
    names = [f"level_loss_{i}" for i in range(8)]
    assert set(history) == {"loss", *names}
    # The last epoch's: together they are the loss.
    totals = ops.convert_to_numpy(model.level_loss.totals)
    counts = ops.convert_to_numpy(model.level_loss.counts)
    assert counts.sum() == 64
    assert totals.sum() / 64 == pytest.approx(history["loss"][-1], rel=1e-5)
    values = model.evaluate(images, verbose=0, return_dict=True)
    assert set(values) == {"loss", *names}
    assert np.isfinite(list(values.values())).all()
    # Another `compile` replaces or ends them.
    model.compile(noise_level_bins=2)
    history = model.fit(images, batch_size=16, verbose=0).history
    assert set(history) == {"loss", "level_loss_0", "level_loss_1"}
    model.compile()
    history = model.fit(images, batch_size=16, verbose=0).history
    assert set(history) == {"loss"}


def test_stratified_times_cover_the_noise_levels():
    model = make_model(stratified=True, noise_level_bins=8)
    for _ in range(3):
        model.reset_metrics()
        model.train_on_batch(make_images(16))
        counts = ops.convert_to_numpy(model.level_loss.counts)
        np.testing.assert_array_equal(counts, [2.0] * 8)
    config = model.get_config()
    assert ksd.models.DiffusionModel.from_config(config).stratified


def test_the_loss_of_evaluate_is_not_stratified():
    images = make_images()
    values = []
    for stratified in (False, True):
        keras.utils.set_random_seed(0)
        model = make_model(stratified=stratified)
        values.append(model.evaluate(images, verbose=0))
    assert values[0] == values[1]


def test_weights_that_are_not_finite_are_found_in_their_step():
    model = make_model()
    optimizer = ksd.optimizers.make_optimizer(gradient_accumulation_steps=2)
    model.compile(optimizer, watch=True)
    losses = []

    class Spoil(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                weight = self.model.trainable_variables[0]
                weight.assign(np.full(weight.shape, np.nan, "float32"))

        def on_train_batch_end(self, batch, logs=None):
            losses.append(logs["loss"])

    model.fit(make_images(), batch_size=8, callbacks=[Spoil()], verbose=0)
    assert np.isfinite(losses[1]) and np.isnan(losses[2])
    assert watched(model).report()["first_bad_step"] == 2


def test_several_averages_are_saved(tmp_path):
    model = make_model(
        ema_decay=PROFILES, watch=True, noise_level_bins=4, stratified=True
    )
    model.fit(make_images(), batch_size=8, verbose=0)

    def weights(model, profile):
        with model.averaged_weights(profile):
            return [ops.convert_to_numpy(w).copy() for w in model.weights]

    # The first is that of the preset.
    model.save_to_preset(tmp_path / "preset")
    saved = ksd.models.DiffusionModel.from_preset(str(tmp_path / "preset"))
    first, second = weights(model, 0), weights(model, PROFILES[1])
    for value, weight in zip(first, saved.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)
    assert (
        max(np.abs(a - b).max() for a, b in zip(first, second, strict=True))
        > 1e-4
    )
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.stratified and copy.level_loss.num_bins == 4
    for value, other in zip(second, weights(copy, PROFILES[1]), strict=True):
        np.testing.assert_array_equal(other, value)
    for a, b in zip(
        copy.optimizer.variables, model.optimizer.variables, strict=True
    ):
        assert a.path == b.path
        np.testing.assert_array_equal(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        )


def test_paths_are_unique_and_the_same_for_every_model():
    def paths():
        model = make_model(
            "mixed_float16", ema_decay=PROFILES, watch=True, noise_level_bins=4
        )
        model.optimizer.build(model.trainable_variables)
        lists = (
            model.variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
        return [[v.path for v in variables] for variables in lists]

    first = paths()
    assert all(len(set(names)) == len(names) for names in first)
    assert paths() == first


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_everything_in_half_precision(policy):
    model = make_model(
        policy,
        stratified=True,
        ema_decay=PROFILES,
        watch=True,
        noise_level_bins=8,
    )
    history = model.fit(make_images(), batch_size=8, epochs=2, verbose=0)
    assert all(np.isfinite(values).all() for values in history.history.values())
    assert watched(model).report()["first_bad_step"] == -1
    assert 0 < watched(model).report()["gradient_norm"] < 100
    kind = ksd.optimizers.AveragedOptimizer
    averaged = ksd.optimizers.find_optimizer(model.optimizer, kind)
    for average in averaged.averages_by_path(PROFILES[1]).values():
        assert average.dtype == "float32"
        assert np.isfinite(ops.convert_to_numpy(average)).all()
