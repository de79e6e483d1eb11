"""Draw images without Keras: python draw.py CLASS | TEXT ... [--seed 0]."""

import argparse
import functools
import json
import pathlib
import re

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent


class ExportedModel:
    """A diffusion model in a folder that `export` wrote.

    Args:
        folder: path of the folder. Defaults to that of this file.
    """

    def __init__(self, folder=FOLDER):
        folder = pathlib.Path(folder)
        self.settings = json.loads((folder / "model.json").read_text("utf-8"))
        precision = self.settings["precision"]
        self.denoise = load(folder, "denoiser", precision)
        guide = self.settings["guide"]
        self.guide = load(folder, guide, precision) if guide else self.denoise
        if self.settings["text"]:
            self.encode = load(folder, "text_encoder", precision)

    def draw(self, conditions=(), seed=0, noise=None):
        """Draw images.

        Args:
            conditions: list of class names, labels or texts, one an image.
            seed: int. Defaults to `0`.
            noise: float32 array of shape `(num_noises, B, H, W, C)`, the
                noise to start from and that of each step but the last.
                Defaults to that of the seed.

        Returns:
            A `uint8` array of shape `(B, H, W, C)`.
        """
        settings = self.settings
        if noise is None:
            sizes = settings["num_noises"], len(conditions) or 1
            rng = np.random.default_rng(seed)
            noise = rng.normal(size=(*sizes, *settings["image_shape"]))
        noise = noise.astype("float32")
        scale, count = np.float32(settings["guidance_scale"]), len(noise[0])
        given, none = self.embed(conditions)
        for inputs in (given, none):
            if settings["portrait"]:
                inputs["portrait"] = np.zeros(count, "int32")
            if settings["guidance_range"]:
                inputs["guidance"] = np.full(count, scale)
        images, previous = noise[0], np.float32(0)
        for i, step in enumerate(settings["steps"]):
            logsnr = np.full(count, step["log_snr"], "float32")
            at = {"images": images, "logsnr": logsnr}
            clean = self.denoise({**at, **given})["clean"]
            if step["guided"]:
                weak = self.guide({**at, **none})["clean"]
                clean = weak + scale * (clean - weak)
            clean = clean.clip(*settings["clip"])
            images = np.float32(step["noisy"]) * images
            images += np.float32(step["clean"]) * clean
            images += np.float32(step["previous_clean"]) * previous
            if step["noise"]:
                images += np.float32(step["noise"]) * noise[i + 1]
            previous = clean
        return np.round((clean + 1) * 127.5).astype("uint8")

    def embed(self, conditions):
        """Convert conditions to inputs of the network, and to those of none."""
        if self.settings["condition"] == "label":
            names = self.settings["class_names"] or []
            labels = np.array(
                [names.index(c) if c in names else int(c) for c in conditions],
                "int32",
            )
            none = np.full_like(labels, self.settings["num_classes"])
            return {"labels": labels}, {"labels": none}
        if self.settings["condition"] == "text":
            texts = conditions, [""] * len(conditions)
            given, none = ({"token_ids": self.tokenize(t)} for t in texts)
            return self.encode(given), self.encode(none)
        return {}, {}

    def tokenize(self, texts):
        """Convert texts to the numbers of words, or of letters if unknown."""
        text = self.settings["text"]
        ids = {token: number for number, token in enumerate(text["vocabulary"])}
        rows = np.zeros((len(texts), text["sequence_length"]), "int32")
        for row, words in zip(rows, texts, strict=True):
            tokens = ["[START]"]
            for word in re.findall(text["words"], words.lower()):
                letters = [word[0], *(f"##{letter}" for letter in word[1:])]
                tokens += [word] if word in ids else letters
            numbers = [ids.get(token, ids["[UNKNOWN]"]) for token in tokens]
            row[: len(numbers)] = numbers[: len(row)]
        return rows


def load(folder, name, precision):
    """Load a network as a function from a dict of arrays to another one."""
    if (folder / f"{name}.onnx").exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
        names = [output.name for output in session.get_outputs()]
        return lambda arrays: dict(
            zip(names, session.run(names, arrays), strict=True)
        )
    if (folder / f"{name}.xml").exists():
        import openvino

        # By default some processors compute in bfloat16.
        hint = "bf16" if precision == "bfloat16" else "f32"
        settings = {"INFERENCE_PRECISION_HINT": hint}
        core = openvino.Core()
        network = core.read_model(folder / f"{name}.xml")

        @functools.lru_cache(maxsize=2)
        def compiled(shapes):
            # A network for one number of images is faster than one for any.
            own = network.clone()
            own.reshape(dict(shapes))
            return core.compile_model(own, "CPU", settings)

        def compute(arrays):
            shapes = tuple((key, arrays[key].shape) for key in arrays)
            results = compiled(shapes)(arrays).items()
            return {output.any_name: array for output, array in results}

        return compute
    import tensorflow

    module = tensorflow.saved_model.load(folder / name)
    return lambda arrays: {
        output: array.numpy() for output, array in module.serve(arrays).items()
    }


def main():
    """Draw the images of the command line in a row."""
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("conditions", nargs="*", help="classes or texts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="images.png")
    options = parser.parse_args()
    model = ExportedModel()
    if bool(options.conditions) != bool(model.settings["condition"]):
        parser.error(f"conditions: {model.settings['condition'] or 'none'}")
    images = model.draw(options.conditions, options.seed)
    row = np.concatenate(images, axis=1)
    Image.fromarray(row.squeeze()).save(options.output)
    print(f"{len(images)} images are in {options.output}")


if __name__ == "__main__":
    main()
