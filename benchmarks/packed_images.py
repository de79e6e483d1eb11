"""Compare the speed of packed images with that of the zip they are from.

    python benchmarks/packed_images.py --data images.zip --image-size 128

The zip is packed twice, as files and as decoded pixels. Batches with flips are
read from each of the three in turn in one process; all batches of a turn must
be equal. Then the memory of a process that reads the packed pixels is measured
in each of ten passes over them.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time

import numpy as np

import keras_simple_diffusion as ksd

_AHEAD = 4  # More batches than the pipeline holds ready.


def seconds_of(iterator, count):
    """Seconds in which the pipeline delivers some batches, and the batches."""
    for _ in range(_AHEAD):
        next(iterator)
    started = time.process_time(), time.perf_counter()
    batches = [next(iterator) for _ in range(count)]
    ended = time.process_time(), time.perf_counter()
    return [b - a for a, b in zip(started, ended, strict=True)], batches


def assert_equal(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


def resident_megabytes():
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory_of_passes(source, batch_size, count):
    iterator = iter(ksd.data.training_batches(source, batch_size))
    memory = []
    for _ in range(count):
        for _ in range(-(-len(source) // batch_size)):
            next(iterator)
        memory.append(round(resident_megabytes()))
    return memory


def pack(data, folder, args):
    """Pack the images twice; return the paths and what the packing took."""
    paths, facts = {"zip": data}, {}
    for name, size in (("files", None), ("pixels", args.image_size)):
        paths[name] = str(folder / f"{name}.array_record")
        started = time.process_time()
        num_packed, _ = ksd.data.pack(data, paths[name], size)
        seconds = time.process_time() - started
        facts[f"packed_per_second_{name}"] = round(num_packed / seconds)
        megabytes = os.path.getsize(paths[name]) / 1e6
        facts[f"megabytes_{name}"] = round(megabytes)
    return paths, facts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--passes", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths, facts = pack(args.data, pathlib.Path(folder), args)
        sources = {
            name: ksd.data.open_data(path, args.image_size)
            for name, path in paths.items()
        }
        iterators = {
            name: iter(
                ksd.data.training_batches(source, args.batch_size, flip=True)
            )
            for name, source in sources.items()
        }
        seconds = {name: [] for name in sources}
        for _ in range(args.rounds):
            expected = None
            for name, iterator in iterators.items():
                spent, batches = seconds_of(iterator, args.batches)
                seconds[name].append(spent)
                expected = expected or batches
                assert_equal(batches, expected)
        memory = memory_of_passes(
            sources["pixels"], args.batch_size, args.passes
        )
    count = args.batches * args.batch_size
    cpu = {name: np.array(each)[:, 0] for name, each in seconds.items()}
    wall = {name: np.array(each)[:, 1] for name, each in seconds.items()}
    report = {"images": len(sources["zip"]), **facts}
    for name in sources:
        report[name] = {
            "images_per_second": round(count / np.median(wall[name])),
            "images_per_cpu_second": round(count / np.median(cpu[name])),
            "times_the_zip": round(np.median(wall["zip"] / wall[name]), 2),
            "times_the_zip_per_cpu_second": np.round(
                np.quantile(cpu["zip"] / cpu[name], [0.5, 0.25, 0.75]), 2
            ).tolist(),
        }
    report["megabytes_after_each_pass"] = memory
    print(json.dumps({**report, **vars(args), "cpus": os.cpu_count()}))


if __name__ == "__main__":
    main()
