import collections
import shlex
from typing import Annotated

import typer

from keras_simple_diffusion.cli import shared
from keras_simple_diffusion.utils.errors import InputError
from keras_simple_diffusion.utils.user_text import printable

_MAX_CLASSES = 20


def inspect_data(
    data: Annotated[
        str,
        typer.Option(
            help="vehicles, digits, a folder, .zip or .array_record of images, "
            "or tfds:NAME."
        ),
    ],
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, max=2**16, help="Pixels. (default: what suits the images)"
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Where to draw a sheet of the images.")
    ] = None,
):
    """Examine every image: sizes, classes, captions, unreadable files."""
    from keras_simple_diffusion.data.inspection import suggest_schedule
    from keras_simple_diffusion.data.inspection import suggest_size
    from keras_simple_diffusion.data.loading import open_splits

    if output is not None:
        shared.check_sheet(output)
    sources = open_splits(data, 8)
    facts = {split: _examine(split, each) for split, each in sources.items()}
    everything = [each for split in facts.values() for each in split]
    readable = [each for each in everything if each.broken is None]
    if not readable:
        raise InputError(
            f"None of the {len(everything)} images of '{data}' can be read: "
            f"{everything[0].name} ({everything[0].broken})"
            f"{' and the others' * (len(everything) > 1)}."
        )
    names = next(iter(sources.values())).class_names
    counts = ", ".join(f"{len(v):,} to {_use(k)}" for k, v in facts.items())
    noun = f"image{'s' * (len(everything) != 1)}"
    print(f"{len(everything):,} {noun} in '{printable(data)}': {counts}")
    _print_sizes(readable)
    _print_values(readable)
    _print_classes(everything, names)
    _print_captions(everything)
    _print_broken(everything)
    _print_left_out(sources)

    size = image_size or suggest_size(readable)
    small = sum(min(each.size) < size for each in readable)
    print(f"\nat {size} pixels")
    print(f"  {small:,} of {len(readable):,} images would be enlarged")
    print(f"  noise schedule: {'; or '.join(suggest_schedule(size))}")
    asked = f" --image-size {image_size}" if image_size else ""
    print("\nto train on them, with a plan that says what it chooses")
    print(f"  keras-simple-diffusion train --data {_quoted(data)}{asked}")
    if output is not None:
        _draw(data, size, next(iter(sources)), output)
        print(f"The sheet is {output}.")


def _quoted(text):
    return shlex.quote(printable(text))


def _use(split):
    return "train on" if split == "train" else "hold out"


def _examine(split, source):
    from rich import progress

    from keras_simple_diffusion.data.inspection import examine

    return list(
        progress.track(
            examine(source),
            f"looking at images to {_use(split)}",
            total=len(source),
            transient=True,
        )
    )


def _print_sizes(facts):
    import numpy as np

    widths, heights = np.array([each.size for each in facts]).T
    print(f"\n{'':14}{'smallest':>10}{'median':>10}{'largest':>10}")
    for name, values in (
        ("width", widths),
        ("height", heights),
        ("shorter side", np.minimum(widths, heights)),
    ):
        low, middle, high = values.min(), np.median(values), values.max()
        print(f"{name:14}{low:>10}{middle:>10.0f}{high:>10}")
    ratios = widths / heights
    print(
        f"{'width / height':14}{ratios.min():>10.2f}{np.median(ratios):>10.2f}"
        f"{ratios.max():>10.2f}"
    )
    square = np.mean(abs(np.log(ratios)) < np.log(1.05))
    high, wide = np.mean(ratios < 1 / 1.05), np.mean(ratios > 1.05)
    print(f"{square:.0%} square, {wide:.0%} wide, {high:.0%} high")
    print(f"modes: {_tally(each.mode for each in facts)}")
    print(f"formats: {_tally(each.format for each in facts)}")
    animated = sum(each.frames > 1 for each in facts)
    if animated:
        print(f"{animated:,} have several frames, of which the first counts")


def _tally(values):
    counts = collections.Counter(values).most_common()
    return ", ".join(f"{name} {count:,}" for name, count in counts)


def _print_values(facts):
    """The raw values of images, and what becomes of them."""
    from keras_simple_diffusion.utils.user_text import some_of

    deep = collections.defaultdict(list)
    for each in facts:
        if each.values is not None:
            ends = (each.values.black, each.values.white)
            deep[(each.mode, *ends)].append(each)
    for (mode, black, white), images in deep.items():
        low = min(each.values.low for each in images)
        high = max(each.values.high for each in images)
        print(
            f"values of {len(images):,} image{'s' * (len(images) > 1)} of mode "
            f"{mode}: {low:g} to {high:g}; {black:g} becomes black and "
            f"{white:g} white"
        )
    dark = [each for each in facts if each.values and each.values.is_dark]
    if dark:
        deep = any(each.values.white != 255 for each in dark)
        print(
            f"  {len(dark):,} of them are nearly black in this range: "
            f"{some_of([each.name for each in dark])}. Scale them"
            + deep
            * ", or declare the largest value of gray ones in the TIFF "
            "tag MaxSampleValue (281)" + "."
        )
    profiles = sum(each.has_profile for each in facts)
    if profiles:
        print(f"{profiles:,} with a color profile, converted to sRGB")


def _print_classes(facts, names):
    if names is None:
        print("\nno classes")
        return
    names = [printable(name) for name in names]
    found = collections.Counter(each.label for each in facts)
    counts = [(found[label], name) for label, name in enumerate(names)]
    counts.sort(key=lambda each: -each[0])
    print(f"\n{len(names)} class{'es' * (len(names) > 1)}")
    width = max(len(name) for name in names)
    shown = counts
    if len(counts) > _MAX_CLASSES:
        half = _MAX_CLASSES // 2
        shown = [*counts[:half], None, *counts[-half:]]
    for each in shown:
        if each is None:
            print(f"  ... {len(counts) - _MAX_CLASSES} more ...")
            continue
        count, name = each
        bar = "█" * round(30 * count / counts[0][0])
        print(f"  {name:{width}} {count:>8,} {bar}")
    if counts[-1][0] == 0:
        print(f"  '{counts[-1][1]}' has no images.")
    elif counts[0][0] > 3 * counts[-1][0]:
        ratio = counts[0][0] / counts[-1][0]
        print(
            f"  Unbalanced: the largest has {ratio:.0f} times the images of "
            "the smallest, and is learned as much more often."
        )


def _print_captions(facts):
    import numpy as np

    captions = [text for each in facts for text in each.captions]
    if not captions:
        print("\nno captions")
        return
    words = [len(text.split()) for text in captions]
    print(
        f"\n{len(captions):,} captions of {min(words)} to {max(words)} words, "
        f"{np.median(words):.0f} in the median, such as "
        f"'{printable(captions[0])}'"
    )


def _print_broken(facts):
    broken = [each for each in facts if each.broken is not None]
    if not broken:
        print("\nevery image can be read")
        return
    print(f"\n{len(broken):,} of {len(facts):,} images cannot be read:")
    for each in broken:
        print(f"  {printable(each.name)}: {printable(each.broken)}")


def _print_left_out(sources):
    """Files of the data that are no part of any split."""
    from keras_simple_diffusion.utils.user_text import some_of

    left_out = {}
    for source in sources.values():
        for reason, names in source.left_out.items():
            left_out.setdefault(reason, {}).update(dict.fromkeys(names))
    for reason, names in left_out.items():
        print(f"{len(names):,} left out, {reason}: {some_of([*names], 3)}")


def _draw(data, size, split, output):
    """A sheet of images as training gets them."""
    import numpy as np

    from keras_simple_diffusion.data.loading import open_data
    from keras_simple_diffusion.data.sources import take
    from keras_simple_diffusion.utils.memory import check_memory

    source = take(open_data(data, size, split), 64)
    channels = source.image_shape[2]
    check_memory(
        f"Sheets of {len(source)} images of {size} pixels",
        2 * len(source) * size * size * channels,
    )
    examples = [source[index] for index in range(len(source))]
    captions = None
    if source.class_names is not None:
        examples.sort(key=lambda example: example["labels"])
        captions = [source.class_names[each["labels"]] for each in examples]
    elif "captions" in examples[0]:
        captions = [example["captions"] for example in examples]
    images = np.stack([example["images"] for example in examples])
    settings = {"command": "inspect-data"}
    shared.save_sheet(images, output, settings, captions=captions)
