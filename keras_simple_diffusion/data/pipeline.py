import grain
import numpy as np


class _PictureSource:
    """Random access to pictures in memory, one training example each."""

    def __init__(self, pictures):
        self.pictures = pictures

    def __len__(self):
        return len(self.pictures.images)

    def __getitem__(self, index):
        example = {"images": self.pictures.images[index]}
        if self.pictures.labels is not None:
            example["labels"] = self.pictures.labels[index]
        return example


def _flip_half(example, rng):
    if rng.random() < 0.5:
        example = {**example, "images": example["images"][:, ::-1]}
    return example


def training_batches(pictures, batch_size, seed=0, flip=False):
    """Endless, shuffled, deterministic batches for `fit`.

    Args:
        pictures: a `Pictures` tuple.
        batch_size: int.
        seed: int. Order of the pictures and which are flipped. Defaults to
            `0`.
        flip: bool. Whether to mirror half of the pictures left to right.
            Defaults to `False`.

    Returns:
        A `grain.IterDataset` of dicts with `"images"`, `uint8` of shape
        `(batch_size, H, W, C)`, and, if there are classes, `"labels"`.
    """
    dataset = grain.MapDataset.source(_PictureSource(pictures))
    dataset = dataset.seed(seed).shuffle().repeat()
    if flip:
        dataset = dataset.random_map(_flip_half)
    return dataset.batch(batch_size, batch_fn=_stack).to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    )


def _stack(examples):
    return {
        key: np.stack([example[key] for example in examples])
        for key in examples[0]
    }
