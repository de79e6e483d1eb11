"""Unpack a zip of images, some of them into a held-out split.

    python benchmarks/hold_out.py --images noto_emoji_128.zip --output emoji

The folder has the splits `train` and `test`, as `train --data` takes them,
with the captions of the zip's `metadata.jsonl` files in a file of each.

Every n-th image is held out. With `--compositions` every third image
whose caption names a skin tone or a colour is held out instead, if its colours
and its other words are all seen in training, together with `--names` others
drawn at random: so it can be told whether a model puts together what it has
only seen apart.
"""

import argparse
import collections
import json
import pathlib
import random
import re
import zipfile

TONE = re.compile(r"\b(?:medium light|medium dark|light|medium|dark) skin tone")
_COLOURS = set("red orange yellow green blue purple brown black white".split())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--every", type=int, default=12)
    parser.add_argument("--compositions", action="store_true")
    parser.add_argument("--names", type=int, default=300)
    args = parser.parse_args()
    with zipfile.ZipFile(args.images) as file:
        names = sorted(
            name for name in file.namelist() if name.endswith((".jpg", ".png"))
        )
        captions = read_captions(file)
        held_out = set(names[:: args.every])
        if args.compositions:
            held_out = compositions(names, captions, args.names)
        rows = collections.defaultdict(list)
        for name in names:
            split = "test" if name in held_out else "train"
            target = args.output / split / pathlib.PurePath(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read(name))
            if name in captions:
                row = {"file_name": target.name, "text": captions[name]}
                rows[split].append(json.dumps(row) + "\n")
    for split, lines in rows.items():
        path = args.output / split / "metadata.jsonl"
        path.write_text("".join(lines))
    print(
        f"{len(names) - len(held_out)} images to train on and "
        f"{len(held_out)} held out are in {args.output}"
    )


def read_captions(file):
    """Captions of a zip by the names of its images."""
    captions = {}
    for name in file.namelist():
        path = pathlib.PurePosixPath(name)
        if path.name == "metadata.jsonl":
            for line in file.read(name).decode().splitlines():
                row = json.loads(line)
                image = str(path.parent / row["file_name"])
                captions[image] = row["text"]
    return captions


def compositions(names, captions, num_others, seed=0):
    """Names of the images to hold out."""
    composed = [name for name in names if is_composed(captions[name])]
    held_out = set(composed[::3])
    # What is named only once cannot be put together from what was seen.
    seen = set()
    for name in names:
        if name not in held_out:
            bare, colours = parts(captions[name])
            seen |= {bare, *colours}
    held_out = {
        name
        for name in held_out
        if seen >= {parts(captions[name])[0], *parts(captions[name])[1]}
    }
    others = [name for name in names if not is_composed(captions[name])]
    return held_out | set(random.Random(seed).sample(others, num_others))


def is_composed(caption):
    """Test if a caption names a skin tone or a colour."""
    return bool(parts(caption)[1])


def parts(caption):
    """A caption without its skin tones and colours, and these."""
    tones = TONE.findall(caption)
    words = TONE.sub("", caption).split()
    colours = [word for word in words if word in _COLOURS]
    bare = " ".join(word for word in words if word not in _COLOURS)
    return bare, tones + colours


if __name__ == "__main__":
    main()
