"""BayesFlow: its diffusion model over its U-ViT.

    pip install --no-deps bayesflow seaborn pandas

Schedule, prediction, weight and loss are the defaults of its `DiffusionModel`,
the optimizer that of its workflows for data at hand, which standardize the
data, too. It has no average of the weights. It draws by Euler's method, as its
default chooses the number of steps itself.
"""

import importlib.metadata

import bayesflow
import keras
import torch

from racers import STEPS
from racers.torch_racer import TorchRacer
from racers.torch_racer import size_of

# BayesFlow turns gradients off where it is imported.
torch.set_grad_enabled(True)
WARM_UP = 100
NETWORK = {
    "widths": (24, 48),
    "res_blocks": 1,
    "transformer_blocks": 4,
    "transformer_width": 160,
}


class Racer(TorchRacer):
    def __init__(self, images, learning_rate, seed):
        keras.utils.set_random_seed(seed)
        self.shape = images.shape[1:]
        self.mean = torch.tensor(images.mean(axis=(0, 1, 2)) / 255).float()
        self.std = torch.tensor(images.std(axis=(0, 1, 2)) / 255).float()
        self.model = bayesflow.networks.DiffusionModel(
            subnet=bayesflow.networks.UViT(**NETWORK)
        )
        self.model.build((None, *self.shape), (None, *self.shape[:2], 0))
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=learning_rate, weight_decay=5e-3
        )
        # Its workflows decay over as many steps as there will be; a race in
        # minutes does not know them, so the rate stays after the warm-up.
        warm_up = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, 0.1 + 0.9 * step / WARM_UP)
        )
        super().__init__(
            images, self.model, optimizer, 16, True, seed, scheduler=warm_up
        )

    def loss(self, images):
        x = (images.permute(0, 2, 3, 1) - self.mean) / self.std
        metrics = self.model.compute_metrics(x, x[..., :0], stage="training")
        return metrics["loss"]

    def average(self):
        """It has none."""

    def sample(self, count):
        z = torch.randn(count, *self.shape)
        x = self.model(z, z[..., :0], inverse=True, method="euler", steps=STEPS)
        return (x * self.std + self.mean).permute(0, 3, 1, 2)


class _ChannelsFirst(torch.nn.Module):
    """The network as `size_of` calls it."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image, time):
        x = image.permute(0, 2, 3, 1)
        return self.network((x, time[:, None], x[..., :0]))


def make(images, learning_rate, seed):
    racer = Racer(images, learning_rate, seed)
    size = size_of(_ChannelsFirst(racer.model.subnet), images.shape[1])
    racer.facts = {
        "project": "BayesFlow, U-ViT",
        "version": importlib.metadata.version("bayesflow"),
        "network": NETWORK,
        **size,
        "batch_size": 16,
        "optimizer": "AdamW, weight decay 5e-3, warm-up of "
        f"{WARM_UP} steps; gradient norm at most 1",
        "average": "none",
        "sampler": f"Euler, {STEPS} steps",
    }
    return racer
