"""Compare 8 bits with bfloat16 and float32 in a network for OpenVINO.

    keras-simple-diffusion export --model emoji --format openvino --output emoji
    pip install nncf
    taskset -c 0 python benchmarks/eight_bits.py emoji

NNCF quantizes the network of an exported model of texts, after the inputs of
its own sampling steps. It prints a table in Markdown: the seconds of the
processor for a prediction, the medians of calls in turn, and the difference of
the predicted clean images, in [-1, 1], from those in float32.
"""

import argparse
import importlib.metadata
import pathlib
import sys
import time

import nncf
import numpy as np
import openvino


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    states = inputs_of_steps(args)
    network = openvino.Core().read_model(args.folder / "denoiser.xml")
    eight_bits = nncf.quantize(
        network, nncf.Dataset(states), subset_size=len(states)
    )
    contenders = {
        "float32": compile_network(network, "f32"),
        "bfloat16": compile_network(network, "bf16"),
        "8 bits, the rest in float32": compile_network(eight_bits, "f32"),
        "8 bits, the rest in bfloat16": compile_network(eight_bits, "bf16"),
    }
    expected = [contenders["float32"](each) for each in states[:4]]
    errors, seconds = {}, {name: [] for name in contenders}
    for name, predict in contenders.items():
        found = [predict(each) for each in states[:4]]
        errors[name] = np.subtract(found, expected)
    for _ in range(args.rounds):
        for name, predict in contenders.items():
            started = time.process_time()
            predict(states[0])
            seconds[name].append(time.process_time() - started)
    versions = (
        f"{name} {importlib.metadata.version(name)}"
        for name in ("nncf", "openvino")
    )
    print(f"{', '.join(versions)}; {len(states)} batches of {args.images}.\n")
    print("| | ms | root mean square | largest |\n|---|---|---|---|")
    for name, error in errors.items():
        print(
            f"| {name} | {1000 * np.median(seconds[name]):.0f} "
            f"| {np.sqrt(np.mean(error**2)):.4f} | {np.abs(error).max():.2f} |"
        )


def inputs_of_steps(args):
    """Draw images, and return the inputs of the network in all steps."""
    sys.path.insert(0, str(args.folder))
    import draw

    model = draw.ExportedModel(args.folder)
    predict, states = model.denoise, []

    def record(arrays):
        states.append({name: np.array(x) for name, x in arrays.items()})
        return predict(arrays)

    model.denoise = record
    vocabulary = model.settings["text"]["vocabulary"]
    words = [word for word in vocabulary if word.isalpha()]
    rng = np.random.default_rng(0)
    for seed in range(args.batches):
        texts = rng.choice(words, (args.images, 3))
        model.draw([" ".join(text) for text in texts], seed=seed)
    return states


def compile_network(network, precision):
    """Compile a network, and return a function of its inputs."""
    compiled = openvino.compile_model(
        network, "CPU", {"INFERENCE_PRECISION_HINT": precision}
    )
    return lambda arrays: compiled(arrays)["clean"].copy()


if __name__ == "__main__":
    main()
