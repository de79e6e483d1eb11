"""Count the bytes that devices exchange in a training step of a preset.

    python benchmarks/weak_scaling.py --preset uvit_imagenet_128 \\
        --output docs/weak_scaling.jsonl      # adds a line for each program
    python benchmarks/weak_scaling.py --report docs/weak_scaling.jsonl

JAX compiles the whole step for virtual CPU devices, with an average of the
weights and clipping. Weights and batches are shapes without values, so that
nothing takes memory, and the collectives are read from the compiled program.
`--blocks 1 2` compiles with fewer blocks at the lowest level; the report adds
the whole network, as each further block adds the same.

The report lists the programs, and compares the time that data parallelism needs
to send the gradients with that of the arithmetic, at published peak rates.
"""

import argparse
import itertools
import json
import os
import pathlib

COUNTS = (8, 64, 512)
GROUP_SIZE = 4
STRATEGIES = ("data", "sharded", f"tensor:{GROUP_SIZE}")

# Peak bfloat16 operations, and bytes that a device sends, in a second:
# - https://cloud.google.com/tpu/docs/v5e: 197 TFLOP/s, and 400 GB/s in both
#   directions over all links of a chip,
# - https://cloud.google.com/tpu/docs/v5p: 459 TFLOP/s and 1,200 GB/s,
# - https://www.nvidia.com/en-us/data-center/h100 and DGX H100: 989 TFLOP/s
#   (SXM, dense), and eight adapters of 400 Gb/s for a machine of eight. Rings
#   through all GPUs leave each machine once, so that each ring sends at the
#   rate of the eight together.
# - The same with one adapter of 100 Gb/s for a machine.
HARDWARE = {
    "TPU v5e": (197e12, 200e9),
    "TPU v5p": (459e12, 600e9),
    "H100": (989e12, 400e9),
    "H100, 100 Gb/s": (989e12, 12.5e9),
}

if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = " ".join(
        [
            f"--xla_force_host_platform_device_count={max(COUNTS)}",
            # The machine code is not used.
            "--xla_backend_optimization_level=0",
            "--xla_llvm_disable_expensive_passes=true",
        ]
    )

import collectives  # noqa: E402
import jax  # noqa: E402
import keras  # noqa: E402

import keras_simple_diffusion as ksd  # noqa: E402
from keras_simple_diffusion.utils import presets  # noqa: E402

KINDS = ("all-gather", "all-reduce", "all-to-all")


def make_distribution(strategy, count, network):
    """The strategy on the first of the virtual devices."""
    devices = keras.distribution.list_devices()[:count]
    if strategy == "data":
        return keras.distribution.DataParallel(devices=devices)
    if strategy == "sharded":
        return ksd.distribution.FullySharded(devices=devices)
    mesh = keras.distribution.DeviceMesh(
        (count // GROUP_SIZE, GROUP_SIZE), ("batch", "model"), devices
    )
    return keras.distribution.ModelParallel(
        layout_map=network.get_layout_map(mesh), batch_dim_name="batch"
    )


def without_values():
    """Context in which variables have shapes only."""
    return keras.StatelessScope(initialize_variables=False)


def configuration(preset, blocks):
    """Arguments of a network with so many blocks at the lowest level."""
    config = dict(preset.backbone_config)
    if blocks is None:
        return config
    if "depth" in config:
        return {**config, "depth": blocks}
    return {**config, "blocks": [*config["blocks"][:-1], blocks]}


def compiled_step(network, config, distribution, batch_size):
    """Compile a training step; return it and the network."""
    with without_values():
        backbone = network(**config)
    model = ksd.models.DiffusionModel(backbone)
    for variable in model.variables:
        # The moments and averages take their layout from here.
        variable._layout = distribution.get_variable_layout(variable)

    def abstract(variable):
        layout = distribution.get_variable_layout(variable).backend_layout
        return jax.ShapeDtypeStruct(
            variable.shape, variable.dtype, sharding=layout
        )

    def batch(shape, dtype):
        layout = distribution.get_data_layout(shape).backend_layout
        return jax.ShapeDtypeStruct(shape, dtype, sharding=layout)

    # === The step ===
    inputs = {"images": batch((batch_size, *backbone.image_shape), "uint8")}
    if backbone.num_classes is not None:
        inputs["labels"] = batch((batch_size,), "int32")
    with distribution.scope(), without_values():
        model.optimizer.build(model.trainable_variables)
        state = tuple(
            list(map(abstract, variables))
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
                model.optimizer.variables,
                model.metrics_variables,
            )
        )
        layouts = jax.tree.map(lambda each: each.sharding, state)
        step = jax.jit(
            model.train_step, donate_argnums=0, out_shardings=(None, layouts)
        )
        return step.lower(state, (inputs,)).compile(), backbone


def measure(name, blocks, strategy, count, images):
    """Measure one program; `images` is their number for each device."""
    preset = ksd.models.Preset.open(name)
    network = preset.backbone_class
    distribution = make_distribution(strategy, count, network)
    step, backbone = compiled_step(
        network, configuration(preset, blocks), distribution, images * count
    )
    sent = collectives.sent_bytes(step.as_text())
    return {
        "preset": name,
        "blocks": blocks,
        "strategy": strategy,
        "devices": count,
        "images": images,
        "parameters": backbone.count_params(),
        "macs": sum(ksd.models.count_macs(backbone).values()),
        "sent": {kind: round(size) for kind, size in sent.items()},
        "versions": {"jax": jax.__version__, "keras": keras.__version__},
    }


def print_table(headings, rows):
    for row in (headings, ["---"] * len(headings), *rows):
        print("| " + " | ".join(map(str, row)) + " |")
    print()


def extrapolate(rows):
    """Add the whole networks to programs with one and with two blocks.

    Each further block must add the same, in the programs with more as well.
    """
    key = ("preset", "strategy", "devices", "images")
    found = {(*(row[k] for k in key), row["blocks"]): row for row in rows}
    whole = []
    for (*program, blocks), first in found.items():
        second = found.get((*program, 2))
        if blocks != 1 or second is None:
            continue

        def at(depth, first=first, second=second):
            def line(a, b):
                return a + (depth - 1) * (b - a)

            return {
                "parameters": line(first["parameters"], second["parameters"]),
                "sent": {
                    kind: line(size, second["sent"][kind])
                    for kind, size in first["sent"].items()
                },
            }

        for (*other, depth), row in found.items():
            if other == program and depth is not None:
                if {**row, **at(depth)} != row:
                    raise ValueError(f"{row} differs from {at(depth)}.")
        preset = ksd.models.Preset.open(first["preset"])
        config = preset.backbone_config
        depth = config.get("depth") or config["blocks"][-1]
        whole.append({**first, **at(depth), "blocks": None})
        if whole[-1]["parameters"] != preset.metadata["parameter_count"]:
            raise ValueError(f"These are not all weights: {whole[-1]}")
    return [*rows, *whole]


def report_programs(path):
    """Print the bytes of each program, beside those of its weights."""
    rows = []
    for row in extrapolate(
        [json.loads(line) for line in path.read_text().splitlines()]
    ):
        sent = row["sent"]
        name = row["preset"]
        if row["blocks"] is not None:
            name += f", lowest level of {row['blocks']}"
        total = sum(sent.values())
        rows.append(
            [name, row["strategy"], row["devices"], row["images"]]
            + [f"{sent.get(kind, 0) / 1e6:,.1f}" for kind in KINDS]
            + [f"{total / (4 * row['parameters']):.2f}"]
        )
    headings = ["configuration", "strategy", "devices", "images"]
    print_table([*headings, *KINDS, "sent / weights"], sorted(rows, key=str))


def gradient_bytes(parameters, count):
    """Bytes that each of so many devices sends to average a gradient."""
    return 2 * (count - 1) / count * 4 * parameters


def images_in_balance(sent, macs, peak, bandwidth):
    """Images of a device whose arithmetic takes as long as the sending.

    A training step has three passes, of two operations for each
    multiply-accumulate.
    """
    return sent / bandwidth * peak / (3 * 2 * macs)


def report_balance():
    """Print where each published recipe stops scaling with `data`."""
    rows = []
    for name in presets.builtin_presets():
        preset = ksd.models.Preset.open(name)
        batch_size = preset.recipe.get("batch_size", 0)
        if batch_size < 512:
            continue  # Trained on one device.
        parameters = preset.metadata["parameter_count"]
        macs = preset.metadata["macs"]
        row = [name, f"{batch_size:,}", f"{macs / 1e9:,.0f}"]
        sent = [gradient_bytes(parameters, count) for count in COUNTS]
        row += [f"{each / 1e9:.2f}" for each in sent]
        for peak, bandwidth in HARDWARE.values():
            images = images_in_balance(sent[-1], macs, peak, bandwidth)
            most = max(1, int(batch_size / images))
            row.append(f"{images:,.1f} ({most:,})")
        rows.append(row)
    headings = ["configuration", "batch", "GMACs"]
    headings += [f"GB on {count}" for count in COUNTS]
    print_table([*headings, *HARDWARE], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", nargs="+", default=["uvit_small_64"])
    parser.add_argument("--blocks", type=int, nargs="+", default=[None])
    parser.add_argument("--strategy", nargs="+", default=STRATEGIES)
    parser.add_argument("--devices", type=int, nargs="+", default=COUNTS[:1])
    parser.add_argument("--images", type=int, nargs="+", default=[4])
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--report", type=pathlib.Path)
    args = parser.parse_args()
    if args.report:
        report_programs(args.report)
        report_balance()
        return
    programs = itertools.product(
        args.preset, args.blocks, args.strategy, args.devices, args.images
    )
    for program in programs:
        line = json.dumps(measure(*program))
        print(line, flush=True)
        if args.output:
            with args.output.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
