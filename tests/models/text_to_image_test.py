import dataclasses
import shutil

import grain
import keras
import numpy as np
import pytest
from keras import ops

import keras_simple_diffusion as ksd
from keras_simple_diffusion.generation.arguments import SamplingOptions
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.task import run_task_test

CAPTIONS = ["a red apple", "a ship", "a green apple", ""] * 2


def make_encoder(dim=8, sequence_length=6):
    return ksd.text.TextTransformer(
        ksd.text.learn_vocabulary(CAPTIONS),
        embedding_dim=dim,
        num_layers=1,
        num_heads=2,
        sequence_length=sequence_length,
    )


def make_model(encoder=None, ema_decay=0.9, network=(), **kwargs):
    encoder = encoder or make_encoder()
    backbone = ksd.models.UViTBackbone(
        **{
            "image_shape": (4, 4, 1),
            "channels": (16,),
            "blocks": (1,),
            "num_heads": 2,
            "embedding_dim": 16,
            "context_dim": encoder.embedding_dim,
            **dict(network),
        }
    )
    rng = np.random.default_rng(0)
    for weight in backbone.weights:  # Zeros would hide the text.
        weight.assign(0.3 * rng.normal(size=weight.shape))
    kwargs = {"num_steps": 2, "guidance_scale": 2.0, **kwargs}
    model = ksd.models.TextToImage(backbone, encoder, **kwargs)
    model.compile(keras.optimizers.Adam(1e-2), ema_decay=ema_decay)
    return model


def make_data(shape=(4, 4, 1)):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(CAPTIONS), *shape), "uint8")
    return {"images": images, "captions": CAPTIONS}


def values_of(variables):
    return [ops.convert_to_numpy(v).copy() for v in variables]


def has_changed(variables, before):
    pairs = zip(values_of(variables), before, strict=True)
    return [not np.array_equal(now, old) for now, old in pairs]


# === Training, images, presets ===


def test_task_with_an_encoder_that_trains_along(tmp_path):
    run_task_test(
        make_model(), make_data(), {"prompts": CAPTIONS[:2]}, tmp_path
    )


def test_frozen_encoder_stays_as_it_is_and_is_named_in_the_preset(t5, tmp_path):
    encoder = ksd.text.PretrainedTextEncoder(t5, 6)
    model = make_model(encoder)
    before = values_of(encoder.borrowed_variables)
    model.fit(make_data(), batch_size=4, epochs=2, verbose=0)
    assert not any(has_changed(encoder.borrowed_variables, before))
    assert model.trainable_variables == model.backbone.trainable_variables
    images = model.generate(CAPTIONS[:2], seed=3)
    model.save_to_preset(tmp_path)
    # Of the encoder, only the null embedding.
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size < 300_000 < (t5 / "model.weights.h5").stat().st_size
    loaded = ksd.models.TextToImage.from_preset(tmp_path)
    assert loaded.text_encoder.borrowed_variables == []
    np.testing.assert_array_equal(loaded.generate(CAPTIONS[:2], seed=3), images)
    shutil.rmtree(t5)
    with pytest.raises(InputError, match="was not found"):
        ksd.models.Preset.open(tmp_path).load()


@pytest.mark.any_backend
def test_real_pretrained_encoder_trains_generates_saves_and_loads(
    minilm, tmp_path
):
    encoder = ksd.text.PretrainedTextEncoder(minilm, 6)
    model = make_model(encoder)
    model.fit(make_data(), batch_size=4, verbose=0)
    images = model.generate("a red apple", seed=3)
    assert images.shape == (4, 4, 1)
    model.save_to_preset(tmp_path)
    loaded = ksd.models.Preset.open(tmp_path).load(text_encoder=encoder)
    np.testing.assert_array_equal(
        loaded.generate("a red apple", seed=3), images
    )


def test_prompts_alone_and_in_batches_are_the_same():
    model = make_model()
    together = model.generate(["a ship", "a red apple"], seed=1, batch_size=1)
    alone = model.generate("a red apple", seed=1, indices=[1])
    np.testing.assert_array_equal(alone, together[1])
    assert (together[0] != together[1]).any()


def test_guidance_leads_away_from_negative_prompts():
    model = make_model(network={"image_shape": (8, 8, 1)})

    def draw(**kwargs):
        return model.generate(["a ship"], seed=1, num_steps=4, **kwargs)

    plain = draw()
    np.testing.assert_array_equal(draw(negative_prompts=[""]), plain)
    assert (draw(negative_prompts="a red apple") != plain).any()
    # Away from the prompt itself: no guidance at all.
    same = draw(negative_prompts="a ship").astype(int)
    assert abs(same - draw(guidance_scale=1.0)).max() <= 1


def test_empty_prompt_is_the_unconditional_half(t5):
    for encoder in (make_encoder(), ksd.text.PretrainedTextEncoder(t5, 6)):
        model = make_model(encoder)
        data = model.prepare_data({**make_data(), "captions": CAPTIONS})
        _, inputs = model.split_inputs(data)
        dropout = np.array([0.0, 1.0] * 4, "float32")
        dropped = model.condition(inputs, ops.convert_to_tensor(dropout))
        kept = model.condition(inputs, None)
        context, mask = model.encode([""])
        for row in range(8):
            expected = kept["context"][row], kept["context_mask"][row]
            if dropout[row] == 0.0:
                expected = context[0], mask[0]
            for part, name in zip(
                expected, ("context", "context_mask"), strict=True
            ):
                np.testing.assert_allclose(
                    ops.convert_to_numpy(dropped[name][row]),
                    ops.convert_to_numpy(part),
                    atol=1e-6,
                )


# === Data ===


def loss_of(model, data, **kwargs):
    return model.evaluate(data, verbose=0, **kwargs)


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def test_data_of_all_kinds_are_the_same():
    tf = pytest.importorskip("tensorflow")
    torch = pytest.importorskip("torch")
    model, data = make_model(), make_data()
    expected = loss_of(model, data, batch_size=4)
    assert loss_of(
        model, {**data, "captions": np.array(CAPTIONS)}, batch_size=4
    ) == pytest.approx(expected, rel=1e-6)
    batches = [
        {"images": data["images"][i : i + 4], "captions": CAPTIONS[i : i + 4]}
        for i in (0, 4)
    ]
    for dataset in (
        tf.data.Dataset.from_tensor_slices(data).batch(4),
        grain.MapDataset.source(batches).to_iter_dataset(),
        grain.MapDataset.source(batches),
        Batches(batches),
        torch.utils.data.DataLoader(
            [
                ({"images": image, "captions": caption},)
                for image, caption in zip(data["images"], CAPTIONS, strict=True)
            ],
            batch_size=4,
        ),
        ((batch,) for batch in batches),
    ):
        found = loss_of(model, dataset, steps=2)
        assert found == pytest.approx(expected, rel=1e-6)


def test_fit_loads_the_encoder_for_a_data_set(t5):
    config = ksd.text.PretrainedTextEncoder(t5, 6).get_config()
    encoder = ksd.text.PretrainedTextEncoder.from_config(config)
    model = make_model(encoder)
    source = ksd.data.ArraySource(
        make_data()["images"], captions=np.array(CAPTIONS)
    )
    batches = ksd.data.training_batches(source, 4, keys=("images", "captions"))
    history = model.fit(batches, steps_per_epoch=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_embeddings_take_the_place_of_captions(t5):
    model = make_model(ksd.text.PretrainedTextEncoder(t5, 6))
    model.compile(keras.optimizers.SGD(0.0))
    data = make_data()
    states = [model.seed_generator.state, model.time_seed_generator.state]
    values = [ops.convert_to_numpy(state).copy() for state in states]
    expected = float(model.train_on_batch(data))
    context, mask = model.encode(CAPTIONS)
    embedded = {
        "images": data["images"],
        "context": context,
        "context_mask": mask,
    }
    for state, value in zip(states, values, strict=True):
        state.assign(value)
    model.reset_metrics()
    found = float(model.train_on_batch(embedded))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="nothing is traced on torch"
)
def test_texts_of_any_length_are_no_reason_to_compile(monkeypatch):
    model = make_model(make_encoder(sequence_length=128))
    calls = []
    call = type(model.backbone).call
    monkeypatch.setattr(
        type(model.backbone),
        "call",
        lambda self, *args, **kwargs: (
            calls.append(1) or call(self, *args, **kwargs)
        ),
    )

    def use(length):
        captions = [" ".join(["ship"] * length)] * 8
        model.fit({**make_data(), "captions": captions}, verbose=0)
        model.generate(captions[0], seed=0)

    use(1)
    traced = len(calls)
    for length in (2, 50, 127, 200):
        use(length)
    assert len(calls) == traced > 0


def test_portrait_images_are_turned(monkeypatch):
    # 384 x 640, 32 times smaller.
    shape = (12, 20, 1)
    model = make_model(network={"image_shape": shape, "portrait_flag": True})
    data = {**make_data(shape), "portrait": np.array([0, 1] * 4, "int32")}
    flag = model.backbone.get_layer("conditioning").portrait_embedding
    before = values_of(flag.weights)
    model.fit(data, batch_size=4, verbose=0)
    assert all(has_changed(flag.weights, before))
    wide = model.generate("a ship", seed=0)
    high = model.generate("a ship", seed=0, portrait=True)
    assert wide.shape == shape and high.shape == (20, 12, 1)
    # The same noise, on its side, with another flag.
    assert (np.rot90(high) != wide).any()
    from PIL import Image

    turned = Image.fromarray(high[..., 0]).transpose(
        Image.Transpose.ROTATE_90  # As the data's are.
    )
    # Without a label of its orientation the image is the network's.
    conditions = model.conditions_for(None, "a ship", portrait=True)
    conditions = dataclasses.replace(conditions, is_portrait=False)
    drawn = model.draw(conditions, SamplingOptions(seed=0))
    np.testing.assert_array_equal(np.asarray(turned), drawn[..., 0])


def test_images_are_edited_by_prompts():
    shape = (8, 8, 1)
    model = make_model(network={"image_shape": shape})
    data = make_data(shape)
    model.fit(data, batch_size=4, verbose=0)
    images = data["images"][:2]
    draw = {"num_steps": 4, "seed": 0}
    prompts = ["a red apple", "a ship"]

    same = model.edit(images, prompts, strength=0.0, **draw)
    np.testing.assert_array_equal(same, images)
    edited = model.edit(images, prompts, strength=0.5, **draw)
    assert edited.shape == images.shape and (edited != images).any()
    by_name = model.edit(images, prompts=prompts, strength=0.5, **draw)
    np.testing.assert_array_equal(by_name, edited)
    # One prompt is that of all images, and guidance leads to it.
    one = model.edit(images, "a ship", strength=0.5, **draw)
    np.testing.assert_array_equal(one[1], edited[1])
    other = model.edit(
        images, prompts, strength=0.5, negative_prompts="a ship", **draw
    )
    assert (other != edited).any()

    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    inpainted = model.inpaint(images, mask, prompts, **draw)
    np.testing.assert_array_equal(inpainted[:, ~mask], images[:, ~mask])
    assert (inpainted[:, mask] != images[:, mask]).any()

    small = np.full((2, 4, 4, 1), 128, "uint8")
    upscaled = model.upscale(small, prompts, **draw).astype(float)
    averages = upscaled.reshape(2, 4, 2, 4, 2, 1).mean((2, 4))
    inside = (upscaled > 0).all() and (upscaled < 255).all()
    assert not inside or np.abs(averages - 128).max() < 1.0

    noise = model.invert(images // 2 + 64, prompts, num_steps=64)
    again = model.generate(
        prompts,
        noise=noise,
        num_steps=64,
        sampler="ddim",
        guidance_scale=1.0,
        clipping=None,
    )
    assert np.abs(again.astype(int) - (images // 2 + 64)).mean() < 3
    way = model.interpolate(1, 2, 3, "a ship", num_steps=4)
    ends = [
        model.generate("a ship", num_steps=4, seed=seed, sampler="ddim")
        for seed in (1, 2)
    ]
    np.testing.assert_allclose(way[[0, 2]], ends, atol=1)


def test_a_guidance_model_embeds_prompts_by_itself():
    model, guide = make_model(), make_model()
    model.fit(make_data(), batch_size=4, verbose=0)
    guide.fit(make_data(), batch_size=4, epochs=2, verbose=0)
    draw = {"num_steps": 2, "seed": 0, "sampler": "ddim"}
    # A scale of 0 is the guide alone.
    images = model.generate(
        ["a ship"], guidance_model=guide, guidance_scale=0.0, **draw
    )
    alone = guide.generate(["a ship"], guidance_scale=1.0, **draw)
    np.testing.assert_allclose(images.astype(int), alone, atol=1)


def test_a_portrait_is_edited_upright():
    shape = (4, 8, 1)
    model = make_model(network={"image_shape": shape, "portrait_flag": True})
    high = np.random.default_rng(0).integers(0, 256, (2, 8, 4, 1), "uint8")
    mask = np.zeros((8, 4), bool)
    mask[:3] = True
    drawn = model.inpaint(
        high, mask, "a ship", portrait=True, num_steps=2, seed=0
    )
    np.testing.assert_array_equal(drawn[:, ~mask], high[:, ~mask])
    assert (drawn[:, mask] != high[:, mask]).any()


# === Errors ===


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"captions": CAPTIONS[:3]}, "8 images and 3 captions"),
        ({"captions": "a ship"}, "Received: one caption"),
        ({"captions": [3] * 8}, "must be strings"),
        ({"labels": np.zeros(8, int)}, "'images' and 'captions'"),
        ({"portrait": np.zeros(8, int)}, "portrait_flag=False"),
        ({"images": np.zeros((8, 5, 5, 1), "uint8")}, "shape"),
        ({"images": np.full((8, 4, 4, 1), 300.0)}, "uint8 in"),
    ],
)
def test_data_that_do_not_fit(changes, message):
    with pytest.raises(InputError, match=message):
        make_model().fit({**make_data(), **changes}, verbose=0)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompts": []}, "at least one prompt"),
        ({"prompts": ["a"], "negative_prompts": ["b"] * 2}, "2 negative"),
        ({"prompts": ["a"], "portrait": True}, "portrait_flag"),
        ({"prompts": None}, "pass `prompts`"),
        ({"prompts": ["a"], "guidance_scale": np.nan}, "finite"),
        ({"prompts": [3]}, "must be strings"),
    ],
)
def test_prompts_that_cannot_be_drawn(arguments, message):
    with pytest.raises(InputError, match=message):
        make_model().generate(**arguments)


@pytest.mark.any_backend
def test_parts_that_do_not_fit():
    network = ksd.models.UViTBackbone((4, 4, 1), (8,), (1,), embedding_dim=8)
    with pytest.raises(InputError, match="context_dim=None"):
        ksd.models.TextToImage(network, make_encoder())
    with pytest.raises(InputError, match="embedding_dim=8 and context_dim=4"):
        make_model(network={"context_dim": 4})
    with pytest.raises(InputError, match="must be a keras_simple_diffusion"):
        ksd.models.TextToImage(make_model().backbone, "t5_1.1_small")
    with pytest.raises(InputError, match="caption_dropout=2"):
        make_model(caption_dropout=2)
