"""A training loop for the racers written in PyTorch."""

import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

_BATCH = 50  # Images drawn at once.


class TorchRacer:
    """Subclasses define `loss(images)`, `average()` and `sample(count)`.

    Args:
        images: `uint8` array of shape `(N, H, W, 3)`.
        network: a `torch.nn.Module`.
        optimizer: a `torch.optim.Optimizer` of its weights.
        batch_size: int.
        flip: bool. Whether half of the images are mirrored.
        seed: int.
        scheduler: optional learning rate schedule, stepped with the optimizer.
    """

    def __init__(
        self,
        images,
        network,
        optimizer,
        batch_size,
        flip,
        seed,
        scheduler=None,
    ):
        self.images = images
        self.network = network
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.batch_size = batch_size
        self.flip = flip
        self.rng = np.random.default_rng(seed)

    def train(self, seconds):
        self.network.train()
        end, count = time.process_time() + seconds, 0
        while time.process_time() < end:
            self.loss(self._batch()).backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            self.optimizer.zero_grad()
            self.average()
            count += self.batch_size
        return count

    def _batch(self):
        """Images as floats in [0, 1], channels first."""
        chosen = self.rng.integers(0, len(self.images), self.batch_size)
        images = self.images[np.sort(chosen)]
        if self.flip:
            mirrored = self.rng.random(len(images)) < 0.5
            images[mirrored] = images[mirrored, :, ::-1]
        batch = torch.tensor(images).permute(0, 3, 1, 2)
        return batch.contiguous().float() / 255

    def draw(self, count, seed):
        torch.manual_seed(seed)
        drawn = []
        with torch.inference_mode():
            for start in range(0, count, _BATCH):
                x = self.sample(min(_BATCH, count - start)).clamp(0, 1)
                x = (255 * x).round().byte().permute(0, 2, 3, 1)
                drawn.append(x.cpu().numpy())
        return np.concatenate(drawn)


def size_of(network, size):
    """Operations, in billions, and parameters of a network of images."""
    network.eval()
    image, time = torch.zeros(1, 3, size, size), torch.zeros(1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image, time)
    return {
        "gmacs": round(counter.get_total_flops() / 2e9, 3),
        "parameters": sum(p.numel() for p in network.parameters()),
    }
