"""The whole evaluation, through its public function."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion.backend import native
from keras_simple_diffusion.evaluation import duration
from keras_simple_diffusion.evaluation.image_sets import Requests
from keras_simple_diffusion.evaluation.image_sets import open_subject
from keras_simple_diffusion.utils.errors import InputError
from tests.helpers.models import randomize

evaluate = ksd.evaluation.evaluate
METRICS = ("fid", "kid", "precision_recall", "nearest")


class Pixels:
    """Cheap features: the pixels of the images, and logits of them."""

    name = "pixels"
    logits_kernel = np.random.default_rng(0).normal(size=(192, 5))

    def __call__(self, images):
        return images.reshape(len(images), -1).astype("float32") / 255


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KSD_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="module")
def model():
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), channels=(8, 8), blocks=(1, 1), num_classes=2
    )
    return ksd.models.DiffusionModel(
        randomize(backbone), class_names=["a", "b"]
    )


def images(count=12, seed=0, size=8):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, size, size, 3), "uint8")


def write(folder, count=3, seed=0, size=8):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images(count, seed, size)):
        Image.fromarray(image).save(folder / f"{size}-{i}.png")


@pytest.fixture
def real(place):
    for seed, name in enumerate(("train/a", "train/b", "test/a", "test/b")):
        write(place / "real" / name, seed=seed)
    return place / "real"


def files(place):
    return {path for path in place.rglob("*") if path.is_file()}


def test_a_model_is_measured_against_both_splits(model, real, place):
    report = evaluate(
        model, real, METRICS, 10, Pixels(), num_steps=2, num_resamples=5
    )
    drawn = model.generate(10, [0, 1] * 5, num_steps=2, seed=0)
    for split, seeds in (("train", (0, 1)), ("test", (2, 3))):
        target = np.concatenate([images(3, seed) for seed in seeds])
        x, y = Pixels()(drawn), Pixels()(target)
        with pytest.warns(UserWarning, match="6 images"):
            fid = ksd.metrics.frechet_distance(
                ksd.metrics.feature_statistics(drawn, Pixels()),
                ksd.metrics.feature_statistics(target, Pixels()),
            )
        assert report[f"fid_{split}"] == pytest.approx(fid, rel=1e-6)
        kid, _ = ksd.metrics.kernel_distance(x, y)
        assert report[f"kid_{split}"] == pytest.approx(kid, rel=1e-6)
        recall = ksd.metrics.precision_recall(x, y)[1]
        assert report[f"recall_{split}"] == recall
    low, high = report["fid_interval_95_test"]
    assert low < report["fid_test"] < high
    assert report.results[0]["fid_test"] == report["fid_test"]
    assert report.content["results"][0]["class_balance"] == {0: 5, 1: 5}
    # Nothing is left but the features of the real images, in the cache.
    assert all(
        "cache" in str(path) or real in path.parents for path in files(place)
    )


@pytest.mark.any_backend
def test_the_number_of_images_fits_the_device(monkeypatch):
    assert duration.fit_count(None) == 10_000
    monkeypatch.setattr(native, "device_name", lambda: "NVIDIA H200")
    assert duration.fit_count(1.0) == 10_000
    monkeypatch.setattr(native, "device_name", lambda: "cpu")
    assert duration.fit_count(1.0) == 900
    assert duration.fit_count(1.0, share=0.5) == 450
    assert duration.fit_count(1e9) == 50


@pytest.mark.any_backend
def test_the_time_is_said_before_and_the_number_is_kept(
    model, real, monkeypatch, capsys
):
    monkeypatch.setattr(duration, "USUAL", 8)
    options = {"num_steps": [1, 2], "output": "report.json"}
    first = evaluate(model, real, ("kid",), None, Pixels(), **options)
    assert "drawing 8 images takes about" in capsys.readouterr().out
    assert first.content["settings"]["num_images"] == 8
    monkeypatch.setattr(duration, "USUAL", 9)
    again = evaluate(
        model, real, ("kid",), None, Pixels(), **options, resume=True
    )
    assert again.to_json() == first.to_json()


@pytest.mark.any_backend
def test_the_report_is_a_table_of_80_columns(model, real):
    report = evaluate(
        model,
        real,
        ("fid", "kid", "inception_score"),
        10,
        Pixels(),
        num_steps=2,
    )
    text = str(report)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "fewer than 10,000 images" in text
    (row,) = [line for line in text.splitlines() if line.startswith("fid")]
    for split in ("train", "test"):
        low, high = report[f"fid_interval_95_{split}"]
        fid = report[f"fid_{split}"]
        assert f"{fid:.4g} ({low:.4g} to {high:.4g})" in row
    assert f"{report['inception_score']:.4g} ±" in text
    assert json.loads(report.to_json())["results"][0]["steps"] == 2


@pytest.mark.any_backend
def test_bits_are_those_of_all_real_images(model, real, monkeypatch):
    monkeypatch.setattr(duration, "USUAL", 4)
    options = {"num_steps": 2, "batch_size": 4}
    metrics = ("kid", "bits_per_dimension")
    both = evaluate(model, real, metrics, None, Pixels(), **options)
    alone = evaluate(model, real, metrics[1:], None, **options)
    assert both.content["settings"]["num_images"] == 4
    assert both["bits_per_dimension_test"] == alone["bits_per_dimension_test"]
    bits = both.content["bits_per_dimension"]
    assert [bits[split]["count"] for split in ("train", "test")] == [6, 6]


def test_an_interrupted_evaluation_is_continued(model, real, place):
    def run(**options):
        return evaluate(
            model,
            real,
            ("kid", "bits_per_dimension"),
            70,
            Pixels(),
            num_steps=2,
            batch_size=16,
            output=place / "report.json",
            **options,
        )

    report = run(seed=None)
    table = (place / "report.md").read_text()
    assert f"| {report['kid_train']:.4g} ±" in table
    assert f"{report['bits_per_dimension_test']:.3f} ±" in table
    assert ksd.evaluation.Report.load(place / "report.json") == report
    folder = place / "report.features"
    shards = sorted(folder.rglob("*.npy"))
    assert len(shards) == 2 * 3 + 2
    # Each file: lost, cut off, or replaced by numbers that were not computed.
    for number, path in enumerate(shards):
        if number % 3 == 0:
            path.unlink()
        elif number % 3 == 1:
            path.write_bytes(path.read_bytes()[:-40])
        else:
            np.save(path, np.zeros_like(np.load(path)))
    with pytest.raises(InputError, match="holds something already"):
        run()
    assert dict(run(seed=None, resume=True)) == dict(report)
    with pytest.raises(InputError, match="begun with seed="):
        run(seed=1, resume=True)
    with pytest.raises(InputError, match="begun with num_resamples=20"):
        run(seed=None, resume=True, num_resamples=5)
    # Another image of the same name.
    write(real / "train" / "a", seed=9)
    with pytest.raises(InputError, match="The data has changed"):
        run(seed=None, resume=True)


@pytest.mark.any_backend
def test_an_evaluation_is_bound_to_the_content_of_the_model(place):
    def make(schedule, shift=0.0):
        backbone = ksd.models.UViTBackbone(
            (8, 8, 3), channels=(8, 8), blocks=(1, 1)
        )
        model = ksd.models.DiffusionModel(randomize(backbone), schedule)
        weight = backbone.trainable_weights[0]
        weight.assign(weight + shift)
        model.save_to_preset("model")

    def run(resume):
        return evaluate(
            "model",
            images(),
            ("kid",),
            4,
            Pixels(),
            num_steps=1,
            output="report.json",
            resume=resume,
        )

    make(None)
    report = run(False)
    make(None)  # Written again, it is the same model.
    assert dict(run(True)) == dict(report)
    # The weights are the same in the second case.
    for change in ((None, 0.1), (ksd.schedules.CosineSchedule(),)):
        make(*change)
        with pytest.raises(InputError, match="The model has changed since"):
            run(True)


@pytest.mark.any_backend
def test_a_model_that_is_not_finite_is_not_measured(place):
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), channels=(8, 8), blocks=(1, 1)
    )
    weight = backbone.trainable_weights[0]
    weight.assign(weight * np.nan)
    model = ksd.models.DiffusionModel(backbone)
    with pytest.raises(InputError, match="not finite: 'conv_in|not finite"):
        evaluate(model, images(), ("kid",), 4, Pixels(), num_steps=1)
    with pytest.warns(UserWarning, match="2 of 2 images are not finite"):
        model.generate(2, num_steps=1)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"results": 1}', '{"results": [{}]}']
)
def test_a_damaged_report_is_one_line(place, content):
    (place / "report.json").write_text(content)
    with pytest.raises(InputError, match="report.json'"):
        ksd.evaluation.Report.load("report.json")


@pytest.mark.any_backend
def test_features_of_another_evaluation_are_not_taken(place):
    def run(seed, output):
        return evaluate(
            images(9, 5),
            images(9, 6),
            ("kid",),
            4,
            Pixels(),
            seed=seed,
            output=output,
        )

    run(0, "one.json")
    other = run(1, "two.json")
    for name in ("one", "two"):
        assert len(list((place / f"{name}.features").glob("stored/*/*"))) == 2
    # Files of the other choice of images, as a copy by hand would leave them.
    for path in (place / "one.features" / "stored").rglob("*.npy"):
        target = (
            place / "two.features" / path.relative_to(place / "one.features")
        )
        target.write_bytes(path.read_bytes())
    again = evaluate(
        images(9, 5),
        images(9, 6),
        ("kid",),
        4,
        Pixels(),
        seed=1,
        output="two.json",
        resume=True,
    )
    assert dict(again) == dict(other)


def test_values_do_not_depend_on_the_batch_size(model, place):
    real = images(40, 1)
    source = ksd.data.ArraySource(real, [0, 1] * 20, class_names=["a", "b"])
    metrics = (*METRICS, "inception_score", "density_coverage", "fid_infinity")
    stored, drawn = [], []
    for size in (3, 32, 50):
        stored.append(
            evaluate(images(40), real, metrics, None, Pixels(), batch_size=size)
        )
        drawn.append(
            evaluate(
                model,
                source,
                ("kid", "bits_per_dimension"),
                40,
                Pixels(),
                num_steps=2,
                batch_size=size,
            )
        )
    for reports, tolerance in ((stored, 1e-9), (drawn, 1e-2)):
        first = np.hstack(list(reports[0].values()))
        for other in reports[1:]:
            values = np.hstack(list(other.values()))
            np.testing.assert_allclose(values, first, tolerance, 1e-9)


@pytest.mark.any_backend
def test_lists_give_several_results(model, place):
    report = evaluate(
        model,
        {"train": images(8, 1), "test": images(8, 2)},
        ("fid",),
        6,
        Pixels(),
        num_steps=[2, 3],
        guidance_scale=[1, 2.0],
        sampler="ddim",
        num_resamples=0,
        output="list.json",
    )
    made = [(r.content["steps"], r.content["guidance"]) for r in report.results]
    assert made == [(2, 1), (2, 2.0), (3, 1), (3, 2.0)]
    assert len({result["fid_test"] for result in report.results}) == 4
    with pytest.raises(KeyError, match="4 results"):
        report["fid_test"]
    assert (place / "list.png").exists()
    assert str(report).count("DDIMSampler") == 4


@pytest.mark.any_backend
def test_images_against_themselves(place):
    write(place / "drawn", 9)
    report = evaluate("drawn", "drawn", METRICS, feature_weights=Pixels())
    assert report["fid_train"] < 1e-6
    assert report["nearest_distance_median"] < 1e-6
    assert report["nearest_distance_median_pixels"] == 0.0
    assert "memorized" not in report  # There are no held-out images.
    assert report["precision_train"] == report["recall_train"] == 1.0


@pytest.mark.any_backend
def test_copies_are_shown_beside_their_originals(place):
    train, test = images(20, 1), images(10, 2)
    copies = np.concatenate([train[:9], train[9:12, :, ::-1], images(1, 3)])

    def run(**options):
        return evaluate(
            copies,
            {"train": train, "test": test},
            None,
            feature_weights=Pixels(),
            output="report.json",
            **options,
        )

    report = run()
    assert report["memorized"] == report["memorized_pixels"] == 12 / 13
    assert report["memorized_held_out"] < 1.0
    assert report["nearest_distance_smallest"] < 1e-6
    nearest = report.results[0].content["nearest"]
    for each in nearest["closest"]:
        assert each["features"]["training_image"] == each["number"]
        assert each["features"]["mirrored"] == (each["number"] >= 9)
    assert [each["number"] for each in nearest["samples"]] == [
        *(0, 1, 3, 4, 6, 8, 9, 11)
    ]
    # The sheet: copies, and below them equal images.
    assert nearest["sheet"] == "report.nearest.png"
    assert "(report.nearest.png)" in (place / "report.md").read_text()
    sheet = np.asarray(Image.open(place / "report.nearest.png")).astype(int)
    left = np.flatnonzero((sheet[8:60] < 255).all(2).any(0))
    for number in (0, 9):
        large = np.repeat(np.repeat(copies[number], 8, 0), 8, 1)
        hits = [
            (y, x)
            for y in range(sheet.shape[0] - 63)
            for x in range(left[0], sheet.shape[1] - 63)
            if (sheet[y, x] == large[0, 0]).all()
            and (sheet[y : y + 64, x : x + 64] == large).all()
        ]
        rows, columns = zip(*hits, strict=True)
        assert len(set(rows[:3])) == 3 and len(set(columns[:3])) == 1
    # A mirrored copy is near to a training image that is shown mirrored.
    content = (place / "report.nearest.png").read_bytes()
    (place / "report.nearest.png").unlink()
    assert dict(run(resume=True)) == dict(report)
    assert (place / "report.nearest.png").read_bytes() == content


@pytest.mark.any_backend
def test_models_are_compared_with_their_labels(model, real, place):
    report = evaluate(
        model, real, None, 10, Pixels(), num_steps=2, output="report.json"
    )
    assert report.content["settings"]["metrics"][-2:] == [
        "nearest",
        "conditioning",
    ]
    assert report["class_recognition_chance"] == 0.5
    assert 0 <= report["class_recognition"] <= 1
    card = (place / "report.md").read_text()
    value, held_out = (
        f"{report[f'class_recognition{end}']:.4g}" for end in ("", "_held_out")
    )
    assert f"| class_recognition | {value} | {held_out} | 0.5 |" in card
    # Images without classes leave it out, unless it is asked for.
    report = evaluate(model, images(), None, 4, Pixels(), num_steps=2)
    assert "conditioning" not in report.content["settings"]["metrics"]
    with pytest.raises(InputError, match="images of the model's classes"):
        evaluate(model, images(), ["conditioning"], 4, Pixels(), num_steps=2)


@pytest.mark.any_backend
def test_given_networks_are_measured(model, real):
    class Dark(Pixels):
        name = "dark"

        def __call__(self, images):
            return super().__call__(images) / 2

    report = evaluate(
        model, real, None, 10, Pixels(), efficientnet=Dark(), num_steps=2
    )
    assert report["fd_efficientnet_test"] == pytest.approx(
        report["fid_test"] / 4, rel=1e-4
    )
    usual = evaluate(model, real, ["nearest"], 10, Pixels(), num_steps=2)
    assert report["nearest_distance_median"] == pytest.approx(
        usual["nearest_distance_median"] / 2, rel=1e-5
    )
    assert report["memorized"] == usual["memorized"]
    with pytest.raises(InputError, match="`efficientnet` is not used"):
        evaluate(model, real, ["kid"], 10, Pixels(), efficientnet=Dark())


@pytest.mark.any_backend
def test_sizes_are_those_of_each_file(place, real):
    write(place / "drawn", 6, size=8)
    write(place / "drawn", 2, size=16)
    with pytest.raises(InputError, match=r"6 of 8 x 8 .* 2 of 16 x 16"):
        evaluate("drawn", real, ("kid",), feature_weights=Pixels())
    # A photograph on its side has the size that it is shown with.
    tall = Image.fromarray(np.zeros((16, 8, 3), "uint8"))
    turned = tall.rotate(90, expand=True)
    exif = turned.getexif()
    exif[0x0112] = 6
    (place / "tall").mkdir()
    for i in range(2):
        tall.save(place / "tall" / f"{i}.jpg")
        turned.save(place / "tall" / f"a{i}.jpg", exif=exif)

    def features(images):
        assert images.shape[1:] == (16, 8, 3)
        return images.reshape(len(images), -1).astype("float32")

    features.name = "any"
    evaluate("tall", real, ("kid",), feature_weights=features)
    # One split of a folder that has two is said.
    with pytest.warns(UserWarning, match="6 images to train on .* the 6 to ho"):
        evaluate("real", real, ("kid",), feature_weights=Pixels())


@pytest.mark.any_backend
def test_a_built_in_name_is_the_preset_beside_a_folder_of_this_name(place):
    write(place / "emoji", 4)
    assert isinstance(open_subject("emoji"), ksd.models.TextToImage)
    assert len(open_subject("./emoji")) == 4


def test_text_models_draw_evenly_spaced_captions():
    words = ["a ship", "an apple", "a tree", "a star"]
    encoder = ksd.text.TextTransformer(
        ksd.text.learn_vocabulary(words), 8, 1, 2, 6
    )
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), (8, 8), (1, 1), context_dim=8, embedding_dim=16
    )
    task = ksd.models.TextToImage(backbone, encoder)
    for count, asked in (2, words[::2]), (6, words + words[:2]):
        requests = Requests.of(task, count, words)
        assert requests.captions == asked
        assert requests.arguments([1]) == {"prompts": asked[1:2]}
    with pytest.raises(InputError, match="captions"):
        evaluate(task, images(), ("kid",), feature_weights=Pixels())
    source = ksd.data.ArraySource(images(4), captions=words)
    report = evaluate(
        task, source, ("kid",), 5, feature_weights=Pixels(), num_steps=2
    )
    assert np.isfinite(report["kid_test"])
    report = evaluate(
        task, source, None, 5, feature_weights=Pixels(), num_steps=2
    )
    assert report["prompt_retrieval_chance"] == pytest.approx(1 / 4)
    assert 0 <= report["prompt_words"] <= 1
    with pytest.raises(InputError, match="without text"):
        evaluate(task, source, ("bits_per_dimension",))


@pytest.mark.any_backend
def test_captions_are_those_of_the_test_split_in_any_order():
    words = ["a ship", "an apple"]
    encoder = ksd.text.TextTransformer(
        ksd.text.learn_vocabulary(words), 8, 1, 2, 6
    )
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), (8, 8), (1, 1), context_dim=8, embedding_dim=16
    )
    task = ksd.models.TextToImage(randomize(backbone), encoder)
    train, test = (
        ksd.data.ArraySource(images(4, seed), captions=[word] * 4)
        for seed, word in enumerate(words)
    )

    def digest_of_drawn(data):
        report = evaluate(task, data, ("kid",), 4, Pixels(), num_steps=2)
        return report.content["results"][0]["images_sha256"]

    expected = digest_of_drawn({"test": test})
    assert digest_of_drawn({"test": test, "train": train}) == expected
    assert digest_of_drawn({"train": train}) != expected


@pytest.mark.any_backend
def test_the_decay_of_a_run_is_reported(model, place, real):
    model.save_to_preset(place / "run" / "preset")
    config = {"recipe": {"ema_decay": 0.99}}
    (place / "run" / "config.json").write_text(json.dumps(config))
    report = evaluate("run", real, ("kid",), 4, Pixels(), num_steps=1)
    weights = report.results[0].content["weights"]
    assert weights["ema_decay"] == 0.99
    assert "decay 0.99" in str(report)


def test_class_accuracy_is_that_of_the_classifier(model, place):
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
    reader = keras.Model(inputs, outputs)
    reader.save("reader.keras")
    report = evaluate(
        model,
        images(),
        ("class_accuracy",),
        10,
        classifier="reader.keras",
        num_steps=2,
    )
    drawn = model.generate(10, [0, 1] * 5, num_steps=2, seed=0)
    read = keras.ops.convert_to_numpy(reader(drawn.astype("float32")))
    expected = np.mean(read.argmax(1) == [0, 1] * 5)
    assert report["class_accuracy"] == expected


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "change, message",
    [
        ({"metrics": ("beauty",)}, "metrics=.'beauty'"),
        ({"metrics": "kid"}, "metrics='kid'"),
        ({"num_images": 3}, "at least 4"),
        ({"metrics": ("class_accuracy",)}, "pass `classifier`, a .keras"),
        ({"metrics": ("fd_efficientnet",)}, "pass `efficientnet`, a .npz"),
        ({"metrics": ("conditioning",)}, "images of the model's classes"),
        ({"metrics": ("conditioning",), "model": images()}, "needs a model"),
        ({"metrics": ("clip_score",), "model": images()}, "needs a model"),
        (
            {"metrics": ("bits_per_dimension",), "model": images()},
            "needs a model",
        ),
        ({"metrics": ("bits_per_dimension",)}, "same classes"),
        ({"clip": "any"}, "`clip` is not used"),
        ({"model": images(), "num_images": 99}, "12 images"),
        ({"model": images(), "sampler": "ddim"}, "Sampling options"),
        ({"model": images(size=16)}, "must have the size"),
        ({"model": images().astype("float32")}, "uint8 array"),
        ({"model": "nowhere"}, "nowhere"),
        ({"num_steps": 0}, "num_steps"),
        ({"num_steps": [2, "many"]}, "num_steps"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"guidance_interval": (3, -3)}, "guidance_interval"),
        ({"sampler": "magic"}, "magic"),
        ({"output": "report.txt"}, ".json"),
        ({"resume": True}, "`output`"),
        ({"resume": True, "output": "new.json"}, "nothing to resume"),
    ],
)
def test_errors_leave_nothing_behind(model, place, change, message):
    arguments = {"model": model, "metrics": ("kid",), "num_steps": 2}
    if "model" in change:
        arguments.pop("num_steps")
    arguments |= {"feature_weights": Pixels(), "num_images": 4, **change}
    arguments.setdefault("output", None if "resume" in change else "r.json")
    with pytest.raises(InputError, match=message):
        evaluate(data=images(), **arguments)
    assert not files(place)
