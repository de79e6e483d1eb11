"""Unpack a zip of pictures, every n-th of them into a held-out split.

    python benchmarks/hold_out.py --pictures noto_emoji_128.zip --output emoji

The folder has the splits `train` and `test`, as `train --data` takes them.
"""

import argparse
import pathlib
import zipfile


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--every", type=int, default=12)
    args = parser.parse_args()
    with zipfile.ZipFile(args.pictures) as file:
        names = sorted(
            name for name in file.namelist() if name.endswith((".jpg", ".png"))
        )
        for index, name in enumerate(names):
            split = "train" if index % args.every else "test"
            target = args.output / split / pathlib.PurePath(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read(name))
    print(f"{len(names)} pictures are in {args.output}")


if __name__ == "__main__":
    main()
