import json
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

import keras_simple_diffusion as ksd
from keras_simple_diffusion import cli
from keras_simple_diffusion.evaluation.image_sets import drawn_entries

_OF_THE_MODEL = "class_accuracy,bits_per_dimension"


@pytest.fixture
def place(shared_data, tmp_path, monkeypatch):
    """A folder with a tiny model, and few images in two splits."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "real" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                image = rng.integers(0, 256, (8, 8, 3), "uint8")
                Image.fromarray(image).save(folder / f"{i}.png")
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), channels=(8, 8), blocks=(1, 1), num_classes=2
    )
    model = ksd.models.DiffusionModel(backbone, class_names=["a", "b"])
    model.save_to_preset(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KSD_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def evaluate(place, monkeypatch, shared_data):
    def run(*arguments):
        weights = str(shared_data / "inception2015_fid_fp32.npz")
        command = ["evaluate", "--data", "real", "--feature-weights", weights]
        command += ["--output", "report.json", *arguments]
        monkeypatch.setattr(sys, "argv", ["keras-simple-diffusion", *command])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return exit.value.code

    return run


def test_report_is_the_same_after_an_interruption(place, evaluate):
    inputs = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(inputs)
    keras.Model(inputs, keras.layers.Dense(2)(flat)).save("reader.keras")
    options = ["--model", "model", "--classifier", "reader.keras"]
    options += ["--metrics", f"kid,precision_recall,{_OF_THE_MODEL}"]
    options += ["--num-images", "6", "--batch-size", "4", "--steps", "2"]
    options += ["--guidance", "1.5"]
    assert evaluate(*options, "--seed", "3") == 0
    report = json.loads((place / "report.json").read_text())
    (result,) = report["results"]
    assert result["steps"] == 2 and result["guidance"] == 1.5
    assert result["seed"] == 3 and result["sampler"] == "DDPMSampler"
    assert result["class_balance"] == {"0": 3, "1": 3}
    assert len(result["weights"]["sha256"]) == 64
    assert result["scores"]["generated"]["class_accuracy"] * 6 % 1 == 0
    assert {"kid", "precision", "recall"} < set(result["scores"]["test"])
    assert report["references"]["train"] == 6
    bits = report["bits_per_dimension"]["test"]
    assert bits["count"] == 6 and bits["standard_error"] > 0
    card = (place / "report.md").read_text()
    assert f"| kid | {result['scores']['train']['kid']:.4g} |" in card
    assert f"{bits['mean']:.3f} ±" in card
    # As if it had been killed before the second file of features.
    (place / "report.json").unlink()
    folder = place / "report.features" / "steps-2-guidance-1.5"
    (folder / "inception" / "00000004.npy").unlink()
    (place / "report.features" / "bits-test" / "00000000.npy").unlink()
    assert evaluate(*options) == 2  # Needs --resume.
    assert evaluate(*options, "--resume", "--guidance", "2") == 2
    assert evaluate(*options, "--resume") == 0
    assert json.loads((place / "report.json").read_text()) == report
    # Other images of the same name and size.
    first = place / "real" / "train" / "a" / "0.png"
    first.write_bytes(first.read_bytes())
    assert evaluate(*options, "--resume") == 2


def test_protocol_fills_in_what_is_not_given(place, evaluate, capsys):
    # Its Inception Score needs logits, which the file does not have.
    assert evaluate("--model", "model", "--protocol", "simple_diffusion") == 2
    assert "needs logits" in capsys.readouterr().err
    options = ["--model", "model", "--protocol", "simple_diffusion"]
    options += ["--metrics", "kid", "--num-images", "4", "--steps", "2"]
    options += ["--batch-size", "4"]
    assert evaluate(*options) == 0
    report = json.loads((place / "report.json").read_text())
    (result,) = report["results"]
    assert report["settings"]["protocol"] == "simple_diffusion"
    assert result["sampler"] == "DDPMSampler" and result["guidance"] == 1
    assert (result["steps"], result["num_images"]) == (2, 4)


def test_errors_are_told(place, evaluate, capsys):
    assert evaluate("--model", "model", "--metrics", "beauty") == 2
    assert "no metric 'beauty'" in capsys.readouterr().err
    assert evaluate("--model", "model", "--steps", "many") == 2
    assert "--steps" in capsys.readouterr().err
    assert evaluate("--model", "model", "--output", "report.txt") == 2
    assert ".json" in capsys.readouterr().err
    assert evaluate("--model", "model", "--metrics", "class_accuracy") == 2
    assert "--classifier" in capsys.readouterr().err
    options = ["--metrics", "bits_per_dimension", "--model"]
    assert evaluate(*options, "real") == 2
    assert "needs a model" in capsys.readouterr().err
    (place / "real" / "test" / "b").rename(place / "real" / "test" / "c")
    assert evaluate(*options, "model") == 2
    assert "same classes" in capsys.readouterr().err
    assert evaluate("--model", "real", "--num-images", "99") == 2
    assert "holds 6 images" in capsys.readouterr().err
    assert evaluate("--model", "real", "--sampler", "ddim") == 2
    assert "not drawn" in capsys.readouterr().err
    assert evaluate("--model", "model", "--clip", "any") == 2
    assert "is of `--clip`" in capsys.readouterr().err
    assert evaluate("--model", "model", "--guidance", "nan") == 2
    assert evaluate("--model", "model", "--steps", "0") == 2
    assert evaluate("--model", "model", "--guidance-interval", "3,-3") == 2
    # Nothing is left of all this.
    assert not (place / "report.features").exists()


@pytest.mark.large
def test_killed_and_resumed(place, shared_data):
    weights = str(shared_data / "inception2015_fid_fp32.npz")

    def start(output, *options):
        command = [sys.executable, "-m", "keras_simple_diffusion", "evaluate"]
        command += ["--model", "model", "--data", "real", "--seed", "3"]
        command += ["--metrics", "fid,kid", "--num-images", "40", "--steps"]
        command += ["2", "--batch-size", "4", "--feature-weights", weights]
        return subprocess.Popen([*command, "--output", output, *options])

    assert start("whole.json").wait() == 0
    process = start("killed.json")

    def count():
        return len(list(place.glob("killed.features/*/inception/*.npy")))

    while process.poll() is None and count() < 3:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 3 <= count() < 10
    assert not (place / "killed.json").exists()
    assert start("killed.json", "--resume").wait() == 0
    whole, resumed = (
        json.loads((place / name).read_text())
        for name in ("whole.json", "killed.json")
    )
    assert whole == resumed


@pytest.mark.large
@pytest.mark.filterwarnings("ignore:A Fréchet distance of")
def test_images_and_lists(place, evaluate):
    assert evaluate("--model", "real/train", "--metrics", "fid,nearest") == 0
    report = json.loads((place / "report.json").read_text())
    scores = report["results"][0]["scores"]
    assert scores["train"]["fid"] < 1e-6
    assert scores["train"]["nearest_distance_median"] < 1e-3
    assert scores["test"]["fid"] > 1.0
    options = ["--model", "model", "--metrics", "fid", "--num-images", "6"]
    options += ["--resamples", "0"]
    options += ["--steps", "2,3", "--output", "list.json"]
    assert evaluate(*options) == 0
    assert len(json.loads((place / "list.json").read_text())["results"]) == 2
    assert (place / "list.png").exists()


@pytest.mark.skipif(keras.config.backend() != "torch", reason="runs on torch")
def test_a_text_model_draws_the_held_out_captions(place, evaluate, capsys):
    options = ["--model", "text", "--metrics", "kid", "--num-images", "6"]
    options += ["--batch-size", "4", "--steps", "2", "--seed", "0"]
    words = ["a ship", "an apple", "a tree", "a star"]
    encoder = ksd.text.TextTransformer(
        ksd.text.learn_vocabulary(words), 8, 1, 2, 6
    )
    backbone = ksd.models.UViTBackbone(
        (8, 8, 3), (8, 8), (1, 1), context_dim=8, embedding_dim=16
    )
    task = ksd.models.TextToImage(backbone, encoder)
    task.save_to_preset("text")
    for count, asked in (2, words[::2]), (6, words + words[:2]):
        settings = {"model": "text", "num_images": count, "sampler": None}
        settings |= {"steps": [2], "guidance": [None], "seed": 0}
        settings |= {"guidance_interval": None, "batch_size": 4}
        (entry,) = drawn_entries(task, settings, words)
        assert entry.captions == asked
    assert evaluate(*options) == 2
    assert "no captions" in capsys.readouterr().err
    for folder in (place / "real").iterdir():
        lines = [
            json.dumps({"file_name": str(file.relative_to(folder)), "text": w})
            for file, w in zip(
                sorted(folder.rglob("*.png")), words, strict=False
            )
        ]
        (folder / "metadata.jsonl").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="caption"):
        assert evaluate(*options) == 0
    report = json.loads((place / "report.json").read_text())
    assert "kid" in report["results"][0]["scores"]["test"]
    options = ["--model", "text", "--metrics", "bits_per_dimension"]
    assert evaluate(*options, "--output", "bits.json") == 2
