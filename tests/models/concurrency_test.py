"""Drawing in several threads, and while another thread trains."""

import gc
import threading
import time
import weakref

import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.backend import compilation
from keras_simple_diffusion.generation import programs
from keras_simple_diffusion.models.step_lock import StepLock
from tests.helpers.models import make_transformer
from tests.helpers.models import randomize

DRAW = {"labels": [0, 1, 2], "num_steps": 4, "seed": 0}


def make_model(decay=0.9):
    keras.utils.set_random_seed(1)
    backbone = ksd.models.UViTBackbone(
        (4, 4, 1), (16,), (1,), num_heads=2, embedding_dim=16, num_classes=3
    )
    model = ksd.models.DiffusionModel(backbone)
    model.compile(keras.optimizers.Adam(1e-2), ema_decay=decay)
    return model


def make_data(count=32):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 4, 4, 1), "uint8")
    return {"images": images, "labels": np.arange(count, dtype="int32") % 3}


def weights_of(model):
    return [ops.convert_to_numpy(w).copy() for w in model.backbone.weights]


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def in_threads(count, work):
    """Run a function in threads; return results, or raise the first error."""
    results, errors = [], []

    def run():
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error
    return results


def test_threads_draw_the_images_of_one_and_keep_the_weights():
    model = make_model()
    model.fit(make_data(), batch_size=8, epochs=2, verbose=0, shuffle=False)
    expected, raw = model.generate(**DRAW), weights_of(model)
    drawn = in_threads(4, lambda: [model.generate(**DRAW) for _ in range(5)])
    for images in sum(drawn, []):
        np.testing.assert_array_equal(images, expected)
    assert_same(weights_of(model), raw)


def test_drawing_beside_a_training_changes_neither():
    alone, other = make_model(), make_model()
    for model in (alone, other):
        model.fit(make_data(), batch_size=8, epochs=1, verbose=0, shuffle=False)
    expected = other.generate(**DRAW)
    alone.fit(make_data(), batch_size=8, epochs=10, verbose=0, shuffle=False)

    beside = make_model()
    beside.fit(make_data(), batch_size=8, epochs=1, verbose=0, shuffle=False)
    np.testing.assert_array_equal(beside.generate(**DRAW), expected)
    started, done = threading.Event(), threading.Event()
    drawn, frozen = [], []

    def draw():
        started.wait()
        while not done.is_set():
            drawn.append(beside.generate(**DRAW))
            frozen.append(other.generate(**DRAW))

    def train():
        callback = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: started.set()
        )
        try:
            beside.fit(
                make_data(),
                batch_size=8,
                epochs=10,
                callbacks=[callback],
                validation_data=make_data(8),
                verbose=0,
                shuffle=False,
            )
        finally:
            started.set()
            done.set()

    drawing = threading.Thread(target=draw)
    drawing.start()
    train()
    drawing.join()
    assert drawn
    # Another model is not touched, and the training is the same to the bit.
    for images in frozen:
        np.testing.assert_array_equal(images, expected)
    assert_same(weights_of(beside), weights_of(alone))
    np.testing.assert_array_equal(
        beside.generate(**DRAW), alone.generate(**DRAW)
    )


def test_a_draw_during_training_is_that_of_its_step():
    model, between = make_model(), []

    class Draw(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            (images,) = in_threads(1, lambda: model.generate(**DRAW))
            between.append(images)

    model.fit(
        make_data(16), batch_size=8, epochs=1, callbacks=[Draw()], verbose=0
    )
    again = make_model()
    for number, images in enumerate(between):
        rows = slice(8 * number, 8 * number + 8)
        again.train_on_batch({k: v[rows] for k, v in make_data(16).items()})
        assert images.shape == again.generate(**DRAW).shape
    # The last one is that of the finished training.
    np.testing.assert_array_equal(between[-1], model.generate(**DRAW))


@pytest.mark.filterwarnings("ignore:Layer .* does not have a .quantize")
def test_an_exchanged_layer_is_compiled_anew():
    def quantized(draws_before):
        model = make_model(decay=None)
        randomize(model.backbone)
        before = model.generate(**DRAW) if draws_before else None
        model.quantize("int8")
        return before, model.generate(**DRAW)

    _, expected = quantized(draws_before=False)
    before, images = quantized(draws_before=True)
    np.testing.assert_array_equal(images, expected)
    assert (before != images).any()


@pytest.mark.any_backend
def test_programs_are_bounded():
    model = make_model()
    for eta in np.linspace(0.0, 1.0, 20):
        model.generate(
            labels=[0], num_steps=1, sampler=ksd.samplers.DDIMSampler(eta)
        )
    assert len(model.programs) == model.programs.size == 16


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="PyTorch runs any shapes"
)
def test_programs_of_other_sizes_are_bounded(monkeypatch):
    compiled = []

    def compile_function(*args):
        compiled.append(args)
        return compilation.compile_function(*args)

    monkeypatch.setattr(programs, "compile_function", compile_function)
    model = make_model()
    model.programs = programs.ProgramCache(size=3)
    sizes = [(1, 1), (2, 1), (2, 2), (3, 2), (4, 2)]
    for count, num_steps in sizes:
        images = model.generate(labels=[0] * count, num_steps=num_steps)
        assert len(images) == count
    assert len(compiled) == len(sizes) and len(model.programs) == 3
    # A batch that is not full is padded, and needs no program of its own.
    model.generate(labels=[0] * 10, num_steps=2, batch_size=4)
    assert len(compiled) == len(sizes)
    model.generate(labels=[0], num_steps=1)  # It was dropped.
    assert len(compiled) == len(sizes) + 1 and len(model.programs) == 3


def test_a_deleted_guide_is_freed():
    model, guide = make_model(), make_model()
    guide_network = weakref.ref(guide.backbone)
    model.generate(
        labels=[0], num_steps=1, guidance_model=guide, guidance_scale=1.5
    )
    del guide
    keras.backend.clear_session()
    gc.collect()
    assert guide_network() is None


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_an_error_in_a_step_keeps_the_model(method):
    model = make_model()
    model.fit(make_data(), batch_size=8, epochs=1, verbose=0, shuffle=False)
    expected, raw = model.generate(**DRAW), weights_of(model)

    def batches():
        raise RuntimeError("the disk is gone")
        yield

    if method == "train_on_batch":
        bad = {"images": make_data()["images"][:, :2]}
    else:
        bad = batches()
    with pytest.raises(Exception, match="the disk is gone|has no labels|shape"):
        getattr(model, method)(bad)
    assert_same(weights_of(model), raw)
    np.testing.assert_array_equal(model.generate(**DRAW), expected)
    model.fit(make_data(), batch_size=8, epochs=1, verbose=0, shuffle=False)


@pytest.mark.any_backend
def test_readers_without_end_do_not_hold_a_training_up():
    lock, done = StepLock(), threading.Event()

    def read_on_and_on():
        while not done.is_set():
            with lock.reading(lambda: [1], lambda value: value):
                time.sleep(0.001)

    readers = [threading.Thread(target=read_on_and_on) for _ in range(3)]
    for reader in readers:
        reader.start()
    steps = []

    def train():
        with lock.training():
            for step in range(20):
                with lock:
                    steps.append(step)

    training = threading.Thread(target=train)
    training.start()
    training.join(timeout=60)
    done.set()
    for reader in readers:
        reader.join()
    assert steps == list(range(20))


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="graphs are TensorFlow's"
)
@pytest.mark.parametrize("make_backbone", [None, make_transformer])
def test_graphs_of_dropped_programs_are_freed(make_backbone):
    def count_graphs():
        gc.collect()
        return sum(type(x).__name__ == "FuncGraph" for x in gc.get_objects())

    model = make_model()
    if make_backbone is not None:
        model = ksd.models.DiffusionModel(make_backbone())
    before = count_graphs()
    for count in (1, 2, 3):
        model.generate(labels=[0] * count, num_steps=2, seed=0)
    assert count_graphs() > before
    model.programs.clear()
    assert count_graphs() <= before
